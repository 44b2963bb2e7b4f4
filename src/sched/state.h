/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the parts of the scheduler share: engines, clients and the scheduler itself. */
#ifndef COVEY_SCHED_STATE_H
#define COVEY_SCHED_STATE_H

#include "base/hash.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/ranges.h"
#include "sched/levels.h"
#include "sched/queue.h"
#include "sched/sched.h"

#define DIRECT_WINDOW 1024        /* items of direct tasks that one engine is sent ahead */
#define SLOW_NS 1000000ull        /* from here on a task is worth a place on an idle engine */
#define PREFETCH_NS (2 * SLOW_NS) /* work that an engine holds ahead */
#define PREFETCH_MAX 256
#define CLIENT_BLOCK 256u /* ids: see client.places */
#define SLICE 500u        /* see sched_options.slice */

struct engine {
    uint32_t number, incarnation;
    uint8_t state;  /* enum sched_engine_state */
    bool ready;     /* may take a balanced task: in the policy's index */
    bool draining;  /* also while away */
    bool forgotten; /* its number is another's: it lives as long as it has tasks */
    uint32_t index; /* policies that pick at random: place in the index */
    struct list dirty_node;
    struct list sent[2]; /* by mode: balanced; direct and broadcast. Oldest first */
    struct list running;
    struct list waiting; /* direct tasks beyond the window, or while it is away */
    struct list pending; /* direct tasks with open dependencies */
    struct list parked;  /* direct tasks of paused clients */
    struct list sets;    /* set_link: the filled target sets that name it */
    uint64_t held[2];    /* unfinished items in sent and running, by mode as above */
    uint64_t queued;     /* unfinished items in waiting */
    uint64_t stealable;  /* balanced items that may still be unstarted and are not asked back yet */
    struct list load_node, steal_node; /* in the policy's index and s->victims */
    struct list idle_node;             /* in s->idle while it is up and has nothing to do */
    struct list dead_node;             /* in s->dead once it was lost */
    struct list losing_node;           /* in s->losing while dead with tasks that have to end */
    uint32_t load_level, steal_level;
    struct heap_node lru; /* likewise: least recently used */
    uint64_t used;        /* number of the last SEND */
    uint64_t placed;      /* used when it was put into the index */
    uint64_t ewma_ns;     /* of one item; 0: nothing known */
    uint64_t progress_ns; /* when it last gave a result, or got its first task */
    uint64_t completed, away_since;
    struct heap_node grace; /* away: dead then */
};

struct client {
    uint64_t session;
    uint64_t next;        /* no id from here on was used */
    struct ranges places; /* where ids were used, in whole blocks of CLIENT_BLOCK */
    size_t live;          /* records */
    bool gone, paused;
    struct list parked; /* balanced tasks that had their turn while it was paused */
    struct heap_node grace;
    uint64_t swept; /* the grace is over: its tasks below were looked at */
};

struct policy_ops;

struct sched {
    struct sched_options o;
    struct sched_payload_ops payload_ops;
    const struct policy_ops *policy;
    struct sched_actions *out; /* of the sched_handle() that runs */
    uint64_t now, rng;
    bool oom;        /* decisions were lost: it is at its end */
    uint32_t budget; /* what is left of this event's slice */

    struct hash index;                  /* (session, block) -> task or page, see index.c */
    uint64_t block_use[64], block_mask; /* index entries by block size, and which sizes there are */
    struct index_page *spare;           /* empty ones */
    uint32_t nspare;
    struct list slabs;   /* with free records */
    struct hash clients; /* session -> client */
    struct hash engines; /* number -> engine */
    struct hash watches; /* item id -> those that wait for it, see dependency.c */
    struct hash sets;    /* content -> task_set */

    struct list waiting;    /* balanced tasks with open dependencies */
    struct list resolved;   /* task_deps that have their answer */
    struct list told;       /* watches of what has ended: those that wait are to hear of it */
    struct list filling;    /* task_deps of which not all was looked at */
    struct list dropping;   /* task_deps without a task: their edges have to go */
    struct list ended;      /* terminal records, freed by the next event */
    struct queue any;       /* balanced tasks that may go anywhere */
    struct list filled;     /* task_sets with queued tasks */
    struct list open;       /* those of them that name what is excluded */
    struct list barren;     /* those of which no engine is left: their tasks have to end */
    struct list losing;     /* dead engines with tasks that have to end */
    struct list dirty_sets; /* queues that got tasks in this event */
    struct list dirty;      /* engines that got room in this event */

    struct heap task_timers, engine_timers, client_timers;
    struct list dead; /* engines, lost longest ago first; few are remembered */
    uint32_t ndead;
    struct list idle;  /* engines that are up and have nothing to do */
    uint64_t steal_at; /* next look for tasks to take back; UINT64_MAX: no reason */
    uint64_t steal_gap;

    struct levels ready;  /* engines with room by load (leastload) */
    struct engine **pick; /* the same as an array (random policies) */
    uint32_t npick, cappick;
    struct heap lru;       /* the same by last use */
    struct levels victims; /* engines with stealable items */

    int64_t order_head, order_tail;
    uint64_t sends;
    size_t records, unassigned; /* live records; waiting and queued balanced items */
    uint32_t up;                /* engines that are up */
    uint32_t alive;             /* engines that take balanced tasks, now or when they are back */
};

static inline uint32_t slice_of(const struct sched *s)
{
    return s->o.slice ? s->o.slice : SLICE;
}

static inline int mode_class(uint8_t mode)
{
    return mode == SCHED_BALANCED ? 0 : 1;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Task records: their pool, the index from ids to records, the one function that moves a record
 * from state to state, and what ends items. A record covers items [seq, seq + count) of a
 * session; finished items stay marked in its bitmap until the whole record ends. */
#ifndef COVEY_SCHED_TASK_H
#define COVEY_SCHED_TASK_H

#include "base/heap.h"
#include "base/list.h"
#include "sched/sched.h"

struct engine;
struct client;
struct task_set;
struct task_deps;

enum task_flag {
    TASK_TAKING = 1u << 0,  /* a TAKE is on its way */
    TASK_NO_TAKE = 1u << 1, /* the engine had nothing to give back: it runs, or is about to */
    TASK_ABORT = 1u << 2,   /* given back: ends as aborted */
    TASK_CANCEL =
        1u
        << 3, /* INTERRUPT was asked for: whatever comes back ends it, and it is never sent again */
    TASK_KILL = 1u << 4,    /* the timer means: kill the engine */
    TASK_UNSURE = 1u << 5,  /* the engine came back without it; decided at ENGINE_SYNCED */
    TASK_ONCE = 1u << 6,    /* submitted with retries=0: must never run twice */
    TASK_WATCHED = 1u << 7, /* other tasks depend on one of its items */
};

struct task_black {
    uint32_t engine;
    bool hard; /* the engine said UNMET; else it raised there, and another engine is only preferred
                */
};

/* What few records need. Each has its own. */
struct task_more {
    struct heap_node timer;
    struct task *task;
    uint64_t deadline;      /* unstarted until then; 0: it has passed; UINT64_MAX: none */
    struct task_set *base;  /* the submit's targets; NULL: any */
    struct task_set *set;   /* base narrowed by follow and by black; NULL: any */
    struct task_deps *deps; /* waiting only */
    void *note;
    struct task_black *black; /* engines that it failed on */
    uint32_t nblack, capblack;
    uint32_t killed[3], nkilled;          /* engines that died running it */
    uint32_t retries_lost, retries_error; /* left: engines that die, its own errors */
};

struct task {
    struct list node;      /* in the list that state names */
    uint64_t seq;          /* the first; of its client's session */
    struct engine *engine; /* sent, running; a queued direct one: where it goes */
    struct client *client;
    struct task_more *more; /* NULL: it has nothing of that */
    void *payload;
    union {
        uint64_t bits; /* count <= 64 */
        uint64_t *words;
    } done;
    int64_t order; /* queued, balanced: among the queues; sent: which SEND it was */
    uint32_t count, left, offset;
    int32_t priority;
    uint16_t attempt; /* of the last SEND; 0: none yet */
    uint16_t wire_flags;
    uint8_t flags, kind;
    uint8_t state : 4, mode : 3;
    uint8_t parked : 1; /* queued, but its client is paused: in client->parked or engine->parked */
};

/* To be read: its own, or that of a task that has nothing of it. */
static inline const struct task_more *task_more(const struct task *t)
{
    static const struct task_more nothing = {.deadline = UINT64_MAX};
    return t->more ? t->more : &nothing;
}

static inline uint64_t task_end(const struct task *t)
{
    return t->seq + t->count;
}

static inline bool task_on_engine(const struct task *t)
{
    return t->state == SCHED_T_SENT || t->state == SCHED_T_RUNNING;
}

/* Its deadline matters: it ends then, or, if an engine holds it ahead, it is asked back. */
static inline bool task_is_timed(const struct task *t)
{
    uint64_t deadline = task_more(t)->deadline;
    if (!task_on_engine(t))
        return deadline != UINT64_MAX;
    return t->state == SCHED_T_SENT && t->mode == SCHED_BALANCED && deadline &&
           deadline != UINT64_MAX;
}

static inline bool task_item_done(const struct task *t, uint64_t seq)
{
    uint64_t i = seq - t->seq;
    return t->count <= 64 ? t->done.bits >> i & 1 : t->done.words[i / 64] >> i % 64 & 1;
}

/* A record, in no list and not indexed. NULL: out of memory. */
struct task *task_alloc(struct sched *s);
void task_free(struct sched *s, struct task *t); /* and what it holds */
void task_pool_release(struct sched *s);
struct task_more *task_need_more(struct task *t); /* to be written to; NULL: out of memory */

int task_index_add(struct sched *s, struct task *t) CV_CHECK;
void task_index_del(struct sched *s, struct task *t);
void task_index_release(struct sched *s);
/* The live record that covers id, finished items included; NULL: none. */
struct task *task_find(const struct sched *s, struct sched_id id);
/* Likewise; without one, *ret_next is the first id behind it that may have one. */
struct task *task_find_from(const struct sched *s, struct sched_id id, uint64_t *ret_next);
uint32_t task_left_in(const struct task *t, uint64_t lo, uint64_t hi); /* unfinished items there */
bool task_live(const struct sched *s, struct sched_id id); /* has no terminal word yet */

/* The only function that changes state; checks the table of allowed moves and puts the record into
 * the list of the new state, at its head or tail. engine: for sent, running and direct queued. */
enum task_place { TASK_TAIL, TASK_HEAD };
void task_move(struct sched *s, struct task *t, enum sched_task_state to, struct engine *engine,
               enum task_place place);

/* A queued balanced task changes to the head of another set's queue (NULL: any). t->set's old
 * reference stays with the caller. */
void task_requeue_in(struct sched *s, struct task *t, struct task_set *set);

/* A queued task of a paused client out of its queue, and back to its head. */
void task_park(struct sched *s, struct task *t);
void task_unpark(struct sched *s, struct task *t);

/* Cuts t so that [lo, hi), where it has unfinished items, is a record of its own, and returns that;
 * the rest stays beside it. Only while it is sent or running. NULL: out of memory (nothing changed,
 * s->oom is set). */
struct task *task_cut(struct sched *s, struct task *t, uint64_t lo, uint64_t hi);

/* How items end. */
struct task_word {
    uint8_t status;               /* enum sched_status */
    uint32_t engine, incarnation; /* where, or SCHED_ENGINE_NONE */
    void *payload, *cause;
    const char *why;
    struct sched_id about; /* the task that `why` speaks of; session 0: none */
};

/* Our own word, about no engine. */
static inline struct task_word task_word(uint8_t status, const char *why)
{
    return (struct task_word){.status = status, .engine = SCHED_ENGINE_NONE, .why = why};
}

/* Its deadline has passed and it has not started. */
static inline struct task_word task_late(bool waiting)
{
    return task_word(SCHED_S_TIMEOUT, waiting ? "what it depends on did not end in time"
                                              : "no engine was free in time");
}

/* Ends the unfinished ones of [lo, hi), one DELIVER for each run of them; the last one ends the
 * record, which must not be used after. Returns true then. */
bool task_end_items(struct sched *s, struct task *t, uint64_t lo, uint64_t hi,
                    const struct task_word *w);
bool task_end_all(struct sched *s, struct task *t, const struct task_word *w);

uint64_t task_session(const struct task *t);
uint64_t task_stealable(const struct task *t); /* items that its engine may be asked to give back */
/* Sets and clears flags and keeps the counters that depend on them. */
void task_flag(struct sched *s, struct task *t, uint8_t set, uint8_t clear);

/* A new action about [lo, hi) of t, addressed to its engine; NULL: out of memory (s->oom is set).
 */
struct sched_action *task_act(struct sched *s, enum sched_action_type type, struct task *t,
                              uint64_t lo, uint64_t hi);
/* UINT64_MAX: disarm. Out of memory sets s->oom; with task_more there is none to be had. */
void task_arm(struct sched *s, struct task *t, uint64_t at);

#endif

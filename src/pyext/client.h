/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A client without its Python face: what the Python threads and the I/O thread share.
 *
 * Python threads append to the outbox and look into the results table; the I/O thread empties the
 * outbox and fills the table; a waiting Python thread may do its work for it (io.h). One mutex
 * guards both; nobody calls into Python, the link or the loop under it (io_wake() apart). Ids: each
 * is a slot inside the submit that made it.
 *
 * A submit keeps its TASK message until the results have come, so that it can be sent again after
 * a reconnect to a controller that never heard of it; above the byte budget the oldest go first,
 * once they have been sent. */
#ifndef COVEY_PYEXT_CLIENT_H
#define COVEY_PYEXT_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "base/hash.h"
#include "base/list.h"
#include "pyext/uplink.h"
#include "wire/msg.h"

/* A RESULT or REPLY, shared by the ids that it covers. refs under the mutex. */
struct result {
    unsigned refs;
    struct msg *msg;
    uint64_t received;
};

struct slot {
    struct submit *sub;
    struct result *res;  /* NULL: pending */
    struct msg *watch;   /* what poll() gets when the result is there; NULL: not watched */
    struct list waiters; /* of struct wait_link */
};

/* Something in the outbox: a message, or a submit. */
struct out {
    struct out *next;
    struct msg *msg; /* NULL: see sub */
    struct submit *sub;
};

struct submit {
    struct out out;
    struct list node;      /* in core.submits, oldest first */
    struct list kept_node; /* in core.kept */
    struct msg *msg;       /* the TASK or QUERY; NULL once it can't be sent again */
    bool queued;           /* in the outbox: the I/O thread reads msg */
    bool foreign;          /* msg's payload is Python's memory */
    bool query;
    bool counted; /* in core.room, with so many bytes */
    uint64_t bytes;
    uint64_t session, lo, submitted;
    uint32_t count, live; /* slots; those not taken or forgotten yet */
    uint32_t pending;     /* those without a result */
    struct slot slots[];
};

/* One waiting thread. Made on demand, reused, freed with the core. */
struct waiter {
    struct waiter *next;
    struct waiter *due_next;
    int fd; /* eventfd; -1: there was no descriptor for one, so it looks now and then */
    pthread_t thread;
    size_t left;
    atomic_bool leads; /* turns the loop itself, or is about to: needs no event */
    atomic_bool due;   /* chained to be woken */
};

struct wait_link {
    struct list node;
    struct waiter *waiter;
};

struct core {
    /* I/O thread only */
    struct io io;
    struct uplink up;
    struct timer *ack_timer;
    struct msg *in_head, **in_tail; /* received in this turn */
    uint64_t nresults, nacked, unacked_bytes;
    bool ack_armed, closing;
    bool over;   /* more is kept than should be: the link still holds it */
    int peer_fd; /* pidfd of the controller, or -1. Before connect(): any thread */

    pthread_mutex_t mu;
    struct hash slots;
    struct list submits, kept;
    uint64_t kept_bytes, keep_max;
    uint64_t session, next_seq;
    struct out *out_head, **out_tail;
    unsigned nout;
    struct msg *ev_head, **ev_tail; /* for poll() */
    int ev_fd;                      /* readable while ev_head, or woken */
    uint64_t ev_bytes;
    bool ev_cut; /* output was left out: nobody polls */
    struct room {
        atomic_uint_fast64_t tasks, bytes; /* of own submits without a result; written under mu */
        uint64_t max_tasks, max_bytes;     /* what a waiting submitter goes by */
        bool wanted;
        int fd; /* eventfd: there is room again */
    } room;
    bool woken;
    struct waiter *idle_waiters;
    unsigned nblocked; /* waiters that sleep on their eventfd */
    /* requests to the I/O thread */
    bool want_connect, want_close;
    uint64_t connect_ns, linger_ns;
    char *file;        /* gone: so is the cluster (ends_with()) */
    uint64_t grace_ns; /* a link that is lost for so long is given up; 0: never */
    /* what became of it */
    int connect_fd; /* eventfd: connect() may look */
    enum { LINK_NEVER, LINK_OK, LINK_AWAY, LINK_CLOSED } link_state;
    bool connect_done;
    int code;
    char why[512]; /* as struct err: an ssh's words, and what helps */
    double since;
    struct msg *welcome; /* of the first connection, for connect() */
    char *note;          /* about Python versions */
};

/* client_results.c: the table. All with the mutex held, except where said. */
struct slot *core_slot(struct core *c, uint64_t session, uint64_t seq);
int submit_new(struct submit **ret, uint32_t count) CV_CHECK; /* no mutex */
/* Enters the submit's slots; on failure nothing is entered and the caller frees it. */
int core_enter(struct core *c, struct submit *s) CV_CHECK;
void core_room_take(struct core *c, struct submit *s); /* s counts from now on */
void core_queue(struct core *c, struct out *o);        /* appends; io_wake() if needed */
/* Stores r for the ids [lo, lo + n) that are pending; waiters that became due are chained to *due.
 */
void core_finish(struct core *c, uint64_t session, uint64_t lo, uint32_t n, struct result *r,
                 struct waiter **due, struct msg **garbage);
/* All pending ids end with RESULT_LOST and why. */
void core_lose_all(struct core *c, const char *why, struct waiter **due, struct msg **garbage);
void core_lose(struct core *c, struct submit *s, const char *why, struct waiter **due,
               struct msg **garbage);
/* Removes one id; its result (may be NULL) moves to the caller, who unrefs it. Messages to free:
 * *garbage. */
void core_remove(struct core *c, struct slot *sl, struct result **ret, struct waiter **due,
                 struct msg **garbage);
/* After the I/O thread has sent s: keeps its message within the budget. */
void core_keep(struct core *c, struct submit *s, struct msg **garbage);
/* Beyond the budget the oldest messages go, as far as they have been sent. I/O thread. */
void core_trim(struct core *c, struct msg **garbage);
void core_unkeep(struct core *c, struct submit *s); /* its message is its holder's again */
void result_unref(struct core *c, struct result *r, struct msg **garbage);
void core_event(struct core *c, struct msg *m_take);   /* for poll() */
void waiters_wake(struct core *c, struct waiter *due); /* no mutex */
void garbage_free(struct msg *garbage);                /* no mutex */
struct waiter *waiter_get(struct core *c);             /* NULL: out of memory */
void waiter_put(struct core *c, struct waiter *w);
int result_lost(struct result **ret, const char *why) CV_CHECK; /* no mutex needed */
void core_results_release(struct core *c);                      /* at the very end */

/* client_io.c */
extern const struct uplink_ops client_uplink_ops;
int client_io_init(struct core *c, struct err *e) CV_CHECK; /* hooks into the loop */
void client_io_end(void *arg);

#endif

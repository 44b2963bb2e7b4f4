/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The scheduler: a pure state machine. sched_handle() takes one event and appends the actions that
 * follow from it; it does no I/O, reads no clock (time is an argument) and takes no lock, so every
 * run replays from its events. Every accepted task ends in exactly one terminal state, told by
 * exactly one DELIVER for each of its items.
 *
 *   waiting ──► queued ──► sent ──► running ──► done | failed
 *      │           │         │         │
 *      └───────────┴─────────┴─────────┴──────► cancelled | expired | lost
 *
 * A task record covers the range [seq, seq + count) of a session's ids (count > 1: a map's range;
 * finished items are marked in a bitmap; engine loss, cancel and taking back split the record). A
 * broadcast becomes one record per target that share the payload. */
#ifndef COVEY_SCHED_SCHED_H
#define COVEY_SCHED_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

#define SCHED_ENGINE_NONE UINT32_MAX

struct sched;

struct sched_id {
    uint64_t session, seq;
};

struct sched_options {
    const char *policy; /* "leastload" (default; others come with the policy table) */
    uint32_t
        hwm; /* tasks an engine may hold; 0: adaptive (16 and more for no-ops, 1 from 1 ms on) */
    uint64_t away_grace_ns;   /* an away engine is dead after this (default 5 min) */
    uint64_t client_grace_ns; /* a gone client's unstarted tasks stay this long (0: for ever) */
    uint64_t seed;
    uint32_t slice; /* tasks that one event ends at most beyond those that it names (default 500) */
    /* How a task that is terminal, and so forgotten here, ended: asked when a SUBMIT depends on an
     * id that is not live. Returns false for an id that was never heard of (InvalidDependency).
     * engine: where it ran, or SCHED_ENGINE_NONE. A read of the caller's records; NULL: none are
     * kept. */
    bool (*outcome)(void *arg, struct sched_id id, uint8_t *ret_status, uint32_t *ret_engine);
    void *outcome_arg;
};

/* Payloads are opaque to the scheduler. It keeps one reference per record and drops it by these. */
struct sched_payload_ops {
    void (*ref)(void *payload);
    void (*unref)(void *payload);
};

enum sched_event_type {
    SCHED_SUBMIT = 1,
    SCHED_STARTED,
    SCHED_RESULT,
    SCHED_GIVE_BACK,     /* an engine gives back what TAKE asked for and it had not started */
    SCHED_ENGINE_JOIN,   /* a new engine, or a restarted one under its old number with a new
                            incarnation */
    SCHED_ENGINE_AWAY,   /* its link is cut */
    SCHED_ENGINE_BACK,   /* the same incarnation is connected again and says what it holds */
    SCHED_ENGINE_SYNCED, /* after each ENGINE_BACK: every RESULT that it had to send again has been
                          * handled (the controller counts them: HELLO says how many there are).
                          * What was sent, is not held and gave no result by now never arrived: only
                          * now is it sent or queued again */
    SCHED_ENGINE_DEAD,   /* told by its host, or asked to shut down and gone */
    SCHED_ENGINE_DRAIN,  /* no new balanced tasks; what it holds unstarted is taken back */
    SCHED_CLIENT_GONE,
    SCHED_CLIENT_BACK,  /* says which ranges it still waits for: a question, all that comes of it
                           is AGAIN */
    SCHED_CLIENT_PAUSE, /* its results pile up: nothing of it is sent until CLIENT_RESUME */
    SCHED_CLIENT_RESUME,
    SCHED_CANCEL,
    SCHED_TICK, /* time has passed: see sched_deadline() */
};

/* How an item ended: the values of wire's enum result_status. */
enum sched_status {
    SCHED_S_OK = 0,
    SCHED_S_ERROR = 1,
    SCHED_S_ABORTED = 2,
    SCHED_S_CANCELLED = 3,
    SCHED_S_ENGINE_DIED = 4,
    SCHED_S_TIMEOUT = 5,
    SCHED_S_IMPOSSIBLE = 6,
    SCHED_S_INVALID = 7,
    SCHED_S_UNMET = 8,
    SCHED_S_LOST = 9,
    SCHED_S_REFUSED = 10,
};

enum sched_mode { SCHED_BALANCED = 0, SCHED_DIRECT = 1, SCHED_BROADCAST = 2 };
enum sched_cancel { SCHED_CANCEL_ABORT = 0, SCHED_CANCEL_INTERRUPT = 1, SCHED_CANCEL_KILL = 2 };

struct sched_held {
    struct sched_id id;
    uint32_t count;
    uint16_t attempt;
};

struct sched_range {
    uint64_t session, lo, hi;
};

struct sched_event {
    enum sched_event_type type;
    struct sched_id id; /* SUBMIT, STARTED, RESULT, GIVE_BACK, CANCEL; session alone for CLIENT_* */
    uint32_t count;
    uint16_t attempt;
    uint32_t engine, incarnation;
    union {
        struct {
            enum sched_mode mode;
            uint8_t kind;            /* enum task_kind, passed through */
            uint16_t flags;          /* passed through to SEND */
            const uint32_t *targets; /* BROADCAST: count of them, item i for targets[i]; DIRECT:
                                        one; BALANCED: allowed engines or NULL */
            uint32_t ntargets;
            double timeout; /* seconds unstarted; < 0 none */
            uint32_t retries;
            int32_t priority;
            void *payload; /* borrowed: sched refs it */
            void *note; /* opaque tag of the submitter's record, repeated in actions; may be NULL */
            const struct sched_range *after, *follow; /* dependencies */
            uint32_t nafter, nfollow;
            uint8_t after_flags, follow_flags; /* 1 all, 2 success, 4 failure */
            uint32_t offset; /* the first id is item number `offset` of the payload (a client's
                                resend to a controller that knows the other items) */
            /* An engine holds all of it already, sent to it by an earlier controller: nothing is
             * sent. attempt 0: none does. Without dependencies: they were met. */
            struct {
                uint32_t engine, incarnation;
                uint16_t attempt;
                bool running;
            } held;
        } submit;
        struct {
            uint8_t status;  /* enum result_status */
            uint64_t run_ns; /* how long user code took, all `count` items together, for the
                                adaptive prefetch; 0 unknown */
            void *payload;   /* passed through to DELIVER, borrowed */
        } result;
        struct {                       /* ENGINE_BACK */
            struct sched_held running; /* count 0: none */
            const struct sched_held *unstarted;
            uint32_t nunstarted;
        } back;
        struct {        /* ENGINE_DEAD */
            bool known; /* the host could read the status page; else all that was sent counts as
                           started */
            struct sched_held running; /* count 0: it ran nothing */
            /* known: items that it finished and whose RESULT never came (the status page's
             * tasks_done less the results received): the oldest so many that it held count as
             * started, for their results died with it. Exact where its TASKs came in the order they
             * were sent. */
            uint32_t unreported;
            bool free_of_charge; /* planned: a drain, a walltime: no retry is charged */
            void *cause;         /* passed through to DELIVER, borrowed */
        } dead;
        struct { /* CLIENT_BACK */
            const struct sched_range *waiting;
            uint32_t nwaiting;
        } client;
        struct { /* CANCEL */
            enum sched_cancel how;
            uint64_t kill_after_ns;
        } cancel;
    };
};

enum sched_action_type {
    SCHED_SEND = 1, /* to engine: id, count, attempt, kind, flags, payload */
    SCHED_TAKE,     /* ask engine to give back [id, +count) of attempt if unstarted (also how a sent
                     * task is aborted:     TAKE never interrupts); the engine always answers GIVE_BACK,
                     * count 0 for nothing */
    SCHED_INTERRUPT, /* ask engine to drop or interrupt [id, +count) of attempt */
    SCHED_KILL,      /* have the host kill the engine */
    SCHED_DELIVER,   /* the terminal word on [id, +count): status, payload, engine, cause */
    SCHED_UNKNOWN,   /* not emitted: only the caller's records can tell unknown from terminal, see
                        SCHED_AGAIN */
    SCHED_AGAIN,     /* CLIENT_BACK: [id, +count) is not live here: the caller hands over the stored
                      * results, and names     to the client those that its records don't have, which
                      * the     client then submits again */
    SCHED_ENGINE_GONE, /* an away engine's grace is over: treat it as dead from now on */
};

struct sched_action {
    enum sched_action_type type;
    struct sched_id id;
    uint32_t count;
    uint16_t attempt;
    uint32_t engine, incarnation;
    uint8_t kind, status; /* status: enum result_status */
    uint16_t flags;
    uint32_t offset; /* SEND: id is item number `offset` of the submitted payload (a part of a range
                      * is sent again after a split; the payload is always the whole one) */
    uint32_t killed[3]; /* DELIVER with RESULT_ENGINE_DIED: the engines that died running it,
                           nkilled of them */
    uint8_t nkilled;
    void *payload;   /* SEND: the task's; DELIVER: the result's (NULL when sched decided: the text
                        says why) */
    void *cause;     /* DELIVER with RESULT_ENGINE_DIED: ENGINE_DEAD's */
    void *note;      /* the submit's */
    const char *why; /* DELIVER with status >= 2: static text, or NULL */
    struct sched_id about; /* the task that `why` speaks of; session 0: none */
    /* Payload and note are borrowed and valid until the next sched_handle(). */
};

struct sched_actions {
    struct sched_action *v;
    size_t n, cap;
};

int sched_new(struct sched **ret, const struct sched_options *o, const struct sched_payload_ops *p,
              struct err *e) CV_CHECK;
void sched_free(struct sched *s);
/* What would end a million tasks at once (an engine's queue, a client's, all that depend on one) is
 * done in slices, one an event: meanwhile sched_deadline() says that TICK is due.
 * now: monotonic ns. Appends to actions (the caller clears it before). CV_EINVAL with a text for an
 * event that can't be accepted (SUBMIT without items or targets): nothing was changed. A SUBMIT of
 * a range of which any item is live is a client's resend and is ignored: ids are never used twice,
 * and a range is accepted whole or not at all. The caller drops resends of what its records have as
 * ended. CV_ENOMEM: likewise, nothing was changed (SUBMIT, ENGINE_JOIN). CV_ECLOSED:
 * memory ran out in the middle, decisions were lost; sched_free() is all that is left to call. */
int sched_handle(struct sched *s, uint64_t now, const struct sched_event *ev,
                 struct sched_actions *actions, struct err *e) CV_CHECK;
void sched_actions_release(struct sched_actions *a);
/* When TICK is due next (monotonic ns), UINT64_MAX for never. */
uint64_t sched_deadline(const struct sched *s);

/* --- what queries read --- */
enum sched_engine_state { SCHED_JOINING, SCHED_UP, SCHED_AWAY, SCHED_DRAINING, SCHED_DEAD };
struct sched_engine_info {
    uint32_t number, incarnation;
    enum sched_engine_state state;
    uint32_t held_direct, held_balanced; /* unfinished items */
    uint64_t completed;
    uint64_t away_since; /* monotonic ns */
};
bool sched_engine_info(const struct sched *s, uint32_t number, struct sched_engine_info *ret);
enum sched_task_state {
    SCHED_T_UNKNOWN,
    SCHED_T_WAITING,
    SCHED_T_QUEUED,
    SCHED_T_SENT,
    SCHED_T_RUNNING,
    SCHED_T_DONE,
    SCHED_T_FAILED,
    SCHED_T_CANCELLED,
    SCHED_T_EXPIRED,
    SCHED_T_LOST
};
enum sched_task_state sched_task_state(const struct sched *s, struct sched_id id,
                                       uint32_t *ret_engine);
/* Is any of [id, +count) known and unfinished? */
bool sched_live(const struct sched *s, struct sched_id id, uint64_t count);
bool sched_client_live(const struct sched *s, uint64_t session); /* any of that client's? */
/* None of its ids from there on was ever used. */
uint64_t sched_client_next(const struct sched *s, uint64_t session);
const char *sched_state_name(enum sched_task_state st);
size_t sched_unassigned(const struct sched *s); /* waiting + queued items */
size_t sched_task_count(const struct sched *s); /* live records */
/* Calls cb for each unfinished item range that was sent to engine, which are few. */
void sched_each_held(const struct sched *s, uint32_t engine,
                     void (*cb)(void *arg, struct sched_id id, uint32_t count,
                                enum sched_task_state st, enum sched_mode mode),
                     void *arg);
/* All unfinished items by client and id, some at a time: tasks may come and go between the calls,
 * and one that lives all the time is seen once. */
struct sched_walk {
    uint64_t *sessions;
    size_t n, at;
    uint64_t seq;
};
int sched_walk_begin(const struct sched *s, struct sched_walk *ret) CV_CHECK; /* CV_ENOMEM */
/* Tells of some runs of items, at most a few thousand items. engine: which has them, or
 * SCHED_ENGINE_NONE: unassigned. False: those were the last. */
bool sched_walk_some(const struct sched *s, struct sched_walk *w,
                     void (*cb)(void *arg, struct sched_id id, uint32_t count, uint32_t engine,
                                enum sched_mode mode),
                     void *arg);
void sched_walk_release(struct sched_walk *w);
/* Checks every invariant; NULL when all hold, else what is broken (for the simulator and debug
 * builds). */
const char *sched_check(const struct sched *s);

#endif

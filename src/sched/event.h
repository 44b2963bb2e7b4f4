/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The handlers of events, one per enum sched_event_type, and what several of them need. They only
 * change tasks and engines; dispatch() follows each event. */
#ifndef COVEY_SCHED_EVENT_H
#define COVEY_SCHED_EVENT_H

#include "sched/sched.h"
#include "sched/state.h"
#include "sched/task.h"

int submit_handle(struct sched *s, const struct sched_event *ev, struct err *e) CV_CHECK;

void result_handle(struct sched *s, const struct sched_event *ev);
void started_handle(struct sched *s, const struct sched_event *ev);
void give_back_handle(struct sched *s, const struct sched_event *ev);

int engine_join(struct sched *s, const struct sched_event *ev, struct err *e) CV_CHECK;
int engine_back(struct sched *s, const struct sched_event *ev, struct err *e) CV_CHECK;
void engine_away(struct sched *s, const struct sched_event *ev);
void engine_synced(struct sched *s, const struct sched_event *ev);
void engine_dead(struct sched *s, const struct sched_event *ev);
void engine_drain(struct sched *s, const struct sched_event *ev);
/* Away longer than the grace time; but ev may say that it is back. */
void engine_tick(struct sched *s, const struct sched_event *ev);
void engines_lose_some(struct sched *s); /* ends the tasks of dead ones, a slice of them */
void engine_free(struct engine *e);
struct engine *engine_find(const struct sched *s, uint32_t number, uint32_t incarnation);
bool engine_takes(const struct engine *e); /* balanced tasks, now or when it is back */
bool engine_connected(const struct engine *e);

void cancel_handle(struct sched *s, const struct sched_event *ev);
void task_tick(struct sched *s); /* unstarted for too long, or to be killed */

struct client *client_get(struct sched *s, uint64_t session); /* makes it; NULL: out of memory */
/* Notes that ids of [lo, hi) are used, so that a walk over them knows where to look. */
int client_use(struct client *c, uint64_t lo, uint64_t hi) CV_CHECK;
void client_free(struct client *c);
void client_gone(struct sched *s, const struct sched_event *ev);
void client_pause(struct sched *s, const struct sched_event *ev); /* and resume */
void client_back(struct sched *s, const struct sched_event *ev);
void client_idle(struct sched *s, struct client *c); /* its last record has ended, or it has gone */
void client_tick(struct sched *s); /* gone longer than the grace time, or with nothing left */

/* Walks the records that cover [id, +count), bounded by what the session ever used:
 * `struct task_walk w = task_walk(s, id, count); while ((t = task_walk_next(s, &w)))`, with t's
 * part in w.lo, w.hi. t may end meanwhile. */
struct task_walk {
    const struct client *client;
    uint64_t session, seq, end, lo, hi;
    uint64_t place_end; /* ids below were looked for one by one; then the next place is asked for */
};
struct task_walk task_walk(const struct sched *s, struct sched_id id, uint64_t count);
struct task *task_walk_next(const struct sched *s, struct task_walk *w);
/* Looks at few ids; NULL: there is no record among them. */
struct task *task_walk_step(const struct sched *s, struct task_walk *w);

/* t was sent as that attempt to that engine and is there still. */
bool task_is_at(const struct task *t, const struct sched_event *ev);

/* t leaves its engine unfinished and uncharged: it ends if it was cancelled or aborted or may go
 * nowhere else (with lost, unless that is NULL), and is queued again otherwise. */
void task_return(struct sched *s, struct task *t, const struct task_word *lost);
/* t has run, and is to run again: it has started in time, however long that takes. */
void task_started_once(struct task *t);
/* t failed on that engine: it goes to others (hard: never there again). Twice is as once. */
void task_blame(struct sched *s, struct task *t, uint32_t engine, bool hard);
/* An engine left or takes no more: what is queued and can go nowhere any more has to end. */
void queues_recheck(struct sched *s, struct engine *left);
void queues_end_some(struct sched *s); /* that, a slice of it */
/* The first engine came, after none was left: likewise for what waited for any but some. */
void queues_recheck_open(struct sched *s);

#endif

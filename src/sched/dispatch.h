/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which task goes where: room on engines, sending, taking back. */
#ifndef COVEY_SCHED_DISPATCH_H
#define COVEY_SCHED_DISPATCH_H

#include "sched/state.h"
#include "sched/task.h"

struct sched_action *
sched_push(struct sched *s); /* a zeroed action; NULL: out of memory (s->oom is set) */

uint64_t engine_load(const struct engine *e); /* unfinished items that it has to do */
bool engine_has_room(const struct sched *s, const struct engine *e);
/* Brings the indices up to date with the engine's counters and state. */
void engine_touch(struct sched *s, struct engine *e);

/* Sends what can be sent, until nothing that is queued has an engine with room. */
void dispatch(struct sched *s);
/* Asks engine to give back the items of t in [lo, hi) that it has not started. */
void task_take(struct sched *s, struct task *t, uint64_t lo, uint64_t hi);
/* One INTERRUPT for each run of unfinished items of t. */
void task_interrupt(struct sched *s, struct task *t);
/* Back to the head of its queue: a direct one to its engine's, a balanced one to that of its set.
 */
void task_requeue(struct sched *s, struct task *t);

#endif

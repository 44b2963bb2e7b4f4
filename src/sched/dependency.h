/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a waiting task waits for: `after` (when) and `follow` (when and where). */
#ifndef COVEY_SCHED_DEPENDENCY_H
#define COVEY_SCHED_DEPENDENCY_H

#include "sched/sched.h"
#include "sched/task.h"

enum deps_verdict { DEPS_OPEN, DEPS_MET, DEPS_UNREACHABLE, DEPS_INVALID };

/* Notes what t, not yet in the index, waits for. *verdict: whether it must wait at all. */
int deps_new(struct sched *s, struct task *t, const struct sched_event *ev,
             enum deps_verdict *verdict) CV_CHECK;
/* The first of the tasks that it waits for whose end, or absence, spoils it; session 0: none. */
struct sched_id deps_spoiler(const struct task *t);
/* What a task that can't be waited for ends with. */
struct task_word deps_broken(const struct task *t);
void deps_free(struct sched *s, struct task *t);
void deps_release(struct sched *s); /* what deps_free() has left for later */
/* Items [lo, hi) of session ended: those that wait for them are told by deps_settle(). watched:
 * some may be known to do so. */
void deps_ended(struct sched *s, uint64_t session, uint64_t lo, uint64_t hi, uint8_t status,
                uint32_t engine, bool watched);
/* Tells those that waited, and takes the ones that have their answer off the waiting list: to a
 * queue, or to their end. A slice of it. */
void deps_settle(struct sched *s);
bool deps_due(const struct sched *s); /* there is more of that */

/* All are met: narrows t's engines by what follow asks for (direct: the one it is for, which stays
 * as it is). False: none of them is left. */
bool deps_met(struct sched *s, struct task *t, const struct engine *direct);
/* Why not; asked before. */
const char *deps_nowhere(const struct task *t, const struct engine *direct);

#endif

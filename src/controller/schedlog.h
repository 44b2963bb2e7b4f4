/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The one way from the controller to its scheduler; with --sched-log=FILE what passes is written
 * there (sched/trace.h), so that test/sim/replay can tell it again. */
#ifndef COVEY_CONTROLLER_SCHEDLOG_H
#define COVEY_CONTROLLER_SCHEDLOG_H

#include "controller/controller.h"

struct schedlog;

/* Begins a new file. limit: bytes from which on nothing more is written. */
int schedlog_open(struct schedlog **ret, const char *path, uint64_t limit,
                  const struct sched_options *o, struct err *e) CV_CHECK;
void schedlog_close(struct schedlog *l); /* writes what is left; NULL is fine */
/* sched_handle(), with the loop's time. */
int schedlog_handle(struct controller *c, const struct sched_event *ev, struct sched_actions *a,
                    struct err *e) CV_CHECK;
/* What outcome() answered to it. */
void schedlog_outcome(struct controller *c, struct sched_id id, bool known, uint8_t status,
                      uint32_t engine);
void schedlog_turn(struct controller *c); /* at the end of a turn */

#endif

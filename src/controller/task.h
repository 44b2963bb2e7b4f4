/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What clients and engines say about tasks: handlers of route.c. Messages are borrowed. */
#ifndef COVEY_CONTROLLER_TASK_H
#define COVEY_CONTROLLER_TASK_H

#include "controller/route.h"

void task_submit(struct controller *c, const struct origin *o, struct msg *m);
void task_started(struct controller *c, const struct origin *o, struct msg *m);
void task_result(struct controller *c, const struct origin *o, struct msg *m);
void task_give_back(struct controller *c, const struct origin *o, struct msg *m);
void task_cancel(struct controller *c, const struct origin *o, struct msg *m);
void task_client_ack(struct controller *c, const struct origin *o, struct msg *m);

/* The engine is connected again: compares what it holds, at once or when it has sent its results
 * again. */
void task_engine_back(struct controller *c, struct engine *e);

#endif

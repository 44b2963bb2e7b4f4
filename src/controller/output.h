/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What engines print and show on its way to who submitted the task, and widgets' messages both
 * ways: handlers of route.c. A client that does not read gets no more of it than client_buffer, and
 * is told so once. Messages are borrowed. */
#ifndef COVEY_CONTROLLER_OUTPUT_H
#define COVEY_CONTROLLER_OUTPUT_H

#include "controller/route.h"

void output_printed(struct controller *c, const struct origin *o, struct msg *m); /* OUTPUT */
void output_comm(struct controller *c, const struct origin *o, struct msg *m);    /* COMM */

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Engine sets that have ended for good, says the supervisor that started them and this controller:
 * lines {"set_ended": SET, "why": TEXT} that come by the socket of its events. They are kept for
 * engines whose links are lost later; the newest KEPT of them. On the loop's thread. */
#ifndef COVEY_CONTROLLER_ENDED_H
#define COVEY_CONTROLLER_ENDED_H

#include <stdint.h>
#include "base/error.h"

struct controller;
struct ended;

/* Listens if there is such a socket. */
int ended_new(struct ended **ret, struct controller *c, struct err *e) CV_CHECK;
void ended_free(struct ended *x); /* NULL is fine */
/* Why the set has ended, borrowed; NULL: it has not, or is 0. */
const char *ended_why(const struct ended *x, uint64_t set);

#endif

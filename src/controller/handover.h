/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What ended while a client was not connected is handed over once it is back: there may be a
 * million results, so in slices, one at the end of each turn of the loop, and no more at a time
 * than the client may have waiting. On the loop's thread. */
#ifndef COVEY_CONTROLLER_HANDOVER_H
#define COVEY_CONTROLLER_HANDOVER_H

#include "controller/controller.h"

/* Of these ids of session, whose client is connected, the ended ones are handed over from now on.
 * again_take: malloc'ed. Without memory to go on with later it is all done at once. */
void handover_begin(struct controller *c, uint64_t session, struct sched_range *again_take,
                    size_t n);
/* Its client is gone: it will ask anew. */
void handover_drop(struct controller *c, uint64_t session);
bool handover_turn(struct controller *c); /* true: there is more to be done at once */
void handover_release(struct controller *c);

#endif

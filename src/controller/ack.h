/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Telling engines which of their RESULTs have come. */
#ifndef COVEY_CONTROLLER_ACK_H
#define COVEY_CONTROLLER_ACK_H

#include "controller/controller.h"

/* A RESULT of e has come. */
void ack_note(struct controller *c, struct engine *e, const struct msg *m);
/* Sends what is due. At the end of each turn, when what the turn sends is queued. */
void ack_turn(struct controller *c);
void ack_timer(void *controller); /* for controller.ack_timer */

#endif

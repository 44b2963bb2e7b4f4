/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How many bytes of results clients have yet to take, and what follows: a client that lets more
 * than a bound pile up is paused (its queued tasks wait, those of others go on) until it has taken
 * half of them. So neither a client that does not read nor one that left fills the controller, and
 * no result is lost. The bound is `client_buffer` while it is connected, else half of
 * what records may take (`size_limit`). */
#ifndef COVEY_CONTROLLER_BACKLOG_H
#define COVEY_CONTROLLER_BACKLOG_H

#include <stdint.h>
#include "base/hash.h"
#include "base/list.h"

struct controller;

struct backlog {
    struct hash by_session; /* of struct debt */
    struct list due;        /* those that changed in this turn */
};

void backlog_init(struct backlog *b);
void backlog_release(struct backlog *b);
/* A result was sent to the client, or kept for it. */
void backlog_add(struct controller *c, uint64_t session, uint64_t bytes);
void backlog_taken(struct controller *c, uint64_t session, uint64_t bytes); /* it has it */
/* What it has yet to take. */
uint64_t backlog_bytes(const struct controller *c, uint64_t session);
/* It came or went. What it still waits for when it comes is added anew. Of one that is gone nothing
 * is counted any more once its last task has ended. */
void backlog_came(struct controller *c, uint64_t session);
void backlog_went(struct controller *c, uint64_t session);
/* At the end of a turn: pauses and lets go on. */
void backlog_settle(struct controller *c);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A message as the programs hold it: header, route bytes, payload. Not shared between threads
 * unless handed over; its payload may be. */
#ifndef COVEY_WIRE_MSG_H
#define COVEY_WIRE_MSG_H

#include <stdbool.h>
#include "wire/header.h"
#include "wire/payload.h"

struct msg {
    struct msg *next; /* free for the holder (queues) */
    struct header h;
    struct payload *payload; /* NULL when the message has no buffers */
    uint8_t *route;          /* h.route_len bytes, NULL when 0; inside this allocation */
};

/* A message with space for a copy of the route; takes one reference of payload (which may be NULL)
 * and sets h.route_len, h.nbufs, h.body_len from its arguments. */
int msg_new(struct msg **ret, const struct header *h, const void *route, uint32_t route_len,
            struct payload *payload_take) CV_CHECK;
void msg_free(struct msg *m); /* drops the payload's reference; NULL is fine */

/* Large messages are overtaken by small ones, so a RESULT of that size is acknowledged by its ids;
 * small ones keep their order and are acknowledged by a count. Both ends ask this. */
static inline bool result_acked_by_name(const struct payload *p)
{
    return p && p->total > WIRE_INLINE_MAX;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Messages (msg.h): one allocation for the struct and its route. Held by one thread at a time. */
#include "wire/msg.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int msg_new(struct msg **ret, const struct header *h, const void *route, uint32_t route_len,
            struct payload *payload_take)
{
    assert(route_len <= WIRE_ROUTE_MAX);
    struct msg *m = malloc(sizeof *m + route_len);
    if (!m) {
        payload_unref(payload_take);
        return CV_ENOMEM;
    }
    *m = (struct msg){
        .h = *h, .payload = payload_take, .route = route_len ? (uint8_t *)(m + 1) : NULL};
    m->h.route_len = route_len;
    m->h.nbufs = payload_take ? payload_take->nbufs : 0;
    m->h.body_len = payload_take ? payload_take->total : 0;
    if (route_len && route)
        memcpy(m->route, route, route_len);
    *ret = m;
    return CV_OK;
}

void msg_free(struct msg *m)
{
    if (!m)
        return;
    payload_unref(m->payload);
    free(m);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The relay: a Unix socket for this machine's engines (of this host and of others, elect.h), the
 * host's one link to the controller for all of them. Messages pass by reference in both directions;
 * the header's engine number says whose they are, and the relay writes it on the way up, so that no
 * engine can speak for another. An engine's HELLO gets a number of the relay's own in `aux`, which
 * WELCOME brings back.
 *
 * When the uplink is lost the engines' links stay open and silent for as long as it takes; when it
 * is back they are cut, and each engine connects again and says what it holds. On the loop's
 * thread. Owns listener and engine links. */
#ifndef COVEY_HOST_RELAY_H
#define COVEY_HOST_RELAY_H

#include <stdbool.h>
#include "base/log.h"
#include "net/link.h"

struct relay;

struct relay_config {
    struct loop *loop;
    struct log *log;
    const char *name; /* "@covey-relay-..." */
    /* Hands a message to the uplink; CV_ECLOSED while there is none. References payload. */
    int (*send_up)(void *arg, const struct header *h, const void *route, uint32_t route_len,
                   struct payload *payload, int flags);
    /* The link of an engine has ended: nothing more comes from it. */
    void (*closed)(void *arg, uint32_t number);
    /* A member's engine has ended: its EXIT. Whether it is taken, which the member is told; one
     * that is not, or that is not read any more, the member tells itself. */
    bool (*exited)(void *arg, const struct msg *m);
    void *arg;
};

/* CV_EEXIST: somebody has that name. */
int relay_new(struct relay **ret, const struct relay_config *c, struct err *e) CV_CHECK;
/* A message of the controller to one of the engines. */
void relay_down(struct relay *r, struct msg *m_take);
/* Is this engine's link open? NULL has none. */
bool relay_has(const struct relay *r, uint32_t number);
/* The uplink is there again, after a loss. */
void relay_uplink_back(struct relay *r);
void relay_free(struct relay *r); /* NULL is fine */

#endif

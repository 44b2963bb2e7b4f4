/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which of the hosts of one user, cluster and machine relays (48 of them, where `srun` started 48
 * `ipengine`): the first binds an abstract socket whose name they all know and is the relay, for
 * the engines of all; the others are members and keep a link to it. When the relay's host ends,
 * the members see that at once and one of them binds the socket; engines connect to the same name
 * again and say what they hold, so nothing is lost.
 *
 * Only what goes to and from engines takes this way: each host keeps its own link to the
 * controller for orders. An EXIT is handed to the relay, where it can follow all that came from
 * its engine; the relay says that it has taken it. A member that ends waits for that, since a relay
 * that ends at the same time may not read it any more.
 *
 *   bind -> RELAY                  (until this host ends)
 *    ^ \--> JOINING -> MEMBER -> (its link ends) -> bind
 *
 * On the loop's thread. Owns the relay, or the link to it. */
#ifndef COVEY_HOST_ELECT_H
#define COVEY_HOST_ELECT_H

#include "host/relay.h"

struct elect;

struct elect_config {
    struct relay_config relay; /* its name is set here */
    const char *boot_id;
    uint64_t session; /* of this host */
    /* A member: the relay has ended. What was handed to it may be lost. */
    void (*orphaned)(void *arg); /* relay.arg */
    /* A member: the relay has taken all that was handed to it. */
    void (*taken)(void *arg); /* relay.arg */
};

int elect_new(struct elect **ret, const struct elect_config *c, struct err *e) CV_CHECK;
const char *elect_endpoint(const struct elect *x); /* where engines connect, for good */
struct relay *elect_relay(const struct elect *x);  /* NULL: another host relays */
/* Hands an EXIT to the host that relays. CV_ECLOSED: there is none now. References payload. */
int elect_exit(struct elect *x, const struct header *h, struct payload *payload) CV_CHECK;
/* A member: has the relay still to take something? */
bool elect_waits(const struct elect *x);
void elect_free(struct elect *x); /* NULL is fine */

#endif

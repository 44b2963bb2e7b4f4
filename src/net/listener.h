/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listening sockets: an abstract or path Unix socket, TCP. Accepted descriptors are non-blocking
 * and CLOEXEC. Running out of descriptors pauses accepting for 100 ms and reports once. */
#ifndef COVEY_NET_LISTENER_H
#define COVEY_NET_LISTENER_H

#include <stdint.h>
#include "net/lane.h"

struct listener;

/* fd_take: the new connection. uid: of a Unix peer (SO_PEERCRED), -1 for TCP. peer: "unix" or
 * "127.0.0.1:4711". */
typedef void (*listener_cb)(void *arg, int fd_take, long uid, const char *peer);

/* name: "@covey-0-ab12" (abstract) or a path (an own stale socket file is replaced; mode 0600). */
int listener_new_unix(struct listener **ret, struct loop *l, const char *name, listener_cb cb,
                      void *arg, struct err *e) CV_CHECK;
/* ip: an address, or "*" for all; port 0: the kernel's choice. "port 4711 is in use" and the like
 * in e. */
int listener_new_tcp(struct listener **ret, struct loop *l, const char *ip, uint16_t port,
                     listener_cb cb, void *arg, struct err *e) CV_CHECK;
/* Told when accepting pauses (same arg as the listener's callback). None: nobody is told. */
void listener_on_trouble(struct listener *l, void (*cb)(void *arg, const char *why));
/* Accepts in turns of a lane. */
void listener_set_lane(struct listener *l, struct lane *lane);
/* Those who come meanwhile wait in the kernel's queue. Both do nothing when it is so already. */
void listener_pause(struct listener *l);
void listener_resume(struct listener *l);
uint16_t listener_port(const struct listener *l);
void listener_free(struct listener *l); /* NULL is fine */

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Connecting to the endpoints of a connection file. Unix endpoints are tried first (only if the
 * machine matches), at once; TCP ones in parallel, started 250 ms apart; the first that connects
 * (and, by the given factory, authenticates) is kept, the others are closed. */
#ifndef COVEY_NET_CONNECT_H
#define COVEY_NET_CONNECT_H

#include "net/link.h"

struct connector;

/* Makes the transport of a connected TCP descriptor: the TLS factory, or plain for tests. Takes fd.
 * Or, where dial is set, one to host:port by a way of its own; such attempts are made one after the
 * other, since each is a login, and none follows one that failed with CV_EACCES or CV_ENOENT: the
 * way itself is closed (for good, or for now). */
struct transport_factory {
    int (*make)(void *arg, int fd_take, struct transport **ret, struct err *e);
    void *arg;
    int (*dial)(void *arg, const char *host, uint16_t port, struct transport **ret, struct err *e);
    const char *through; /* names that way in texts; NULL: none */
};

/* link: a ready link (its handshake is done) with no callbacks yet: the callee calls
 * link_set_callbacks() before returning. On failure link is NULL and why names each endpoint and
 * what was wrong there. Called once. */
typedef void (*connect_cb)(void *arg, struct link *link_take, int code, const char *why);

int connector_new(struct connector **ret, struct loop *l, const char *const *endpoints, uint32_t n,
                  const struct transport_factory *tcp, uint64_t timeout_ns, connect_cb cb,
                  void *arg, struct err *e) CV_CHECK;
void connector_free(struct connector *c); /* cancels without a callback; NULL is fine */
void link_set_callbacks(struct link *l, const struct link_callbacks *cb, void *arg);

#endif

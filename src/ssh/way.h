/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Through ssh to a controller that only its own network reaches. The bytes of a link travel over
 * the standard streams of a child, `ssh -W HOST:PORT SERVER`, which is the user's OpenSSH with the
 * user's configuration (ProxyJump, agents, ~/.ssh/config); no port is opened anywhere. TLS goes
 * inside as on any other link, so the server sees nothing.
 *
 * A way makes one child for each connection attempt: connecting again starts ssh again. The child
 * has a session of its own and ends with the transport, and with the thread that made it. It never
 * asks: without a password it runs in BatchMode, a password reaches it by SSH_ASKPASS and is in
 * nobody's arguments, environment or files. What ssh says when it fails becomes the link's error.
 * On the loop's thread. */
#ifndef COVEY_SSH_WAY_H
#define COVEY_SSH_WAY_H

#include "net/connect.h"

struct ssh_way;

struct ssh_way_config {
    const char *server;   /* [user@]host[:port], a name of ~/.ssh/config */
    const char *key;      /* file with a private key (ssh -i); NULL or "": as ssh is configured */
    const char *password; /* NULL or "": none */
    struct transport_factory inner; /* makes TLS of a descriptor; must outlive the transports */
};

/* Copies what it is given. CV_EINVAL when the server's name is none. */
int ssh_way_new(struct ssh_way **ret, const struct ssh_way_config *c, struct err *e) CV_CHECK;
void ssh_way_free(struct ssh_way *w); /* after its transports; NULL is fine */
/* The way as a factory for connectors. */
struct transport_factory ssh_way_factory(struct ssh_way *w);

#endif

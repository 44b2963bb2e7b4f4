/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A connection: a link and who is at its other end. It begins as a stranger at the door
 * (accept.c), says HELLO (hello.c) and then belongs to one client, engine or host; a host's
 * connection also carries the engines that it relays. Owns its link. */
#ifndef COVEY_CONTROLLER_CONN_H
#define COVEY_CONTROLLER_CONN_H

#include "controller/controller.h"
#include "net/link.h"

struct conn {
    struct controller *c;
    struct list node;   /* controller.conns */
    struct door *door;  /* through which it came */
    struct place place; /* there, while role is 0 */
    struct link *link;
    uint8_t role;  /* enum peer_role; 0: a stranger */
    bool closing;  /* nothing more is taken from it */
    bool replaced; /* its peer has a newer link: its end means nothing */
    struct client *client;
    struct engine *engine;
    struct host *host;
    struct list relayed; /* engine.via of those that come through this link */
    struct msg *hello;   /* a client's that waits (hello_settled()), or NULL */
    char from[];         /* "unix", "10.0.0.7:51324" */
};

/* accept.c: the listeners' callback (its arg: the door); strangers; the end of any connection */
void accept_connection(void *arg, int fd_take, long uid, const char *peer);
int door_init(struct door *d, struct controller *c) CV_CHECK;
void door_close(struct door *d);   /* nobody else comes; those who have come stay */
void door_release(struct door *d); /* and they go */
void conn_admitted(struct conn *k, uint8_t role);
/* One sentence, then the end. */
void conn_bye(struct conn *k, const char *fmt, ...) CV_PRINTF(2, 3);
void conn_free(struct conn *k);
/* Adds what crossed its link. */
void conn_traffic(const struct conn *k, struct traffic *sum);
/* BYE to one engine; the connection stays until the engine leaves (a relay's link stays anyhow). */
void conn_bye_engine(struct engine *e, const char *reason);

/* hello.c */
void hello_handle(struct conn *k, struct msg *m_take);
/* The engines of an earlier controller had their time to come back: lets clients in that wait for
 * results of what those may run. The timer's callback. */
void hello_settled(void *arg);

/* route.c: a message of a known peer */
void route_handle(struct conn *k, struct msg *m_take);

/* peer.c: a known peer's link is lost */
void peer_lost(struct conn *k, const char *why);
/* The engine's connection is gone or was replaced. */
void peer_engine_detach(struct engine *e);
void peer_engine_attach(struct engine *e, struct conn *k);
void peer_client_detach(struct controller *c, struct client *x);

#endif

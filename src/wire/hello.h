/* SPDX-License-Identifier: BSD-3-Clause
 *
 * HELLO and WELCOME: what peers say on every connect, as MessagePack maps in the route (so they
 * fit the 4 KiB of an unauthenticated peer; what is held beyond that follows in the body as
 * MessagePack too, once the peer is let in). Unknown keys are skipped. */
#ifndef COVEY_WIRE_HELLO_H
#define COVEY_WIRE_HELLO_H

#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "wire/route.h"

enum peer_role { ROLE_CLIENT = 1, ROLE_ENGINE = 2, ROLE_HOST = 3 };

struct held_task {
    uint64_t session, seq;
    uint32_t count;
    uint16_t attempt;
};

struct hello {
    uint8_t role;     /* enum peer_role */
    uint64_t session; /* client: its id space; engine, host: random, the same on reconnects */
    char *cluster_id; /* may be NULL: any */
    char *boot_id;    /* from the connection file; another boot id is refused as stale */
    char *uuid;       /* engine */
    char *python;     /* "3.11" */
    char *versions;   /* JSON text {"covey": "...", "ipython": ...}; kept for people */
    char *host;       /* host name */
    uint64_t machine; /* hash of the machine's boot id: the same for all peers of one machine */
    uint64_t pid_namespace; /* in which `pid` is its number (pid_namespace(); 0: not said) */
    uint32_t pid;
    uint32_t number;       /* engine: asked for, or held before (WIRE_ENGINE_NONE: any) */
    uint32_t incarnation;  /* engine: held before (0: new) */
    uint32_t slot;         /* engine: its slot at its host; host: number of slots */
    uint64_t host_session; /* engine: session of its host (0: none) */
    uint64_t engine_set;   /* engine: with whom its supervisor started it (0: not said) */
    uint64_t connects;     /* how many connections of this session there were, this one included:
                              an older one that comes late is not mistaken for it (0: not said) */
    uint32_t memfds;       /* descriptors of buffers that it takes at a time (0: none) */
    /* what it holds: */
    struct held_task running;    /* engine; count 0: none */
    struct held_task *unstarted; /* engine */
    uint32_t nunstarted;
    struct id_range *waiting; /* client: the ranges of its session that it still waits for */
    uint32_t nwaiting;
};

struct welcome {
    uint32_t number, incarnation; /* engine */
    char *cluster_id, *boot_id;
    char *python;        /* client: newline-free note about other Python versions, or NULL */
    uint64_t credit;     /* bytes of chunked data the peer may send before CREDIT */
    uint64_t ping, dead; /* ns of silence on TCP until PING and until the link counts as lost */
    uint32_t memfds; /* descriptors of buffers that the peer may send before RELEASE (0: none) */
    struct id_range
        *unknown; /* client: of what it waits for, the ranges the controller never had */
    uint32_t nunknown;
    char *refused; /* one sentence: why the peer is not let in (the link then closes), or NULL */
};

void hello_release(struct hello *h);
int hello_encode(const struct hello *h, struct buf *out) CV_CHECK;
int hello_decode(const void *data, size_t n, struct hello *ret, struct err *e) CV_CHECK;
void welcome_release(struct welcome *w);
int welcome_encode(const struct welcome *w, struct buf *out) CV_CHECK;
int welcome_decode(const void *data, size_t n, struct welcome *ret, struct err *e) CV_CHECK;

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A controller without the world around it: its files, listeners and TLS are stand-ins, nothing is
 * signalled, peers are socket pairs. For the targets that speak to a controller. */
#ifndef COVEY_FUZZ_WORLD_H
#define COVEY_FUZZ_WORLD_H

#include "controller/conn.h"
#include "input.h"
#include "wire/hello.h"

#define WORLD_PEERS 8

struct world {
    struct options opt;
    struct controller c;
    int peers[WORLD_PEERS]; /* the far ends; -1: none */
    bool patient; /* strangers wait for a moment while others are served: world_run() does, too */
    /* What a peer is sent, as it is read; may be NULL. */
    void (*sent)(struct world *w, unsigned peer, const void *data, size_t n);
};

/* hwm 0: adaptive; reuse: as one that was started again. */
void world_start(struct world *w, uint32_t hwm, bool reuse, const char *store);
/* The same where it may fail; world_end() must follow in either case. */
int world_try(struct world *w, uint32_t hwm, bool reuse, const char *store) CV_CHECK;
void world_end(struct world *w);
/* Turns of the loop, until nothing is left to be read; reads what peers are sent. */
void world_run(struct world *w);
void world_connect(struct world *w, unsigned peer); /* closes what was there */
void world_close(struct world *w, unsigned peer);
void world_put(struct world *w, unsigned peer, const void *data, size_t n);
/* One message; h's lengths are set from route and body (one buffer, CHUNKs where it is large). */
void world_send(struct world *w, unsigned peer, struct header h, const void *route,
                size_t route_len, const void *body, size_t n);
void world_json(struct world *w, unsigned peer, struct header h, const json_t *j);
/* HELLO as that role; session and pid follow from `who`. */
void world_hello(struct world *w, unsigned peer, uint8_t role, uint64_t who);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the simulated peers of `scale-peers` share: one loop, the connection files of a controller,
 * and the answer to the command that is being carried out (one at a time; peers.c). Any failure
 * ends the program with a sentence: it is a measuring instrument. */
#ifndef COVEY_TEST_SCALE_SIM_H
#define COVEY_TEST_SCALE_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include "base/clock.h"
#include "net/connect.h"
#include "tls/tls.h"
#include "wire/connfile.h"
#include "wire/hello.h"

enum kind { KIND_UNIX, KIND_TLS, KIND_RELAY, KIND_END };

struct engines;
struct client;

struct sim {
    struct loop *loop;
    struct connfile client_file, engine_file;
    struct tls_context *client_tls, *engine_tls;
    struct engines *engines;
    struct client *client;
    bool busy; /* a command has not been answered */
};

/* peers.c */
void sim_die(const char *fmt, ...) CV_PRINTF(1, 2) __attribute__((noreturn));
void sim_check(int code, const char *what);
/* One line of JSON: the answer to the command. */
void sim_answer(struct sim *s, const char *fmt, ...) CV_PRINTF(2, 3);
double sim_since(uint64_t start_ns); /* seconds */
uint64_t sim_random(void);           /* of the kernel */
/* The endpoint of a file for a kind of peer; sim_die() when it has none. Borrowed. */
const char *sim_endpoint(const struct connfile *f, enum kind k);
void sim_say_hello(struct link *l, struct hello *h, uint64_t aux);

/* engines.c: simulated engines that answer each task at once */
void engines_start(struct sim *s, enum kind k, uint32_t n); /* answered when all are registered */
void engines_answer(struct sim *s);                         /* how many there are now */
uint32_t engines_numbers(const struct sim *s, const uint32_t **ret);
void engines_free(struct engines *e);

/* client.c: a client that submits no-ops */
void client_start(struct sim *s, enum kind k);
void client_tasks(struct sim *s, uint64_t n, uint64_t window);
void client_deaf(struct sim *s, uint64_t n); /* stops its process at the first result */
void client_broadcast(struct sim *s);
void client_round_trips(struct sim *s, uint64_t n);
void client_free(struct client *c);

#endif

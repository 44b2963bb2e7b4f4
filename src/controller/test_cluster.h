/* SPDX-License-Identifier: BSD-3-Clause
 *
 * For tests: a real ipcontroller in a profile of its own, and peers that speak the wire to its
 * Unix socket by blocking calls. Whatever does not come within 5 s fails the test. */
#ifndef COVEY_CONTROLLER_TEST_CLUSTER_H
#define COVEY_CONTROLLER_TEST_CLUSTER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include "wire/hello.h"
#include "wire/msg.h"

#define TEST_WAIT_MS 60000

struct cluster {
    pid_t pid;
    char dir[64]; /* the profile */
    char client_file[128], engine_file[128];
    char name[80]; /* of the abstract socket, without '@' */
    int port;
    FILE *events;
    int status; /* once it has ended */
};

struct fake {
    int fd;
    uint64_t session, seq;
    uint32_t number, incarnation;
    uint64_t transfers; /* CHUNKED messages sent */
    uint64_t results;   /* RESULTs received: what ACK says */
    uint64_t announced; /* RESULTs that its HELLO counted: the next ones */
};

/* The program's path comes from argv[1] of the test. */
void cluster_start(struct cluster *c, const char *const *args);
/* Starts and expects it to end by itself; returns its exit code. */
int cluster_fail(const char *const *args, char *out, size_t n);
/* SIGTERM, expects exit code 0, removes the profile. */
void cluster_stop(struct cluster *c);
int cluster_wait(struct cluster *c); /* its exit code */
/* The next event line of this name; others are skipped. */
json_t *cluster_event(struct cluster *c, const char *name);
/* To the controller, by the socket of its events. */
void cluster_say(struct cluster *c, const char *text);
void cluster_program(const char *path);

int fake_connect(const struct cluster *c);
void fake_send(struct fake *f, struct header h, const void *route, uint32_t route_len,
               const void *body, size_t n);
/* One message (CHUNKs put together). NULL at EOF. */
struct msg *fake_recv(struct fake *f);
/* The next message of this type; EVENTs, ACKs and OUTPUT are skipped if not asked for, others fail.
 */
struct msg *fake_expect(struct fake *f, uint8_t type);
/* Connects and says HELLO. */
void fake_say_hello(struct fake *f, const struct cluster *c, struct hello *h, uint64_t resend);
/* The same, and reads WELCOME (also into ret, if given). */
void fake_hello(struct fake *f, const struct cluster *c, struct hello *h, uint64_t resend,
                struct welcome *ret);
void fake_client(struct fake *f, const struct cluster *c, uint64_t session);
void fake_engine(struct fake *f, const struct cluster *c, uint64_t session, uint64_t host_session);
void fake_host(struct fake *f, const struct cluster *c, uint64_t session);
void fake_close(struct fake *f);
bool fake_silent(struct fake *f, int ms); /* nothing comes within ms */

uint64_t fake_submit(struct fake *f, uint16_t flags, uint32_t engine, const struct route *r,
                     uint32_t count, const char *body);
/* Answers a TASK. */
void fake_result(struct fake *engine, const struct msg *task, uint8_t status, const void *body,
                 size_t n);
json_t *fake_query(struct fake *f, const char *json); /* REPLY's whole object */
json_t *fake_event(struct fake *f, const char *name);
json_t *msg_json(const struct msg *m);
const char *msg_text(const struct msg *m); /* of the first buffer; static */
void fake_cancel(struct fake *client, uint64_t seq, uint16_t flags);

/* What must come next, and what must be in its text. */
void expect_text(const struct msg *m, const char *text);
void expect_result(struct fake *client, uint64_t seq, uint8_t status, const char *text);
void expect_bye(struct fake *f, const char *text); /* then EOF */
json_t *json_at(json_t *j, const char *key);       /* fails if it is not there; borrowed */

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The supervisor's control socket: an abstract Unix socket whose peers are of the same user (or
 * root) and send one JSON line each (docs/internals.md). The server half lives on the loop; the
 * client half blocks. */
#ifndef COVEY_CLUSTER_CONTROL_H
#define COVEY_CLUSTER_CONTROL_H

#include <stdint.h>
#include <jansson.h>
#include <uv.h>
#include "base/error.h"

struct control;

/* A command came. Answer with control_answer(), now or later (the peer may be gone by then).
 * `command` is borrowed. */
typedef void (*control_cb)(void *arg, uint64_t peer, json_t *command);

int control_new(struct control **ret, uv_loop_t *loop, control_cb cb, void *arg,
                struct err *e) CV_CHECK;
/* Closes all connections. The loop must turn once more for its handles. NULL is fine. */
void control_free(struct control *c);
const char *control_address(const struct control *c); /* "@covey-cluster-1000-…" */
/* Sends one line and, unless the peer follows events, closes the connection. Takes o. */
void control_answer(struct control *c, uint64_t peer, json_t *o_take);
/* From now on the peer gets each event. */
void control_follow(struct control *c, uint64_t peer);
void control_event(struct control *c, const json_t *event);
/* The answers {"ok": value} (takes value; NULL: null) and {"error": text}. */
json_t *control_ok(json_t *value_take);
json_t *control_error(const char *text);

/* Connects to `address`, sends the command and waits at most `timeout` seconds for the answer.
 * CV_ENOENT: nobody listens there. CV_EOF: the connection was closed without one. */
int control_call(const char *address, const json_t *command, double timeout, json_t **ret,
                 struct err *e) CV_CHECK;

#endif

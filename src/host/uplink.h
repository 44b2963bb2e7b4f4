/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The host's own link to its controller: finds the controller by the connection file (and waits
 * for that file), says HELLO, connects again when the link is cut, and decides when the controller
 * is gone for good. On the loop's thread. Owns connector, link, TLS context and connection data.
 *
 *   SEARCHING -> CONNECTING -> GREETING -> UP -> (link lost) AWAY -> CONNECTING ...   -> ENDED
 *
 * SEARCHING takes any file whose controller lets us in; AWAY only the same controller (boot id),
 * which may have been started again (`ipcontroller --reuse`). */
#ifndef COVEY_HOST_UPLINK_H
#define COVEY_HOST_UPLINK_H

#include <stdbool.h>
#include "base/log.h"
#include "net/link.h"
#include "wire/connfile.h"

struct uplink;

enum uplink_end {
    UPLINK_ASKED,     /* the controller said BYE */
    UPLINK_GONE,      /* it ended without a word, or its grace is over */
    UPLINK_NO_FILE,   /* no connection file in time */
    UPLINK_NO_ANSWER, /* no controller that lets us in, in time */
    UPLINK_CLOSED,    /* uplink_close() is done */
};

struct uplink_config {
    struct loop *loop;
    struct log *log;
    const char *path, *info; /* see source.h */
    const char *location;    /* "": as the file says */
    const char *cluster_id;  /* "": as the file says */
    const char *host;        /* this machine's name */
    const char *ssh_server;  /* go through it; "": as the file says */
    const char *ssh_key;     /* file with the key for it; "": as ssh is configured */
    bool no_unix;
    uint32_t slots;
    uint64_t session;
    uint64_t timeout_ns;
    uint64_t grace_ns;      /* a controller that is out of reach may stay away for so long, */
    uint64_t gone_grace_ns; /* one whose process has ended for so long: it may be started again */
    /* WELCOME has come; first: for the first time. */
    void (*up)(void *arg, bool first);
    void (*down)(void *arg); /* the link is cut; the uplink tries to get it back */
    void (*msg)(void *arg, struct msg *m_take);
    /* Once; nothing follows. why: a sentence. Never from inside a call into the uplink. */
    void (*ended)(void *arg, enum uplink_end end, const char *why);
    void *arg;
};

int uplink_new(struct uplink **ret, const struct uplink_config *c, struct err *e) CV_CHECK;
/* From up() on: the connection data, and whether the link is a Unix socket (then its endpoint, else
 * NULL). */
const struct connfile *uplink_file(const struct uplink *u);
const char *uplink_unix_endpoint(const struct uplink *u);
/* CV_ECLOSED while the link is not up. References payload. */
int uplink_send(struct uplink *u, const struct header *h, const void *route, uint32_t route_len,
                struct payload *payload, int flags) CV_CHECK;
bool uplink_is_up(const struct uplink *u);
/* Says BYE, sends what is queued and ends with UPLINK_CLOSED (at once when there is no link). */
void uplink_close(struct uplink *u, const char *reason);
void uplink_free(struct uplink *u); /* NULL is fine */

#endif

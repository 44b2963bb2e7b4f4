/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The way to the controller: connecting, HELLO and WELCOME, and connecting again after a loss with
 * a back-off of 50 ms to 2 s. Lives on an I/O thread; everything here is called there. Owns the
 * connector, the link and its timer. What the peer holds and what is to be sent again is its
 * owner's matter (ops). */
#ifndef COVEY_PYEXT_UPLINK_H
#define COVEY_PYEXT_UPLINK_H

#include "net/connect.h"
#include "net/pool.h"
#include "pyext/io.h"
#include "wire/hello.h"

enum uplink_state {
    UPLINK_IDLE,    /* not asked to connect yet, or the first attempt failed */
    UPLINK_JOINING, /* connecting, or waiting for WELCOME */
    UPLINK_UP,
    UPLINK_AWAY, /* lost, or cut while it joined (patient); tries again when the timer says so */
    UPLINK_GONE, /* given up or closed; never again */
};

struct uplink;

struct uplink_ops {
    /* Adds to h what this peer holds (arrays are malloc'ed and move), and the header's seq. Before
     * each HELLO. */
    int (*fill_hello)(void *arg, struct hello *h, struct header *head);
    /* WELCOME has come, the link takes messages. m: the WELCOME itself, borrowed. */
    void (*on_up)(void *arg, const struct welcome *w, const struct msg *m);
    void (*on_msg)(void *arg, struct msg *m_take); /* anything but WELCOME and BYE */
    void (*on_lost)(void *arg, const char *why);   /* it was up; tries again */
    /* The first attempt failed (state IDLE), or no more attempts are made (state GONE). */
    void (*on_gone)(void *arg, int code, const char *why);
    /* After a failed attempt of connecting again, away_ns after the loss: a sentence if trying on
     * makes no sense (the controller's process has ended), else NULL. */
    const char *(*hopeless)(void *arg, bool was_unix, uint64_t away_ns);
};

struct uplink {
    struct io *io;
    const struct uplink_ops *ops;
    void *arg;
    char **endpoints;
    uint32_t nendpoints;
    const struct transport_factory *tcp; /* NULL: no TCP endpoints */
    struct hello hello;                  /* what stays the same; owned */
    enum uplink_state state;
    struct connector *connector;
    struct link *link;
    uint64_t nlinks;     /* so far: tells links apart */
    struct timer *timer; /* back-off, or the limit for WELCOME */
    struct pool *pool;   /* memory for large buffers that are to be sent as descriptors */
    struct timer *trim;  /* of the pool, while there is something in it */
    bool trimming;
    bool no_memfds;       /* a descriptor could not be taken in: none any more */
    atomic_bool may_lend; /* the controller takes descriptors */
    bool patient; /* a first connection that is cut before WELCOME is tried again, while there is
                     time */
    bool was_up, was_unix, flushing;
    uint64_t backoff, lost_at, deadline;
    char why[512];
};

/* Takes endpoints and the strings of hello. memfd_bytes: for pool_new(). */
int uplink_init(struct uplink *u, struct io *io, const struct uplink_ops *ops, void *arg,
                char **endpoints_take, uint32_t n, const struct transport_factory *tcp,
                struct hello *hello_take, uint64_t memfd_bytes) CV_CHECK;
/* Where a large buffer should be put now; NULL: anywhere. Any thread. */
struct pool *uplink_pool(struct uplink *u);
void uplink_start(struct uplink *u, uint64_t timeout_ns); /* the first attempt; when IDLE */
/* Sends what is queued, says BYE, and calls on_gone(CV_ECLOSED) at the latest after linger_ns. */
void uplink_close(struct uplink *u, uint64_t linger_ns);
/* The link is of no use any more (out of memory, protocol breach seen by the owner): reconnects. */
void uplink_drop(struct uplink *u, const char *why);
/* Frees link, connector and timer: at the end of the I/O thread. */
void uplink_stop(struct uplink *u);
void uplink_release(struct uplink *u); /* the rest; any thread */

#endif

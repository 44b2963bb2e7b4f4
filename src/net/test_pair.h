/* SPDX-License-Identifier: BSD-3-Clause
 *
 * For tests: two links joined by a socket pair on one loop, and a link whose peer is a bare
 * descriptor. A run fails after a minute. */
#ifndef COVEY_NET_TEST_PAIR_H
#define COVEY_NET_TEST_PAIR_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/link.h"

#define TEST_DEADLINE (60 * NS_PER_S)

struct end {
    struct link *link;
    struct loop *loop;
    void (*on_msg)(struct end *end, struct msg *m_take); /* NULL: counted and freed */
    void *arg;
    uint64_t msgs;
    bool ready, closed;
    int code;
    char why[512];
};

struct pair {
    struct loop *loop;
    struct timer *deadline;
    struct end a, b;
    int fd; /* the bare side, or -1 */
};

static inline void end_on_ready(struct link *l, void *arg)
{
    ((struct end *)arg)->ready = true;
}

static inline void end_on_msg(struct link *l, struct msg *m_take, void *arg)
{
    struct end *end = arg;
    end->msgs++;
    if (end->on_msg)
        end->on_msg(end, m_take);
    else
        msg_free(m_take);
}

static inline void end_on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct end *end = arg;
    assert_false(end->closed);
    end->closed = true;
    end->code = code;
    snprintf(end->why, sizeof end->why, "%s", why);
    loop_stop(end->loop);
}

static const struct link_callbacks end_callbacks = {end_on_ready, end_on_msg, end_on_closed};

static inline void pair_late(void *arg)
{
    fail_msg("the test took too long");
}

static inline void end_open(struct pair *p, struct end *end, struct transport *t)
{
    static const struct wire_limits open = {.body_max = WIRE_BODY_MAX, .route_max = WIRE_ROUTE_MAX};
    end->loop = p->loop;
    assert_int_equal(link_new(&end->link, p->loop, t, &end_callbacks, end), CV_OK);
    link_set_limits(end->link, &open);
}

static inline void end_open_fd(struct pair *p, struct end *end, int fd)
{
    struct transport *t;
    assert_int_equal(stream_transport_new(&t, fd), CV_OK);
    end_open(p, end, t);
}

static inline void pair_loop(struct pair *p)
{
    memset(p, 0, sizeof *p);
    p->fd = -1;
    assert_int_equal(loop_new(&p->loop), CV_OK);
    assert_int_equal(timer_new(&p->deadline, p->loop, pair_late, p), CV_OK);
    timer_start(p->deadline, TEST_DEADLINE, 0);
}

static inline void pair_open(struct pair *p)
{
    int fds[2];
    pair_loop(p);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    end_open_fd(p, &p->a, fds[0]);
    end_open_fd(p, &p->b, fds[1]);
}

/* Only a is a link; the test holds the other descriptor. */
static inline void pair_open_bare(struct pair *p)
{
    int fds[2];
    pair_loop(p);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    end_open_fd(p, &p->a, fds[0]);
    p->fd = fds[1];
}

static inline void pair_close(struct pair *p)
{
    link_free(p->a.link);
    link_free(p->b.link);
    timer_free(p->deadline);
    if (p->fd >= 0)
        close(p->fd);
    loop_free(p->loop);
}

static inline void tick(void *arg)
{
    loop_stop(arg);
}

/* Runs the loop for a short while, so that what is due happens. */
static inline void pair_settle(struct pair *p)
{
    struct timer *t;
    assert_int_equal(timer_new(&t, p->loop, tick, p->loop), CV_OK);
    timer_start(t, 20 * NS_PER_MS, 0);
    loop_run(p->loop);
    timer_free(t);
}

static inline void send_text(struct link *l, uint8_t type, uint64_t seq, const char *text)
{
    struct header h = {.type = type, .seq = seq};
    struct payload *p = NULL;
    if (text)
        assert_int_equal(payload_new_copy(&p, text, strlen(text)), CV_OK);
    assert_int_equal(link_send(l, &h, NULL, 0, p, 0), CV_OK);
    payload_unref(p);
}

/* A payload of `n` bytes in one buffer, byte i being (i * 7 + salt). */
static inline struct payload *pattern(size_t n, unsigned salt)
{
    struct payload *p;
    uint64_t len = n;
    assert_int_equal(payload_new_large(&p, 1, &len), CV_OK);
    for (size_t i = 0; i < n; i++)
        p->bufs[0].data[i] = (uint8_t)(i * 7 + salt + i / 251);
    return p;
}

#endif

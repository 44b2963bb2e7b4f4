/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Two links that exchange small, large and shared messages while memory is short or the stream
 * fails. Each message arrives whole, or without its data and says so, or its sender was told, or a
 * link ended and said why: nothing is lost without a word, and nothing hangs. */
#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "net/connect.h"
#include "net/link.h"
#include "net/listener.h"

#define SMALL 8
#define LARGE 300000
#define TURNS 400

struct end {
    struct link *link;
    unsigned sent, got;
    bool closed, refused; /* refused: link_send() said so */
    unsigned *left_out;
};

struct pair {
    struct loop *loop; /* made before anything fails */
    struct payload *shared, *shared_large;
    unsigned left_out; /* in all exchanges: messages that came without their data */
    struct end a, b;
};

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct end *end = arg;
    bool left_out = m->h.flags & MSG_F_LEFT_OUT;
    uint64_t total = 0;
    for (uint32_t i = 0; i < m->h.nbufs; i++) {
        total += m->payload->bufs[i].len;
        for (uint64_t k = 0; k < m->payload->bufs[i].len; k += 997)
            assert_int_equal(m->payload->bufs[i].data[k], (uint8_t)k);
    }
    assert_true(!left_out || m->h.aux > WIRE_INLINE_MAX);
    assert_int_equal(total, left_out ? 0 : m->h.aux);
    *end->left_out += left_out;
    end->got++;
    msg_free(m);
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct end *end = arg;
    assert_false(end->closed);
    assert_true(code < 0 && *why);
    end->closed = true;
}

static struct payload *bytes(uint64_t n)
{
    const uint64_t lens[] = {n, 10};
    struct payload *p;
    if (payload_new_large(&p, 2, lens) != CV_OK)
        return NULL;
    for (int i = 0; i < 2; i++)
        for (uint64_t k = 0; k < lens[i]; k++)
            p->bufs[i].data[k] = (uint8_t)k;
    return p;
}

static void say(struct end *end, struct payload *p, int flags)
{
    struct header h = {.type = MSG_TASK, .aux = p ? p->total : 0};
    if (!p || end->closed)
        return;
    if (link_send(end->link, &h, "route", 5, p, flags) == CV_OK)
        end->sent++;
    else
        end->refused = true;
}

static void turns(struct pair *p, int n)
{
    while (n--)
        uv_run(loop_uv(p->loop), UV_RUN_NOWAIT);
}

static bool end_new(struct pair *p, struct end *end, int fd)
{
    static const struct link_callbacks callbacks = {.on_msg = on_msg, .on_closed = on_closed};
    static const struct wire_limits limits = {.body_max = 1 << 24, .route_max = WIRE_ROUTE_MAX};
    struct transport *t;
    if (stream_transport_new(&t, fd) != CV_OK ||
        link_new(&end->link, p->loop, t, &callbacks, end) != CV_OK)
        return false;
    link_set_limits(end->link, &limits);
    return true;
}

static void talk(struct pair *p)
{
    struct end *ends[] = {&p->a, &p->b};
    for (int i = 0; i < 2; i++) {
        struct payload *small = bytes(100), *large = bytes(LARGE);
        say(ends[i], large, 0);
        for (int k = 0; k < SMALL; k++)
            say(ends[i], small, 0);
        say(ends[i], p->shared, LINK_SHARE);
        say(ends[i], p->shared, LINK_SHARE | LINK_AFTER_BULK);
        say(ends[i], p->shared_large, LINK_SHARE);
        say(ends[i], p->shared_large, LINK_SHARE);
        say(ends[i], large, LINK_AFTER_BULK);
        payload_unref(small);
        payload_unref(large);
    }
    for (int i = 0; i < TURNS && !p->a.closed && !p->b.closed; i++) {
        if (p->a.got == p->b.sent && p->b.got == p->a.sent)
            break;
        turns(p, 1);
    }
}

static void exchange(void *arg)
{
    struct pair *p = arg;
    int fds[2];
    p->a = p->b = (struct end){.left_out = &p->left_out};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return;
    if (end_new(p, &p->a, fds[0])) {
        if (end_new(p, &p->b, fds[1]))
            talk(p);
    } else {
        close(fds[1]);
    }
    if (p->b.link && !p->a.closed && !p->b.closed)
        assert_true(p->a.got == p->b.sent && p->b.got == p->a.sent);
    turns(p, 2);
    link_free(p->a.link);
    link_free(p->b.link);
    turns(p, 2);
}

static void links_lose_nothing_silently(void **state)
{
    struct pair p = {0};
    assert_int_equal(loop_new(&p.loop), CV_OK);
    p.shared = bytes(20000);
    p.shared_large = bytes(LARGE);
    assert_true(fault_each(FAULT_MEMORY, exchange, &p) > 30);
    assert_true(fault_each(FAULT_STREAM, exchange, &p) > 10);
    assert_true(p.left_out >= 8); /* of each end: two, and two that name one BLOB */
    payload_unref(p.shared);
    payload_unref(p.shared_large);
    loop_free(p.loop);
}

/* ---- listening and connecting ---- */

struct meeting {
    struct loop *loop;
    char endpoint[64], name[60];
    unsigned accepted, answered;
};

static void on_accept(void *arg, int fd, long uid, const char *peer)
{
    struct meeting *m = arg;
    m->accepted++;
    close(fd);
}

static void on_trouble(void *arg, const char *why)
{
    assert_true(*why);
}

static void on_connected(void *arg, struct link *link, int code, const char *why)
{
    struct meeting *m = arg;
    m->answered++;
    assert_true(link ? code == CV_OK : code < 0 && *why);
    link_free(link);
}

static void meet(void *arg)
{
    struct meeting *m = arg;
    struct listener *l = NULL;
    struct connector *c = NULL;
    struct err e = {""};
    const char *endpoints[] = {m->endpoint};
    m->answered = 0;
    int rc = listener_new_unix(&l, m->loop, m->name, on_accept, m, &e);
    if (rc != CV_OK) {
        assert_true(fault_hit() && *e.text);
        return;
    }
    listener_on_trouble(l, on_trouble);
    rc = connector_new(&c, m->loop, endpoints, 1, NULL, 200000000, on_connected, m, &e);
    if (rc == CV_OK) {
        for (int i = 0; i < TURNS && !m->answered; i++)
            uv_run(loop_uv(m->loop), i < 20 ? UV_RUN_NOWAIT : UV_RUN_ONCE);
        assert_int_equal(m->answered, 1);
    } else {
        assert_true(fault_hit() && *e.text);
    }
    for (int i = 0; i < 4; i++)
        uv_run(loop_uv(m->loop), UV_RUN_NOWAIT);
    connector_free(c);
    listener_free(l);
    for (int i = 0; i < 3; i++)
        uv_run(loop_uv(m->loop), UV_RUN_NOWAIT);
}

static void connecting_always_has_an_answer(void **state)
{
    struct meeting m = {0};
    snprintf(m.name, sizeof m.name, "@covey-fault-%d", (int)getpid());
    snprintf(m.endpoint, sizeof m.endpoint, "unix:%s", m.name);
    assert_int_equal(loop_new(&m.loop), CV_OK);
    assert_true(fault_each(FAULT_MEMORY, meet, &m) > 5);
    assert_true(fault_each(FAULT_OPEN | FAULT_CONNECT, meet, &m) > 2);
    loop_free(m.loop);
}

static void make_loop(void *arg)
{
    struct loop *l;
    if (loop_new(&l) == CV_OK)
        loop_free(l);
}

static void a_loop_may_not_come_to_be(void **state)
{
    assert_true(fault_each(FAULT_MEMORY, make_loop, NULL) >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_lose_nothing_silently),
        cmocka_unit_test(connecting_always_has_an_answer),
        cmocka_unit_test(a_loop_may_not_come_to_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

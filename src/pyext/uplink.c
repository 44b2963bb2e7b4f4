/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Connecting and connecting again; see uplink.h. On the I/O thread. */
#include "pyext/uplink.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"

#define BACKOFF_MIN (50 * NS_PER_MS)
#define BACKOFF_MAX (2 * NS_PER_S)
#define BACKOFF_LOGIN_MAX (5 * NS_PER_S) /* where each attempt is a login by ssh */
#define ATTEMPT_NS (5 * NS_PER_S)        /* of connecting again, for all endpoints together */
#define ATTEMPT_LOGIN_NS (30 * NS_PER_S)
#define WELCOME_NS (10 * NS_PER_S)
#define MEMFDS_MAX 1024u /* received and still in use here */
#define TRIM_NS (2 * NS_PER_S)

static void attempt(struct uplink *u);

static void drop_link(struct uplink *u)
{
    struct link *l = u->link;
    if (!l)
        return;
    u->link = NULL; /* first: freeing gives back what was not sent */
    fork_guard_drop_begin(&u->io->guard, link_fd(l));
    link_free(l);
    fork_guard_drop_end();
}

static void give_up(struct uplink *u, int code, const char *why)
{
    char text[sizeof u->why];
    snprintf(text, sizeof text, "%s", why);
    timer_stop(u->timer);
    connector_free(u->connector);
    u->connector = NULL;
    drop_link(u);
    u->state = u->was_up || code == CV_ECLOSED ? UPLINK_GONE : UPLINK_IDLE;
    u->ops->on_gone(u->arg, code, text);
}

static bool by_login(const struct uplink *u)
{
    return u->tcp && u->tcp->dial;
}

/* Of the first attempt. */
static uint64_t time_left(const struct uplink *u)
{
    uint64_t now = clock_mono();
    return u->deadline > now ? u->deadline - now : 1;
}

/* Somebody was there, and the connection was cut before WELCOME: on a bad day the relay's, say. */
static bool try_first_again(struct uplink *u, int code)
{
    bool cut = code == CV_EOF || code == CV_ECLOSED || code == CV_ESYS;
    if (!u->patient || !u->link || !cut || time_left(u) <= BACKOFF_MAX)
        return false;
    drop_link(u);
    u->state = UPLINK_AWAY;
    u->backoff = u->backoff * 2 < BACKOFF_MIN   ? BACKOFF_MIN
                 : u->backoff * 2 < BACKOFF_MAX ? u->backoff * 2
                                                : BACKOFF_MAX;
    timer_start(u->timer, u->backoff, 0);
    return true;
}

/* An attempt has failed, or the link was lost. */
static void failed(struct uplink *u, int code, const char *why)
{
    if (!u->was_up && try_first_again(u, code))
        return;
    if (!u->was_up) {
        give_up(u, code, why);
        return;
    }
    uint64_t now = clock_mono();
    if (code == CV_ENFILE)
        u->no_memfds = true;
    snprintf(u->why, sizeof u->why, "%s", why);
    drop_link(u);
    if (u->state == UPLINK_UP) {
        u->state = UPLINK_AWAY;
        u->lost_at = now;
        u->backoff = BACKOFF_MIN;
        u->ops->on_lost(u->arg, u->why);
    } else {
        u->state = UPLINK_AWAY;
        const char *reason = u->ops->hopeless(u->arg, u->was_unix, now - u->lost_at);
        if (reason) {
            give_up(u, CV_EOF, reason);
            return;
        }
        uint64_t max = by_login(u) ? BACKOFF_LOGIN_MAX : BACKOFF_MAX;
        u->backoff = u->backoff * 2 < max ? u->backoff * 2 : max;
    }
    timer_start(u->timer, u->backoff, 0);
}

/* ---- large buffers as descriptors ---- */

/* Any thread. */
static void on_release_due(void *arg)
{
    struct uplink *u = arg;
    io_wake(u->io, false);
}

static void agree_on_memfds(struct uplink *u, uint32_t send)
{
    struct link_memfds m = {.send = send,
                            .receive = MEMFDS_MAX,
                            .map = true,
                            .forks = fork_count(),
                            .due = on_release_due,
                            .arg = u};
    if (u->no_memfds || !link_is_unix(u->link))
        m.send = m.receive = 0;
    atomic_store(&u->may_lend, m.send > 0);
    if (m.receive)
        link_set_memfds(u->link, &m);
}

struct pool *uplink_pool(struct uplink *u)
{
    return atomic_load(&u->may_lend) ? u->pool : NULL;
}

static void on_trim(void *arg)
{
    struct uplink *u = arg;
    u->trimming = pool_trim(u->pool);
    if (u->trimming)
        timer_start(u->trim, TRIM_NS, 0);
}

/* Somebody sends, or has dropped something received. */
static void on_wake(void *arg)
{
    struct uplink *u = arg;
    struct pool_stats s;
    if (u->link)
        link_release_due(u->link);
    if (u->trimming || !u->trim || !atomic_load(&u->may_lend))
        return;
    pool_stats(u->pool, &s);
    u->trimming = s.n > 0;
    if (u->trimming)
        timer_start(u->trim, TRIM_NS, 0);
}

static void on_welcome(struct uplink *u, struct msg *m)
{
    struct welcome w = {0};
    struct err e = {{0}};
    int r = welcome_decode(m->route, m->h.route_len, &w, &e);
    if (r) {
        failed(u, r, e.text);
    } else if (w.refused) {
        give_up(u, u->was_up ? CV_ECLOSED : CV_EAUTH, w.refused);
    } else {
        timer_stop(u->timer);
        agree_on_memfds(u, w.memfds);
        u->state = UPLINK_UP;
        u->was_up = true;
        u->was_unix = link_is_unix(u->link);
        if (w.credit)
            link_set_credit(u->link, w.credit);
        if (!u->was_unix)
            link_set_liveness(u->link, w.ping, w.dead);
        u->ops->on_up(u->arg, &w, m);
    }
    welcome_release(&w);
    msg_free(m);
}

/* The text of BYE's {"reason": text}, or what stands for it. */
static void bye_reason(const struct msg *m, char *out, size_t n)
{
    snprintf(out, n, "the controller has closed the connection");
    if (!m->payload || m->payload->nbufs == 0)
        return;
    json_t *j =
        json_loadb((const char *)m->payload->bufs[0].data, m->payload->bufs[0].len, 0, NULL);
    const char *s = json_string_value(json_object_get(j, "reason"));
    if (s)
        snprintf(out, n, "%s", s);
    json_decref(j);
}

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct uplink *u = arg;
    if (m->h.type == MSG_BYE) {
        char why[sizeof u->why];
        bye_reason(m, why, sizeof why);
        msg_free(m);
        give_up(u, u->was_up ? CV_ECLOSED : CV_EAUTH, why);
    } else if (u->state == UPLINK_UP) {
        u->ops->on_msg(u->arg, m);
    } else if (m->h.type == MSG_WELCOME) {
        on_welcome(u, m);
    } else {
        char why[64];
        snprintf(why, sizeof why, "the controller sent %s before WELCOME",
                 msg_type_name(m->h.type));
        msg_free(m);
        failed(u, CV_EPROTO, why);
    }
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct uplink *u = arg;
    if (u->flushing)
        give_up(u, CV_ECLOSED, "closed");
    else
        failed(u, code, why && *why ? why : "the connection was lost");
}

static const struct link_callbacks link_cbs = {.on_msg = on_msg, .on_closed = on_closed};

static int say_hello(struct uplink *u)
{
    struct hello h = u->hello;
    h.connects = u->nlinks;
    struct header head = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE};
    struct buf route = {0};
    agree_on_memfds(u, 0);
    if (link_is_unix(u->link) && !u->no_memfds)
        h.memfds = MEMFDS_MAX;
    int r = u->ops->fill_hello(u->arg, &h, &head);
    if (!r)
        r = hello_encode(&h, &route);
    if (!r)
        r = link_send(u->link, &head, route.data, (uint32_t)route.len, NULL, 0);
    free(h.unstarted);
    free(h.waiting);
    buf_release(&route);
    return r;
}

static void on_connected(void *arg, struct link *link, int code, const char *why)
{
    struct uplink *u = arg;
    connector_free(u->connector);
    u->connector = NULL;
    if (!link) {
        failed(u, code, why);
        return;
    }
    u->link = link;
    u->nlinks++;
    fork_guard_hold(&u->io->guard, link_fd(link));
    link_set_callbacks(link, &link_cbs, u);
    struct wire_limits limits = {.body_max = WIRE_BODY_MAX, .route_max = WIRE_ROUTE_MAX};
    link_set_limits(link, &limits);
    timer_start(u->timer, u->was_up ? WELCOME_NS : time_left(u), 0);
    int r = say_hello(u);
    if (r)
        failed(u, r, "out of memory");
}

static void attempt(struct uplink *u)
{
    struct err e = {{0}};
    uint64_t again = by_login(u) ? ATTEMPT_LOGIN_NS : ATTEMPT_NS;
    uint64_t limit = u->was_up ? again : time_left(u);
    u->state = UPLINK_JOINING;
    int r = connector_new(&u->connector, u->io->loop, (const char *const *)u->endpoints,
                          u->nendpoints, u->tcp, limit, on_connected, u, &e);
    if (r)
        failed(u, r, e.text);
}

static void on_timer(void *arg)
{
    struct uplink *u = arg;
    if (u->state == UPLINK_AWAY)
        attempt(u);
    else if (u->state == UPLINK_JOINING)
        failed(u, CV_ETIMEOUT,
               "connected, but there was no answer: is that a controller of this version?");
    else if (u->flushing)
        give_up(u, CV_ECLOSED, "closed");
}

int uplink_init(struct uplink *u, struct io *io, const struct uplink_ops *ops, void *arg,
                char **endpoints_take, uint32_t n, const struct transport_factory *tcp,
                struct hello *hello_take, uint64_t memfd_bytes)
{
    *u = (struct uplink){.io = io,
                         .ops = ops,
                         .arg = arg,
                         .endpoints = endpoints_take,
                         .nendpoints = n,
                         .tcp = tcp,
                         .hello = *hello_take};
    *hello_take = (struct hello){0};
    int r = pool_new(&u->pool, memfd_bytes);
    if (!r)
        r = timer_new(&u->timer, io->loop, on_timer, u);
    if (!r)
        r = timer_new(&u->trim, io->loop, on_trim, u);
    if (!r)
        loop_on_wake(io->loop, on_wake, u);
    return r;
}

void uplink_start(struct uplink *u, uint64_t timeout_ns)
{
    if (u->state != UPLINK_IDLE)
        return;
    u->deadline = clock_mono() + timeout_ns;
    attempt(u);
}

void uplink_close(struct uplink *u, uint64_t linger_ns)
{
    if (u->state != UPLINK_UP) {
        give_up(u, CV_ECLOSED, "closed");
        return;
    }
    u->flushing = true;
    link_close_after_flush(u->link, linger_ns);
    timer_start(u->timer, linger_ns + NS_PER_S / 2, 0);
}

void uplink_drop(struct uplink *u, const char *why)
{
    if (u->link)
        failed(u, CV_ENOMEM, why);
}

void uplink_stop(struct uplink *u)
{
    connector_free(u->connector);
    u->connector = NULL;
    drop_link(u);
    timer_free(u->timer);
    timer_free(u->trim);
    u->timer = u->trim = NULL;
}

void uplink_release(struct uplink *u)
{
    for (uint32_t i = 0; i < u->nendpoints; i++)
        free(u->endpoints[i]);
    free(u->endpoints);
    u->endpoints = NULL;
    u->nendpoints = 0;
    pool_free(u->pool);
    u->pool = NULL;
    hello_release(&u->hello);
}

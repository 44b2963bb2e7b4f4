/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The door: new connections until they have said HELLO, and the end of all connections. What
 * strangers do wrong is nobody's business: they are closed, with a line in the log at DEBUG, at
 * most one a second. All that they make the loop do has its turns in the controller's lane, so that
 * a flood of them is not felt by those who are in. */
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "controller/conn.h"
#include "controller/say.h"

#define BYE_FLUSH_NS NS_PER_S
#define CHECK_MAX 8 /* strangers whose time is over, in a turn */
#define SWEEP_AFTER                                                                                \
    32 /* who have left the door: what they needed there goes back to the kernel                   \
        */

/* It ends without having said who it is. */
static void stranger_failed(const struct conn *k, const char *why)
{
    struct controller *c = k->c;
    uint32_t skipped;

    if (admission_failed(&k->door->admission, loop_now(c->loop)))
        lane_distrust(c->lane);

    if (quiet_ask(&c->garbage, loop_now(c->loop), &skipped))
        log_debug(c->log,
                  "a connection from %s was closed before it said who it is: %s (%u more since the "
                  "last line)",
                  k->from, why, skipped);
}

/* --- the door --- */

/* Opens it if there is room, or will be when someone leaves who has to; else it stays shut until
 * then. */
static void look_for_room(void *arg)
{
    struct door *d = arg;
    uint64_t now = loop_now(d->c->loop), when;
    struct place *victim;

    if (!d->listener)
        return;
    if (admission_ask(&d->admission, now, &victim, &when)) {
        listener_resume(d->listener);
    } else {
        listener_pause(d->listener);
        timer_start(d->room, when - now, 0);
    }
}

/* A handshake takes as much memory as the connection that it leaves; what many at a time have freed
 * lies in holes between the connections. */
static void sweep(void *arg)
{
    struct door *d = arg;

    d->left = 0;
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static void leave_door(struct conn *k)
{
    struct door *d = k->door;

    admission_leave(&d->admission, &k->place);
    if (++d->left == SWEEP_AFTER)
        timer_start(d->sweep, NS_PER_S, 0);
    look_for_room(d);
}

void conn_traffic(const struct conn *k, struct traffic *sum)
{
    uint64_t sent, received;

    link_traffic(k->link, &sent, &received);
    sum->sent += sent;
    sum->received += received;
}

void conn_free(struct conn *k)
{
    if (!k->role)
        leave_door(k);
    list_del(&k->node);
    conn_traffic(k, &k->c->traffic[k->role]);
    msg_free(k->hello);
    link_free(k->link);
    free(k);
}

static void turn_away(struct conn *k, const char *why)
{
    stranger_failed(k, k->closing ? "it was not let in" : why);
    conn_free(k);
}

static void look_for_silent(void *arg)
{
    struct door *d = arg;
    uint64_t now = loop_now(d->c->loop), next;
    struct place *p;

    for (int i = 0; i < CHECK_MAX; i++) {
        p = admission_expired(&d->admission, now, &next);
        if (!p)
            break;
        turn_away(container_of(p, struct conn, place), "it did not say HELLO within 5 s");
        next = now + NS_PER_MS;
    }
    if (next != UINT64_MAX)
        timer_start(d->expiry, next - now, 0);
}

int door_init(struct door *d, struct controller *c)
{
    d->c = c;
    admission_init(&d->admission);
    int r = timer_new(&d->expiry, c->loop, look_for_silent, d);
    if (r == CV_OK)
        r = timer_new(&d->room, c->loop, look_for_room, d);
    return r == CV_OK ? timer_new(&d->sweep, c->loop, sweep, d) : r;
}

void door_close(struct door *d)
{
    listener_free(d->listener);
    d->listener = NULL;
}

void door_release(struct door *d)
{
    door_close(d);
    if (!d->c)
        return;
    for (struct list *l;
         (l = list_first(&d->admission.places)) || (l = list_first(&d->admission.proven));)
        conn_free(container_of(list_entry(l, struct place, node), struct conn, place));
    timer_free(d->expiry);
    timer_free(d->room);
    timer_free(d->sweep);
}

void conn_admitted(struct conn *k, uint8_t role)
{
    static const struct wire_limits limits = {.body_max = WIRE_BODY_MAX,
                                              .route_max = WIRE_ROUTE_MAX};

    admission_welcome(&k->door->admission);
    leave_door(k);
    k->role = role;
    list_add_tail(&k->c->conns, &k->node);
    link_set_lane(k->link, NULL);
    link_set_limits(k->link, &limits);
    if (!link_is_unix(k->link))
        link_set_liveness(k->link, k->c->opt->ping_ns, k->c->opt->dead_ns);
}

void conn_bye(struct conn *k, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    if (k->closing)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    k->closing = true;
    say_bye(k->link, WIRE_ENGINE_NONE, text);
    link_close_after_flush(k->link, BYE_FLUSH_NS);
}

void conn_bye_engine(struct engine *e, const char *reason)
{
    if (e->conn && !e->conn->closing)
        say_bye(e->conn->link, e->number, reason);
}

/* TLS is done: the peer has shown that it has a key. */
static void on_ready(struct link *l, void *arg)
{
    struct conn *k = arg;

    if (k->role || !link_identity(l))
        return;
    admission_prove(&k->door->admission, &k->place);
    look_for_room(k->door);
}

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct conn *k = arg;

    if (k->closing) {
        msg_free(m);
    } else if (k->role) {
        lane_busy(k->c->lane);
        route_handle(k, m);
    } else if (m->h.type == MSG_HELLO) {
        hello_handle(k, m);
    } else {
        msg_free(m);
        turn_away(k, "its first message was no HELLO");
    }
}

/* A descriptor was lost, and what it was part of with its link. The peer sends that again on a new
 * link, in frames. */
static void no_more_memfds(struct controller *c, const char *why)
{
    if (!c->no_memfds)
        log_warn(c->log, "large buffers go through sockets from now on: %s", why);
    c->no_memfds = true;
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct conn *k = arg;

    if (code == CV_ENFILE)
        no_more_memfds(k->c, why);
    if (!k->role)
        stranger_failed(k, k->closing ? "it was not let in" : why && *why ? why : err_name(code));
    else
        peer_lost(k, code == CV_EOF || !why || !*why ? "the connection was closed" : why);
    conn_free(k);
}

static const struct link_callbacks callbacks = {
    .on_ready = on_ready, .on_msg = on_msg, .on_closed = on_closed};

/* Makes room for one. False: there is none. */
static bool make_room(struct door *d)
{
    struct place *p;
    uint64_t when;

    while (admission_ask(&d->admission, loop_now(d->c->loop), &p, &when)) {
        if (!p)
            return true;
        struct conn *k = container_of(p, struct conn, place);
        if (link_identity(k->link)) { /* slow, but no stranger */
            admission_prove(&d->admission, p);
            continue;
        }
        admission_lose(&d->admission);
        turn_away(k, "another one needed its place");
    }
    return false;
}

static bool is_foreign(struct controller *c, long uid)
{
    uint32_t skipped;

    if (uid <= 0 || uid == (long)getuid())
        return false;
    if (quiet_ask(&c->garbage, loop_now(c->loop), &skipped))
        log_debug(c->log, "a connection of user %ld was refused", uid);
    return true;
}

/* Nothing is read of a peer that TLS or the kernel has not vouched for; its first message may be
 * long, for it says what it holds. */
static const struct wire_limits hello_limits = {.body_max = WIRE_PREAUTH_MAX,
                                                .route_max = WIRE_HELLO_MAX};

void accept_connection(void *arg, int fd_take, long uid, const char *peer)
{
    struct door *d = arg;
    struct controller *c = d->c;
    struct transport *t = NULL;
    struct err e = {{0}};
    int r;

    if (c->stopping || is_foreign(c, uid) || !make_room(d)) {
        close(fd_take);
        return;
    }
    r = uid >= 0 ? stream_transport_new(&t, fd_take) : tls_transport_new(c->tls, fd_take, &t, &e);
    if (r != CV_OK)
        return;
    size_t n = strlen(peer) + 1;
    struct conn *k = calloc(1, sizeof(*k) + n);
    if (!k)
        t->ops->free(t);
    if (!k || link_new(&k->link, c->loop, t, &callbacks, k) != CV_OK) {
        free(k);
        return;
    }
    memcpy(k->from, peer, n);
    k->c = c;
    k->door = d;
    link_set_limits(k->link, &hello_limits);
    list_init(&k->node);
    list_init(&k->relayed);
    link_set_lane(k->link, c->lane);
    bool first = list_empty(&d->admission.places) && list_empty(&d->admission.proven);
    admission_enter(&d->admission, &k->place, loop_now(c->loop));
    if (first)
        timer_start(d->expiry, ADMISSION_TIMEOUT_NS, 0);
    look_for_room(d);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The door: new connections until they have said HELLO, and the end of all connections. What
 * strangers do wrong is nobody's business: they are closed, with a line in the log at DEBUG, at
 * most one a second. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "controller/conn.h"
#include "controller/say.h"

#define BYE_FLUSH_NS NS_PER_S

static void log_stranger(struct controller *c, const struct conn *k, const char *why)
{
    uint64_t now = loop_now(c->loop);

    if (c->garbage_logged && now - c->garbage_logged < NS_PER_S) {
        c->garbage_quiet++;
        return;
    }
    log_debug(c->log,
              "a connection from %s was closed before it said who it is: %s (%u more since the "
              "last line)",
              k->from, why, c->garbage_quiet);
    c->garbage_logged = now;
    c->garbage_quiet = 0;
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
        admission_leave(&k->c->admission, &k->place);
    list_del(&k->node);
    conn_traffic(k, &k->c->traffic[k->role]);
    msg_free(k->hello);
    link_free(k->link);
    free(k);
}

static void turn_away(struct conn *k, const char *why)
{
    log_stranger(k->c, k, why);
    conn_free(k);
}

void accept_check(void *arg)
{
    struct controller *c = arg;
    uint64_t now = loop_now(c->loop), next;
    struct place *p;

    while ((p = admission_expired(&c->admission, now, &next)))
        turn_away(container_of(p, struct conn, place), "it was silent for 5 s");
    if (next != UINT64_MAX)
        timer_start(c->admission_timer, next - now, 0);
}

void conn_admitted(struct conn *k, uint8_t role)
{
    static const struct wire_limits limits = {.body_max = 16ull << 30, .route_max = WIRE_ROUTE_MAX};

    admission_leave(&k->c->admission, &k->place);
    k->role = role;
    list_add_tail(&k->c->conns, &k->node);
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

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct conn *k = arg;

    k->place.heard = loop_now(k->c->loop);
    if (k->closing) {
        msg_free(m);
    } else if (k->role) {
        route_handle(k, m);
    } else if (m->h.type == MSG_HELLO) {
        hello_handle(k, m);
    } else {
        msg_free(m);
        turn_away(k, "its first message was no HELLO");
    }
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct conn *k = arg;

    if (!k->role)
        log_stranger(k->c, k, why && *why ? why : err_name(code));
    else
        peer_lost(k, code == CV_EOF || !why || !*why ? "the connection was closed" : why);
    conn_free(k);
}

static const struct link_callbacks callbacks = {.on_msg = on_msg, .on_closed = on_closed};

static bool make_room(struct controller *c)
{
    struct place *victim;

    if (!admission_ask(&c->admission, loop_now(c->loop), &victim))
        return false;
    if (victim)
        turn_away(container_of(victim, struct conn, place), "another one needed its place");
    return true;
}

void accept_connection(void *arg, int fd_take, long uid, const char *peer)
{
    struct controller *c = arg;
    struct transport *t = NULL;
    struct err e = {{0}};
    int r;

    if (c->stopping || !make_room(c) || (uid > 0 && uid != (long)getuid())) {
        if (uid > 0 && uid != (long)getuid())
            log_debug(c->log, "a connection of user %ld was refused", uid);
        close(fd_take);
        return;
    }
    r = uid >= 0 ? stream_transport_new(&t, fd_take) : tls_transport_new(c->tls, fd_take, &t, &e);
    if (r != CV_OK)
        return;
    struct conn *k = calloc(1, sizeof(*k));
    if (!k || link_new(&k->link, c->loop, t, &callbacks, k) != CV_OK) {
        if (!k)
            t->ops->free(t);
        free(k);
        return;
    }
    k->c = c;
    list_init(&k->node);
    list_init(&k->relayed);
    snprintf(k->from, sizeof(k->from), "%s", peer);
    bool first = c->admission.n == 0;
    admission_enter(&c->admission, &k->place, loop_now(c->loop));
    if (first)
        timer_start(c->admission_timer, ADMISSION_TIMEOUT_NS, 0);
}

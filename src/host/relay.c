/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See relay.h. A `leg` is one engine's link, or that of another host of this machine, a member. It
 * is found by the number that its WELCOME brought, before that by the `aux` of its HELLO. A HELLO
 * that comes while the uplink is away waits in its leg. */
#include "host/relay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"
#include "net/listener.h"
#include "wire/hello.h"

#define HELLO_NS (5 * NS_PER_S)
#define CLOSE_NS NS_PER_S

struct relay {
    struct relay_config c;
    struct listener *listener;
    struct list legs;
    struct hash by_number, by_aux;
    uint64_t next_aux;
};

struct leg {
    struct list node;
    struct relay *r;
    struct link *link;
    struct timer *timer; /* until HELLO has come */
    struct msg *hello;   /* waits for the uplink */
    uint64_t aux;        /* 0: no HELLO yet */
    uint32_t number, incarnation;
    bool member; /* another host: tells the ends of its engines, nothing else */
    bool bulky;  /* a large OUTPUT or COMM went up: its task's RESULT must not overtake it */
};

static void leg_free(struct leg *g)
{
    struct relay *r = g->r;
    uint32_t number = g->number;
    bool known = number != WIRE_ENGINE_NONE && hash_get(&r->by_number, 0, number) == g;
    list_del(&g->node);
    if (g->aux && hash_get(&r->by_aux, 0, g->aux) == g)
        hash_del(&r->by_aux, 0, g->aux);
    if (known)
        hash_del(&r->by_number, 0, number);
    link_free(g->link);
    timer_free(g->timer);
    msg_free(g->hello);
    free(g);
    if (known)
        r->c.closed(r->c.arg, number);
}

/* Hands the HELLO up, or keeps it until there is an uplink. Takes m. */
static void hello_up(struct leg *g, struct msg *m)
{
    m->h.aux = g->aux;
    int rc = g->r->c.send_up(g->r->c.arg, &m->h, m->route, m->h.route_len, m->payload, 0);
    if (rc == CV_ECLOSED) {
        g->hello = m;
        return;
    }
    msg_free(m);
    if (rc != CV_OK)
        leg_free(g);
}

/* 0: it says nothing that can be understood. An engine takes large buffers as descriptors. */
static uint8_t role_of(const struct msg *m, uint32_t *ret_memfds)
{
    struct hello h = {0};
    struct err e;
    if (m->h.type != MSG_HELLO || hello_decode(m->route, m->h.route_len, &h, &e) != CV_OK)
        return 0;
    uint8_t role = h.role;
    *ret_memfds = h.memfds;
    hello_release(&h);
    return role;
}

static void handle_hello(struct leg *g, struct msg *m)
{
    static const struct wire_limits limits = {.body_max = WIRE_BODY_MAX,
                                              .route_max = WIRE_ROUTE_MAX};
    struct link_memfds memfds = {0};
    uint8_t role = role_of(m, &memfds.send);
    if (role != ROLE_ENGINE && role != ROLE_HOST) {
        log_warn(g->r->c.log,
                 "something that is no engine spoke to the relay's socket; it is cut off");
        msg_free(m);
        leg_free(g);
        return;
    }
    timer_free(g->timer);
    g->timer = NULL;
    link_set_limits(g->link, &limits);
    if (role == ROLE_HOST) {
        g->member = true;
        msg_free(m);
        return;
    }
    link_set_memfds(g->link, &memfds);
    g->aux = g->r->next_aux++;
    if (hash_put(&g->r->by_aux, 0, g->aux, g, NULL) != CV_OK) {
        msg_free(m);
        leg_free(g);
        return;
    }
    hello_up(g, m);
}

/* Order on the way up: what its sender held back behind large messages must not overtake them here.
 */
static int up_flags(struct leg *g, const struct msg *m)
{
    bool large = m->h.body_len > WIRE_INLINE_MAX;
    if ((m->h.type == MSG_OUTPUT || m->h.type == MSG_COMM) && large)
        g->bulky = true;
    if (m->h.type != MSG_RESULT || !g->bulky)
        return 0;
    g->bulky = false;
    return LINK_AFTER_BULK;
}

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct leg *g = arg;
    if (g->member) {
        const struct header taken = {
            .type = MSG_ACK, .engine = m->h.engine, .incarnation = m->h.incarnation, .count = 1};
        if (m->h.type == MSG_EXIT && g->r->c.exited(g->r->c.arg, m) &&
            link_send(g->link, &taken, NULL, 0, NULL, 0) != CV_OK)
            leg_free(g);
        msg_free(m);
        return;
    }
    if (!g->aux) {
        handle_hello(g, m);
        return;
    }
    if (g->number == WIRE_ENGINE_NONE || m->h.type == MSG_HELLO) {
        msg_free(m); /* before its WELCOME an engine has nothing to say */
        return;
    }
    m->h.engine = g->number;
    m->h.incarnation = g->incarnation;
    int rc =
        g->r->c.send_up(g->r->c.arg, &m->h, m->route, m->h.route_len, m->payload, up_flags(g, m));
    if (rc != CV_OK && rc != CV_ECLOSED)
        log_error(g->r->c.log, "out of memory: a message of engine %" PRIu32 " is lost", g->number);
    msg_free(m);
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct leg *g = arg;
    if (g->number != WIRE_ENGINE_NONE)
        log_debug(g->r->c.log, "engine %" PRIu32 "'s link has ended: %s", g->number, why);
    leg_free(g);
}

static void on_silence(void *arg)
{
    leg_free(arg);
}

static void on_accept(void *arg, int fd, long uid, const char *peer)
{
    static const struct link_callbacks callbacks = {.on_msg = on_msg, .on_closed = on_closed};
    struct relay *r = arg;
    struct transport *t;
    struct leg *g;
    if (uid != 0 && uid != (long)geteuid()) {
        log_warn(r->c.log, "user %ld is not let in at the relay's socket", uid);
        close(fd);
        return;
    }
    if (stream_transport_new(&t, fd) != CV_OK)
        return;
    if (!(g = calloc(1, sizeof *g))) {
        t->ops->free(t);
        return;
    }
    g->r = r;
    g->number = WIRE_ENGINE_NONE;
    list_add_tail(&r->legs, &g->node);
    if (link_new(&g->link, r->c.loop, t, &callbacks, g) != CV_OK ||
        timer_new(&g->timer, r->c.loop, on_silence, g) != CV_OK) {
        leg_free(g);
        return;
    }
    static const struct wire_limits limits = {.body_max = WIRE_PREAUTH_MAX,
                                              .route_max = WIRE_HELLO_MAX};
    link_set_limits(g->link, &limits);
    timer_start(g->timer, HELLO_NS, 0);
}

int relay_new(struct relay **ret, const struct relay_config *c, struct err *e)
{
    struct relay *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, CV_ENOMEM, "out of memory");
    r->c = *c;
    r->next_aux = 1;
    list_init(&r->legs);
    int rc = listener_new_unix(&r->listener, c->loop, c->name, on_accept, r, e);
    if (rc != CV_OK) {
        free(r);
        return rc;
    }
    *ret = r;
    return CV_OK;
}

bool relay_has(const struct relay *r, uint32_t number)
{
    return r && hash_get(&r->by_number, 0, number) != NULL;
}

/* An engine's WELCOME: from now on its leg goes by its number; an older leg of that engine is no
 * more. */
static void handle_welcome(struct relay *r, struct msg *m)
{
    struct leg *g = hash_del(&r->by_aux, 0, m->h.aux);
    if (!g)
        return;
    if (m->h.engine == WIRE_ENGINE_NONE) { /* refused */
        if (link_send(g->link, &m->h, m->route, m->h.route_len, m->payload, 0) == CV_OK)
            link_close_after_flush(g->link, CLOSE_NS);
        else
            leg_free(g);
        return;
    }
    struct leg *old = hash_get(&r->by_number, 0, m->h.engine);
    if (old && old != g) {
        hash_del(&r->by_number, 0, m->h.engine);
        leg_free(old);
    }
    g->number = m->h.engine;
    g->incarnation = m->h.incarnation;
    if (hash_put(&r->by_number, 0, g->number, g, NULL) != CV_OK ||
        link_send(g->link, &m->h, m->route, m->h.route_len, m->payload, 0) != CV_OK)
        leg_free(g);
}

void relay_down(struct relay *r, struct msg *m)
{
    if (m->h.type == MSG_WELCOME) {
        handle_welcome(r, m);
        msg_free(m);
        return;
    }
    struct leg *g = hash_get(&r->by_number, 0, m->h.engine);
    bool ordered = m->h.type == MSG_TASK && (m->h.flags & (MSG_F_DIRECT | MSG_F_BROADCAST));
    if (g && link_send(g->link, &m->h, m->route, m->h.route_len, m->payload,
                       ordered ? LINK_AFTER_BULK : 0) != CV_OK)
        leg_free(g); /* it connects again and what is missing comes again */
    msg_free(m);
}

void relay_uplink_back(struct relay *r)
{
    list_each_safe(n, tmp, &r->legs)
    {
        struct leg *g = list_entry(n, struct leg, node);
        struct msg *hello = g->hello;
        g->hello = NULL;
        if (hello)
            hello_up(g, hello);
        else if (g->aux)
            leg_free(g);
    }
}

void relay_free(struct relay *r)
{
    if (!r)
        return;
    listener_free(r->listener);
    while (!list_empty(&r->legs)) {
        struct leg *g = list_entry(list_first(&r->legs), struct leg, node);
        g->number = WIRE_ENGINE_NONE; /* nobody is told any more */
        leg_free(g);
    }
    hash_release(&r->by_number);
    hash_release(&r->by_aux);
    free(r);
}

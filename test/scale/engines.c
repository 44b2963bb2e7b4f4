/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Simulated engines: each is a link of its own (Unix or TLS), or a slot behind one TLS link of a
 * simulated host (relay). They answer every task at once with None. One that is turned away tries
 * again after RETRY, as a real one does; how often that happened is told. At most AT_A_TIME are on
 * their way in: this one thread is slow where that many processes would not be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

#define CONNECT_NS (30 * NS_PER_S)
#define RETRY (100 * NS_PER_MS)
#define AT_A_TIME 512

struct peer {
    struct engines *all;
    uint64_t session;
    uint32_t number, incarnation;
    bool up;
    struct connector *connector; /* while it connects */
    struct link *link;           /* relay: NULL, the host's is used */
    struct timer *retry;
};

struct engines {
    struct sim *sim;
    enum kind kind;
    uint32_t n, begun, up, lost, retries;
    struct peer *peers;
    struct link *host;
    struct connector *host_connector;
    uint64_t host_session, started, machine;
    uint32_t *slot_of; /* by number: the peer, for a relay */
    uint32_t nslot_of;
    uint32_t *numbers; /* of those that are up, in order of joining */
    struct transport_factory tls;
    struct payload *none;
    char host_name[64];
    bool announced;
};

static void peer_connect(struct peer *p);

static void go_on(struct engines *e)
{
    while (e->kind != KIND_RELAY && e->begun < e->n && e->begun - e->up < AT_A_TIME)
        peer_connect(&e->peers[e->begun++]);
    if (e->announced || e->up < e->n)
        return;
    e->announced = true;
    sim_answer(e->sim, "\"engines\": %u, \"seconds\": %.4f, \"turned_away\": %u", e->up,
               sim_since(e->started), e->retries);
}

static void say_hello(struct peer *p, struct link *l)
{
    struct engines *e = p->all;
    char uuid[40];
    uint32_t slot = (uint32_t)(p - e->peers);
    snprintf(uuid, sizeof uuid, "%08x-0000-4000-8000-%012x", slot, slot);
    struct hello h = {.role = ROLE_ENGINE,
                      .session = p->session,
                      .cluster_id = e->sim->engine_file.cluster_id,
                      .boot_id = e->sim->engine_file.boot_id,
                      .uuid = uuid,
                      .python = "3.11",
                      .versions = "{}",
                      .host = e->host_name,
                      .machine = e->machine,
                      .pid = (uint32_t)getpid(),
                      .number = p->number,
                      .incarnation = p->incarnation,
                      .slot = slot,
                      .host_session = e->host_session};
    sim_say_hello(l, &h, e->kind == KIND_RELAY ? slot : 0);
}

static void joined(struct engines *e, struct peer *p, const struct msg *m)
{
    struct welcome w;
    struct err err;
    sim_check(welcome_decode(m->route, m->h.route_len, &w, &err), "WELCOME");
    if (w.refused)
        sim_die("an engine was refused: %s", w.refused);
    if (!p->up) {
        p->up = true;
        p->number = w.number;
        p->incarnation = w.incarnation;
        if (w.number >= e->nslot_of) {
            uint32_t n = (w.number + 1) * 2;
            e->slot_of = realloc(e->slot_of, n * sizeof *e->slot_of);
            e->nslot_of = n;
        }
        e->slot_of[w.number] = (uint32_t)(p - e->peers);
        e->numbers[e->up++] = w.number;
    }
    welcome_release(&w);
    go_on(e);
}

/* The value of a map's part: a tuple of pickled Nones. */
static struct payload *map_result(uint32_t count)
{
    static const char none[] = "\x80\x05N.";
    uint64_t len = 2 + 1 + (uint64_t)count * (2 + sizeof none - 1) + 2;
    struct payload *p;
    sim_check(payload_new_inline(&p, 1, &len), "a result");
    uint8_t *at = p->bufs[0].data;
    memcpy(at, "\x80\x05(", 3);
    at += 3;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(at, "C\x04", 2);
        memcpy(at + 2, none, sizeof none - 1);
        at += 2 + sizeof none - 1;
    }
    memcpy(at, "t.", 2);
    return p;
}

static void answer_task(struct engines *e, struct peer *p, struct link *l, const struct header *t)
{
    struct header h = *t;
    bool map = t->status == TASK_MAP;
    struct payload *result = map ? map_result(t->count) : payload_ref(e->none);
    h.type = MSG_RESULT;
    h.status = RESULT_OK;
    h.flags = 0;
    h.engine = p->number;
    h.incarnation = p->incarnation;
    h.time = h.aux = clock_wall();
    sim_check(link_send(l, &h, NULL, 0, result, 0), "RESULT");
    payload_unref(result);
}

static void take(struct engines *e, struct peer *p, struct link *l, struct msg *m)
{
    if (m->h.type == MSG_WELCOME) {
        joined(e, p, m);
    } else if (m->h.type == MSG_TASK) {
        answer_task(e, p, l, &m->h);
    } else if (m->h.type == MSG_TAKE) { /* it has been answered */
        struct header h = m->h;
        h.type = MSG_GIVE_BACK;
        h.count = 0;
        sim_check(link_send(l, &h, NULL, 0, NULL, 0), "GIVE_BACK");
    }
    msg_free(m);
}

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct peer *p = arg;
    take(p->all, p, l, m);
}

static void on_retry(void *arg)
{
    peer_connect(arg);
}

static void again(struct peer *p)
{
    struct engines *e = p->all;
    e->retries++;
    if (!p->retry)
        sim_check(timer_new(&p->retry, e->sim->loop, on_retry, p), "a timer");
    timer_start(p->retry, RETRY, 0);
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct peer *p = arg;
    link_free(l);
    p->link = NULL;
    if (p->up)
        p->all->lost++;
    else
        again(p);
}

static void on_connected(void *arg, struct link *l, int code, const char *why)
{
    static const struct link_callbacks cb = {.on_msg = on_msg, .on_closed = on_closed};
    static const struct wire_limits limits = {16ull << 30, WIRE_ROUTE_MAX};
    struct peer *p = arg;
    connector_free(p->connector);
    p->connector = NULL;
    if (!l) {
        again(p);
        return;
    }
    p->link = l;
    link_set_callbacks(l, &cb, p);
    link_set_limits(l, &limits);
    say_hello(p, l);
}

static void peer_connect(struct peer *p)
{
    struct engines *e = p->all;
    const char *endpoint = sim_endpoint(&e->sim->engine_file, e->kind);
    struct err err;
    sim_check(connector_new(&p->connector, e->sim->loop, &endpoint, 1, &e->tls, CONNECT_NS,
                            on_connected, p, &err),
              "a connector");
}

/* --- a host that relays --- */

static void on_host_msg(struct link *l, struct msg *m, void *arg)
{
    struct engines *e = arg;
    if (m->h.type == MSG_WELCOME && m->h.engine == WIRE_ENGINE_NONE) { /* its own */
        msg_free(m);
        for (uint32_t i = 0; i < e->n; i++)
            say_hello(&e->peers[i], l);
    } else if (m->h.type == MSG_WELCOME && m->h.aux < e->n) {
        take(e, &e->peers[m->h.aux], l, m);
    } else if (m->h.engine < e->nslot_of) {
        take(e, &e->peers[e->slot_of[m->h.engine]], l, m);
    } else {
        msg_free(m);
    }
}

static void on_host_closed(struct link *l, int code, const char *why, void *arg)
{
    sim_die("the host's connection was lost: %s", why);
}

static void on_host_connected(void *arg, struct link *l, int code, const char *why)
{
    static const struct link_callbacks cb = {.on_msg = on_host_msg, .on_closed = on_host_closed};
    static const struct wire_limits limits = {16ull << 30, WIRE_ROUTE_MAX};
    struct engines *e = arg;
    if (!l)
        sim_die("the host can't connect: %s", why);
    connector_free(e->host_connector);
    e->host_connector = NULL;
    e->host = l;
    link_set_callbacks(l, &cb, e);
    link_set_limits(l, &limits);
    struct hello h = {.role = ROLE_HOST,
                      .session = e->host_session,
                      .cluster_id = e->sim->engine_file.cluster_id,
                      .boot_id = e->sim->engine_file.boot_id,
                      .host = e->host_name,
                      .machine = e->machine,
                      .pid = (uint32_t)getpid(),
                      .number = WIRE_ENGINE_NONE,
                      .slot = e->n};
    sim_say_hello(l, &h, 0);
}

/* --- */

void engines_start(struct sim *s, enum kind k, uint32_t n)
{
    struct engines *e = s->engines = calloc(1, sizeof *e);
    const char *endpoint = sim_endpoint(&s->engine_file, k);
    struct err err;
    sim_check(e ? CV_OK : CV_ENOMEM, "engines");
    *e = (struct engines){.sim = s, .kind = k, .n = n, .started = clock_mono()};
    /* relayed engines and those over TLS are on another machine, as far as they say */
    e->machine = k == KIND_UNIX ? machine_id() : 1;
    e->tls = tls_factory(s->engine_tls);
    snprintf(e->host_name, sizeof e->host_name, "simulated");
    e->peers = calloc(n, sizeof *e->peers);
    e->numbers = calloc(n, sizeof *e->numbers);
    e->nslot_of = n;
    e->slot_of = calloc(n, sizeof *e->slot_of);
    sim_check(e->peers && e->numbers && e->slot_of ? CV_OK : CV_ENOMEM, "engines");
    sim_check(payload_new_copy(&e->none, "\x80\x05N.", 4), "a result");
    for (uint32_t i = 0; i < n; i++)
        e->peers[i] = (struct peer){.all = e, .session = sim_random(), .number = WIRE_ENGINE_NONE};
    go_on(e);
    if (k == KIND_RELAY) {
        e->host_session = sim_random();
        sim_check(connector_new(&e->host_connector, s->loop, &endpoint, 1, &e->tls, CONNECT_NS,
                                on_host_connected, e, &err),
                  "a connector");
    }
}

void engines_answer(struct sim *s)
{
    const struct engines *e = s->engines;
    sim_answer(s, "\"engines\": %u, \"lost\": %u", e ? e->up - e->lost : 0, e ? e->lost : 0);
}

uint32_t engines_numbers(const struct sim *s, const uint32_t **ret)
{
    *ret = s->engines ? s->engines->numbers : NULL;
    return s->engines ? s->engines->up : 0;
}

void engines_free(struct engines *e)
{
    if (!e)
        return;
    for (uint32_t i = 0; i < e->n; i++) {
        connector_free(e->peers[i].connector);
        link_free(e->peers[i].link);
        timer_free(e->peers[i].retry);
    }
    connector_free(e->host_connector);
    link_free(e->host);
    payload_unref(e->none);
    free(e->peers);
    free(e->numbers);
    free(e->slot_of);
    free(e);
}

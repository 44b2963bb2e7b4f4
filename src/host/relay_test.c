/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The relay between engines (links on its socket) and an uplink that is a list here. */
#include "host/relay.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "net/connect.h"
#include "net/pool.h"
#include "wire/hello.h"

#define MESSAGES 32
#define MEMFDS 8 /* that an engine takes */

struct world {
    struct loop *loop;
    struct timer *deadline;
    struct relay *relay;
    char name[64];
    bool uplink;                /* there is one */
    struct header up[MESSAGES]; /* what went up */
    int flags[MESSAGES];
    unsigned nup, nclosed;
    uint32_t closed; /* the last number told to be closed */
    uint32_t exited; /* the last one whose end a member told */
};

/* An engine's end. */
struct engine {
    struct world *w;
    struct connector *connector;
    struct link *link;
    struct header got[MESSAGES];
    unsigned ngot;
    bool lent; /* the last one had a buffer that came as a descriptor */
    bool ended;
};

static int send_up(void *arg, const struct header *h, const void *route, uint32_t route_len,
                   struct payload *payload, int flags)
{
    struct world *w = arg;
    if (!w->uplink)
        return CV_ECLOSED;
    assert_true(w->nup < MESSAGES);
    w->flags[w->nup] = flags;
    w->up[w->nup++] = *h;
    loop_stop(w->loop);
    return CV_OK;
}

static void on_leg_closed(void *arg, uint32_t number)
{
    struct world *w = arg;
    w->closed = number;
    w->nclosed++;
    loop_stop(w->loop);
}

static bool on_exited(void *arg, const struct msg *m)
{
    struct world *w = arg;
    w->exited = m->h.engine;
    loop_stop(w->loop);
    return true;
}

static void on_deadline(void *arg)
{
    fail_msg("nothing happened within the deadline");
}

static int setup(void **state)
{
    static struct world w;
    static unsigned count;
    memset(&w, 0, sizeof w);
    w.uplink = true;
    snprintf(w.name, sizeof w.name, "@covey-relay-test%d-%u", (int)getpid(), count++);
    assert_int_equal(loop_new(&w.loop), CV_OK);
    assert_int_equal(timer_new(&w.deadline, w.loop, on_deadline, &w), CV_OK);
    timer_start(w.deadline, 60 * NS_PER_S, 0);
    const struct relay_config c = {.loop = w.loop,
                                   .name = w.name,
                                   .send_up = send_up,
                                   .closed = on_leg_closed,
                                   .exited = on_exited,
                                   .arg = &w};
    assert_int_equal(relay_new(&w.relay, &c, NULL), CV_OK);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    relay_free(w->relay);
    timer_free(w->deadline);
    loop_free(w->loop);
    return 0;
}

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct engine *e = arg;
    assert_true(e->ngot < MESSAGES);
    e->got[e->ngot++] = m->h;
    e->lent = payload_has_regions(m->payload);
    msg_free(m);
    loop_stop(e->w->loop);
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct engine *e = arg;
    link_free(l);
    e->link = NULL;
    e->ended = true;
    loop_stop(e->w->loop);
}

static void on_connect(void *arg, struct link *link, int code, const char *why)
{
    static const struct link_callbacks callbacks = {.on_msg = on_msg, .on_closed = on_closed};
    static const struct wire_limits open = {.body_max = WIRE_BODY_MAX, .route_max = WIRE_ROUTE_MAX};
    struct engine *e = arg;
    assert_non_null(link);
    link_set_limits(link, &open);
    connector_free(e->connector);
    e->connector = NULL;
    e->link = link;
    link_set_callbacks(link, &callbacks, e);
    loop_stop(e->w->loop);
}

static struct engine *engine_new(struct world *w)
{
    const struct transport_factory none = {0};
    char name[80];
    const char *endpoint = name;
    snprintf(name, sizeof name, "unix:%s", w->name);
    struct engine *e = calloc(1, sizeof *e);
    e->w = w;
    assert_int_equal(
        connector_new(&e->connector, w->loop, &endpoint, 1, &none, NS_PER_S, on_connect, e, NULL),
        CV_OK);
    while (!e->link)
        loop_run(w->loop);
    return e;
}

static void engine_free(struct engine *e)
{
    link_free(e->link);
    free(e);
}

static void say_hello(struct engine *e, uint8_t role)
{
    const struct hello h = {
        .role = role, .session = 1, .number = WIRE_ENGINE_NONE, .memfds = MEMFDS};
    const struct link_memfds takes = {.receive = MEMFDS, .map = true};
    const struct header header = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE};
    struct buf route = {0};
    link_set_memfds(e->link, &takes);
    assert_int_equal(hello_encode(&h, &route), CV_OK);
    assert_int_equal(link_send(e->link, &header, route.data, (uint32_t)route.len, NULL, 0), CV_OK);
    buf_release(&route);
}

static void run_until_up(struct world *w, unsigned n)
{
    while (w->nup < n)
        loop_run(w->loop);
}

/* The controller's message to the engines. */
static void down(struct world *w, const struct header *h)
{
    struct msg *m;
    assert_int_equal(msg_new(&m, h, NULL, 0, NULL), CV_OK);
    relay_down(w->relay, m);
}

static void welcome(struct world *w, struct engine *e, uint64_t aux, uint32_t number)
{
    const struct header h = {.type = MSG_WELCOME, .engine = number, .incarnation = 1, .aux = aux};
    unsigned before = e->ngot;
    down(w, &h);
    while (e->ngot == before)
        loop_run(w->loop);
    assert_int_equal(e->got[before].type, MSG_WELCOME);
}

static struct engine *engine_joined(struct world *w, uint32_t number)
{
    struct engine *e = engine_new(w);
    unsigned n = w->nup;
    say_hello(e, ROLE_ENGINE);
    run_until_up(w, n + 1);
    assert_int_equal(w->up[n].type, MSG_HELLO);
    assert_true(w->up[n].aux != 0);
    welcome(w, e, w->up[n].aux, number);
    assert_true(relay_has(w->relay, number));
    return e;
}

static void each_engine_gets_what_is_its_own(void **state)
{
    struct world *w = *state;
    struct engine *a = engine_joined(w, 7), *b = engine_joined(w, 9);
    const struct header h = {.type = MSG_TASK, .engine = 9, .count = 1, .seq = 5};
    down(w, &h);
    while (b->ngot < 2)
        loop_run(w->loop);
    assert_int_equal(b->got[1].type, MSG_TASK);
    assert_int_equal(b->got[1].seq, 5);
    assert_int_equal(a->ngot, 1);
    const struct header nobody = {.type = MSG_TASK, .engine = 33};
    down(w, &nobody); /* dropped */
    engine_free(a);
    engine_free(b);
}

/* The engines of a machine share what came for them. */
static void large_buffers_go_down_as_descriptors(void **state)
{
    struct world *w = *state;
    struct engine *e = engine_joined(w, 7);
    const struct header h = {.type = MSG_TASK, .engine = 7, .count = 1, .seq = 5};
    const uint64_t len = 5u << 20;
    struct pool *pool;
    struct payload *p;
    struct msg *m;
    assert_int_equal(pool_new(&pool, UINT64_MAX), CV_OK);
    struct region *r = pool_get(pool, len);
    assert_int_equal(payload_new_regions(&p, 1, &len, &r), CV_OK);
    region_unref(r);
    assert_int_equal(msg_new(&m, &h, NULL, 0, p), CV_OK);
    relay_down(w->relay, m);
    while (e->ngot < 2)
        loop_run(w->loop);
    assert_int_equal(e->got[1].seq, 5);
    assert_true(e->lent);
    engine_free(e);
    pool_free(pool);
}

static void nobody_speaks_for_another(void **state)
{
    struct world *w = *state;
    struct engine *e = engine_joined(w, 7);
    const struct header lie = {
        .type = MSG_RESULT, .engine = 9, .incarnation = 8, .seq = 3, .count = 1};
    assert_int_equal(link_send(e->link, &lie, NULL, 0, NULL, 0), CV_OK);
    run_until_up(w, 2);
    assert_int_equal(w->up[1].type, MSG_RESULT);
    assert_int_equal(w->up[1].engine, 7);
    assert_int_equal(w->up[1].incarnation, 1);
    engine_free(e);
}

static void only_engines_come_in(void **state)
{
    struct world *w = *state;
    struct engine *client = engine_new(w), *garbage = engine_new(w);
    const struct header task = {.type = MSG_TASK, .count = 1};
    say_hello(client, ROLE_CLIENT);
    assert_int_equal(link_send(garbage->link, &task, NULL, 0, NULL, 0), CV_OK);
    while (!client->ended || !garbage->ended)
        loop_run(w->loop);
    assert_int_equal(w->nup, 0);
    engine_free(client);
    engine_free(garbage);
}

/* Another host of this machine tells the end of its engine, and may do nothing else. */
static void a_member_tells_ends(void **state)
{
    struct world *w = *state;
    struct engine *host = engine_new(w);
    const struct header lie = {.type = MSG_RESULT, .engine = 7, .count = 1},
                        end = {.type = MSG_EXIT, .engine = 7};
    say_hello(host, ROLE_HOST);
    assert_int_equal(link_send(host->link, &lie, NULL, 0, NULL, 0), CV_OK);
    assert_int_equal(link_send(host->link, &end, NULL, 0, NULL, 0), CV_OK);
    while (!w->exited)
        loop_run(w->loop);
    assert_int_equal(w->exited, 7);
    assert_int_equal(w->nup, 0);
    w->uplink = false;
    relay_uplink_back(w->relay); /* which cuts engines off, to say anew what they hold */
    w->exited = 0;
    assert_int_equal(link_send(host->link, &end, NULL, 0, NULL, 0), CV_OK);
    while (!w->exited)
        loop_run(w->loop);
    engine_free(host);
}

static void an_end_is_told_once(void **state)
{
    struct world *w = *state;
    struct engine *e = engine_joined(w, 7);
    engine_free(e);
    while (w->nclosed == 0)
        loop_run(w->loop);
    assert_int_equal(w->closed, 7);
    assert_int_equal(w->nclosed, 1);
    assert_false(relay_has(w->relay, 7));
}

/* A new link of an engine takes over; the end of the old one does not touch it. */
static void a_second_link_replaces_the_first(void **state)
{
    struct world *w = *state;
    struct engine *old = engine_joined(w, 7), *new = engine_joined(w, 7);
    while (!old->ended)
        loop_run(w->loop);
    assert_true(relay_has(w->relay, 7));
    assert_int_equal(w->nclosed, 0);
    engine_free(old);
    engine_free(new);
}

static void a_hello_waits_for_the_uplink(void **state)
{
    struct world *w = *state;
    struct engine *known = engine_joined(w, 7), *e = engine_new(w);
    w->uplink = false;
    say_hello(e, ROLE_ENGINE);
    for (int i = 0; i < 20; i++) { /* it is read, and goes nowhere */
        link_flush(e->link);
        uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
    }
    assert_int_equal(w->nup, 1);
    w->uplink = true;
    relay_uplink_back(w->relay);
    run_until_up(w, 2);
    assert_int_equal(w->up[1].type, MSG_HELLO);
    while (!known->ended) /* it must say anew what it holds */
        loop_run(w->loop);
    welcome(w, e, w->up[1].aux, 8);
    engine_free(known);
    engine_free(e);
}

static void a_result_stays_behind_its_large_output(void **state)
{
    struct world *w = *state;
    struct engine *e = engine_joined(w, 7);
    struct payload *p;
    uint64_t size = 300000;
    const struct header output = {.type = MSG_OUTPUT, .seq = 1},
                        result = {.type = MSG_RESULT, .seq = 1, .count = 1};
    assert_int_equal(payload_new_large(&p, 1, &size), CV_OK);
    assert_int_equal(link_send(e->link, &output, NULL, 0, p, 0), CV_OK);
    assert_int_equal(link_send(e->link, &result, NULL, 0, NULL, LINK_AFTER_BULK), CV_OK);
    assert_int_equal(link_send(e->link, &result, NULL, 0, NULL, LINK_AFTER_BULK), CV_OK);
    payload_unref(p);
    run_until_up(w, 4);
    assert_int_equal(w->up[1].type, MSG_OUTPUT);
    assert_int_equal(w->flags[1], 0);
    assert_int_equal(w->flags[2], LINK_AFTER_BULK);
    assert_int_equal(w->flags[3], 0);
    engine_free(e);
}

static void a_refused_engine_hears_why(void **state)
{
    struct world *w = *state;
    struct engine *e = engine_new(w);
    say_hello(e, ROLE_ENGINE);
    run_until_up(w, 1);
    welcome(w, e, w->up[0].aux, WIRE_ENGINE_NONE);
    while (!e->ended)
        loop_run(w->loop);
    assert_int_equal(w->nclosed, 0);
    engine_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_engine_gets_what_is_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(large_buffers_go_down_as_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_speaks_for_another, setup, teardown),
        cmocka_unit_test_setup_teardown(only_engines_come_in, setup, teardown),
        cmocka_unit_test_setup_teardown(a_member_tells_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_is_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_link_replaces_the_first, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hello_waits_for_the_uplink, setup, teardown),
        cmocka_unit_test_setup_teardown(a_result_stays_behind_its_large_output, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_engine_hears_why, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

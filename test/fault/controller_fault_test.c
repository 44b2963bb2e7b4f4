/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A controller with a client, two engines and their host while memory is short. What fails costs
 * at most the peer that it was for, or has a typed error, or the controller says that it ends.
 * Afterwards (memory is there again) a controller that lives answers, and each task has an end. */
#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../fuzz/world.h"
#include "wire/route.h"

enum { CLIENT, ENGINE_0, ENGINE_1, HOST, WITNESS };

#define TASKS 40 /* ids below are used */
#define SESSION 100u

/* What the client was told: read from its stream. */
struct told {
    struct buf in;
    bool ended[TASKS], unknown[TASKS];
    bool welcome, reply;
    bool calm; /* nothing fails any more */
};

static struct told told;
static struct buf hello_of[5], route_after;

static void note(const struct header *h, const uint8_t *route, unsigned peer)
{
    struct welcome w;
    struct err e;
    told.reply |= h->type == MSG_REPLY;
    if (peer != CLIENT)
        return;
    if (h->type == MSG_RESULT)
        for (uint64_t i = h->seq; i < h->seq + h->count && i < TASKS; i++)
            told.ended[i] = true;
    if (h->type == MSG_WELCOME && welcome_decode(route, h->route_len, &w, &e) == CV_OK) {
        told.welcome = !w.refused;
        for (uint32_t r = 0; r < w.nunknown; r++)
            for (uint64_t i = w.unknown[r].lo; i < w.unknown[r].hi && i < TASKS; i++)
                told.unknown[i] = true;
        welcome_release(&w);
    }
}

static void sent(struct world *w, unsigned peer, const void *data, size_t n)
{
    static const struct wire_limits open = {.body_max = UINT64_MAX, .route_max = WIRE_ROUTE_MAX};
    struct header h;
    struct err e;
    if (peer != CLIENT && peer != WITNESS)
        return;
    assert_int_equal(buf_add(&told.in, data, n), CV_OK);
    while (told.in.len >= WIRE_HEADER_SIZE) {
        if (header_decode(told.in.data, &open, &h, &e) != CV_OK)
            fail_msg("what a client is sent: %s", e.text);
        size_t size = WIRE_HEADER_SIZE + h.route_len + (h.nbufs > 1 ? h.nbufs * 8 : 0) + h.body_len;
        if (told.in.len < size)
            return;
        note(&h, told.in.data + WIRE_HEADER_SIZE, peer);
        buf_consume(&told.in, size);
    }
}

/* A turn of the controller: here things fail. */
static void run(struct world *w)
{
    if (!told.calm)
        fault_go_on();
    world_run(w);
    fault_pause();
}

static void come(struct world *w, unsigned peer, int hello)
{
    struct header h = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE};
    if (peer == CLIENT)
        told.in.len = 0;
    if (!told.calm)
        fault_go_on();
    world_connect(w, peer);
    fault_pause();
    world_send(w, peer, h, hello_of[hello].data, hello_of[hello].len, NULL, 0);
    run(w);
}

static struct header about(uint8_t type, uint64_t seq, uint32_t count)
{
    return (struct header){
        .type = type, .session = SESSION, .seq = seq, .count = count, .engine = WIRE_ENGINE_NONE};
}

static void submit(struct world *w, uint64_t seq, uint32_t count, uint16_t flags, uint32_t engine)
{
    struct header h = about(MSG_TASK, seq, count);
    bool waits = seq == 20;
    h.flags = flags;
    h.engine = engine;
    h.status = count > 1 ? TASK_MAP : TASK_APPLY;
    world_send(w, CLIENT, h, waits ? route_after.data : NULL, waits ? route_after.len : 0, "call",
               4);
    run(w);
}

static void engine_says(struct world *w, unsigned peer, uint8_t type, uint64_t seq, uint32_t count)
{
    struct header h = about(type, seq, count);
    h.engine = peer - ENGINE_0;
    h.incarnation = h.attempt = 1;
    h.status = type == MSG_OUTPUT ? OUTPUT_STDOUT : RESULT_OK;
    world_send(w, peer, h, NULL, 0, "bytes", type == MSG_STARTED ? 0 : 5);
    run(w);
}

static void ask(struct world *w, unsigned peer, uint64_t seq, const char *json)
{
    world_send(w, peer, about(MSG_QUERY, seq, 1), NULL, 0, json, strlen(json));
    run(w);
}

static void exits(struct world *w, uint32_t number)
{
    static const char cause[] = "{\"id\": 0, \"signal\": 9, \"running\": \"0000000000000064_1\", "
                                "\"running_attempt\": 1, \"tasks_done\": 1, \"text\": \"it died\"}";
    struct header h = {.type = MSG_EXIT, .engine = number, .incarnation = 1};
    world_send(w, HOST, h, NULL, 0, cause, sizeof cause - 1);
    run(w);
}

static void work(struct world *w)
{
    come(w, CLIENT, CLIENT);
    come(w, HOST, HOST);
    come(w, ENGINE_0, ENGINE_0);
    come(w, ENGINE_1, ENGINE_1);
    submit(w, 1, 1, 0, WIRE_ENGINE_NONE);
    submit(w, 2, 8, 0, WIRE_ENGINE_NONE);
    submit(w, 11, 1, MSG_F_DIRECT, 1);
    submit(w, 20, 1, 0, WIRE_ENGINE_NONE);
    engine_says(w, ENGINE_0, MSG_STARTED, 1, 1);
    engine_says(w, ENGINE_0, MSG_OUTPUT, 1, 1);
    engine_says(w, ENGINE_0, MSG_RESULT, 1, 1);
    engine_says(w, ENGINE_1, MSG_RESULT, 2, 2);
    ask(w, CLIENT, 30, "{\"query\": \"queue_status\", \"verbose\": true}");
    ask(w, CLIENT, 31, "{\"query\": \"db_query\", \"where\": {\"label\": {\"$ne\": 1}}}");
    world_send(w, CLIENT, about(MSG_CANCEL, 5, 2), NULL, 0, NULL, 0);
    run(w);
    world_close(w, ENGINE_1); /* a lost link, and back */
    run(w);
    come(w, ENGINE_1, ENGINE_1);
    world_close(w, CLIENT);
    run(w);
    come(w, CLIENT, CLIENT);
    exits(w, 1);
}

/* Everything that lives is told to end what there is. */
static void wind_up(struct world *w)
{
    memset(&told.ended, 0, sizeof told.ended);
    memset(&told.unknown, 0, sizeof told.unknown);
    told.welcome = told.reply = false;
    told.calm = true;
    come(w, HOST, HOST);
    come(w, CLIENT, CLIENT);
    if (!told.welcome)
        fail_msg("call %d failed: the client is not let in any more", (int)fault_place());
    world_send(w, CLIENT, about(MSG_CANCEL, 1, TASKS - 1), NULL, 0, NULL, 0);
    for (uint32_t e = 0; e < 4; e++) /* one that was sent away came back under another number */
        exits(w, e);
    world_close(w, ENGINE_0);
    world_close(w, ENGINE_1);
    run(w);
    ask(w, CLIENT, TASKS, "{\"query\": \"status\"}");
    assert_true(told.reply);
}

static void expect_ends(struct world *w)
{
    for (uint64_t i = 1; i < 21; i++) {
        bool used = i < 10 || i == 11 || i == 20;
        const struct store_record *r;
        if (!used || told.ended[i] || told.unknown[i])
            continue;
        enum store_find f = w->c.store->ops->find(w->c.store, SESSION, i, &r, NULL);
        if (f == STORE_FOUND && r->state == STORE_PENDING)
            fail_msg("call %d failed: task %d has no end", (int)fault_place(), (int)i);
    }
}

static void a_day(void *arg)
{
    static struct world w;
    if (world_try(&w, 4, false, arg) == CV_OK) {
        w.sent = sent;
        w.patient = true;
        work(&w);
        fault_pause();
        if (!w.c.stopping && fault_hit()) {
            wind_up(&w);
            expect_ends(&w);
        }
    } else {
        assert_true(fault_hit());
    }
    world_end(&w);
    fault_go_on();
    buf_clear(&told.in);
    told.calm = false;
}

static void make_hello(int which, uint8_t role, uint64_t session, const struct id_range *waiting)
{
    struct hello h = {.role = role,
                      .session = session,
                      .boot_id = "00112233445566ff",
                      .uuid = "uuid",
                      .python = "3.11",
                      .versions = "{}",
                      .host = "here",
                      .machine = 2,
                      .number = WIRE_ENGINE_NONE,
                      .host_session = 900,
                      .waiting = (struct id_range *)waiting,
                      .nwaiting = waiting != NULL};
    assert_int_equal(hello_encode(&h, &hello_of[which]), CV_OK);
}

static int setup(void **state)
{
    const struct id_range waiting = {SESSION, 1, TASKS}, first = {SESSION, 1, 2};
    struct route r = {.timeout = 5,
                      .retries = 1,
                      .label = "label",
                      .after = (struct id_range *)&first,
                      .nafter = 1,
                      .after_flags = {true, true, false}};
    make_hello(CLIENT, ROLE_CLIENT, SESSION, &waiting);
    make_hello(ENGINE_0, ROLE_ENGINE, 200, NULL);
    make_hello(ENGINE_1, ROLE_ENGINE, 201, NULL);
    make_hello(HOST, ROLE_HOST, 900, NULL);
    return route_encode(&r, &route_after);
}

static int teardown(void **state)
{
    for (int i = 0; i < 5; i++)
        buf_release(&hello_of[i]);
    buf_release(&route_after);
    buf_release(&told.in);
    return 0;
}

static void memory_is_short_in_the_controller(void **state)
{
    unsigned places = fault_each(FAULT_MEMORY, a_day, "memory");
    print_message("%u places\n", places);
    assert_true(places > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_is_short_in_the_controller, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

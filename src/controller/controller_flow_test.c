/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What bounds the controller's memory, with the real program and peers of the test's own: how
 * results are acknowledged, and what becomes of a client that does not take them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "controller/test_cluster.h"

#define S 0xabcdef0000000001ull
#define LARGE 400000
#define SMALL 60000 /* as large as small ones can be, about */

static void ack(struct fake *client, uint64_t n)
{
    fake_send(client, (struct header){.type = MSG_ACK, .session = S, .aux = n}, NULL, 0, NULL, 0);
}

static void large_ones_are_acknowledged_by_name(void **state)
{
    struct cluster c;
    struct fake client, engine;
    char *big = calloc(1, LARGE);

    cluster_start(&c, (const char *const[]){"--hwm=4", NULL});
    fake_engine(&engine, &c, 11, 0);
    fake_client(&client, &c, S);
    for (int i = 0; i < 2; i++)
        fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "call");
    struct msg *large = fake_expect(&engine, MSG_TASK), *small = fake_expect(&engine, MSG_TASK);
    fake_result(&engine, large, RESULT_OK, big, LARGE);
    struct msg *got = fake_expect(&engine, MSG_ACK);
    assert_int_equal(got->h.seq, large->h.seq);
    assert_int_equal(got->h.count, 1);
    assert_int_equal(got->h.attempt, 1);
    msg_free(got);
    fake_result(&engine, small, RESULT_OK, "v", 1);
    got = fake_expect(&engine, MSG_ACK);
    assert_int_equal(got->h.count, 0);
    assert_int_equal(got->h.aux, 1); /* of the small ones */
    msg_free(got);
    msg_free(large);
    msg_free(small);
    free(big);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

/* Runs what comes until nothing does; the number of tasks. */
static int run_all(struct fake *engine, const char *body, size_t size)
{
    int n = 0;
    while (!fake_silent(engine, 300)) {
        struct msg *m = fake_recv(engine);
        if (m->h.type == MSG_TASK) {
            fake_result(engine, m, RESULT_OK, body, size);
            n++;
        }
        msg_free(m);
    }
    return n;
}

/* More than client_buffer of results that it does not acknowledge: its tasks wait, another client's
 * don't, and they go on when it has taken half. */
static void results_pile_up(void **state)
{
    struct cluster c;
    struct fake client, other, engine;
    char *big = calloc(1, SMALL);

    cluster_start(&c,
                  (const char *const[]){"--IPController.client_buffer=150000", "--hwm=1", NULL});
    fake_engine(&engine, &c, 11, 0);
    fake_client(&client, &c, S);
    fake_client(&other, &c, S + 1);
    for (int i = 0; i < 6; i++)
        fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "call");
    assert_int_equal(run_all(&engine, big, SMALL),
                     4); /* the fourth left with the third, which is too much */
    fake_submit(&other, 0, WIRE_ENGINE_NONE, NULL, 1, "call");
    assert_int_equal(run_all(&engine, big, SMALL), 1);
    for (uint64_t seq = 1; seq <= 3; seq++)
        msg_free(fake_expect(&client, MSG_RESULT));
    ack(&client, 3);
    assert_int_equal(run_all(&engine, big, SMALL), 2);
    free(big);
    fake_close(&client);
    fake_close(&other);
    fake_close(&engine);
    cluster_stop(&c);
}

/* Results that are much more than a client may have to read come when it reads: it is not sent away
 * for them, and what is printed meanwhile is not left out. */
static void large_results_are_waited_for(void **state)
{
    enum { MANY = 12 };
    struct cluster c;
    struct fake client, engine;
    char *big = calloc(1, SMALL);
    struct msg *tasks[MANY + 1];
    int seen[256] = {0};
    struct header text = {
        .type = MSG_OUTPUT, .status = OUTPUT_STDOUT, .session = S, .seq = MANY + 1, .count = 1};

    cluster_start(&c, (const char *const[]){"--IPController.client_buffer=65536", "--hwm=0", NULL});
    fake_engine(&engine, &c, 11, 0);
    fake_client(&client, &c, S);
    for (int i = 0; i < MANY; i++)
        fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "call");
    fake_submit(&client, MSG_F_DIRECT, 0, NULL, 1, "prints");
    for (int i = 0; i <= MANY; i++)
        tasks[i] = fake_expect(&engine, MSG_TASK);
    for (int i = 0; i < MANY; i++)
        fake_result(&engine, tasks[i], RESULT_OK, big, SMALL);
    fake_send(&engine, text, NULL, 0, "text", 4);
    fake_result(&engine, tasks[MANY], RESULT_OK, "v", 1);
    assert_int_equal(run_all(&engine, "v", 1), 0); /* all has come to the controller */
    for (int i = 0; i < MANY + 2; i++) {
        struct msg *m = fake_recv(&client);
        seen[m->h.type]++;
        msg_free(m);
    }
    assert_int_equal(seen[MSG_RESULT], MANY + 1);
    assert_int_equal(seen[MSG_OUTPUT], 1);
    for (int i = 0; i <= MANY; i++)
        msg_free(tasks[i]);
    free(big);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

/* A client that left: beyond half of size_limit its tasks wait for it, and nothing is lost. */
static void results_wait_for_one_who_left(void **state)
{
    struct cluster c;
    struct fake client, engine;
    char *big = calloc(1, SMALL);
    struct id_range waiting = {S, 1, 9};
    struct hello hello = {.role = ROLE_CLIENT,
                          .session = S,
                          .number = WIRE_ENGINE_NONE,
                          .waiting = &waiting,
                          .nwaiting = 1};

    cluster_start(&c, (const char *const[]){"--DictDB.size_limit=400000", "--hwm=1", NULL});
    fake_client(&client, &c, S);
    for (int i = 0; i < 8; i++)
        fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "call");
    json_decref(fake_query(&client, "{\"query\":\"status\"}"));
    fake_close(&client);
    fake_engine(&engine, &c, 11, 0);
    assert_int_equal(run_all(&engine, big, SMALL), 5);
    fake_hello(&client, &c, &hello, 0, NULL);
    for (uint64_t seq = 1; seq <= 5; seq++) {
        struct msg *m = fake_expect(&client, MSG_RESULT);
        assert_int_equal(m->h.seq, seq);
        assert_int_equal(m->h.status, RESULT_OK);
        msg_free(m);
    }
    ack(&client, 5);
    assert_int_equal(run_all(&engine, big, SMALL), 3);
    free(big);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

/* Much ended while a client was away, more than it may have waiting: it is given that as it reads,
 * all of it, and is not sent away for what it had no time to read. */
static void much_is_handed_over(void **state)
{
    enum { MANY = 1500, SIZE = 1000 };
    struct cluster c;
    struct fake client, other, engine;
    char body[SIZE] = "";
    struct id_range waiting = {S, 1, MANY + 1};
    struct hello hello = {.role = ROLE_CLIENT,
                          .session = S,
                          .number = WIRE_ENGINE_NONE,
                          .waiting = &waiting,
                          .nwaiting = 1};

    cluster_start(&c, (const char *const[]){"--IPController.client_buffer=65536", NULL});
    fake_client(&client, &c, S);
    fake_client(&other, &c, S + 1);
    for (int i = 0; i < MANY; i++)
        fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "call");
    json_decref(fake_query(&client, "{\"query\":\"status\"}"));
    fake_close(&client);
    fake_engine(&engine, &c, 11, 0);
    assert_int_equal(run_all(&engine, body, SIZE), MANY);
    fake_hello(&client, &c, &hello, 0, NULL);
    json_decref(
        fake_query(&other, "{\"query\":\"status\"}")); /* turns pass, and it does not read */
    for (uint64_t seq = 1; seq <= MANY; seq++) {
        struct msg *m = fake_expect(&client, MSG_RESULT);
        assert_int_equal(m->h.seq, seq);
        assert_int_equal(m->h.status, RESULT_OK);
        msg_free(m);
    }
    fake_hello(&engine, &c, &hello, 0, NULL); /* once more, and gone amid it */
    fake_close(&engine);
    fake_close(&client);
    json_decref(fake_query(&other, "{\"query\":\"status\"}"));
    fake_close(&other);
    cluster_stop(&c);
}

/* What an engine holds may be more than fits 4 KiB: the kernel or TLS has said who it is. */
static void a_long_hello(void **state)
{
    enum { N = 5000 };
    struct cluster c;
    struct fake engine;
    struct held_task *held = calloc(N, sizeof(*held));
    struct hello h = {.role = ROLE_ENGINE,
                      .session = 11,
                      .number = WIRE_ENGINE_NONE,
                      .uuid = "u",
                      .unstarted = held,
                      .nunstarted = N};

    for (int i = 0; i < N; i++)
        held[i] = (struct held_task){S, 1 + 2 * (uint64_t)i, 1, 1};
    cluster_start(&c, NULL);
    fake_hello(&engine, &c, &h, 0, NULL);
    assert_int_equal(engine.number, 0);
    free(held);
    fake_close(&engine);
    cluster_stop(&c);
}

/* A relay has many engines' RESULTs on one link, where small ones overtake large ones. */
static void a_new_result_overtakes_one_that_comes_again(void **state)
{
    struct cluster c;
    struct fake client, engine;
    struct hello h = {.role = ROLE_ENGINE,
                      .session = 11,
                      .number = 0,
                      .incarnation = 1,
                      .uuid = "uuid-of-engine",
                      .pid = (uint32_t)getpid()};
    struct msg *m[3];

    cluster_start(&c, (const char *const[]){"--hwm=4", NULL});
    fake_engine(&engine, &c, 11, 0);
    fake_client(&client, &c, S);
    for (int i = 0; i < 3; i++) {
        fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "call");
        m[i] = fake_expect(&engine, MSG_TASK);
    }
    fake_close(&engine);
    json_decref(fake_event(&client, "engine_away"));
    h.running = (struct held_task){S, m[1]->h.seq, 1, m[1]->h.attempt};
    fake_hello(&engine, &c, &h, 1, NULL); /* of m[0] */
    json_decref(fake_event(&client, "engine_back"));
    engine.announced = 0;
    fake_result(&engine, m[1], RESULT_OK, "new", 3);
    msg_free(fake_expect(&client, MSG_RESULT));
    engine.announced = 1;
    fake_result(&engine, m[0], RESULT_OK, "again", 5);
    struct msg *got = fake_expect(&engine, MSG_TASK);
    assert_int_equal(got->h.seq, m[2]->h.seq); /* nobody holds that one */
    msg_free(got);
    got = fake_expect(&client, MSG_RESULT);
    assert_int_equal(got->h.seq, m[0]->h.seq);
    msg_free(got);
    for (int i = 0; i < 3; i++)
        msg_free(m[i]);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_ones_are_acknowledged_by_name),
        cmocka_unit_test(results_pile_up),
        cmocka_unit_test(large_results_are_waited_for),
        cmocka_unit_test(results_wait_for_one_who_left),
        cmocka_unit_test(much_is_handed_over),
        cmocka_unit_test(a_long_hello),
        cmocka_unit_test(a_new_result_overtakes_one_that_comes_again),
    };

    if (argc < 2) {
        fprintf(stderr, "usage: controller_flow_test PATH-OF-IPCONTROLLER [TEST]\n");
        return 2;
    }
    cluster_program(argv[1]);
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

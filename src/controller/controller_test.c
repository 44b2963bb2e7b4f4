/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The real ipcontroller with fake engines, hosts and clients on its Unix socket: what clients ask
 * for: tasks, results, output, queries. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "controller/test_cluster.h"
#include "wire/route.h"

#define S 0xabcdef0000000001ull /* the first client's session */

static void one_task(void **state)
{
    struct cluster c;
    struct fake client, engine;

    cluster_start(&c, NULL);
    fake_engine(&engine, &c, 11, 0);
    assert_int_equal(engine.number, 0);
    assert_int_equal(engine.incarnation, 1);
    fake_client(&client, &c, S);
    uint64_t seq = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "call");
    struct msg *task = fake_expect(&engine, MSG_TASK);
    assert_string_equal(msg_text(task), "call");
    assert_int_equal(task->h.attempt, 1);
    assert_int_equal(task->h.engine, 0);
    fake_result(&engine, task, RESULT_OK, "value", 5);
    struct msg *ack = fake_recv(&engine);
    assert_int_equal(ack->h.type, MSG_ACK);
    assert_int_equal(ack->h.aux, 1);
    expect_result(&client, seq, RESULT_OK, "value");
    msg_free(ack);
    msg_free(task);

    json_t *status = fake_query(&client, "{\"query\":\"status\"}");
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_in_range(json_integer_value(json_at(json_at(status, "ok"), "memory")), 1, 15 << 20);
#endif
    assert_int_equal(json_integer_value(json_at(json_at(status, "ok"), "pid")), c.pid);
    json_decref(status);

    char text[200];
    snprintf(text, sizeof(text), "{\"query\":\"result\",\"id\":\"%016llx_%d\"}", S, 1);
    json_t *j = fake_query(&client, text);
    assert_int_equal(json_integer_value(json_at(json_at(j, "ok"), "status")), RESULT_OK);
    assert_string_equal(json_string_value(json_at(json_at(j, "ok"), "engine_uuid")),
                        "uuid-of-engine");
    json_decref(j);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

static void large_result(void **state)
{
    struct cluster c;
    struct fake client, engine;
    size_t n = 3u << 20;
    char *big = malloc(n);

    for (size_t i = 0; i < n; i++)
        big[i] = (char)(i * 31 >> 3);
    cluster_start(&c, NULL);
    fake_engine(&engine, &c, 11, 0);
    fake_client(&client, &c, S);
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "call");
    struct msg *task = fake_expect(&engine, MSG_TASK);
    fake_result(&engine, task, RESULT_OK, big, n);
    struct msg *m = fake_expect(&client, MSG_RESULT);
    assert_int_equal(m->h.body_len, n);
    assert_memory_equal(m->payload->bufs[0].data, big, n);
    msg_free(m);
    msg_free(task);
    free(big);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

static void cancels(void **state)
{
    struct cluster c;
    struct fake client, engine;

    cluster_start(&c, (const char *const[]){"--hwm=1", NULL});
    fake_client(&client, &c, S);
    uint64_t lonely = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "no engine yet");
    fake_cancel(&client, lonely, MSG_F_ABORT);
    expect_result(&client, lonely, RESULT_ABORTED, "TaskAborted");
    fake_engine(&engine, &c, 11, 0);
    uint64_t runs = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "runs");
    uint64_t waits = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "waits");
    struct msg *task = fake_expect(&engine, MSG_TASK);
    fake_cancel(&client, waits, 0);
    expect_result(&client, waits, RESULT_CANCELLED, "CancelledError");
    struct header started = {.type = MSG_STARTED,
                             .session = S,
                             .seq = runs,
                             .count = 1,
                             .attempt = 1,
                             .engine = 0,
                             .incarnation = 1};
    fake_send(&engine, started, NULL, 0, NULL, 0);
    fake_cancel(&client, runs, 0);
    struct msg *m = fake_expect(&engine, MSG_CANCEL);
    assert_int_equal(m->h.seq, runs);
    msg_free(m);
    fake_result(&engine, task, RESULT_ERROR, "{\"ename\":\"KeyboardInterrupt\"}", 29);
    m = fake_expect(&client, MSG_RESULT);
    assert_int_equal(m->h.seq, runs);
    msg_free(m);
    msg_free(task);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

static void client_gone_and_back(void **state)
{
    struct cluster c;
    struct fake client, engine, other;
    struct welcome w;

    cluster_start(&c, (const char *const[]){"--hwm=4", NULL});
    fake_engine(&engine, &c, 11, 0);
    fake_client(&client, &c, S);
    fake_client(&other, &c, S + 5);
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "one");
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "two");
    struct msg *one = fake_expect(&engine, MSG_TASK), *two = fake_expect(&engine, MSG_TASK);
    fake_close(&client);
    fake_result(&engine, one, RESULT_OK, "first", 5);
    msg_free(fake_expect(&engine, MSG_ACK));
    struct id_range waiting[] = {{S, 1, 3}, {S, 7, 9}};
    struct hello h = {.role = ROLE_CLIENT,
                      .session = S,
                      .number = WIRE_ENGINE_NONE,
                      .waiting = waiting,
                      .nwaiting = 2};
    fake_hello(&client, &c, &h, 0, &w);
    assert_null(w.refused);
    assert_int_equal(w.nunknown, 1);
    assert_true(w.unknown[0].lo == 7 && w.unknown[0].hi == 9);
    welcome_release(&w);
    expect_result(&client, 1, RESULT_OK, "first");
    fake_result(&engine, two, RESULT_OK, "second", 6);
    expect_result(&client, 2, RESULT_OK, "second");

    char text[200]; /* another client may ask, too */
    snprintf(text, sizeof(text),
             "{\"query\":\"result_status\",\"ids\":[\"%016llx_1\",\"%016llx_9\"]}", S, S);
    json_t *j = fake_query(&other, text);
    assert_int_equal(json_array_size(json_at(json_at(j, "ok"), "completed")), 1);
    assert_int_equal(json_array_size(json_at(json_at(j, "ok"), "unknown")), 1);
    json_decref(j);
    msg_free(one);
    msg_free(two);
    fake_close(&client);
    fake_close(&other);
    fake_close(&engine);
    cluster_stop(&c);
}

static void output_reaches_client_and_record(void **state)
{
    struct cluster c;
    struct fake client, engine;

    cluster_start(&c, NULL);
    fake_engine(&engine, &c, 11, 0);
    fake_client(&client, &c, S);
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "prints");
    struct msg *task = fake_expect(&engine, MSG_TASK);
    struct header h = {
        .type = MSG_OUTPUT, .status = OUTPUT_STDOUT, .session = S, .seq = 1, .count = 1};
    fake_send(&engine, h, NULL, 0, "hello\n", 6);
    size_t n = 200 << 10; /* a large display is not overtaken by its task's small result */
    char *big = calloc(1, n);
    h.status = OUTPUT_DISPLAY;
    fake_send(&engine, h, NULL, 0, big, n);
    fake_result(&engine, task, RESULT_OK, "v", 1);
    struct msg *m = fake_expect(&client, MSG_OUTPUT);
    assert_string_equal(msg_text(m), "hello\n");
    msg_free(m);
    m = fake_expect(&client, MSG_OUTPUT);
    assert_int_equal(m->h.body_len, n);
    msg_free(m);
    expect_result(&client, 1, RESULT_OK, "v");
    json_t *j = fake_query(
        &client, "{\"query\":\"db_query\",\"where\":{\"queue\":\"task\",\"engine\":{\"$lt\":3},"
                 "\"submitted\":{\"$gt\":\"2026-01-01T02:00:00+02:00\"}},"
                 "\"keys\":[\"stdout\"]}");
    assert_int_equal(json_array_size(json_at(j, "ok")), 1);
    assert_string_equal(json_string_value(json_at(json_array_get(json_at(j, "ok"), 0), "stdout")),
                        "hello\n");
    json_decref(j);
    free(big);
    msg_free(task);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

static void expect_error(struct fake *client, const char *query, const char *ename)
{
    json_t *j = fake_query(client, query);

    assert_string_equal(json_string_value(json_at(json_at(j, "error"), "ename")), ename);
    json_decref(j);
}

static void queries(void **state)
{
    struct cluster c;
    struct fake client, engine;

    cluster_start(&c, (const char *const[]){"--hwm=1", NULL});
    fake_client(&client, &c, S);
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 2, "map of two");
    json_t *j = fake_query(&client, "{\"query\":\"queue_status\"}");
    assert_int_equal(json_integer_value(json_at(json_at(j, "ok"), "unassigned")), 2);
    json_decref(j);
    fake_engine(&engine, &c, 11, 0);
    struct msg *task = fake_expect(&engine, MSG_TASK);
    j = fake_query(&client, "{\"query\":\"queue_status\",\"targets\":[0],\"verbose\":true}");
    assert_int_equal(json_array_size(json_at(json_at(json_at(j, "ok"), "0"), "tasks")), 2);
    json_decref(j);
    char text[200];
    snprintf(text, sizeof(text), "{\"query\":\"result\",\"id\":\"%016llx_2\"}", S);
    j = fake_query(&client, text);
    assert_true(json_is_null(json_at(j, "ok")));
    json_decref(j);
    task->h.count = 1; /* item by item */
    fake_result(&engine, task, RESULT_OK, "a", 1);
    task->h.seq++;
    fake_result(&engine, task, RESULT_ERROR, "{}", 2);
    expect_result(&client, 1, RESULT_OK, "a");
    expect_result(&client, 2, RESULT_ERROR, "{}");
    j = fake_query(&client, "{\"query\":\"history\"}");
    assert_int_equal(json_array_size(json_at(j, "ok")), 2);
    json_decref(j);
    snprintf(text, sizeof(text), "{\"query\":\"task\",\"id\":\"%016llx_2\"}", S);
    j = fake_query(&client, text);
    assert_string_equal(json_string_value(json_at(json_at(j, "ok"), "state")), "failed");
    json_decref(j);
    expect_error(&client, "{\"query\":\"nonsense\"}", "KeyError");
    expect_error(&client, "no json", "KeyError");
    expect_error(&client, "{\"query\":\"result\",\"id\":\"0_0\"}", "KeyError");
    expect_error(&client, "{\"query\":\"queue_status\",\"targets\":[3]}", "EngineError");
    expect_error(&client, "{\"query\":\"signal\",\"signal\":\"x\"}", "ValueError");
    expect_error(&client, "{\"query\":\"db_query\",\"where\":{\"nokey\":1}}", "KeyError");
    expect_error(&client, "{\"query\":\"db_query\",\"where\":{\"label\":{\"$le\":1}}}", "KeyError");
    expect_error(&client, "{\"query\":\"purge\",\"ids\":[\"x\"]}", "KeyError");
    expect_error(&client, "{\"query\":\"purge\",\"engines\":[4294967296]}", "EngineError");
    expect_error(&client, "{\"query\":\"purge\",\"engines\":[\"0\"]}", "EngineError");
    j = fake_query(&client, "{\"query\":\"purge\",\"ids\":\"all\"}");
    assert_int_equal(json_integer_value(json_at(json_at(j, "ok"), "purged")), 2);
    json_decref(j);
    client.seq = INT64_MAX; /* the next id, as a number of JSON, is the least there is */
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "x");
    msg_free(fake_expect(&client, MSG_RESULT));
    j = fake_query(&client, "{\"query\":\"db_query\",\"where\":{\"first\":{\"$mod\":[-1,0]}}}");
    assert_int_equal(json_array_size(json_at(j, "ok")), 1);
    json_decref(j);
    msg_free(task);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

static void python_versions(void **state)
{
    struct cluster c;
    struct fake client, engine;
    struct hello h = {.role = ROLE_ENGINE,
                      .session = 11,
                      .number = WIRE_ENGINE_NONE,
                      .python = "3.12",
                      .uuid = "u"};
    struct route r;

    cluster_start(&c, NULL);
    fake_hello(&engine, &c, &h, 0, NULL);
    fake_client(&client, &c, S);
    route_init(&r);
    r.python = "3.11";
    uint64_t seq = fake_submit(&client, 0, WIRE_ENGINE_NONE, &r, 1, "by value");
    expect_result(&client, seq, RESULT_REFUSED, "Python 3.11");
    seq = fake_submit(&client, MSG_F_DIRECT, 0, &r, 1, "by value");
    expect_result(&client, seq, RESULT_REFUSED, "3.12");
    seq = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "data");
    msg_free(fake_expect(&engine, MSG_TASK));
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

/* A client that does not read for long: output is left out, its results wait for it, others don't
 * notice. */
static void client_that_does_not_read(void **state)
{
    struct cluster c;
    struct fake client, other, engine;
    static char text[60000];

    cluster_start(&c,
                  (const char *const[]){"--IPController.client_buffer=1000000", "--hwm=4", NULL});
    fake_client(&client, &c, S);
    fake_client(&other, &c, S + 1);
    fake_engine(&engine, &c, 11, 0);
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "prints much");
    struct msg *task = fake_expect(&engine, MSG_TASK);
    struct header h = {
        .type = MSG_OUTPUT, .status = OUTPUT_STDOUT, .session = S, .seq = 1, .count = 1};
    for (int i = 0; i < 100; i++)
        fake_send(&engine, h, NULL, 0, text, sizeof(text));
    fake_result(&engine, task, RESULT_OK, "v", 1);
    uint64_t got = 0;
    bool told = false;
    struct msg *m;
    for (; (m = fake_recv(&client))->h.type != MSG_RESULT; msg_free(m)) {
        got += m->h.type == MSG_OUTPUT;
        told |= m->h.type == MSG_EVENT && strstr(msg_text(m), "left out");
    }
    msg_free(m);
    assert_true(told);
    assert_in_range(got, 15, 60);

    char *big = calloc(1, 6000000);
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "large value");
    m = fake_expect(&engine, MSG_TASK);
    fake_result(&engine, m, RESULT_OK, big, 6000000);
    msg_free(fake_expect(&engine, MSG_ACK));
    json_decref(fake_query(&other, "{\"query\":\"status\"}"));
    struct msg *large = fake_expect(&client, MSG_RESULT);
    assert_int_equal(large->payload->total, 6000000);
    msg_free(large);
    free(big);
    msg_free(m);
    msg_free(task);
    fake_close(&client);
    fake_close(&other);
    fake_close(&engine);
    cluster_stop(&c);
}

/* Seconds of CPU that the controller has used. */
static double busy(const struct cluster *c)
{
    struct timespec t;
    clockid_t clock;

    assert_int_equal(clock_getcpuclockid(c->pid, &clock), 0);
    assert_int_equal(clock_gettime(clock, &t), 0);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* They would keep it busy for minutes. */
static void cancel_of_what_never_was(void **state)
{
    struct cluster c;
    struct fake client;

    cluster_start(&c, (const char *const[]){NULL});
    fake_client(&client, &c, S);
    uint64_t seq = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "x");
    for (int i = 0; i < 50; i++)
        fake_send(&client,
                  (struct header){.type = MSG_CANCEL,
                                  .session = i % 2 ? S : S + 1,
                                  .seq = i < 25 ? seq : 1000,
                                  .count = UINT32_MAX,
                                  .engine = WIRE_ENGINE_NONE},
                  NULL, 0, NULL, 0);
    expect_result(&client, seq, RESULT_CANCELLED, "CancelledError");
    json_decref(fake_query(&client, "{\"query\":\"engines\"}"));
    double before = busy(&c);
    usleep(300000);
    assert_true(busy(&c) - before < 0.15);
    fake_close(&client);
    cluster_stop(&c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_task),
        cmocka_unit_test(large_result),
        cmocka_unit_test(cancels),
        cmocka_unit_test(cancel_of_what_never_was),
        cmocka_unit_test(client_gone_and_back),
        cmocka_unit_test(output_reaches_client_and_record),
        cmocka_unit_test(queries),
        cmocka_unit_test(python_versions),
        cmocka_unit_test(client_that_does_not_read),
    };

    if (argc < 2) {
        fprintf(stderr, "usage: controller_test PATH-OF-IPCONTROLLER [TEST]\n");
        return 2;
    }
    cluster_program(argv[1]);
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

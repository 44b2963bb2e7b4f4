/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The real ipcontroller with fake engines, hosts and clients on its Unix socket. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "controller/test_cluster.h"
#include "tls/tls.h"
#include "wire/connfile.h"
#include "wire/route.h"

#define S 0xabcdef0000000001ull /* the first client's session */

static void expect_text(const struct msg *m, const char *text)
{
    if (!strstr(msg_text(m), text))
        fail_msg("'%s' is not in: %s", text, msg_text(m));
}

static void expect_result(struct fake *client, uint64_t seq, uint8_t status, const char *text)
{
    struct msg *m = fake_expect(client, MSG_RESULT);

    assert_int_equal(m->h.seq, seq);
    assert_int_equal(m->h.status, status);
    expect_text(m, text);
    msg_free(m);
}

static json_t *at(json_t *j, const char *key)
{
    json_t *v = json_object_get(j, key);

    if (!v)
        fail_msg("no %s in %s", key, json_dumps(j, 0));
    return v;
}

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
#ifndef __SANITIZE_ADDRESS__
    assert_in_range(json_integer_value(at(at(status, "ok"), "memory")), 1, 15 << 20);
#endif
    assert_int_equal(json_integer_value(at(at(status, "ok"), "pid")), c.pid);
    json_decref(status);

    char text[200];
    snprintf(text, sizeof(text), "{\"query\":\"result\",\"id\":\"%016llx_%d\"}", S, 1);
    json_t *j = fake_query(&client, text);
    assert_int_equal(json_integer_value(at(at(j, "ok"), "status")), RESULT_OK);
    assert_string_equal(json_string_value(at(at(j, "ok"), "engine_uuid")), "uuid-of-engine");
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

/* The engine's link is cut while it runs one task and holds a result that nobody acknowledged. */
static void engine_away_and_back(void **state)
{
    struct cluster c;
    struct fake client, engine;

    cluster_start(&c, (const char *const[]){"--hwm=4", NULL});
    fake_engine(&engine, &c, 11, 0);
    fake_client(&client, &c, S);
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "one");
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "two");
    struct msg *one = fake_expect(&engine, MSG_TASK), *two = fake_expect(&engine, MSG_TASK);
    fake_close(&engine);
    json_decref(fake_event(&client, "engine_away"));
    json_t *j = fake_query(&client, "{\"query\":\"engines\"}");
    assert_string_equal(json_string_value(at(json_array_get(at(j, "ok"), 0), "state")), "away");
    json_decref(j);

    struct hello h = {.role = ROLE_ENGINE,
                      .session = 11,
                      .number = 0,
                      .incarnation = 1,
                      .uuid = "uuid-of-engine",
                      .running = {S, two->h.seq, 1, two->h.attempt},
                      .pid = (uint32_t)getpid()};
    fake_hello(&engine, &c, &h, 1, NULL);
    assert_int_equal(engine.number, 0);
    assert_int_equal(engine.incarnation, 1);
    fake_result(&engine, one, RESULT_OK, "first", 5);
    json_decref(fake_event(&client, "engine_back"));
    expect_result(&client, 1, RESULT_OK, "first");
    fake_result(&engine, two, RESULT_OK, "second", 6);
    expect_result(&client, 2, RESULT_OK, "second");
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1,
                "three"); /* nothing was sent twice before this */
    struct msg *three = fake_expect(&engine, MSG_TASK);
    assert_string_equal(msg_text(three), "three");
    msg_free(one);
    msg_free(two);
    msg_free(three);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

/* A host tells the death of an engine that ran one task and held another. */
static void exit_told_by_host(void **state)
{
    struct cluster c;
    struct fake client, host, a, b;
    char text[300];

    cluster_start(&c, (const char *const[]){"--hwm=4", NULL});
    fake_host(&host, &c, 99);
    fake_engine(&a, &c, 11, 99);
    fake_client(&client, &c, S);
    uint64_t first = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "kills");
    uint64_t second = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "held");
    msg_free(fake_expect(&a, MSG_TASK));
    msg_free(fake_expect(&a, MSG_TASK));
    fake_engine(&b, &c, 12, 99);
    assert_int_equal(b.number, 1);
    snprintf(text, sizeof(text),
             "{\"id\":0,\"host\":\"here\",\"pid\":1,\"signal\":11,\"code\":null,\"running\":\"%"
             "016llx_%d\","
             "\"running_attempt\":1,\"restart\":true,\"stderr\":\"boom\",\"text\":\"engine 0 died "
             "of SIGSEGV\"}",
             S, (int)first);
    struct header h = {.type = MSG_EXIT, .engine = 0, .incarnation = 1};
    fake_close(&a);
    fake_send(&host, h, NULL, 0, text, strlen(text));
    struct msg *m = fake_expect(&client, MSG_RESULT);
    assert_int_equal(m->h.seq, first);
    assert_int_equal(m->h.status, RESULT_ENGINE_DIED);
    json_t *j = msg_json(m);
    assert_string_equal(json_string_value(at(j, "ename")), "EngineError");
    assert_non_null(strstr(json_string_value(at(j, "evalue")), "engine 0 died of SIGSEGV"));
    assert_null(strstr(json_string_value(at(j, "evalue")), "boom")); /* once, in the cause */
    assert_string_equal(json_string_value(at(at(j, "cause"), "stderr")), "boom");
    assert_int_equal(json_integer_value(at(at(j, "cause"), "signal")), 11);
    json_decref(j);
    msg_free(m);
    j = fake_event(&client, "engine_died");
    assert_int_equal(json_integer_value(at(at(j, "cause"), "signal")), 11);
    json_decref(j);
    m = fake_expect(&b, MSG_TASK); /* what was only held runs elsewhere */
    assert_int_equal(m->h.seq, second);
    fake_result(&b, m, RESULT_OK, "ok", 2);
    expect_result(&client, second, RESULT_OK, "ok");
    msg_free(m);
    uint64_t third = fake_submit(&client, MSG_F_DIRECT, 0, NULL, 1, "late");
    expect_result(&client, third, RESULT_ENGINE_DIED, "SIGSEGV");
    uint64_t fourth = fake_submit(&client, MSG_F_DIRECT, 42, NULL, 1, "nobody");
    expect_result(&client, fourth, RESULT_REFUSED, "no engine 42");

    struct hello again = {.role = ROLE_ENGINE,
                          .session = 13,
                          .number = 0,
                          .incarnation = 2,
                          .uuid = "u2",
                          .host_session = 99};
    fake_hello(&a, &c, &again, 0, NULL);
    assert_int_equal(a.number, 0);
    assert_int_equal(a.incarnation, 2);
    json_decref(fake_event(&client, "engine_restarted"));
    uint64_t fifth = fake_submit(&client, MSG_F_DIRECT, 0, NULL, 1, "again");
    m = fake_expect(&a, MSG_TASK);
    fake_result(&a, m, RESULT_OK, "alive", 5);
    expect_result(&client, fifth, RESULT_OK, "alive");
    msg_free(m);
    fake_close(&client);
    fake_close(&a);
    fake_close(&b);
    fake_close(&host);
    cluster_stop(&c);
}

/* An engine without a host: its process ends, and that is seen without waiting for the grace time.
 */
static void process_gone(void **state)
{
    struct cluster c;
    struct fake client;

    cluster_start(&c, NULL);
    fake_client(&client, &c, S);
    pid_t pid = fork();
    if (!pid) {
        struct fake engine;
        fake_engine(&engine, &c, 11, 0);
        msg_free(fake_expect(&engine, MSG_TASK));
        _exit(0);
    }
    json_decref(fake_event(&client, "engine_joined"));
    uint64_t seq = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "x");
    expect_result(&client, seq, RESULT_ENGINE_DIED, "engine 0");
    json_t *j = fake_event(&client, "engine_died");
    json_decref(j);
    json_decref(cluster_event(&c, "engine_died"));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    fake_close(&client);
    cluster_stop(&c);
}

static void send_cancel(struct fake *client, uint64_t seq, uint16_t flags)
{
    struct header h = {.type = MSG_CANCEL,
                       .flags = flags,
                       .session = client->session,
                       .seq = seq,
                       .count = 1,
                       .engine = WIRE_ENGINE_NONE};

    fake_send(client, h, NULL, 0, NULL, 0);
}

static void cancels(void **state)
{
    struct cluster c;
    struct fake client, engine;

    cluster_start(&c, (const char *const[]){"--hwm=1", NULL});
    fake_client(&client, &c, S);
    uint64_t lonely = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "no engine yet");
    send_cancel(&client, lonely, MSG_F_ABORT);
    expect_result(&client, lonely, RESULT_ABORTED, "TaskAborted");
    fake_engine(&engine, &c, 11, 0);
    uint64_t runs = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "runs");
    uint64_t waits = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "waits");
    struct msg *task = fake_expect(&engine, MSG_TASK);
    send_cancel(&client, waits, 0);
    expect_result(&client, waits, RESULT_CANCELLED, "CancelledError");
    struct header started = {.type = MSG_STARTED,
                             .session = S,
                             .seq = runs,
                             .count = 1,
                             .attempt = 1,
                             .engine = 0,
                             .incarnation = 1};
    fake_send(&engine, started, NULL, 0, NULL, 0);
    send_cancel(&client, runs, 0);
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

static void strangers(void **state)
{
    struct cluster c;
    struct fake client, bad = {0};
    char junk[3000], byte;

    for (size_t i = 0; i < sizeof(junk); i++)
        junk[i] = (char)rand();
    cluster_start(&c, NULL);
    fake_client(&client, &c, S);
    bad.fd = fake_connect(&c);
    assert_true(write(bad.fd,
                      "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
                      "0123456789012345678901234567890123456789",
                      68) == 68);
    assert_true(recv(bad.fd, &byte, 1, 0) <= 0);
    fake_close(&bad);
    bad.fd = fake_connect(&c);
    assert_true(write(bad.fd, junk, sizeof(junk)) == sizeof(junk));
    assert_true(recv(bad.fd, &byte, 1, 0) <= 0);
    fake_close(&bad);
    bad.fd = fake_connect(&c); /* a task before HELLO */
    bad.session = S;
    fake_submit(&bad, 0, WIRE_ENGINE_NONE, NULL, 1, "x");
    assert_true(recv(bad.fd, &byte, 1, 0) <= 0);
    fake_close(&bad);

    struct welcome w;
    struct hello h = {
        .role = ROLE_CLIENT, .session = 5, .number = WIRE_ENGINE_NONE, .cluster_id = "other"};
    fake_hello(&bad, &c, &h, 0, &w);
    assert_non_null(strstr(w.refused, "other"));
    welcome_release(&w);
    fake_close(&bad);
    h = (struct hello){
        .role = ROLE_CLIENT, .session = 5, .number = WIRE_ENGINE_NONE, .boot_id = "0123"};
    fake_hello(&bad, &c, &h, 0, &w);
    assert_non_null(strstr(w.refused, "restarted"));
    welcome_release(&w);
    fake_close(&bad);
    h = (struct hello){.role = 9, .session = 5, .number = WIRE_ENGINE_NONE};
    fake_hello(&bad, &c, &h, 0, &w);
    assert_non_null(w.refused);
    welcome_release(&w);
    fake_close(&bad);
    json_decref(fake_query(&client, "{\"query\":\"status\"}"));
    fake_close(&client);
    cluster_stop(&c);
}

static void expect_bye(struct fake *f, const char *text)
{
    struct msg *m = fake_expect(f, MSG_BYE);

    expect_text(m, text);
    msg_free(m);
    assert_null(fake_recv(f));
    fake_close(f);
}

static void forbidden(void **state)
{
    struct cluster c;
    struct fake f, client;
    struct header h = {.type = MSG_RESULT, .session = S, .seq = 1, .count = 1};

    cluster_start(&c, NULL);
    fake_client(&client, &c, 77);
    fake_client(&f, &c, S);
    fake_send(&f, h, NULL, 0, "x", 1);
    expect_bye(&f, "a client may not send RESULT");
    fake_client(&f, &c, S);
    f.session = S + 1; /* another client's ids */
    fake_submit(&f, 0, WIRE_ENGINE_NONE, NULL, 1, "x");
    expect_bye(&f, "own session");
    fake_client(&f, &c, S);
    h.type = MSG_TASK;
    fake_send(&f, h, "\xc1 garbage", 9, "x", 1);
    expect_bye(&f, "route");
    fake_engine(&f, &c, 11, 0);
    fake_submit(&f, 0, WIRE_ENGINE_NONE, NULL, 1, "x");
    expect_bye(&f, "an engine may not send TASK");
    fake_host(&f, &c, 12);
    h.type = MSG_QUERY;
    fake_send(&f, h, NULL, 0, "{}", 2);
    expect_bye(&f, "a host may not send QUERY");
    json_decref(fake_query(&client, "{\"query\":\"status\"}"));
    fake_close(&client);
    cluster_stop(&c);
}

static void crowd_at_the_door(void **state)
{
    struct cluster c;
    struct fake client;
    int fds[300];

    cluster_start(&c, NULL);
    for (int i = 0; i < 300; i++)
        fds[i] = fake_connect(&c);
    struct fake first = {.fd = fds[0]};
    fake_silent(&first, 250); /* by now all have been silent for long enough to make room */
    fake_client(&client, &c, S);
    json_decref(fake_query(&client, "{\"query\":\"status\"}"));
    for (int i = 0; i < 300; i++)
        close(fds[i]);
    fake_close(&client);
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
    assert_int_equal(json_array_size(at(at(j, "ok"), "completed")), 1);
    assert_int_equal(json_array_size(at(at(j, "ok"), "unknown")), 1);
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
    assert_int_equal(json_array_size(at(j, "ok")), 1);
    assert_string_equal(json_string_value(at(json_array_get(at(j, "ok"), 0), "stdout")), "hello\n");
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

    assert_string_equal(json_string_value(at(at(j, "error"), "ename")), ename);
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
    assert_int_equal(json_integer_value(at(at(j, "ok"), "unassigned")), 2);
    json_decref(j);
    fake_engine(&engine, &c, 11, 0);
    struct msg *task = fake_expect(&engine, MSG_TASK);
    j = fake_query(&client, "{\"query\":\"queue_status\",\"targets\":[0],\"verbose\":true}");
    assert_int_equal(json_array_size(at(at(at(j, "ok"), "0"), "tasks")), 2);
    json_decref(j);
    char text[200];
    snprintf(text, sizeof(text), "{\"query\":\"result\",\"id\":\"%016llx_2\"}", S);
    j = fake_query(&client, text);
    assert_true(json_is_null(at(j, "ok")));
    json_decref(j);
    task->h.count = 1; /* item by item */
    fake_result(&engine, task, RESULT_OK, "a", 1);
    task->h.seq++;
    fake_result(&engine, task, RESULT_ERROR, "{}", 2);
    expect_result(&client, 1, RESULT_OK, "a");
    expect_result(&client, 2, RESULT_ERROR, "{}");
    j = fake_query(&client, "{\"query\":\"history\"}");
    assert_int_equal(json_array_size(at(j, "ok")), 2);
    json_decref(j);
    snprintf(text, sizeof(text), "{\"query\":\"task\",\"id\":\"%016llx_2\"}", S);
    j = fake_query(&client, text);
    assert_string_equal(json_string_value(at(at(j, "ok"), "state")), "failed");
    json_decref(j);
    expect_error(&client, "{\"query\":\"nonsense\"}", "KeyError");
    expect_error(&client, "no json", "KeyError");
    expect_error(&client, "{\"query\":\"result\",\"id\":\"0_0\"}", "KeyError");
    expect_error(&client, "{\"query\":\"queue_status\",\"targets\":[3]}", "EngineError");
    expect_error(&client, "{\"query\":\"signal\",\"signal\":\"x\"}", "ValueError");
    expect_error(&client, "{\"query\":\"db_query\",\"where\":{\"nokey\":1}}", "KeyError");
    expect_error(&client, "{\"query\":\"db_query\",\"where\":{\"label\":{\"$le\":1}}}", "KeyError");
    expect_error(&client, "{\"query\":\"purge\",\"ids\":[\"x\"]}", "KeyError");
    j = fake_query(&client, "{\"query\":\"purge\",\"ids\":\"all\"}");
    assert_int_equal(json_integer_value(at(at(j, "ok"), "purged")), 2);
    json_decref(j);
    msg_free(task);
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

/* Two engines on one host's link: numbers, tasks, signals, a broadcast in which one target is dead.
 */
static void relayed_engines(void **state)
{
    struct cluster c;
    struct fake client, host;

    cluster_start(&c, NULL);
    fake_host(&host, &c, 99);
    fake_client(&client, &c, S);
    for (uint32_t slot = 0; slot < 2; slot++) {
        struct hello h = {.role = ROLE_ENGINE,
                          .session = 20 + slot,
                          .number = WIRE_ENGINE_NONE,
                          .slot = slot,
                          .host_session = 99,
                          .python = "3.11",
                          .host = "far",
                          .uuid = "u"};
        struct header head = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE, .aux = slot};
        struct buf b = {0};
        assert_int_equal(hello_encode(&h, &b), CV_OK);
        fake_send(&host, head, b.data, (uint32_t)b.len, NULL, 0);
        buf_release(&b);
        struct msg *m = fake_expect(&host, MSG_WELCOME);
        assert_int_equal(m->h.aux, slot);
        assert_int_equal(m->h.engine, slot);
        msg_free(m);
    }
    uint64_t seq = fake_submit(&client, MSG_F_DIRECT, 1, NULL, 1, "for 1");
    struct msg *m = fake_expect(&host, MSG_TASK);
    assert_int_equal(m->h.engine, 1);
    fake_result(&host, m, RESULT_OK, "by 1", 4);
    expect_result(&client, seq, RESULT_OK, "by 1");
    msg_free(m);
    msg_free(fake_expect(&host, MSG_ACK));
    json_t *j = fake_query(&client, "{\"query\":\"signal\",\"targets\":[1],\"signal\":2}");
    assert_true(json_is_null(at(j, "ok")));
    json_decref(j);
    m = fake_expect(&host, MSG_SIGNAL);
    assert_int_equal(m->h.engine, 1);
    expect_text(m, "\"signal\":2");
    msg_free(m);
    struct header gone = {.type = MSG_EXIT, .engine = 0, .incarnation = 1};
    const char *cause = "{\"signal\":9,\"running\":null,\"text\":\"killed\"}";
    fake_send(&host, gone, NULL, 0, cause, strlen(cause));
    json_decref(fake_event(&client, "engine_died"));
    struct route r;
    route_init(&r);
    uint32_t targets[] = {0, 1};
    r.targets = targets;
    r.ntargets = 2;
    r.has_targets = true;
    seq = fake_submit(&client, MSG_F_BROADCAST, WIRE_ENGINE_NONE, &r, 2, "both");
    expect_result(&client, seq, RESULT_ENGINE_DIED, "killed");
    m = fake_expect(&host, MSG_TASK);
    assert_int_equal(m->h.engine, 1);
    assert_int_equal(m->h.seq, seq + 1);
    fake_result(&host, m, RESULT_OK, "one", 3);
    expect_result(&client, seq + 1, RESULT_OK, "one");
    msg_free(m);
    fake_close(&host); /* its engine is away, not dead */
    j = fake_event(&client, "engine_away");
    assert_int_equal(json_integer_value(at(j, "id")), 1);
    json_decref(j);
    fake_close(&client);
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

/* A client that never reads: output is left out, then it is closed; its results are kept, others
 * don't notice. */
static void client_that_never_reads(void **state)
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
    while ((task->next = fake_recv(&client)))
        msg_free(task->next);
    fake_close(&client);
    char ask[200];
    snprintf(ask, sizeof(ask), "{\"query\":\"result_status\",\"ids\":[\"%016llx_2\"]}", S);
    json_t *j = fake_query(&other, ask);
    assert_int_equal(json_array_size(at(at(j, "ok"), "completed")), 1);
    json_decref(j);
    free(big);
    msg_free(m);
    msg_free(task);
    fake_close(&other);
    fake_close(&engine);
    cluster_stop(&c);
}

/* shutdown of one engine: it is told, gets nothing more, and leaves; its host says so. */
static void engine_shut_down(void **state)
{
    struct cluster c;
    struct fake client, host, a;

    cluster_start(&c, NULL);
    fake_host(&host, &c, 99);
    fake_client(&client, &c, S);
    fake_engine(&a, &c, 11, 99);
    json_t *j = fake_query(&client, "{\"query\":\"shutdown\",\"targets\":[0]}");
    assert_true(json_is_null(at(j, "ok")));
    json_decref(j);
    struct msg *m = fake_expect(&a, MSG_BYE);
    expect_text(m, "shutdown");
    msg_free(m);
    struct header bye = {.type = MSG_BYE, .engine = WIRE_ENGINE_NONE};
    fake_send(&a, bye, NULL, 0, "{}", 2);
    assert_null(fake_recv(&a));
    struct header gone = {.type = MSG_EXIT, .engine = 0, .incarnation = 1};
    const char *cause = "{\"signal\":null,\"code\":0,\"running\":null,\"text\":\"left as asked\"}";
    fake_send(&host, gone, NULL, 0, cause, strlen(cause));
    j = fake_event(&client, "engine_died");
    assert_int_equal(json_integer_value(at(at(j, "cause"), "code")), 0);
    json_decref(j);
    j = fake_query(&client, "{\"query\":\"engines\"}");
    assert_int_equal(json_array_size(at(j, "ok")), 0);
    json_decref(j);
    fake_engine(&a, &c, 12, 99); /* restart: the host is asked */
    assert_int_equal(a.number, 1);
    json_decref(fake_query(&client, "{\"query\":\"shutdown\",\"targets\":[1],\"restart\":true}"));
    m = fake_expect(&host, MSG_SPAWN);
    assert_int_equal(m->h.engine, 1);
    assert_true(m->h.flags & MSG_F_RESTART);
    msg_free(m);
    fake_close(&a);
    fake_close(&host);
    fake_close(&client);
    cluster_stop(&c);
}

/* A result of a task that an earlier controller had accepted waits for its client. */
static void result_of_an_earlier_life(void **state)
{
    struct cluster c;
    struct fake client, engine;
    struct hello e = {
        .role = ROLE_ENGINE, .session = 11, .number = 3, .incarnation = 1, .uuid = "u"};

    cluster_start(&c, NULL);
    fake_hello(&engine, &c, &e, 1, NULL);
    assert_int_equal(engine.number, 3);
    struct header h = {.type = MSG_RESULT,
                       .status = RESULT_OK,
                       .session = S,
                       .seq = 1,
                       .count = 1,
                       .attempt = 1,
                       .engine = 3,
                       .incarnation = 1};
    fake_send(&engine, h, NULL, 0, "kept", 4);
    msg_free(fake_expect(&engine, MSG_ACK));
    struct id_range waiting = {S, 1, 2};
    struct hello hello = {.role = ROLE_CLIENT,
                          .session = S,
                          .number = WIRE_ENGINE_NONE,
                          .waiting = &waiting,
                          .nwaiting = 1};
    fake_hello(&client, &c, &hello, 0, NULL);
    expect_result(&client, 1, RESULT_OK, "kept");
    fake_close(&client);
    fake_close(&engine);
    cluster_stop(&c);
}

/* The one TCP port, with the key of the file. */
struct tls_visit {
    struct loop *loop;
    struct link *link;
    char why[300];
    bool welcome;
};

static void tls_msg(struct link *l, struct msg *m, void *arg)
{
    struct tls_visit *v = arg;

    v->welcome = m->h.type == MSG_WELCOME;
    snprintf(v->why, sizeof(v->why), "%s", msg_type_name(m->h.type));
    msg_free(m);
    loop_stop(v->loop);
}

static void tls_closed(struct link *l, int code, const char *why, void *arg)
{
    struct tls_visit *v = arg;

    snprintf(v->why, sizeof(v->why), "%s", why ? why : "");
    loop_stop(v->loop);
}

static void tls_connected(void *arg, struct link *link, int code, const char *why)
{
    static const struct link_callbacks callbacks = {.on_msg = tls_msg, .on_closed = tls_closed};
    struct tls_visit *v = arg;
    struct hello h = {.role = ROLE_CLIENT, .session = S, .number = WIRE_ENGINE_NONE};
    struct header head = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE};
    struct wire_limits limits = {1 << 30, WIRE_ROUTE_MAX};
    struct buf b = {0};

    v->link = link;
    if (!link) {
        snprintf(v->why, sizeof(v->why), "%s", why);
        loop_stop(v->loop);
        return;
    }
    link_set_callbacks(link, &callbacks, v);
    link_set_limits(link, &limits);
    assert_int_equal(hello_encode(&h, &b), CV_OK);
    assert_int_equal(link_send(link, &head, b.data, (uint32_t)b.len, NULL, 0), CV_OK);
    buf_release(&b);
}

static void tls_visit(struct tls_visit *v, const struct cluster *c, const char *identity,
                      const char *key)
{
    char endpoint[60];
    const char *endpoints[] = {endpoint};
    struct tls_context *t;
    struct connector *k;

    memset(v, 0, sizeof(*v));
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%d", c->port);
    assert_int_equal(loop_new(&v->loop), CV_OK);
    assert_int_equal(tls_client_new(&t, identity, key, NULL), CV_OK);
    struct transport_factory f = tls_factory(t);
    assert_int_equal(
        connector_new(&k, v->loop, endpoints, 1, &f, 3 * NS_PER_S, tls_connected, v, NULL), CV_OK);
    assert_int_equal(loop_run(v->loop), CV_OK);
    connector_free(k);
    link_free(v->link);
    tls_context_free(t);
    loop_free(v->loop);
}

static void by_tls(void **state)
{
    struct cluster c;
    struct connfile client, engine;
    struct tls_visit v;

    cluster_start(&c, (const char *const[]){"--no-unix", "--ip=*", NULL});
    assert_int_equal(connfile_read(c.client_file, &client, NULL), CV_OK);
    assert_int_equal(connfile_read(c.engine_file, &engine, NULL), CV_OK);
    assert_string_not_equal(client.key, engine.key);
    tls_visit(&v, &c, "client", client.key);
    if (!v.welcome)
        fail_msg("no WELCOME: %s", v.why);
    tls_visit(&v, &c, "client", engine.key);
    assert_false(v.welcome);
    tls_visit(&v, &c, "engine",
              engine.key); /* lets in, but not as a client: WELCOME with `refused` */
    if (!v.welcome)
        fail_msg("no answer: %s", v.why);
    connfile_release(&client);
    connfile_release(&engine);
    cluster_stop(&c);
}

static void stops(void **state)
{
    struct cluster c;
    struct fake client, engine;

    cluster_start(&c, NULL);
    fake_client(&client, &c, S);
    fake_engine(&engine, &c, 11, 0);
    kill(c.pid, SIGINT);
    expect_bye(&client, "interrupted");
    expect_bye(&engine, "interrupted");
    assert_int_equal(cluster_wait(&c), 0);
    assert_int_equal(access(c.client_file, F_OK), -1);
    assert_int_equal(access(c.engine_file, F_OK), -1);
    json_t *j = cluster_event(&c, "stopped");
    json_decref(j);
    cluster_stop(&c);

    cluster_start(&c, (const char *const[]){"--reuse", "--cluster-id=r", NULL});
    kill(c.pid, SIGHUP);
    fake_client(&client, &c, S);
    json_decref(fake_query(&client, "{\"query\":\"shutdown\",\"hub\":true}"));
    json_decref(fake_event(&client, "shutdown"));
    expect_bye(&client, "");
    assert_int_equal(cluster_wait(&c), 0);
    assert_non_null(strstr(c.client_file, "ipcontroller-r-client.json"));
    assert_int_equal(access(c.client_file, R_OK), 0);
    cluster_stop(&c);
}

static void reuse_keeps_keys(void **state)
{
    struct cluster c, d;
    struct fake client;
    char before[4096] = "", after[4096] = "", dir[100];
    FILE *f;

    cluster_start(&c, (const char *const[]){"--reuse", NULL});
    f = fopen(c.client_file, "r");
    assert_true(fread(before, 1, sizeof(before) - 1, f) > 100);
    fclose(f);
    kill(c.pid, SIGKILL);
    waitpid(c.pid, NULL, 0);
    c.pid = 0;
    snprintf(dir, sizeof(dir), "--profile-dir=%s", c.dir);
    cluster_start(&d, (const char *const[]){dir, "--reuse", NULL});
    f = fopen(c.client_file, "r");
    assert_true(fread(after, 1, sizeof(after) - 1, f) > 100);
    fclose(f);
    assert_string_equal(before, after);
    struct hello h = {
        .role = ROLE_ENGINE, .session = 11, .number = 6, .incarnation = 1, .uuid = "u"};
    fake_hello(&client, &d, &h, 0, NULL);
    assert_int_equal(client.number, 6); /* an engine of the former life keeps its number */
    fake_close(&client);
    cluster_stop(&d);
    cluster_stop(&c);
}

/* A controller that is killed and started again with its old keys. */
static void cluster_restart(struct cluster *c, struct cluster *again)
{
    char dir[100];

    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    c->pid = 0;
    snprintf(dir, sizeof(dir), "--profile-dir=%s", c->dir);
    cluster_start(
        again, (const char *const[]){dir, "--reuse", "--hwm=8", "--IPController.settle=0.3", NULL});
}

static void tell_result(struct fake *engine, uint64_t seq, const char *text)
{
    const struct header h = {.type = MSG_RESULT,
                             .status = RESULT_OK,
                             .attempt = 1,
                             .session = S,
                             .seq = seq,
                             .count = 1};

    fake_send(engine, h, NULL, 0, text, strlen(text));
    msg_free(fake_expect(engine, MSG_ACK));
}

/* What engines hold of an earlier life is neither lost nor run twice. */
static void restart_takes_over_what_engines_hold(void **state)
{
    struct cluster c, d;
    struct fake client = {0}, engine = {0}, other = {0};
    struct held_task unstarted = {S, 2, 1, 1};
    struct hello e = {.role = ROLE_ENGINE,
                      .session = 11,
                      .number = 6,
                      .incarnation = 1,
                      .uuid = "u",
                      .running = {S, 1, 1, 1},
                      .unstarted = &unstarted,
                      .nunstarted = 1};

    cluster_start(&c, (const char *const[]){"--reuse", NULL});
    cluster_restart(&c, &d);
    struct id_range waiting[] = {{S, 1, 5}, {S, 7, 8}};
    struct hello h = {.role = ROLE_CLIENT,
                      .session = S,
                      .number = WIRE_ENGINE_NONE,
                      .waiting = waiting,
                      .nwaiting = 2};
    struct welcome w;
    fake_hello(&engine, &d, &e, 1, NULL);
    assert_int_equal(engine.number, 6);
    tell_result(&engine, 3, "three"); /* nobody had acknowledged it */
    fake_hello(&client, &d, &h, 0, &w);
    assert_int_equal(w.nunknown, 3); /* 1 and 2, 4, 7 */
    welcome_release(&w);
    expect_result(&client, 3, RESULT_OK, "three");
    /* the link is cut once more: what is nobody's yet is not dropped */
    fake_close(&engine);
    json_decref(fake_event(&client, "engine_away"));
    fake_hello(&engine, &d, &e, 0, NULL);
    json_decref(fake_event(&client, "engine_back"));
    fake_submit(&client, MSG_F_DIRECT, 6, NULL, 1, "one");
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "two");
    client.seq = 3;
    fake_submit(&client, MSG_F_DIRECT, 6, NULL, 1, "four");
    struct msg *m = fake_expect(&engine, MSG_TASK);
    assert_int_equal(m->h.seq, 4); /* neither 1 nor 2 */
    assert_string_equal(msg_text(m), "four");
    msg_free(m);
    client.seq = 5;
    fake_submit(&client, MSG_F_DIRECT, 6, NULL, 3, "six to eight"); /* it misses the middle */
    m = fake_expect(&engine, MSG_TASK);
    assert_int_equal(m->h.seq, 7);
    assert_int_equal(m->h.count, 1);
    assert_int_equal(m->h.aux, 1); /* of the payload's items */
    msg_free(m);
    tell_result(&engine, 1, "one's");
    expect_result(&client, 1, RESULT_OK, "one's");
    /* 2 is known to be unstarted there: another engine may have it after a death */
    fake_engine(&other, &d, 12, 0);
    json_decref(fake_event(&client, "engine_joined"));
    send_cancel(&client, 2, 0);
    m = fake_expect(&engine, MSG_CANCEL);
    assert_int_equal(m->h.seq, 2);
    assert_int_equal(m->h.attempt, 1);
    msg_free(m);
    fake_close(&client);
    fake_close(&engine);
    fake_close(&other);
    cluster_stop(&d);
    cluster_stop(&c);
}

/* The engine dies before the client has come: what it ran is not run again. */
static void restart_remembers_who_died(void **state)
{
    struct cluster c, d;
    struct fake client = {0}, engine = {0}, host = {0};
    struct held_task unstarted = {S, 2, 1, 1};
    struct hello e = {.role = ROLE_ENGINE,
                      .session = 11,
                      .host_session = 21,
                      .number = 6,
                      .incarnation = 1,
                      .uuid = "u",
                      .running = {S, 1, 1, 1},
                      .unstarted = &unstarted,
                      .nunstarted = 1};
    static const char seen[] = "{\"running\": \"abcdef0000000001_1\", \"running_attempt\": 1, "
                               "\"signal\": 9, \"text\": \"engine 6 was killed\"}",
                      unseen[] = "{\"running\": \"abcdef0000000001_3\", \"running_attempt\": 1, "
                                 "\"signal\": 9, \"text\": \"engine 4 was killed\"}";

    cluster_start(&c, (const char *const[]){"--reuse", NULL});
    cluster_restart(&c, &d);
    fake_host(&host, &d, 21);
    fake_hello(&engine, &d, &e, 0, NULL);
    struct header h = {.type = MSG_EXIT, .engine = 4, .incarnation = 1};
    fake_send(&host, h, NULL, 0, unseen, strlen(unseen));
    h.engine = 6;
    fake_send(&host, h, NULL, 0, seen, strlen(seen));
    fake_close(&engine);
    json_decref(cluster_event(&d, "engine_died"));
    struct id_range waiting = {S, 1, 4};
    struct hello x = {.role = ROLE_CLIENT,
                      .session = S,
                      .number = WIRE_ENGINE_NONE,
                      .waiting = &waiting,
                      .nwaiting = 1};
    struct welcome w;
    fake_hello(&client, &d, &x, 0, &w);
    assert_int_equal(w.nunknown, 1);
    assert_int_equal(w.unknown[0].lo, 2);
    assert_int_equal(w.unknown[0].hi, 3);
    welcome_release(&w);
    expect_result(&client, 1, RESULT_ENGINE_DIED, "engine 6 was killed");
    expect_result(&client, 3, RESULT_ENGINE_DIED, "engine 4 was killed");
    fake_close(&client);
    fake_close(&host);
    cluster_stop(&d);
    cluster_stop(&c);
}

/* A planned end costs no retry. */
static void planned_ends(void **state)
{
    struct cluster c;
    struct fake client, engine, other, host;
    struct route r;
    static const char cause[] = "{\"running\": \"abcdef0000000001_1\", \"running_attempt\": 1, "
                                "\"planned\": true, \"code\": 1, \"text\": \"its host stops\"}";

    route_init(&r);
    r.retries = 1;
    cluster_start(&c, NULL);
    fake_host(&host, &c, 21);
    fake_engine(&engine, &c, 11, 21);
    fake_client(&client, &c, S);
    fake_submit(&client, 0, WIRE_ENGINE_NONE, &r, 1, "call");
    for (int i = 0; i < 3; i++) { /* more often than it has retries */
        struct msg *m = fake_expect(&engine, MSG_TASK);
        assert_int_equal(m->h.attempt, i + 1);
        msg_free(m);
        fake_engine(&other, &c, 12 + i, 21);
        char text[300];
        snprintf(text, sizeof(text), "%s", cause);
        *strchr(strstr(text, "attempt\": 1"), '1') = (char)('1' + i);
        struct header h = {
            .type = MSG_EXIT, .engine = engine.number, .incarnation = engine.incarnation};
        fake_send(&host, h, NULL, 0, text, strlen(text));
        fake_close(&engine);
        json_t *j = fake_event(&client, "engine_died");
        assert_true(json_is_true(at(at(j, "cause"), "planned")));
        json_decref(j);
        engine = other;
    }
    struct msg *m = fake_expect(&engine, MSG_TASK);
    fake_result(&engine, m, RESULT_OK, "done", 4);
    msg_free(m);
    expect_result(&client, 1, RESULT_OK, "done");
    fake_close(&client);
    fake_close(&engine);
    fake_close(&host);
    cluster_stop(&c);
    route_release(&r);
}

/* More connections than descriptors: the rest wait, and it is said once. */
static void descriptors_are_short(void **state)
{
    struct cluster c;
    struct fake client;
    int fds[8];

    cluster_start(&c, NULL);
    fake_client(&client, &c, S);
    const struct rlimit few = {20, 20};
    assert_return_code(prlimit(c.pid, RLIMIT_NOFILE, &few, NULL), errno);
    for (int i = 0; i < 8; i++)
        fds[i] = fake_connect(&c);
    json_t *j = fake_event(&client, "notice");
    assert_non_null(strstr(json_string_value(at(j, "text")), "Too many open files"));
    json_decref(j);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    struct fake second;
    fake_client(&second, &c, S + 1); /* there is room again */
    fake_close(&second);
    fake_close(&client);
    cluster_stop(&c);
}

static void refusals(void **state)
{
    struct cluster c;
    char out[4000], port[128], dir[100];

    assert_int_equal(cluster_fail((const char *const[]){"--bogus=3", NULL}, out, sizeof(out)), 2);
    assert_non_null(strstr(out, "bogus"));
    assert_int_equal(cluster_fail((const char *const[]){"--scheme=best", NULL}, out, sizeof(out)),
                     1);
    assert_int_equal(cluster_fail((const char *const[]){"--version", NULL}, out, sizeof(out)), 0);
    assert_int_equal(
        cluster_fail((const char *const[]){"--profile-dir=/proc/nowhere", NULL}, out, sizeof(out)),
        1);
    assert_non_null(strstr(out, "/proc/nowhere"));
    cluster_start(&c, NULL);
    snprintf(port, sizeof(port), "--port=%d", c.port);
    snprintf(dir, sizeof(dir), "--profile-dir=%s/two", c.dir);
    assert_int_equal(cluster_fail((const char *const[]){port, dir, NULL}, out, sizeof(out)), 1);
    assert_non_null(strstr(out, "in use"));
    assert_int_equal(
        cluster_fail((const char *const[]){"--ip=192.0.2.1", dir, NULL}, out, sizeof(out)), 1);
    assert_non_null(strstr(out, "192.0.2.1"));
    snprintf(port, sizeof(port), "%s/ipcontroller_config.json", c.dir);
    FILE *f = fopen(port, "w");
    fputs("{\"IPController\": {\"ip\": 17}}", f);
    fclose(f);
    snprintf(dir, sizeof(dir), "--profile-dir=%s", c.dir);
    assert_int_equal(cluster_fail((const char *const[]){dir, NULL}, out, sizeof(out)), 1);
    assert_non_null(strstr(out, "IPController.ip"));
    cluster_stop(&c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_task),
        cmocka_unit_test(large_result),
        cmocka_unit_test(engine_away_and_back),
        cmocka_unit_test(exit_told_by_host),
        cmocka_unit_test(process_gone),
        cmocka_unit_test(cancels),
        cmocka_unit_test(strangers),
        cmocka_unit_test(forbidden),
        cmocka_unit_test(crowd_at_the_door),
        cmocka_unit_test(client_gone_and_back),
        cmocka_unit_test(output_reaches_client_and_record),
        cmocka_unit_test(queries),
        cmocka_unit_test(relayed_engines),
        cmocka_unit_test(python_versions),
        cmocka_unit_test(client_that_never_reads),
        cmocka_unit_test(engine_shut_down),
        cmocka_unit_test(result_of_an_earlier_life),
        cmocka_unit_test(by_tls),
        cmocka_unit_test(stops),
        cmocka_unit_test(reuse_keeps_keys),
        cmocka_unit_test(restart_takes_over_what_engines_hold),
        cmocka_unit_test(restart_remembers_who_died),
        cmocka_unit_test(planned_ends),
        cmocka_unit_test(descriptors_are_short),
        cmocka_unit_test(refusals),
    };

    if (argc < 2) {
        fprintf(stderr, "usage: controller_test PATH-OF-IPCONTROLLER\n");
        return 2;
    }
    cluster_program(argv[1]);
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The real ipcontroller with fake engines, hosts and clients on its Unix socket: who is let in, and
 * its own start, end and second life. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "controller/test_cluster.h"
#include "tls/tls.h"
#include "wire/connfile.h"

#define S 0xabcdef0000000001ull /* the first client's session */

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
        connector_new(&k, v->loop, endpoints, 1, &f, 60 * NS_PER_S, tls_connected, v, NULL), CV_OK);
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

/* A connection file without the line that says which process wrote it. */
static void read_file_text(const char *path, char *ret, size_t n)
{
    FILE *f = fopen(path, "r");
    char line[512];
    size_t len = 0;

    assert_non_null(f);
    ret[0] = 0;
    while (fgets(line, sizeof(line), f)) {
        if (strstr(line, "\"process\""))
            continue;
        assert_true(len + strlen(line) < n);
        strcpy(ret + len, line);
        len += strlen(line);
    }
    fclose(f);
    assert_true(len > 100);
}

static void reuse_keeps_keys(void **state)
{
    struct cluster c, d;
    struct fake client;
    char before[4096], after[4096], dir[100];

    cluster_start(&c, (const char *const[]){"--reuse", NULL});
    read_file_text(c.client_file, before, sizeof(before));
    kill(c.pid, SIGKILL);
    waitpid(c.pid, NULL, 0);
    c.pid = 0;
    snprintf(dir, sizeof(dir), "--profile-dir=%s", c.dir);
    cluster_start(&d, (const char *const[]){dir, "--reuse", NULL});
    read_file_text(c.client_file, after, sizeof(after));
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
static void cluster_restart(struct cluster *c, struct cluster *again, const char *settle)
{
    char dir[100], wait[64];

    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    c->pid = 0;
    snprintf(dir, sizeof(dir), "--profile-dir=%s", c->dir);
    snprintf(wait, sizeof(wait), "--IPController.settle=%s", settle);
    cluster_start(again, (const char *const[]){dir, "--reuse", "--hwm=8", wait, NULL});
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
    cluster_restart(&c, &d, "0.3");
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
    fake_cancel(&client, 2, 0);
    m = fake_recv(&engine);
    while (m &&
           (m->h.type == MSG_TAKE || m->h.type == MSG_ACK)) { /* the other one has nothing to do */
        msg_free(m);
        m = fake_recv(&engine);
    }
    assert_non_null(m);
    assert_int_equal(m->h.type, MSG_CANCEL);
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
    cluster_restart(&c, &d, "0.3");
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

/* A client's HELLO waits for the engines to come back; by then a newer connection of that client,
 * which waits for nothing any more, is in. False: the newer one came too late for that. */
static bool turned_away(const char *settle)
{
    struct cluster c, d;
    struct fake old = {0}, client = {0};
    struct id_range waiting = {S, 1, 2};
    struct hello first = {.role = ROLE_CLIENT,
                          .session = S,
                          .number = WIRE_ENGINE_NONE,
                          .connects = 1,
                          .waiting = &waiting,
                          .nwaiting = 1};
    struct hello second = {
        .role = ROLE_CLIENT, .session = S, .number = WIRE_ENGINE_NONE, .connects = 2};

    cluster_start(&c, (const char *const[]){"--reuse", NULL});
    cluster_restart(&c, &d, settle);
    fake_say_hello(&old, &d, &first, 0);
    fake_hello(&client, &d, &second, 0, NULL);
    struct msg *m = fake_recv(&old);
    json_decref(fake_query(&client, "{\"query\":\"engines\"}"));
    fake_close(&old);
    fake_close(&client);
    cluster_stop(&d);
    cluster_stop(&c);
    msg_free(m);
    return !m;
}

static void a_hello_that_waited_is_late(void **state)
{
    assert_true(turned_away("0.3") || turned_away("3") || turned_away("20"));
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
    assert_non_null(strstr(json_string_value(json_at(j, "text")), "Too many open files"));
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
        cmocka_unit_test(strangers),
        cmocka_unit_test(forbidden),
        cmocka_unit_test(crowd_at_the_door),
        cmocka_unit_test(result_of_an_earlier_life),
        cmocka_unit_test(by_tls),
        cmocka_unit_test(stops),
        cmocka_unit_test(reuse_keeps_keys),
        cmocka_unit_test(restart_takes_over_what_engines_hold),
        cmocka_unit_test(restart_remembers_who_died),
        cmocka_unit_test(a_hello_that_waited_is_late),
        cmocka_unit_test(descriptors_are_short),
        cmocka_unit_test(refusals),
    };

    if (argc < 2) {
        fprintf(stderr, "usage: controller_life_test PATH-OF-IPCONTROLLER [TEST]\n");
        return 2;
    }
    cluster_program(argv[1]);
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The real ipcontroller with fake engines, hosts and clients on its Unix socket: engines and hosts
 * that come, go and die. */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "controller/test_cluster.h"
#include "wire/connfile.h"
#include "wire/route.h"

#define S 0xabcdef0000000001ull /* the first client's session */

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
    json_t *j = fake_event(&client, "engine_away");
    char *holds = json_dumps(json_at(j, "holds"), JSON_COMPACT);
    assert_string_equal(holds, "[[1,3]]");
    free(holds);
    json_decref(j);
    j = fake_query(&client, "{\"query\":\"engines\"}");
    assert_string_equal(json_string_value(json_at(json_array_get(json_at(j, "ok"), 0), "state")),
                        "away");
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
    json_t *j = fake_event(&client, "engine_died"); /* before who waits hears of it */
    assert_int_equal(client.results, 0);
    assert_int_equal(json_integer_value(json_at(json_at(j, "cause"), "signal")), 11);
    json_decref(j);
    struct msg *m = fake_expect(&client, MSG_RESULT);
    assert_int_equal(m->h.seq, first);
    assert_int_equal(m->h.status, RESULT_ENGINE_DIED);
    j = msg_json(m);
    assert_string_equal(json_string_value(json_at(j, "ename")), "EngineError");
    assert_non_null(strstr(json_string_value(json_at(j, "evalue")), "engine 0 died of SIGSEGV"));
    assert_null(strstr(json_string_value(json_at(j, "evalue")), "boom")); /* once, in the cause */
    assert_string_equal(json_string_value(json_at(json_at(j, "cause"), "stderr")), "boom");
    assert_int_equal(json_integer_value(json_at(json_at(j, "cause"), "signal")), 11);
    json_decref(j);
    msg_free(m);
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

/* An engine whose host is gone, too, as when MPICH kills all ranks because of MPI_Abort on one: its
 * process ends, and that is seen without waiting for the grace time.
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
    json_decref(fake_event(&client, "engine_died"));
    expect_result(&client, seq, RESULT_ENGINE_DIED,
                  "is gone, and so is its host, which could have said why: as when its machine "
                  "fails, or mpiexec kills all ranks because of MPI_Abort on one");
    json_decref(cluster_event(&c, "engine_died"));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    fake_close(&client);
    cluster_stop(&c);
}

static void engine_of_set(struct fake *f, const struct cluster *c, uint64_t session, uint64_t set)
{
    struct hello h = {.role = ROLE_ENGINE,
                      .session = session,
                      .number = WIRE_ENGINE_NONE,
                      .host_session = 99,
                      .machine = 1, /* another one */
                      .host = "node1",
                      .uuid = "u",
                      .engine_set = set};

    memset(f, 0, sizeof(*f));
    fake_hello(f, c, &h, 0, NULL);
}

/* The supervisor says that a set is gone, between lines that are none: its engine that is out of
 * reach is dead at once, and so is the other one when its link goes; those of another set are not.
 */
static void set_has_ended(void **state)
{
    struct cluster c;
    struct fake client, host, e[3];
    const uint64_t sets[] = {UINT64_MAX, UINT64_MAX, 2};

    cluster_start(&c, NULL);
    fake_host(&host, &c, 99);
    fake_client(&client, &c, S);
    for (uint32_t i = 0; i < 3; i++) {
        engine_of_set(&e[i], &c, 20 + i, sets[i]);
        assert_int_equal(e[i].number, i);
        fake_submit(&client, MSG_F_DIRECT, i, NULL, 1, "long");
        msg_free(fake_expect(&e[i], MSG_TASK));
    }
    fake_close(&host);
    fake_close(&e[0]);
    json_decref(fake_event(&client, "engine_away"));
    fake_close(&e[2]);
    json_decref(fake_event(&client, "engine_away"));
    cluster_say(&c, "garbage\n[1]\n{\"set_ended\": 2, \"why\": \"x\"}\n{\"set_ended\": \"2\"}\n"
                    "{\"set_ended\": \"\", \"why\": \"x\"}\n{\"set_ended\": \"none\", \"why\": "
                    "\"x\"}\n{\"set_ended\": \"18446744073709551615\", ");
    cluster_say(&c, "\"why\": \"its MPI job has ended\"}\n");
    expect_result(&client, 1, RESULT_ENGINE_DIED, "node1) is gone: its MPI job has ended");
    json_t *j = fake_query(&client, "{\"query\":\"engines\"}");
    json_t *left = json_at(j, "ok");
    assert_int_equal(json_array_size(left), 2);
    assert_string_equal(json_string_value(json_at(json_array_get(left, 0), "state")), "up");
    assert_string_equal(json_string_value(json_at(json_array_get(left, 1), "state")), "away");
    json_decref(j);
    fake_close(&e[1]);
    expect_result(&client, 2, RESULT_ENGINE_DIED, "node1) is gone: its MPI job has ended");
    shutdown(fileno(c.events), SHUT_WR); /* nobody says more: it goes on */
    j = fake_query(&client, "{\"query\":\"engines\"}");
    assert_int_equal(json_array_size(json_at(j, "ok")), 1);
    json_decref(j);
    fake_close(&client);
    cluster_stop(&c);
}

/* As long as its host is connected, that says who has died. */
static void set_has_ended_before_its_host(void **state)
{
    struct cluster c;
    struct fake client, host, engine;

    cluster_start(&c, NULL);
    fake_host(&host, &c, 99);
    fake_client(&client, &c, S);
    engine_of_set(&engine, &c, 20, 1);
    fake_submit(&client, MSG_F_DIRECT, 0, NULL, 1, "long");
    msg_free(fake_expect(&engine, MSG_TASK));
    cluster_say(&c, "{\"set_ended\": \"1\", \"why\": \"its batch job 7 has ended\"}\n");
    fake_close(&engine);
    json_decref(fake_event(&client, "engine_away"));
    json_t *j = fake_query(&client, "{\"query\":\"engines\"}");
    assert_int_equal(json_array_size(json_at(j, "ok")), 1);
    json_decref(j);
    fake_close(&host);
    expect_result(&client, 1, RESULT_ENGINE_DIED, "its batch job 7 has ended");
    fake_close(&client);
    cluster_stop(&c);
}

/* One that was only out of reach comes back just then: before the word it goes on with its task;
 * after it that has failed, once, and the engine is a new one. */
static void set_has_ended_and_an_engine_is_back(void **state)
{
    struct cluster c;
    struct fake client, engine;
    struct hello h = {.role = ROLE_ENGINE,
                      .session = 20,
                      .incarnation = 1,
                      .host_session = 99,
                      .machine = 1,
                      .host = "node1",
                      .uuid = "u",
                      .engine_set = 1};
    const char *word = "{\"set_ended\": \"1\", \"why\": \"its batch job 7 has ended\"}\n";

    cluster_start(&c, NULL);
    fake_client(&client, &c, S);
    engine_of_set(&engine, &c, 20, 1);
    uint64_t seq = fake_submit(&client, MSG_F_DIRECT, 0, NULL, 1, "long");
    struct msg *task = fake_expect(&engine, MSG_TASK);
    fake_close(&engine);
    json_decref(fake_event(&client, "engine_away"));
    h.running = (struct held_task){S, seq, 1, task->h.attempt};
    memset(&engine, 0, sizeof(engine));
    fake_hello(&engine, &c, &h, 1, NULL);
    json_decref(fake_event(&client, "engine_back"));
    cluster_say(&c, word);
    json_decref(fake_query(&client, "{\"query\":\"engines\"}"));
    fake_result(&engine, task, RESULT_OK, "done", 4);
    expect_result(&client, seq, RESULT_OK, "done");
    msg_free(task);

    seq = fake_submit(&client, MSG_F_DIRECT, 0, NULL, 1, "long");
    task = fake_expect(&engine, MSG_TASK);
    fake_close(&engine);
    expect_result(&client, seq, RESULT_ENGINE_DIED, "its batch job 7 has ended");
    h.running = (struct held_task){S, seq, 1, task->h.attempt};
    h.connects++;
    memset(&engine, 0, sizeof(engine));
    fake_hello(&engine, &c, &h, 1, NULL);
    assert_int_equal(engine.number, 0);
    assert_int_equal(engine.incarnation, 2);
    fake_result(&engine, task, RESULT_OK, "late", 4);
    msg_free(task);
    json_decref(fake_event(&client, "engine_joined"));
    seq = fake_submit(&client, MSG_F_DIRECT, 0, NULL, 1, "next");
    task = fake_expect(&engine, MSG_TASK);
    fake_result(&engine, task, RESULT_OK, "next", 4);
    msg_free(task);
    expect_result(&client, seq, RESULT_OK, "next"); /* and not the late one before it */
    fake_close(&engine);
    fake_close(&client);
    cluster_stop(&c);
}

/* What comes by the socket in pieces, too long, nested or without an end is skipped, and what comes
 * after it counts; of many sets the newest are remembered. */
static void bad_words_of_sets(void **state)
{
    struct cluster c;
    struct fake client, engine, other;
    char line[200], junk[40200];

    cluster_start(&c, NULL);
    fake_client(&client, &c, S);
    engine_of_set(&engine, &c, 20, 7);
    uint64_t seq = fake_submit(&client, MSG_F_DIRECT, 0, NULL, 1, "long");
    msg_free(fake_expect(&engine, MSG_TASK));
    engine_of_set(&other, &c, 21, 8);
    uint64_t behind = fake_submit(&client, MSG_F_DIRECT, 1, NULL, 1, "long");
    msg_free(fake_expect(&other, MSG_TASK));
    memset(junk, '[', 40000);
    snprintf(junk + 40000, sizeof(junk) - 40000, "\n%s\n",
             "{\"set_ended\": \"8\", \"why\": \"behind what is no word\"}");
    cluster_say(&c, junk);
    fake_close(&other);
    expect_result(&client, behind, RESULT_ENGINE_DIED, "behind what is no word");
    cluster_say(&c, "\n\n{\"set_ended\": \"7\", \"why\": \"\xff\"}\n{\"set_ended\": \"7\"}\n");
    for (int i = 0; i < 70; i++) {
        snprintf(line, sizeof(line), "{\"set_ended\": \"%d\", \"why\": \"set %d\"}\n",
                 i == 10 ? 7 : 1000 + i, i);
        for (char *p = line; *p; p++) {
            const char piece[] = {*p, 0};
            cluster_say(&c, piece);
        }
    }
    fake_close(&engine);
    expect_result(&client, seq, RESULT_ENGINE_DIED, "node1) is gone: set 10");
    fake_close(&client);
    cluster_stop(&c);
}

/* Away for longer than the grace: what it ran ends with who that was, and for how long. */
static void given_up(void **state)
{
    struct cluster c;
    struct fake client, engine;

    cluster_start(&c, (const char *const[]){"--IPController.away_grace=0.1", NULL});
    fake_engine(&engine, &c, 11, 0);
    fake_client(&client, &c, S);
    uint64_t seq = fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "x");
    msg_free(fake_expect(&engine, MSG_TASK));
    fake_close(&engine);
    expect_result(&client, seq, RESULT_ENGINE_DIED, "s and is given up");
    fake_close(&client);
    cluster_stop(&c);
}

/* An engine on a host's link, whose number is its slot. */
static void relay_hello(struct fake *host, struct hello *h)
{
    struct header head = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE, .aux = h->slot};
    struct buf b = {0};

    assert_int_equal(hello_encode(h, &b), CV_OK);
    fake_send(host, head, b.data, (uint32_t)b.len, NULL, 0);
    buf_release(&b);
    struct msg *m = fake_expect(host, MSG_WELCOME);
    assert_int_equal(m->h.aux, h->slot);
    assert_int_equal(m->h.engine, h->slot);
    msg_free(m);
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
        relay_hello(&host, &h);
    }
    uint64_t seq = fake_submit(&client, MSG_F_DIRECT, 1, NULL, 1, "for 1");
    struct msg *m = fake_expect(&host, MSG_TASK);
    assert_int_equal(m->h.engine, 1);
    fake_result(&host, m, RESULT_OK, "by 1", 4);
    expect_result(&client, seq, RESULT_OK, "by 1");
    msg_free(m);
    msg_free(fake_expect(&host, MSG_ACK));
    json_t *j = fake_query(&client, "{\"query\":\"signal\",\"targets\":[1],\"signal\":2}");
    assert_true(json_is_null(json_at(j, "ok")));
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
    assert_int_equal(json_integer_value(json_at(j, "id")), 1);
    json_decref(j);
    fake_close(&client);
    cluster_stop(&c);
}

/* The number of a process means nothing in another container of the same machine: the end of that
 * process here is not the end of an engine there. */
static void engine_of_another_container(void **state)
{
    struct cluster c;
    struct fake client, host;

    cluster_start(&c, NULL);
    fake_host(&host, &c, 99);
    fake_client(&client, &c, S);
    pid_t pid = fork();
    if (!pid) {
        pause();
        _exit(0);
    }
    for (uint32_t slot = 0; slot < 2; slot++) {
        struct hello h = {.role = ROLE_ENGINE,
                          .session = 20 + slot,
                          .number = WIRE_ENGINE_NONE,
                          .slot = slot,
                          .host_session = 99,
                          .machine = machine_id(),
                          .pid_namespace = pid_namespace() + slot,
                          .pid = (uint32_t)pid,
                          .python = "3.11",
                          .host = "container",
                          .uuid = "u"};
        relay_hello(&host, &h);
    }
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    fake_close(&host);
    json_t *j = fake_event(&client, "engine_died");
    assert_int_equal(json_integer_value(json_at(j, "id")), 0);
    json_decref(j);
    j = fake_query(&client, "{\"query\":\"engines\"}");
    json_t *left = json_at(j, "ok");
    assert_int_equal(json_array_size(left), 1);
    assert_int_equal(json_integer_value(json_at(json_array_get(left, 0), "id")), 1);
    assert_string_equal(json_string_value(json_at(json_array_get(left, 0), "state")), "away");
    json_decref(j);
    fake_close(&client);
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
    assert_true(json_is_null(json_at(j, "ok")));
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
    assert_int_equal(json_integer_value(json_at(json_at(j, "cause"), "code")), 0);
    json_decref(j);
    j = fake_query(&client, "{\"query\":\"engines\"}");
    assert_int_equal(json_array_size(json_at(j, "ok")), 0);
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
        assert_true(json_is_true(json_at(json_at(j, "cause"), "planned")));
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

/* Says HELLO on a new connection and expects to be closed without an answer. */
static void late_hello(const struct cluster *c, const struct hello *h)
{
    struct header head = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE};
    struct fake f = {.fd = fake_connect(c)};
    struct buf b = {0};

    assert_int_equal(hello_encode(h, &b), CV_OK);
    fake_send(&f, head, b.data, (uint32_t)b.len, NULL, 0);
    buf_release(&b);
    assert_null(fake_recv(&f));
    fake_close(&f);
}

/* A connection that its peer had given up comes after the one that replaced it: what it says that
 * it holds is not compared, and the newer one stays. */
static void late_connections(void **state)
{
    struct cluster c;
    struct fake client, engine, host;
    struct hello e = {.role = ROLE_ENGINE,
                      .session = 11,
                      .number = WIRE_ENGINE_NONE,
                      .uuid = "uuid-of-engine",
                      .host_session = 99,
                      .connects = 2,
                      .pid = (uint32_t)getpid()};
    struct hello h = {.role = ROLE_HOST, .session = 99, .number = WIRE_ENGINE_NONE, .connects = 5};
    struct hello x = {.role = ROLE_CLIENT, .session = S, .number = WIRE_ENGINE_NONE, .connects = 3};

    cluster_start(&c, NULL);
    memset(&engine, 0, sizeof(engine));
    memset(&host, 0, sizeof(host));
    memset(&client, 0, sizeof(client));
    fake_hello(&host, &c, &h, 0, NULL);
    fake_hello(&engine, &c, &e, 0, NULL);
    fake_hello(&client, &c, &x, 0, NULL);
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "once");
    struct msg *m = fake_expect(&engine, MSG_TASK);
    e.connects = 1; /* holds nothing: "once" would be queued again */
    late_hello(&c, &e);
    h.connects = 4;
    late_hello(&c, &h);
    x.connects = 3; /* the same twice */
    late_hello(&c, &x);
    fake_result(&engine, m, RESULT_OK, "done", 4);
    expect_result(&client, 1, RESULT_OK, "done");
    msg_free(m);
    fake_submit(&client, 0, WIRE_ENGINE_NONE, NULL, 1, "next"); /* and not the first again */
    m = fake_expect(&engine, MSG_TASK);
    assert_string_equal(msg_text(m), "next");

    struct header exit = {.type = MSG_EXIT, .engine = engine.number, .incarnation = 1};
    fake_send(&host, exit, NULL, 0, "{\"text\":\"SIGKILL\"}", 18);
    fake_close(&engine);
    json_decref(fake_event(&client, "engine_died"));
    expect_result(&client, 2, RESULT_ENGINE_DIED, "SIGKILL");
    e.connects = 7;
    e.incarnation = 1;
    e.number = 0;
    late_hello(&c, &e); /* its last words, after its end was told */
    json_t *j = fake_query(&client, "{\"query\":\"engines\"}");
    assert_int_equal(json_array_size(json_at(j, "ok")), 0);
    json_decref(j);
    msg_free(m);
    fake_close(&client);
    fake_close(&host);
    cluster_stop(&c);
}

/* Headers say at most 65535 as the incarnation: the next engine of that number gets another one. */
static void numbers_used_up(void **state)
{
    struct cluster c;
    struct fake client, last, next, beyond;
    struct hello h = {.role = ROLE_ENGINE,
                      .session = 21,
                      .number = 3,
                      .incarnation = WIRE_INCARNATION_MAX,
                      .uuid = "uuid-of-engine",
                      .pid = (uint32_t)getpid()};

    cluster_start(&c, NULL);
    fake_client(&client, &c, S);
    memset(&last, 0, sizeof(last));
    memset(&next, 0, sizeof(next));
    memset(&beyond, 0, sizeof(beyond));
    fake_hello(&last, &c, &h, 0, NULL);
    assert_int_equal(last.number, 3);
    assert_int_equal(last.incarnation, WIRE_INCARNATION_MAX);
    h.session++;
    h.incarnation++;
    fake_hello(&next, &c, &h, 0, NULL);
    assert_int_equal(next.number, 4);
    assert_int_equal(next.incarnation, 1);
    h.session++;
    h.number = 9;
    h.incarnation = UINT32_MAX;
    fake_hello(&beyond, &c, &h, 0, NULL);
    assert_int_equal(beyond.number, 5);
    assert_int_equal(beyond.incarnation, 1);
    json_t *j = fake_query(&client, "{\"query\":\"engines\"}");
    assert_int_equal(json_array_size(json_at(j, "ok")), 3);
    json_decref(j);
    fake_close(&last);
    fake_close(&next);
    fake_close(&beyond);
    fake_close(&client);
    cluster_stop(&c);
}

/* More than a turn's worth waits for an engine that dies, and its successor is there before all of
 * that has ended: each still says what its engine died of. */
static void many_end_with_their_engine(void **state)
{
    enum { MANY = 3000 };
    struct cluster c;
    struct fake client, other, host, engine;
    static const char cause[] = "{\"id\":0,\"host\":\"here\",\"pid\":1,\"signal\":11,\"stderr\":"
                                "\"boom\",\"text\":\"engine 0 died of SIGSEGV\"}";

    cluster_start(&c, (const char *const[]){NULL});
    fake_host(&host, &c, 99);
    fake_engine(&engine, &c, 11, 99);
    fake_client(&client, &c, S);
    fake_client(&other, &c, S + 1);
    for (int i = 0; i < MANY; i++)
        fake_submit(&client, MSG_F_DIRECT, 0, NULL, 1, "waits");
    json_decref(fake_query(&client, "{\"query\":\"engines\"}")); /* all are there */
    fake_close(&engine);
    fake_send(&host, (struct header){.type = MSG_EXIT, .engine = 0, .incarnation = 1}, NULL, 0,
              cause, sizeof(cause) - 1);
    json_decref(fake_event(&other, "engine_died"));
    struct hello h = {.role = ROLE_ENGINE,
                      .session = 12,
                      .host_session = 99,
                      .number = 0,
                      .incarnation = 2,
                      .uuid = "uuid-of-successor",
                      .pid = (uint32_t)getpid()};
    fake_hello(&engine, &c, &h, 0, NULL);
    assert_int_equal(engine.incarnation, 2);
    for (int i = 0; i < MANY; i++) {
        struct msg *m = fake_expect(&client, MSG_RESULT);
        assert_int_equal(m->h.status, RESULT_ENGINE_DIED);
        assert_int_equal(m->h.incarnation, 1);
        json_t *j = msg_json(m);
        assert_non_null(strstr(json_string_value(json_at(j, "evalue")), "died of SIGSEGV"));
        assert_string_equal(json_string_value(json_at(json_at(j, "cause"), "stderr")), "boom");
        json_decref(j);
        msg_free(m);
    }
    uint64_t next = fake_submit(&client, MSG_F_DIRECT, 0, NULL, 1, "runs");
    struct msg *m = fake_expect(&engine, MSG_TASK);
    assert_int_equal(m->h.seq, next);
    msg_free(m);
    fake_close(&engine);
    fake_close(&host);
    fake_close(&other);
    fake_close(&client);
    cluster_stop(&c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engine_away_and_back),
        cmocka_unit_test(exit_told_by_host),
        cmocka_unit_test(set_has_ended_and_an_engine_is_back),
        cmocka_unit_test(bad_words_of_sets),
        cmocka_unit_test(given_up),
        cmocka_unit_test(set_has_ended),
        cmocka_unit_test(set_has_ended_before_its_host),
        cmocka_unit_test(process_gone),
        cmocka_unit_test(relayed_engines),
        cmocka_unit_test(engine_of_another_container),
        cmocka_unit_test(engine_shut_down),
        cmocka_unit_test(planned_ends),
        cmocka_unit_test(late_connections),
        cmocka_unit_test(numbers_used_up),
        cmocka_unit_test(many_end_with_their_engine),
    };

    if (argc < 2) {
        fprintf(stderr, "usage: controller_engines_test PATH-OF-IPCONTROLLER [TEST]\n");
        return 2;
    }
    cluster_program(argv[1]);
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

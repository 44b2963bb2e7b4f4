/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Links over TLS: who gets in, who does not and what both sides are told, and that the stream
 * carries what plain ones do. */
#include <stdio.h>
#include <sys/time.h>

#include "net/listener.h"
#include "net/test_pair.h"
#include "tls/context.h"
#include "tls/tls.h"

static const char key_a[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static const char key_b[] = "a0112233445566778899aabbccddeeff00112233445566778899aabbccddeefF";

struct world {
    struct pair p; /* a: client, b: server */
    struct tls_context *client, *server;
};

static time_t jump_s; /* how far OpenSSL's clock is from the real one */

/* What libssl calls: a program's own definition comes before libc's, where it is visible. */
__attribute__((visibility("default"))) time_t time(time_t *ret)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    if (ret)
        *ret = now.tv_sec + jump_s;
    return now.tv_sec + jump_s;
}

static void world_keys(struct world *w, const char *identity, const char *key,
                       const char *server_client, const char *server_engine)
{
    struct err e = {0};
    memset(w, 0, sizeof *w);
    pair_loop(&w->p);
    assert_int_equal(tls_server_new(&w->server, server_client, server_engine, &e), CV_OK);
    assert_int_equal(tls_client_new(&w->client, identity, key, &e), CV_OK);
}

static void world_connect(struct world *w)
{
    struct err e = {0};
    struct transport *t;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(tls_transport_new(w->client, fds[0], &t, &e), CV_OK);
    end_open(&w->p, &w->p.a, t);
    assert_int_equal(tls_transport_new(w->server, fds[1], &t, &e), CV_OK);
    end_open(&w->p, &w->p.b, t);
}

static void world_open(struct world *w, const char *identity, const char *key,
                       const char *server_client, const char *server_engine)
{
    world_keys(w, identity, key, server_client, server_engine);
    world_connect(w);
}

static void world_close(struct world *w)
{
    pair_close(&w->p);
    tls_context_free(w->client);
    tls_context_free(w->server);
}

static void with_the_key_both_know_the_role(void **state)
{
    const char *roles[] = {"client", "engine"};
    for (int i = 0; i < 2; i++) {
        struct world w;
        world_open(&w, roles[i], i ? key_b : key_a, key_a, key_b);
        send_text(w.p.a.link, MSG_QUERY, 1, "in the first turn");
        while (!w.p.b.msgs)
            pair_settle(&w.p);
        assert_string_equal(link_identity(w.p.b.link), roles[i]);
        assert_false(link_is_unix(w.p.a.link));
        assert_true(w.p.a.ready && w.p.b.ready);
        world_close(&w);
    }
}

/* A controller that has run for a month takes new clients; one whose clock was set back, too. */
static void keys_do_not_age(void **state)
{
    const time_t jumps[] = {305, 31 * 24 * 3600, -365 * 24 * 3600};
    for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
        struct world w;
        world_keys(&w, "client", key_a, key_a, key_b);
        jump_s = jumps[i];
        world_connect(&w);
        while (!w.p.a.ready && !w.p.a.closed)
            pair_settle(&w.p);
        jump_s = 0;
        assert_true(w.p.a.ready);
        world_close(&w);
    }
}

static void refused(const char *identity, const char *key, const char *server_client,
                    const char *server_engine, char out[512])
{
    struct world w;
    world_open(&w, identity, key, server_client, server_engine);
    send_text(w.p.a.link, MSG_QUERY, 1, "must not arrive");
    while (!w.p.a.closed || !w.p.b.closed)
        loop_run(w.p.loop);
    assert_false(w.p.a.ready || w.p.b.ready);
    assert_int_equal(w.p.b.msgs, 0);
    assert_int_equal(w.p.a.code, CV_EAUTH);
    assert_int_equal(w.p.b.code, CV_EAUTH);
    assert_string_equal(w.p.b.why, "a peer did not have the key");
    snprintf(out, 512, "%s", w.p.a.why);
    world_close(&w);
}

static void a_wrong_key_and_an_unknown_role_fail_alike(void **state)
{
    char wrong[512], crossed[512], unserved[512];
    refused("client", key_b, key_a, NULL, wrong);
    refused("client", key_b, key_a, key_b,
            crossed); /* the engine file's key does not make a client */
    refused("engine", key_b, key_a, NULL, unserved);
    assert_string_equal(wrong,
                        "the controller refused this file's key: the file is older than "
                        "it, or the other one of the two (clients and engines have one each)");
    assert_string_equal(wrong, crossed);
    assert_string_equal(wrong, unserved);
}

static void plain_bytes(const char *text, bool to_server, const char *want)
{
    struct pair p;
    struct tls_context *c;
    struct transport *t;
    struct err e;
    int fds[2];
    pair_loop(&p);
    if (to_server)
        assert_int_equal(tls_server_new(&c, key_a, key_b, &e), CV_OK);
    else
        assert_int_equal(tls_client_new(&c, "client", key_a, &e), CV_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(tls_transport_new(c, fds[0], &t, &e), CV_OK);
    end_open(&p, &p.a, t);
    p.fd = fds[1];
    assert_int_equal(write(p.fd, text, strlen(text)), strlen(text));
    if (!*text)
        shutdown(p.fd, SHUT_WR);
    while (!p.a.closed)
        loop_run(p.loop);
    assert_string_equal(p.a.why, want);
    assert_false(p.a.ready);
    pair_close(&p);
    tls_context_free(c);
}

static void who_does_not_speak_tls_is_told_apart(void **state)
{
    const char *want = "not a covey peer (plain text where TLS was expected)";
    plain_bytes("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true, want);
    plain_bytes("CONNECT example.org:443 HTTP/1.1\r\n\r\n", true, want);
    plain_bytes("\xC0\x5E\x01\x01 this is a HELLO in plain bytes, as if over a Unix socket", true,
                want);
    plain_bytes("SSH-2.0-OpenSSH_9.2\r\n", false, want);
    plain_bytes("", true, "the peer closed the connection during the handshake");
    plain_bytes("", false, "the peer closed the connection during the handshake");
}

static void bad_keys_are_refused_without_being_shown(void **state)
{
    struct tls_context *c = NULL;
    struct err e;
    assert_int_equal(tls_client_new(&c, "client", "5ecret", &e), CV_EINVAL);
    assert_null(strstr(e.text, "5ecret"));
    char bad[65];
    strcpy(bad, key_a);
    bad[63] = 'g';
    assert_int_equal(tls_server_new(&c, bad, NULL, &e), CV_EINVAL);
    assert_int_equal(tls_client_new(&c, "host", key_a, &e), CV_EINVAL);
    assert_null(c);
}

static void check_large(struct end *end, struct msg *m)
{
    if (m->h.body_len > 1000) {
        struct payload *want = pattern(m->h.body_len, (unsigned)m->h.seq);
        assert_memory_equal(want->bufs[0].data, m->payload->bufs[0].data, m->h.body_len);
        payload_unref(want);
        end->arg = (void *)((uintptr_t)end->arg + 1);
    }
    msg_free(m);
}

static void exchange(struct world *w)
{
    world_connect(w);
    w->p.a.on_msg = w->p.b.on_msg = check_large;
    for (uint64_t i = 0; i < 8; i++) {
        struct header h = {.type = MSG_TASK, .seq = i};
        struct payload *p = pattern(3000000 + i * 1111, (unsigned)i);
        assert_int_equal(link_send(w->p.a.link, &h, NULL, 0, p, 0), CV_OK);
        assert_int_equal(link_send(w->p.b.link, &h, NULL, 0, p, 0), CV_OK);
        payload_unref(p);
        for (int k = 0; k < 2000; k++) {
            send_text(w->p.a.link, MSG_TASK, i, "small ones between");
            send_text(w->p.b.link, MSG_TASK, i, "small ones between");
        }
    }
    while ((w->p.a.msgs < 16008 || w->p.b.msgs < 16008) && !w->p.a.closed && !w->p.b.closed)
        pair_settle(&w->p);
    assert_int_equal((uintptr_t)w->p.a.arg, 8);
    assert_int_equal((uintptr_t)w->p.b.arg, 8);
    link_close_after_flush(w->p.a.link, NS_PER_S);
    while (!w->p.b.closed)
        loop_run(w->p.loop);
    assert_int_equal(w->p.b.code, CV_EOF);
}

static void large_and_small_messages_both_ways(void **state)
{
    struct world w;
    world_keys(&w, "client", key_a, key_a, NULL);
    exchange(&w);
    world_close(&w);
}

static void count_key_updates(int sent, int version, int type, const void *data, size_t n, SSL *ssl,
                              void *arg)
{
    if (sent && type == SSL3_RT_HANDSHAKE && n && *(const uint8_t *)data == SSL3_MT_KEY_UPDATE)
        ++*(int *)arg;
}

/* Each side changes its key after so many records, in the middle of whatever is on its way. */
static void keys_are_changed_in_time(void **state)
{
    struct world w;
    int updates[2] = {0};
    world_keys(&w, "client", key_a, key_a, NULL);
    struct tls_context *sides[] = {w.client, w.server};
    for (int i = 0; i < 2; i++) {
        sides[i]->key_records = 100;
        SSL_CTX_set_msg_callback(sides[i]->ctx, count_key_updates);
        SSL_CTX_set_msg_callback_arg(sides[i]->ctx, &updates[i]);
    }
    exchange(&w);
    for (int i = 0; i < 2; i++) /* 24 MB in records of 16 KiB, and small ones */
        assert_in_range(updates[i], 14, 200);
    world_close(&w);
}

static void a_damaged_record_kills_the_link(void **state)
{
    struct world w;
    world_open(&w, "client", key_a, key_a, NULL);
    while (!w.p.a.ready || !w.p.b.ready)
        pair_settle(&w.p);
    static const char record[] = "\x17\x03\x03\x00\x20 these bytes were not encrypted";
    assert_int_equal(send(link_fd(w.p.a.link), record, 37, 0), 37);
    while (!w.p.b.closed)
        loop_run(w.p.loop);
    assert_int_equal(w.p.b.code, CV_EPROTO);
    assert_string_equal(w.p.b.why, "the encrypted stream is damaged");
    world_close(&w);
}

struct visit {
    struct pair p;
    struct tls_context *client, *server;
    struct listener *l;
    struct connector *c;
    int code;
    bool called;
    char why[512];
};

static void on_accept(void *arg, int fd_take, long uid, const char *peer)
{
    struct visit *v = arg;
    struct transport *t;
    struct err e;
    assert_int_equal(tls_transport_new(v->server, fd_take, &t, &e), CV_OK);
    end_open(&v->p, &v->p.b, t);
}

static void on_connect(void *arg, struct link *link_take, int code, const char *why)
{
    struct visit *v = arg;
    v->called = true;
    v->code = code;
    snprintf(v->why, sizeof v->why, "%s", why ? why : "");
    v->p.a.link = link_take;
    v->p.a.loop = v->p.loop;
    if (link_take)
        link_set_callbacks(link_take, &end_callbacks, &v->p.a);
    loop_stop(v->p.loop);
}

static void the_connector_says_what_the_file_is(void **state)
{
    for (int good = 0; good < 2; good++) {
        struct visit v = {0};
        struct err e;
        char endpoint[64], want[256];
        pair_loop(&v.p);
        assert_int_equal(tls_server_new(&v.server, key_a, NULL, &e), CV_OK);
        assert_int_equal(tls_client_new(&v.client, "client", good ? key_a : key_b, &e), CV_OK);
        assert_int_equal(listener_new_tcp(&v.l, v.p.loop, "127.0.0.1", 0, on_accept, &v, &e),
                         CV_OK);
        snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", listener_port(v.l));
        const char *endpoints[] = {endpoint};
        struct transport_factory f = tls_factory(v.client);
        assert_int_equal(
            connector_new(&v.c, v.p.loop, endpoints, 1, &f, 60 * NS_PER_S, on_connect, &v, &e),
            CV_OK);
        while (!v.called)
            loop_run(v.p.loop);
        if (good) {
            assert_int_equal(v.code, CV_OK);
            send_text(v.p.a.link, MSG_QUERY, 1, "hello");
            while (!v.p.b.msgs)
                pair_settle(&v.p);
        } else {
            assert_int_equal(v.code, CV_EAUTH);
            snprintf(want, sizeof want,
                     "%s: the controller refused this file's key: the file is older than it, or "
                     "the other one of the two (clients and engines have one each)",
                     endpoint);
            assert_string_equal(v.why, want);
        }
        connector_free(v.c);
        listener_free(v.l);
        pair_close(&v.p);
        tls_context_free(v.client);
        tls_context_free(v.server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_the_key_both_know_the_role),
        cmocka_unit_test(keys_do_not_age),
        cmocka_unit_test(a_wrong_key_and_an_unknown_role_fail_alike),
        cmocka_unit_test(who_does_not_speak_tls_is_told_apart),
        cmocka_unit_test(bad_keys_are_refused_without_being_shown),
        cmocka_unit_test(large_and_small_messages_both_ways),
        cmocka_unit_test(keys_are_changed_in_time),
        cmocka_unit_test(a_damaged_record_kills_the_link),
        cmocka_unit_test(the_connector_says_what_the_file_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

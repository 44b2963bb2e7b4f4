/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Links between two ends of one loop: small messages, closing, freeing in callbacks, liveness. */
#include <netinet/in.h>
#include <stdio.h>

#include "net/connect.h"
#include "net/test_pair.h"

#define MANY 100000

static void check_numbered(struct end *end, struct msg *m)
{
    uint64_t i = end->msgs - 1;
    assert_int_equal(m->h.type, MSG_TASK);
    assert_int_equal(m->h.seq, i);
    assert_int_equal(m->h.route_len, i % 5);
    for (uint32_t k = 0; k < m->h.route_len; k++)
        assert_int_equal(m->route[k], (uint8_t)(i + k));
    uint32_t nbufs = i % 4;
    assert_int_equal(m->h.nbufs, nbufs);
    uint64_t sum = 0;
    for (uint32_t k = 0; k < nbufs; k++) {
        uint64_t len = (i * (k + 3)) % (i % 100 ? 60 : 9000);
        assert_int_equal(m->payload->bufs[k].len, len);
        for (uint64_t n = 0; n < len; n++)
            assert_true(m->payload->bufs[k].data[n] == (uint8_t)(i + n));
        sum += len;
    }
    assert_int_equal(m->h.body_len, sum);
    msg_free(m);
    if (end->msgs == MANY)
        loop_stop(end->loop);
}

static void send_numbered(struct link *l, uint64_t i)
{
    struct header h = {.type = MSG_TASK, .seq = i};
    uint8_t route[5];
    uint64_t lens[4];
    struct payload *p = NULL;
    for (uint32_t k = 0; k < 5; k++)
        route[k] = (uint8_t)(i + k);
    for (uint32_t k = 0; k < i % 4; k++)
        lens[k] = (i * (k + 3)) % (i % 100 ? 60 : 9000);
    if (i % 4) {
        assert_int_equal(payload_new_inline(&p, (uint32_t)(i % 4), lens), CV_OK);
        for (uint32_t k = 0; k < i % 4; k++)
            for (uint64_t n = 0; n < lens[k]; n++)
                p->bufs[k].data[n] = (uint8_t)(i + n);
    }
    assert_int_equal(link_send(l, &h, route, (uint32_t)(i % 5), p, 0), CV_OK);
    payload_unref(p);
}

static void many_small_messages_arrive_in_order(void **state)
{
    struct pair p;
    pair_open(&p);
    p.a.on_msg = p.b.on_msg = check_numbered;
    for (uint64_t i = 0; i < MANY; i++)
        send_numbered(p.a.link, i);
    assert_true(link_queued_bytes(p.a.link) > MANY * WIRE_HEADER_SIZE);
    loop_run(p.loop);
    assert_int_equal(p.b.msgs, MANY);
    assert_int_equal(link_queued_bytes(p.a.link), 0);
    assert_true(p.a.ready && p.b.ready);
    assert_true(link_is_unix(p.a.link));
    pair_close(&p);
}

static void echo(struct end *end, struct msg *m)
{
    assert_int_equal(link_send(end->link, &m->h, m->route, m->h.route_len, m->payload, 0), CV_OK);
    msg_free(m);
}

static void an_echo_comes_back(void **state)
{
    struct pair p;
    pair_open(&p);
    p.b.on_msg = echo;
    p.a.on_msg = check_numbered;
    for (uint64_t i = 0; i < MANY; i++)
        send_numbered(p.a.link, i);
    loop_run(p.loop);
    assert_int_equal(p.a.msgs, MANY);
    pair_close(&p);
}

static void a_large_route_and_many_buffers_arrive(void **state)
{
    struct pair p;
    pair_open(&p);
    uint8_t *route = malloc(WIRE_ROUTE_MAX);
    uint64_t *lens = calloc(WIRE_BUFFERS_MAX, sizeof *lens);
    struct payload *many;
    for (size_t i = 0; i < WIRE_ROUTE_MAX; i++)
        route[i] = (uint8_t)(i % 253);
    lens[WIRE_BUFFERS_MAX - 1] = 3;
    assert_int_equal(payload_new_inline(&many, WIRE_BUFFERS_MAX, lens), CV_OK);
    memcpy(many->bufs[WIRE_BUFFERS_MAX - 1].data, "abc", 3);
    struct header h = {.type = MSG_TASK, .seq = 1};
    send_text(p.a.link, MSG_TASK, 0, "before");
    assert_int_equal(link_send(p.a.link, &h, route, WIRE_ROUTE_MAX, many, 0), CV_OK);
    assert_int_equal(link_send(p.a.link, &h, route, WIRE_ROUTE_MAX + 1, many, 0), CV_ELIMIT);
    send_text(p.a.link, MSG_TASK, 2, "behind");
    while (p.b.msgs < 3)
        pair_settle(&p);
    assert_false(p.b.closed);
    payload_unref(many);
    free(route);
    free(lens);
    pair_close(&p);
}

static void the_end_of_the_stream_comes_after_the_messages(void **state)
{
    struct pair p;
    pair_open(&p);
    send_text(p.a.link, MSG_TASK, 1, "last words");
    link_close_after_flush(p.a.link, NS_PER_S);
    struct header h = {.type = MSG_TASK};
    assert_int_equal(link_send(p.a.link, &h, NULL, 0, NULL, 0), CV_ECLOSED);
    while (!p.b.closed)
        loop_run(p.loop);
    assert_int_equal(p.b.msgs, 1);
    assert_int_equal(p.b.code, CV_EOF);
    assert_string_equal(p.b.why, "the peer closed the connection");
    link_free(p.b.link);
    p.b.link = NULL;
    while (!p.a.closed)
        loop_run(p.loop);
    assert_int_equal(p.a.code, CV_ECLOSED);
    pair_close(&p);
}

static void on_closed_free(struct link *l, int code, const char *why, void *arg)
{
    struct end *end = arg;
    end->closed = true;
    link_free(l);
    end->link = NULL;
    loop_stop(end->loop);
}

static void refuse(struct end *end, struct msg *m)
{
    msg_free(m);
    send_text(end->link, MSG_BYE, 0, "no");
    link_close_after_flush(end->link, 5 * NS_PER_S);
}

/* Over TCP a close with bytes unread takes back what the peer has not read. */
static void last_words_are_not_taken_back(void **state)
{
    struct pair p;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair_loop(&p);
    assert_int_equal(bind(s, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(s, 1), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&sa, &n), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    end_open_fd(&p, &p.b, accept(s, NULL, NULL));
    static const struct link_callbacks freeing = {end_on_ready, end_on_msg, on_closed_free};
    link_set_callbacks(p.b.link, &freeing, &p.b);
    p.b.on_msg = refuse;
    p.fd = fd;
    uint8_t bytes[WIRE_HEADER_SIZE];
    header_encode(bytes, &(struct header){.type = MSG_TASK});
    for (int i = 0; i < 8000; i++) /* more than the link reads in a turn */
        if (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) < 0)
            break;
    for (int i = 0; i < 3; i++)
        pair_settle(&p);
    assert_int_equal(p.b.msgs, 1);
    assert_int_equal(recv(fd, bytes, sizeof bytes, 0), sizeof bytes);
    assert_int_equal(bytes[3], MSG_BYE);
    ssize_t got;
    while ((got = recv(fd, bytes, sizeof bytes, 0)) > 0)
        ;
    assert_int_equal(got, 0); /* an end, not a reset */
    shutdown(fd, SHUT_WR);
    while (!p.b.closed)
        loop_run(p.loop);
    close(s);
    pair_close(&p);
}

/* The last words of a peer that closed with our bytes unread are still delivered. */
static void a_refusal_is_read_though_writing_fails(void **state)
{
    struct pair p;
    pair_open(&p);
    pair_settle(&p);
    send_text(p.b.link, MSG_BYE, 0, "no");
    link_flush(p.b.link);
    link_free(p.b.link);
    p.b.link = NULL;
    send_text(p.a.link, MSG_TASK, 1, "hello?");
    link_flush(p.a.link);
    while (!p.a.closed)
        loop_run(p.loop);
    assert_int_equal(p.a.msgs, 1);
    pair_close(&p);
}

static void free_in_msg(struct end *end, struct msg *m)
{
    msg_free(m);
    link_free(end->link);
    end->link = NULL;
    loop_stop(end->loop);
}

static void a_link_may_be_freed_by_its_message(void **state)
{
    struct pair p;
    pair_open(&p);
    p.b.on_msg = free_in_msg;
    for (int i = 0; i < 100; i++)
        send_text(p.a.link, MSG_TASK, 1, "x");
    loop_run(p.loop);
    assert_int_equal(p.b.msgs, 1);
    assert_false(p.b.closed);
    while (!p.a.closed)
        loop_run(p.loop);
    pair_close(&p);
}

static void on_ready_free(struct link *l, void *arg)
{
    struct end *end = arg;
    end->ready = true;
    link_free(l);
    end->link = NULL;
}

static void a_link_may_be_freed_when_ready_and_when_closed(void **state)
{
    static const struct link_callbacks cb_a = {on_ready_free, end_on_msg, end_on_closed};
    static const struct link_callbacks cb_b = {end_on_ready, end_on_msg, on_closed_free};
    struct pair p;
    struct transport *t;
    int fds[2];
    pair_loop(&p);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    p.a.loop = p.b.loop = p.loop;
    assert_int_equal(stream_transport_new(&t, fds[0]), CV_OK);
    assert_int_equal(link_new(&p.a.link, p.loop, t, &cb_a, &p.a), CV_OK);
    assert_int_equal(stream_transport_new(&t, fds[1]), CV_OK);
    assert_int_equal(link_new(&p.b.link, p.loop, t, &cb_b, &p.b), CV_OK);
    send_text(p.b.link, MSG_TASK, 1, "x");
    loop_run(p.loop);
    assert_true(p.a.ready && p.b.closed);
    pair_close(&p);
}

static void a_peer_that_never_reads_only_grows_its_queue(void **state)
{
    struct pair p;
    pair_open_bare(&p);
    for (int i = 0; i < 50000; i++)
        send_text(p.a.link, MSG_TASK, 1, "a few bytes that stay with us since nobody takes them");
    pair_settle(&p);
    assert_true(link_queued_bytes(p.a.link) > 500000);
    assert_false(p.a.closed);
    link_close_after_flush(p.a.link, 10 * NS_PER_MS);
    while (!p.a.closed)
        loop_run(p.loop);
    assert_int_equal(p.a.code, CV_ECLOSED);
    assert_string_equal(p.a.why, "closed before everything was sent");
    pair_close(&p);
}

static void silence_is_answered_by_a_ping_and_then_kills(void **state)
{
    struct pair p;
    uint8_t bytes[WIRE_HEADER_SIZE];
    pair_open_bare(&p);
    pair_settle(&p);
    link_set_liveness(p.a.link, 20 * NS_PER_MS, 90 * NS_PER_MS);
    while (!p.a.closed)
        loop_run(p.loop);
    assert_int_equal(p.a.code, CV_ETIMEOUT);
    assert_int_equal(read(p.fd, bytes, sizeof bytes), sizeof bytes);
    assert_int_equal(bytes[3], MSG_PING);
    pair_close(&p);
}

/* For twice the time after which silence kills: false if this process stood still for some of it,
 * so that nobody could answer. */
static bool pongs_keep(uint64_t dead)
{
    struct pair p;
    uint64_t sent, received, longest = 0;
    pair_open(&p);
    link_set_liveness(p.a.link, 5 * NS_PER_MS, dead);
    for (uint64_t start = clock_mono(), now = start; now < start + 2 * dead;) {
        uint64_t before = now;
        pair_settle(&p);
        now = clock_mono();
        longest = now - before > longest ? now - before : longest;
    }
    bool undisturbed = longest < dead / 2;
    if (undisturbed) {
        assert_false(p.a.closed);
        link_traffic(p.a.link, &sent, &received);
        assert_true(received >= WIRE_HEADER_SIZE);
        assert_int_equal(p.a.msgs + p.b.msgs, 0);
    }
    pair_close(&p);
    return undisturbed;
}

static void pongs_keep_a_silent_link_alive(void **state)
{
    for (int i = 0; i < 50; i++)
        if (pongs_keep(100 * NS_PER_MS))
            return;
    fail_msg("the machine is too busy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_small_messages_arrive_in_order),
        cmocka_unit_test(an_echo_comes_back),
        cmocka_unit_test(a_large_route_and_many_buffers_arrive),
        cmocka_unit_test(the_end_of_the_stream_comes_after_the_messages),
        cmocka_unit_test(last_words_are_not_taken_back),
        cmocka_unit_test(a_refusal_is_read_though_writing_fails),
        cmocka_unit_test(a_link_may_be_freed_by_its_message),
        cmocka_unit_test(a_link_may_be_freed_when_ready_and_when_closed),
        cmocka_unit_test(a_peer_that_never_reads_only_grows_its_queue),
        cmocka_unit_test(silence_is_answered_by_a_ping_and_then_kills),
        cmocka_unit_test(pongs_keep_a_silent_link_alive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a peer may not do: each breach kills the link with a sentence, costs no memory before it is
 * seen, and leaves the process alone. The peer is a bare descriptor. */
#include <endian.h>
#include <stdio.h>

#include "net/link_priv.h"
#include "net/test_pair.h"

static void put(struct pair *p, const void *data, size_t n)
{
    assert_int_equal(send(p->fd, data, n, MSG_NOSIGNAL), n);
}

static void put_header(struct pair *p, const struct header *h)
{
    uint8_t bytes[WIRE_HEADER_SIZE];
    header_encode(bytes, h);
    put(p, bytes, sizeof bytes);
}

static void expect(struct pair *p, int code, const char *part)
{
    while (!p->a.closed)
        loop_run(p->loop);
    if (p->a.code != code || !strstr(p->a.why, part))
        fail_msg("%s: %s", err_name(p->a.code), p->a.why);
    pair_close(p);
}

static void announce(struct pair *p, uint64_t body)
{
    put_header(p, &(struct header){
                      .type = MSG_TASK, .nbufs = 1, .body_len = body, .flags = MSG_F_CHUNKED});
}

static void chunk(struct pair *p, uint64_t number, uint64_t off, uint32_t buf, uint32_t len)
{
    static const uint8_t zeros[WIRE_CHUNK_MAX];
    put_header(p, &(struct header){.type = MSG_CHUNK,
                                   .nbufs = 1,
                                   .seq = number,
                                   .aux = off,
                                   .engine = buf,
                                   .body_len = len});
    put(p, zeros, len < 1000 ? len : 1000);
}

static void garbage(void **state)
{
    struct pair p;
    pair_open_bare(&p);
    put(&p, "GET / HTTP/1.1\r\nHost: example\r\nAccept: everything that there is\r\n\r\n", 66);
    expect(&p, CV_EPROTO, "not");
}

static void another_version(void **state)
{
    struct pair p;
    uint8_t bytes[WIRE_HEADER_SIZE];
    pair_open_bare(&p);
    header_encode(bytes, &(struct header){.type = MSG_HELLO});
    bytes[2] = 9;
    put(&p, bytes, sizeof bytes);
    expect(&p, CV_EVERSION, "9");
}

static void truncated_messages(void **state)
{
    struct pair p;
    uint8_t bytes[WIRE_HEADER_SIZE];
    header_encode(bytes, &(struct header){.type = MSG_TASK, .nbufs = 1, .body_len = 100});
    for (size_t n = 1; n <= sizeof bytes; n += 21) {
        pair_open_bare(&p);
        put(&p, bytes, n);
        shutdown(p.fd, SHUT_WR);
        expect(&p, CV_EOF, "in the middle of a message");
    }
    pair_open_bare(&p);
    announce(&p, 100000);
    chunk(&p, 1, 0, 0, 500);
    shutdown(p.fd, SHUT_WR);
    expect(&p, CV_EOF, "in the middle of a message");
}

static void one_byte_at_a_time_is_fine(void **state)
{
    struct pair p;
    uint8_t bytes[WIRE_HEADER_SIZE + 10];
    pair_open_bare(&p);
    memset(bytes, 'x', sizeof bytes);
    header_encode(bytes, &(struct header){.type = MSG_TASK, .nbufs = 1, .body_len = 10});
    for (size_t i = 0; i < sizeof bytes; i++) {
        uint64_t sent, received = 0;
        put(&p, bytes + i, 1);
        while (received <= i && !p.a.closed) { /* read before the next one comes */
            loop_turn_once(p.loop);
            link_traffic(p.a.link, &sent, &received);
        }
    }
    while (!p.a.msgs)
        pair_settle(&p);
    pair_close(&p);
}

static void strangers_have_narrow_limits(void **state)
{
    static const struct wire_limits narrow = {.body_max = WIRE_PREAUTH_MAX,
                                              .route_max = WIRE_PREAUTH_MAX};
    const struct header bad[] = {
        {.type = MSG_HELLO, .nbufs = 1, .body_len = WIRE_PREAUTH_MAX + 1},
        {.type = MSG_HELLO, .route_len = WIRE_PREAUTH_MAX + 1},
        {.type = MSG_HELLO, .nbufs = 1, .body_len = 1ull << 40, .flags = MSG_F_CHUNKED},
        {.type = MSG_HELLO, .nbufs = WIRE_BUFFERS_MAX, .body_len = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct pair p;
        pair_open_bare(&p);
        link_set_limits(p.a.link, &narrow);
        put_header(&p, &bad[i]);
        while (!p.a.closed)
            loop_run(p.loop);
        assert_true(p.a.code == CV_ELIMIT || p.a.code == CV_EPROTO);
        assert_true(strlen(p.a.why) > 10);
        pair_close(&p);
    }
}

static void forms_that_do_not_exist(void **state)
{
    const struct header bad[] = {
        {.type = MSG_TASK, .nbufs = 0, .body_len = 10},
        {.type = MSG_TASK, .nbufs = 1, .body_len = WIRE_INLINE_MAX + 1},
        {.type = MSG_TASK, .nbufs = 1, .flags = MSG_F_CHUNKED},
        {.type = MSG_PING, .nbufs = 1, .body_len = 100000, .flags = MSG_F_CHUNKED},
        {.type = MSG_CREDIT, .aux = UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct pair p;
        pair_open_bare(&p);
        put_header(&p, &bad[i]);
        expect(&p, i == 1 ? CV_ELIMIT : CV_EPROTO,
               bad[i].type == MSG_CREDIT ? "credit" : msg_type_name(bad[i].type));
    }
}

static void buffers_that_do_not_add_up(void **state)
{
    const uint64_t tables[][2] = {{5, 4}, {11, 0}, {UINT64_MAX, 11}, {0, 0}};
    for (size_t i = 0; i < 4; i++) {
        struct pair p;
        uint64_t table[2] = {htole64(tables[i][0]), htole64(tables[i][1])};
        pair_open_bare(&p);
        put_header(&p, &(struct header){.type = MSG_TASK, .nbufs = 2, .body_len = 10});
        put(&p, table, sizeof table);
        put(&p, "0123456789", 10);
        expect(&p, CV_EPROTO, "don't add up");
    }
}

static void chunks_that_do_not_fit(void **state)
{
    struct pair p;
    pair_open_bare(&p); /* nothing announced */
    chunk(&p, 1, 0, 0, 500);
    expect(&p, CV_EPROTO, "not on its way");
    pair_open_bare(&p); /* again, when it is complete */
    announce(&p, 500);
    chunk(&p, 1, 0, 0, 500);
    chunk(&p, 1, 0, 0, 500);
    expect(&p, CV_EPROTO, "not on its way");
    pair_open_bare(&p);
    announce(&p, 100000);
    chunk(&p, 1, 500, 0, 500);
    expect(&p, CV_EPROTO, "out of order");
    pair_open_bare(&p);
    announce(&p, 100000);
    chunk(&p, 1, 0, 0, 500);
    chunk(&p, 1, 0, 0, 500);
    expect(&p, CV_EPROTO, "out of order");
    pair_open_bare(&p);
    announce(&p, 100000);
    chunk(&p, 1, 0, 1, 500);
    expect(&p, CV_EPROTO, "out of order");
    pair_open_bare(&p);
    announce(&p, 400);
    chunk(&p, 1, 0, 0, 401);
    expect(&p, CV_EPROTO, "beyond its buffer");
    pair_open_bare(&p);
    announce(&p, 10 << 20);
    chunk(&p, 1, 0, 0, WIRE_CHUNK_MAX + 1);
    expect(&p, CV_ELIMIT, "CHUNK");
    pair_open_bare(&p);
    announce(&p, 10 << 20);
    chunk(&p, 1, 0, 0, 0);
    expect(&p, CV_EPROTO, "wrong form");
}

static void more_than_its_credit(void **state)
{
    struct pair p;
    pair_open_bare(&p);
    link_set_window(p.a.link, 1000);
    announce(&p, 100000);
    chunk(&p, 1, 0, 0, 900);
    chunk(&p, 1, 900, 0, 700);
    expect(&p, CV_EPROTO, "credit");
}

static void too_many_transfers(void **state)
{
    struct pair p;
    pair_open_bare(&p);
    for (uint32_t i = 0; i <= LINK_TRANSFERS_MAX; i++)
        announce(&p, 70000);
    expect(&p, CV_EPROTO, "too many large messages");
}

/* Random bytes behind a good header, with a fixed seed: nothing but an end of the link happens. */
static void random_headers(void **state)
{
    uint64_t x = 88172645463325252ull;
    for (int round = 0; round < 300; round++) {
        struct pair p;
        uint8_t bytes[4 * WIRE_HEADER_SIZE];
        for (size_t i = 0; i < sizeof bytes; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            bytes[i] = (uint8_t)x;
        }
        for (size_t i = 0; i < sizeof bytes; i += WIRE_HEADER_SIZE) {
            header_encode(bytes + i, &(struct header){.type = (uint8_t)(1 + bytes[i] % 24),
                                                      .flags = bytes[i + 1] & 1,
                                                      .nbufs = bytes[i + 2] % 3,
                                                      .body_len = bytes[i + 3] % 40,
                                                      .route_len = bytes[i + 4] % 4,
                                                      .seq = bytes[i + 5] % 2,
                                                      .aux = bytes[i + 6] % 2});
        }
        pair_open_bare(&p);
        put(&p, bytes, sizeof bytes);
        shutdown(p.fd, SHUT_WR);
        while (!p.a.closed)
            loop_run(p.loop);
        pair_close(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage),
        cmocka_unit_test(another_version),
        cmocka_unit_test(truncated_messages),
        cmocka_unit_test(one_byte_at_a_time_is_fine),
        cmocka_unit_test(strangers_have_narrow_limits),
        cmocka_unit_test(forms_that_do_not_exist),
        cmocka_unit_test(buffers_that_do_not_add_up),
        cmocka_unit_test(chunks_that_do_not_fit),
        cmocka_unit_test(more_than_its_credit),
        cmocka_unit_test(too_many_transfers),
        cmocka_unit_test(random_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

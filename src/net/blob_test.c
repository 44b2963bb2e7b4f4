/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What messages have in common crosses a link once, in order, within its bound; and what a peer may
 * not do with it. */
#include <endian.h>

#include "net/link_priv.h"
#include "net/test_pair.h"

#define KIB 1024ull
#define MIB (1024ull * KIB)

struct got {
    struct msg *m[128];
    unsigned n;
};

static void keep(struct end *end, struct msg *m)
{
    struct got *g = end->arg;
    assert_true(g->n < 128);
    g->m[g->n++] = m;
    loop_stop(end->loop);
}

static void got_release(struct got *g)
{
    while (g->n)
        msg_free(g->m[--g->n]);
}

static void open_keeping(struct pair *p, struct got *g)
{
    pair_open(p);
    memset(g, 0, sizeof *g);
    p->b.on_msg = keep;
    p->b.arg = g;
}

static void wait_for(struct pair *p, struct got *g, unsigned n)
{
    while (g->n < n && !p->a.closed && !p->b.closed)
        loop_run(p->loop);
    assert_int_equal(g->n, n);
}

static void send_task(struct link *l, uint64_t seq, struct payload *p, int flags)
{
    const struct header h = {.type = MSG_TASK, .seq = seq};
    assert_int_equal(link_send(l, &h, "rt", 2, p, flags), CV_OK);
}

static uint64_t sent(const struct link *l)
{
    uint64_t out, in;
    link_traffic(l, &out, &in);
    return out;
}

/* head, then one buffer with a number. */
static struct payload *call(struct payload *head, uint64_t i)
{
    struct payload *own, *p;
    assert_int_equal(payload_new_copy(&own, &i, sizeof i), CV_OK);
    assert_int_equal(payload_new_joined(&p, head, own), CV_OK);
    return p;
}

static void check_call(const struct msg *m, const struct payload *head, uint64_t i)
{
    assert_int_equal(m->h.seq, i);
    assert_int_equal(m->h.flags, 0);
    assert_int_equal(m->h.route_len, 2);
    assert_memory_equal(m->route, "rt", 2);
    assert_int_equal(m->h.nbufs, 2);
    assert_int_equal(m->h.body_len, head->total + sizeof i);
    assert_int_equal(m->payload->bufs[0].len, head->total);
    assert_memory_equal(m->payload->bufs[0].data, head->bufs[0].data, head->total);
    assert_memory_equal(m->payload->bufs[1].data, &i, sizeof i);
}

static void calls_cross(uint64_t size)
{
    struct pair p;
    struct got g;
    struct payload *head = pattern(size, 3);
    open_keeping(&p, &g);
    for (uint64_t i = 0; i < 50; i++) {
        struct payload *c = call(head, i);
        send_task(p.a.link, i, c, 0);
        payload_unref(c);
    }
    wait_for(&p, &g, 50);
    for (uint64_t i = 0; i < 50; i++) {
        check_call(g.m[i], head, i);
        assert_ptr_equal(payload_head(g.m[i]->payload),
                         payload_head(g.m[0]->payload)); /* one copy */
    }
    assert_in_range(sent(p.a.link), size, size + size / 64 + 50 * 200);
    got_release(&g);
    payload_unref(head);
    pair_close(&p);
}

static void a_function_crosses_once(void **state)
{
    calls_cross(5 * KIB);   /* inline */
    calls_cross(300 * KIB); /* in CHUNKs: small messages that name it must not overtake it */
}

static void what_is_small_is_sent_each_time(void **state)
{
    struct pair p;
    struct got g;
    struct payload *head = pattern(LINK_BLOB_MIN - 1, 3), *c = call(head, 0);
    open_keeping(&p, &g);
    send_task(p.a.link, 0, c, 0);
    wait_for(&p, &g, 1);
    check_call(g.m[0], head, 0);
    assert_null(payload_head(g.m[0]->payload));
    got_release(&g);
    payload_unref(c);
    payload_unref(head);
    pair_close(&p);
}

static void a_broadcast_crosses_once_and_is_forgotten(void **state)
{
    struct pair p;
    struct got g;
    struct payload *big = pattern(8 * MIB, 1);
    open_keeping(&p, &g);
    for (uint64_t i = 0; i < 8; i++)
        send_task(p.a.link, i, big, LINK_AFTER_BULK | LINK_SHARE);
    wait_for(&p, &g, 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(g.m[i]->h.seq, i);
        assert_ptr_equal(g.m[i]->payload, g.m[0]->payload);
    }
    assert_memory_equal(g.m[0]->payload->bufs[0].data, big->bufs[0].data, big->total);
    assert_in_range(sent(p.a.link), 8 * MIB, 8 * MIB + 64 * KIB);
    payload_unref(big); /* nobody can send it again: both ends let go with the next write */
    send_text(p.a.link, MSG_ACK, 99, NULL);
    wait_for(&p, &g, 9);
    pair_settle(&p);
    assert_int_equal(p.a.link->blobs->bytes, 0);
    assert_int_equal(p.b.link->blobs->in_bytes, 0);
    got_release(&g);
    pair_close(&p);
}

static void the_bound_holds_at_both_ends(void **state)
{
    struct pair p;
    struct got g;
    struct payload *heads[12];
    open_keeping(&p, &g);
    for (int k = 0; k < 12; k++)
        heads[k] = pattern(5 * MIB, (unsigned)k);
    for (uint64_t i = 0; i < 36; i++) { /* three rounds; each has more than fits */
        struct payload *c = call(heads[i % 12], i);
        send_task(p.a.link, i, c, 0);
        payload_unref(c);
        assert_true(p.a.link->blobs->bytes <= LINK_BLOBS_MAX);
        if (i % 5 == 4)
            wait_for(&p, &g, (unsigned)i + 1);
        assert_true(!p.b.link->blobs || p.b.link->blobs->in_bytes <= LINK_BLOBS_MAX);
    }
    wait_for(&p, &g, 36);
    for (uint64_t i = 0; i < 36; i++)
        check_call(g.m[i], heads[i % 12], i);
    got_release(&g);
    for (int k = 0; k < 12; k++)
        payload_unref(heads[k]);
    pair_close(&p);
}

static void one_larger_than_the_bound_stands_alone(void **state)
{
    struct pair p;
    struct got g;
    struct payload *huge = pattern(LINK_BLOBS_MAX + MIB, 1), *head = pattern(5 * KIB, 2);
    struct payload *c = call(head, 2);
    open_keeping(&p, &g);
    send_task(p.a.link, 0, huge, LINK_SHARE);
    send_task(p.a.link, 1, huge, LINK_SHARE);
    send_task(p.a.link, 2, c, 0); /* takes its place */
    send_task(p.a.link, 3, huge, LINK_SHARE);
    wait_for(&p, &g, 4);
    assert_ptr_equal(g.m[0]->payload, g.m[1]->payload);
    check_call(g.m[2], head, 2);
    assert_int_equal(g.m[3]->h.body_len, huge->total);
    got_release(&g);
    payload_unref(c);
    payload_unref(head);
    payload_unref(huge);
    pair_close(&p);
}

static void credit_is_whole_again_when_a_payload_was_shared(void **state)
{
    struct pair p;
    struct got g;
    struct payload *big = pattern(6 * MIB, 1);
    open_keeping(&p, &g);
    link_set_credit(p.a.link, 2 * MIB); /* less than one message */
    link_set_window(p.b.link, 2 * MIB);
    for (uint64_t i = 0; i < 20; i++)
        send_task(p.a.link, i, big, LINK_SHARE);
    for (uint64_t i = 20; i < 24; i++)
        send_task(p.a.link, i, big, 0);
    wait_for(&p, &g, 24);
    pair_settle(&p);
    assert_true(p.a.link->credit_out + (int64_t)p.b.link->credit_due == 2 * (int64_t)MIB);
    got_release(&g);
    payload_unref(big);
    pair_close(&p);
}

/* --- breaches --- */

static void put_message(int fd, const struct header *h, const void *tail, size_t n)
{
    uint8_t head[WIRE_HEADER_SIZE];
    header_encode(head, h);
    assert_int_equal(write(fd, head, sizeof head), sizeof head);
    if (n)
        assert_int_equal(write(fd, tail, n), n);
}

static void is_refused(struct pair *p, const char *why)
{
    while (!p->a.closed)
        loop_run(p->loop);
    assert_int_equal(p->a.code, CV_EPROTO);
    assert_non_null(strstr(p->a.why, why));
    assert_int_equal(p->a.msgs, 0);
    pair_close(p);
}

static void breaches_close_the_link(void **state)
{
    static const struct wire_limits stranger = {WIRE_PREAUTH_MAX, WIRE_PREAUTH_MAX};
    const struct header blob = {.type = MSG_BLOB, .seq = 1, .nbufs = 1, .body_len = 3};
    const struct header drop = {.type = MSG_DROP, .seq = 7};
    struct header task = {.type = MSG_TASK, .flags = MSG_F_BLOB, .route_len = 8};
    uint64_t number = htole64(5);
    struct pair p;

    pair_open_bare(&p);
    put_message(p.fd, &task, &number, sizeof number);
    is_refused(&p, "what this link does not have (TASK 5)");

    pair_open_bare(&p);
    task.route_len = 4;
    put_message(p.fd, &task, &number, 4);
    is_refused(&p, "no number of what it begins with");

    pair_open_bare(&p);
    put_message(p.fd, &drop, NULL, 0);
    is_refused(&p, "a number that nothing has (DROP 7)");

    pair_open_bare(&p);
    put_message(p.fd, &blob, "abc", 3);
    put_message(p.fd, &blob, "abc", 3);
    is_refused(&p, "two of one number (BLOB 1)");

    pair_open_bare(&p);
    link_set_limits(p.a.link, &stranger);
    put_message(p.fd, &blob, "abc", 3);
    is_refused(&p, "may not be (BLOB 1)");
}

static void more_than_the_bound_is_a_breach(void **state)
{
    struct pair p;
    static uint8_t bytes[WIRE_INLINE_MAX];
    struct header blob = {.type = MSG_BLOB, .nbufs = 1, .body_len = sizeof bytes};
    pair_open_bare(&p);
    for (uint64_t i = 0; i <= LINK_BLOBS_MAX / sizeof bytes && !p.a.closed; i++) {
        uint8_t head[WIRE_HEADER_SIZE];
        blob.seq = i;
        header_encode(head, &blob);
        assert_int_equal(write(p.fd, head, sizeof head), sizeof head);
        assert_int_equal(write(p.fd, bytes, sizeof bytes), sizeof bytes);
        struct timer *t; /* one turn, so that the socket has room again */
        assert_int_equal(timer_new(&t, p.loop, tick, p.loop), CV_OK);
        timer_start(t, 0, 0);
        loop_run(p.loop);
        timer_free(t);
    }
    is_refused(&p, "more to be kept than the bound");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_function_crosses_once),
        cmocka_unit_test(what_is_small_is_sent_each_time),
        cmocka_unit_test(a_broadcast_crosses_once_and_is_forgotten),
        cmocka_unit_test(the_bound_holds_at_both_ends),
        cmocka_unit_test(one_larger_than_the_bound_stands_alone),
        cmocka_unit_test(credit_is_whole_again_when_a_payload_was_shared),
        cmocka_unit_test(breaches_close_the_link),
        cmocka_unit_test(more_than_the_bound_is_a_breach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

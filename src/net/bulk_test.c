/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Large messages: contents, overtaking, round-robin, credit. */
#include <stdio.h>

#include "net/test_pair.h"

#define MIB (1u << 20)

static void send_large(struct link *l, uint64_t seq, size_t n, int flags)
{
    struct header h = {.type = MSG_TASK, .seq = seq};
    struct payload *p = pattern(n, (unsigned)seq);
    assert_int_equal(link_send(l, &h, "route", 5, p, flags), CV_OK);
    payload_unref(p);
}

static void check_large(struct msg *m)
{
    struct payload *want = pattern(m->h.body_len, (unsigned)m->h.seq);
    assert_int_equal(m->h.flags & MSG_F_CHUNKED, 0);
    assert_int_equal(m->h.nbufs, 1);
    assert_memory_equal(m->route, "route", 5);
    assert_memory_equal(want->bufs[0].data, m->payload->bufs[0].data, m->h.body_len);
    payload_unref(want);
}

/* Keeps the order in which messages came: their seq. */
struct order {
    uint64_t seq[64];
    int n;
};

static void note(struct end *end, struct msg *m)
{
    struct order *o = end->arg;
    assert_true(o->n < 64);
    o->seq[o->n++] = m->h.seq;
    if (m->h.body_len > WIRE_INLINE_MAX)
        check_large(m);
    msg_free(m);
}

static void wait_msgs(struct pair *p, struct end *end, uint64_t n)
{
    while (end->msgs < n && !end->closed)
        pair_settle(p);
    assert_int_equal(end->msgs, n);
}

static void small_messages_overtake_large_ones(void **state)
{
    struct pair p;
    struct order o = {0};
    pair_open(&p);
    p.b.on_msg = note;
    p.b.arg = &o;
    send_large(p.a.link, 1, 20 * MIB, 0);
    send_large(p.a.link, 2, 3 * MIB, 0);
    assert_int_equal(link_queued_small(p.a.link), 0);
    send_text(p.a.link, MSG_CANCEL, 3, NULL);
    assert_int_equal(link_queued_bytes(p.a.link), 23 * MIB + link_queued_small(p.a.link));
    assert_int_equal(link_queued_small(p.a.link), WIRE_HEADER_SIZE);
    struct header h = {.type = MSG_TASK, .seq = 4};
    assert_int_equal(link_send(p.a.link, &h, NULL, 0, NULL, LINK_AFTER_BULK), CV_OK);
    send_large(p.a.link, 5, MIB, 0);
    wait_msgs(&p, &p.b, 5);
    /* 5 is the shortest of three that share the link; 4 waits for 1 and 2, not for 5 */
    const uint64_t want[] = {3, 5, 2, 1, 4};
    assert_memory_equal(o.seq, want, sizeof want);
    assert_int_equal(link_queued_bytes(p.a.link), 0);
    pair_close(&p);
}

static void late_ones_keep_their_order(void **state)
{
    struct pair p;
    struct order o = {0};
    struct header h = {.type = MSG_ACK};
    struct payload *medium = pattern(5000, 0);
    pair_open(&p);
    p.b.on_msg = note;
    p.b.arg = &o;
    h.seq = 1;
    assert_int_equal(link_send(p.a.link, &h, NULL, 0, NULL, LINK_AFTER_BULK),
                     CV_OK); /* nothing to wait for */
    send_large(p.a.link, 2, 2 * MIB, 0);
    h.seq = 3;
    assert_int_equal(link_send(p.a.link, &h, "r", 1, medium, LINK_AFTER_BULK), CV_OK);
    send_large(p.a.link, 4, 2 * MIB, LINK_AFTER_BULK); /* begins when 2 has left */
    h.seq = 5;
    assert_int_equal(link_send(p.a.link, &h, NULL, 0, NULL, LINK_AFTER_BULK), CV_OK);
    wait_msgs(&p, &p.b, 5);
    const uint64_t want[] = {1, 2, 3, 4, 5};
    assert_memory_equal(o.seq, want, sizeof want);
    payload_unref(medium);
    assert_int_equal(link_queued_bytes(p.a.link), 0);
    pair_close(&p);
}

static void a_payload_is_held_until_it_has_left(void **state)
{
    struct pair p;
    uint64_t lens[300];
    struct payload *out;
    pair_open(&p);
    for (int i = 0; i < 300; i++)
        lens[i] = i % 7 == 0 ? 0 : i % 50 == 1 ? 300000 : (uint64_t)i;
    assert_int_equal(payload_new_large(&out, 300, lens), CV_OK);
    for (int i = 0; i < 300; i++)
        for (uint64_t k = 0; k < lens[i]; k++)
            out->bufs[i].data[k] = (uint8_t)(k + (uint64_t)i);
    struct header h = {.type = MSG_RESULT, .seq = 9};
    assert_int_equal(link_send(p.a.link, &h, NULL, 0, out, 0), CV_OK);
    assert_int_equal(atomic_load(&out->refs), 2);
    wait_msgs(&p, &p.b, 1);
    assert_int_equal(atomic_load(&out->refs), 1);
    payload_unref(out);
    pair_close(&p);
}

static void keep_last(struct end *end, struct msg *m)
{
    msg_free(end->arg);
    end->arg = m;
}

static void many_buffers_have_their_bytes(void **state)
{
    struct pair p;
    uint64_t lens[64];
    struct payload *out;
    pair_open(&p);
    p.b.on_msg = keep_last;
    for (int i = 0; i < 64; i++)
        lens[i] = (uint64_t)(i % 5) * 7777;
    assert_int_equal(payload_new_large(&out, 64, lens), CV_OK);
    for (int i = 0; i < 64; i++)
        for (uint64_t k = 0; k < lens[i]; k++)
            out->bufs[i].data[k] = (uint8_t)(k * 3 + (uint64_t)i);
    struct header h = {.type = MSG_RESULT, .seq = 9, .status = 1};
    assert_int_equal(link_send(p.a.link, &h, NULL, 0, out, 0), CV_OK);
    wait_msgs(&p, &p.b, 1);
    struct msg *m = p.b.arg;
    assert_int_equal(m->h.status, 1);
    assert_int_equal(m->payload->nbufs, 64);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(m->payload->bufs[i].len, lens[i]);
        assert_memory_equal(m->payload->bufs[i].data, out->bufs[i].data, lens[i]);
    }
    msg_free(m);
    payload_unref(out);
    pair_close(&p);
}

static void more_transfers_than_are_active_at_a_time(void **state)
{
    struct pair p;
    pair_open(&p);
    for (uint64_t i = 0; i < 300; i++) {
        send_large(p.a.link, i, 70000, 0);
        send_large(p.b.link, i, 70000, 0);
    }
    wait_msgs(&p, &p.a, 300);
    wait_msgs(&p, &p.b, 300);
    pair_close(&p);
}

static void set_window(struct pair *p, uint64_t bytes)
{
    link_set_window(p->b.link, bytes);
    link_set_credit(p->a.link, bytes);
}

static void a_message_larger_than_the_window_gets_through(void **state)
{
    struct pair p;
    struct order o = {0};
    pair_open(&p);
    set_window(&p, MIB);
    p.b.on_msg = note;
    p.b.arg = &o;
    for (uint64_t i = 0; i < 5; i++)
        send_large(p.a.link, i, 10 * MIB + i, 0);
    wait_msgs(&p, &p.b, 5);
    pair_close(&p);
}

static void spent_credit_stops_large_messages_alone(void **state)
{
    struct pair p;
    struct order o = {0};
    pair_open(&p);
    set_window(&p, MIB);
    link_set_manual_credit(p.b.link, true);
    p.b.on_msg = note;
    p.b.arg = &o;
    for (uint64_t i = 0; i < 4; i++)
        send_large(p.a.link, i, MIB / 2, LINK_AFTER_BULK);
    wait_msgs(&p, &p.b, 2);
    send_text(p.a.link, MSG_CANCEL, 10, "still goes");
    wait_msgs(&p, &p.b, 3);
    for (int i = 0; i < 3; i++)
        pair_settle(&p);
    assert_int_equal(p.b.msgs, 3);
    assert_true(link_queued_bytes(p.a.link) >= MIB);
    link_credit(p.b.link, MIB / 2);
    wait_msgs(&p, &p.b, 4);
    for (int i = 0; i < 3; i++)
        pair_settle(&p);
    assert_int_equal(p.b.msgs, 4);
    link_credit(p.b.link, MIB);
    wait_msgs(&p, &p.b, 5);
    pair_close(&p);
}

/* In manual mode, too, though the owner can give nothing back before it has the message; what was
 * given back early is not given back twice. */
static void manual_credit_with_large_messages_does_not_grow_the_window(void **state)
{
    struct pair p;
    pair_open(&p);
    set_window(&p, MIB);
    link_set_manual_credit(p.b.link, true);
    for (uint64_t i = 0; i < 3; i++) {
        send_large(p.a.link, i, 3 * MIB, 0);
        wait_msgs(&p, &p.b, i + 1);
        link_credit(p.b.link, 3 * MIB);
    }
    send_large(p.a.link, 3, MIB, 0);
    wait_msgs(&p, &p.b, 4);
    send_large(p.a.link, 4, MIB, 0); /* there is credit for half of it */
    for (int i = 0; i < 4; i++)
        pair_settle(&p);
    assert_int_equal(p.b.msgs, 4);
    assert_int_equal(link_queued_bytes(p.a.link), MIB / 2);
    link_credit(p.b.link, MIB);
    wait_msgs(&p, &p.b, 5);
    pair_close(&p);
}

static void free_on_first(struct end *end, struct msg *m)
{
    msg_free(m);
    link_free(end->link);
    end->link = NULL;
    loop_stop(end->loop);
}

static void a_link_may_be_freed_with_transfers_under_way(void **state)
{
    struct pair p;
    pair_open(&p);
    p.b.on_msg = free_on_first;
    for (uint64_t i = 0; i < 100; i++)
        send_large(p.a.link, i, 200000 + i * 1000, 0);
    struct header h = {.type = MSG_ACK};
    assert_int_equal(link_send(p.a.link, &h, NULL, 0, NULL, LINK_AFTER_BULK), CV_OK);
    loop_run(p.loop);
    while (!p.a.closed)
        loop_run(p.loop);
    assert_int_equal(p.b.msgs, 1);
    pair_close(&p);
}

static void closing_waits_for_large_messages(void **state)
{
    struct pair p;
    struct order o = {0};
    pair_open(&p);
    set_window(&p, MIB);
    p.b.on_msg = note;
    p.b.arg = &o;
    send_large(p.a.link, 1, 5 * MIB, 0);
    link_close_after_flush(p.a.link, 10 * NS_PER_S);
    while (!p.b.closed)
        loop_run(p.loop);
    assert_int_equal(p.b.msgs, 1);
    assert_int_equal(p.b.code, CV_EOF);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_messages_overtake_large_ones),
        cmocka_unit_test(late_ones_keep_their_order),
        cmocka_unit_test(a_payload_is_held_until_it_has_left),
        cmocka_unit_test(many_buffers_have_their_bytes),
        cmocka_unit_test(more_transfers_than_are_active_at_a_time),
        cmocka_unit_test(a_message_larger_than_the_window_gets_through),
        cmocka_unit_test(spent_credit_stops_large_messages_alone),
        cmocka_unit_test(manual_credit_with_large_messages_does_not_grow_the_window),
        cmocka_unit_test(a_link_may_be_freed_with_transfers_under_way),
        cmocka_unit_test(closing_waits_for_large_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

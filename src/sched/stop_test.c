/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Ends before their time: abort, cancel, kill, timeouts; clients that go and come. */
#include "sched/testkit.h"

static void test_abort_takes_back(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 4});
    kit_balanced(&k, 9, 1, 0);
    kit_cancel(&k, 9, 1, SCHED_CANCEL_ABORT, 0);
    kit_expect_end(&k, 9, SCHED_S_ABORTED);
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 0);
    kit_direct(&k, 2, 0);
    kit_cancel(&k, 1, 2, SCHED_CANCEL_ABORT, 0);
    assert_int_equal(kit_actions(&k, SCHED_TAKE), 2);
    assert_int_equal(kit_actions(&k, SCHED_INTERRUPT), 0);
    kit_word(&k, SCHED_GIVE_BACK, 0, 1, 0, 1); /* it runs */
    assert_int_equal(k.a.n, 0);
    kit_word(&k, SCHED_GIVE_BACK, 0, 2, 1, 1);
    kit_expect_end(&k, 2, SCHED_S_ABORTED);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_end(&k, 1, SCHED_S_OK);
    kit_release(&k);
}

static void test_cancel_interrupts_and_is_never_retried(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 5);
    kit_cancel(&k, 1, 1, SCHED_CANCEL_INTERRUPT, 0);
    assert_non_null(kit_action(&k, SCHED_INTERRUPT, 1));
    kit_cancel(&k, 1, 1, SCHED_CANCEL_INTERRUPT, 0);
    assert_int_equal(k.a.n, 0);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_ERROR, 0);
    kit_expect_end(&k, 1, SCHED_S_ERROR);
    kit_balanced(&k, 2, 1, 5);
    kit_cancel(&k, 2, 1, SCHED_CANCEL_INTERRUPT, 0);
    kit_dead(&k, 0, 2, 1);
    kit_expect_end(&k, 2, SCHED_S_CANCELLED);
    kit_release(&k);
}

static void test_cancel_part_of_a_range(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_balanced(&k, 10, 10, 0);
    kit_cancel(&k, 12, 2, SCHED_CANCEL_INTERRUPT, 0);
    kit_expect_end(&k, 12, SCHED_S_CANCELLED);
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    assert_int_equal(kit_actions(&k, SCHED_SEND), 2); /* around the hole */
    assert_null(kit_action(&k, SCHED_SEND, 13));
    kit_cancel(&k, 15, 1, SCHED_CANCEL_INTERRUPT, 0);
    assert_int_equal(kit_action(&k, SCHED_INTERRUPT, 15)->count, 1);
    kit_result(&k, 0, 10, 10, 1, SCHED_S_OK, 0);
    assert_int_equal(sched_task_count(k.s), 0);
    kit_release(&k);
}

static void test_kill_after(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_direct(&k, 1, 0);
    kit_cancel(&k, 1, 1, SCHED_CANCEL_KILL, 5 * MS);
    assert_non_null(kit_action(&k, SCHED_INTERRUPT, 1));
    kit_word(&k, SCHED_STARTED, 0, 1, 1, 1);
    kit_tick(&k, 4 * MS);
    assert_int_equal(k.a.n, 0);
    kit_tick(&k, 1 * MS);
    assert_int_equal(kit_action(&k, SCHED_KILL, 0)->engine, 0);
    kit_tick(&k, 100 * MS);
    assert_int_equal(k.a.n, 0);
    kit_dead(&k, 0, 1, 1);
    kit_expect_end(&k, 1, SCHED_S_CANCELLED);
    kit_release(&k);
}

static void test_kill_after_ages(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    for (uint64_t id = 1; id <= 2; id++) {
        kit_direct(&k, id, 0);
        kit_cancel(&k, id, 1, SCHED_CANCEL_KILL, id == 1 ? UINT64_MAX : UINT64_MAX - k.now);
        assert_null(kit_action(&k, SCHED_KILL, 0));
        kit_tick(&k, 1000 * MS);
        assert_int_equal(k.a.n, 0);
    }
    kit_release(&k);
}

static void test_timeout_of_the_unstarted(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 1});
    struct sched_event ev = kit_task(&k, 1, 1);
    ev.submit.timeout = 0.005;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    ev.id.seq = 2;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_expect_sent(&k, 1, 0, 1);
    kit_tick(&k, 5 * MS);
    kit_expect_end(&k, 2, SCHED_S_TIMEOUT);
    assert_int_equal(kit_actions(&k, SCHED_DELIVER), 1);
    assert_int_equal(sched_deadline(k.s), UINT64_MAX);
    kit_release(&k);
}

/* What an engine holds ahead is asked back: given back it ends, and what has started goes on. */
static void test_timeout_of_what_is_held_ahead(void **state)
{
    for (int given = 0; given < 2; given++) {
        struct kit k;
        kit_init(&k, (struct sched_options){.hwm = 4});
        kit_engine(&k, SCHED_ENGINE_JOIN, 0);
        kit_balanced(&k, 1, 1, 0);
        struct sched_event ev = kit_task(&k, 2, 1);
        ev.submit.timeout = 0.005;
        assert_int_equal(kit_handle(&k, &ev), CV_OK);
        kit_expect_sent(&k, 2, 0, 1);
        kit_tick(&k, 4 * MS);
        assert_null(kit_action(&k, SCHED_TAKE, 0));
        kit_tick(&k, 1 * MS);
        assert_int_equal(kit_action(&k, SCHED_TAKE, 0)->id.seq, 2);
        assert_int_equal(sched_deadline(k.s), UINT64_MAX);
        kit_word(&k, SCHED_GIVE_BACK, 0, 2, given, 1);
        if (given)
            kit_expect_end(&k, 2, SCHED_S_TIMEOUT);
        else
            assert_int_equal(kit_actions(&k, SCHED_DELIVER), 0);
        kit_release(&k);
    }
}

/* A free engine has it: it is about to start, however late that is heard of, and so is a retry. */
static void test_timeout_of_what_a_free_engine_has(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 4});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    struct sched_event ev = kit_task(&k, 1, 1);
    ev.submit.timeout = 0.005;
    ev.submit.retries = 1;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    for (uint16_t attempt = 1; attempt <= 2; attempt++) {
        kit_expect_sent(&k, 1, 0, attempt);
        kit_tick(&k, 6 * MS);
        assert_int_equal(k.a.n, 0);
        kit_result(&k, 0, 1, 1, attempt, SCHED_S_ERROR, 1 * MS);
    }
    kit_expect_end(&k, 1, SCHED_S_ERROR);
    kit_release(&k);
}

/* One that has run is not late when it is tried again, though no engine is free for it then: after
 * an error another is preferred, after a death there is no other. */
static void test_timeout_of_what_is_tried_again(void **state)
{
    for (int death = 0; death < 2; death++) {
        struct kit k;
        kit_init(&k, (struct sched_options){.hwm = 1});
        kit_engine(&k, SCHED_ENGINE_JOIN, 0);
        struct sched_event ev = kit_task(&k, 1, 1);
        ev.submit.timeout = 0.005;
        ev.submit.retries = 1;
        assert_int_equal(kit_handle(&k, &ev), CV_OK);
        kit_engine(&k, SCHED_ENGINE_JOIN, 1);
        kit_balanced(&k, 2, 1, 0);
        kit_expect_sent(&k, 2, 1, 1);
        kit_tick(&k, 10 * MS);
        if (death)
            kit_dead(&k, 0, 1, 1);
        else
            kit_result(&k, 0, 1, 1, 1, SCHED_S_ERROR, 10 * MS);
        assert_null(kit_action(&k, SCHED_SEND, 1));
        kit_tick(&k, 10 * MS);
        assert_int_equal(kit_actions(&k, SCHED_DELIVER), 0);
        kit_result(&k, 1, 2, 1, 1, SCHED_S_OK, 1 * MS);
        kit_expect_sent(&k, 1, 1, 2);
        kit_result(&k, 1, 1, 1, 2, SCHED_S_OK, 1 * MS);
        kit_expect_end(&k, 1, SCHED_S_OK);
        kit_release(&k);
    }
}

/* An engine that is away is asked when it is back. */
static void test_timeout_of_what_an_away_engine_holds(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 4, .away_grace_ns = 1000000 * MS});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    struct sched_event ev = kit_task(&k, 1, 1);
    ev.submit.timeout = 0.005;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    kit_engine(&k, SCHED_ENGINE_AWAY, 0);
    kit_tick(&k, 5 * MS);
    assert_null(kit_action(&k, SCHED_TAKE, 0));
    assert_int_equal(sched_deadline(k.s), k.now + 1000 * MS);
    kit_release(&k);
}

static void test_client_back(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.client_grace_ns = 10 * MS});
    kit_balanced(&k, 5, 3, 0);
    struct sched_event ev = {.type = SCHED_CLIENT_GONE, .id = {SESSION, 0}};
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    ev.type = SCHED_CLIENT_BACK;
    struct sched_range waiting = {SESSION, 3, 10};
    ev.client.waiting = &waiting;
    ev.client.nwaiting = 1;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    assert_int_equal(kit_actions(&k, SCHED_AGAIN), 2);
    assert_int_equal(k.a.v[0].id.seq, 3);
    assert_int_equal(k.a.v[0].count, 2);
    assert_int_equal(k.a.v[1].id.seq, 8);
    assert_int_equal(k.a.v[1].count, 2);
    kit_tick(&k, 20 * MS);
    assert_int_equal(k.a.n, 0);
    ev.type = SCHED_CLIENT_GONE;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    kit_tick(&k, 10 * MS);
    kit_expect_end(&k, 5, SCHED_S_ABORTED);
    kit_release(&k);
}

static void test_many_time_out_in_slices(void **state)
{
    struct kit k;
    size_t ended = 0;
    kit_init(&k, (struct sched_options){.slice = 4});
    for (uint64_t seq = 1; seq <= 10; seq++) {
        struct sched_event ev = kit_task(&k, seq, 1);
        ev.submit.timeout = 0.01;
        assert_int_equal(kit_handle(&k, &ev), CV_OK);
    }
    k.now += 10 * MS;
    while (sched_deadline(k.s) <= k.now) {
        kit_tick(&k, 1);
        assert_true(kit_actions(&k, SCHED_DELIVER) <= 4);
        ended += kit_actions(&k, SCHED_DELIVER);
    }
    assert_int_equal(ended, 10);
    kit_release(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_abort_takes_back),
        cmocka_unit_test(test_cancel_interrupts_and_is_never_retried),
        cmocka_unit_test(test_cancel_part_of_a_range),
        cmocka_unit_test(test_kill_after),
        cmocka_unit_test(test_kill_after_ages),
        cmocka_unit_test(test_timeout_of_the_unstarted),
        cmocka_unit_test(test_timeout_of_what_is_held_ahead),
        cmocka_unit_test(test_timeout_of_what_a_free_engine_has),
        cmocka_unit_test(test_timeout_of_what_is_tried_again),
        cmocka_unit_test(test_timeout_of_what_an_away_engine_holds),
        cmocka_unit_test(test_client_back),
        cmocka_unit_test(test_many_time_out_in_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sending: direct, broadcast, balanced; prefetch and taking back; restrictions and order. */
#include "sched/testkit.h"

#include "sched/state.h"

static void test_direct_goes_to_its_engine(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_engine(&k, SCHED_ENGINE_JOIN, 7);
    kit_direct(&k, 1, 7);
    kit_expect_sent(&k, 1, 7, 1);
    kit_direct(&k, 2, 7);
    kit_expect_sent(&k, 2, 7, 1);
    kit_result(&k, 7, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_end(&k, 1, SCHED_S_OK);
    assert_int_equal(k.a.n, 1);
    kit_result(&k, 7, 2, 1, 1, SCHED_S_ERROR, 0);
    kit_expect_end(&k, 2, SCHED_S_ERROR);
    assert_int_equal(sched_task_count(k.s), 0);
    kit_release(&k);
}

static void test_direct_window(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    size_t sent = 0;
    for (uint64_t seq = 1; seq <= 1100; seq++) {
        kit_direct(&k, seq, 0);
        sent += kit_actions(&k, SCHED_SEND);
    }
    assert_int_equal(sent, 1024);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_sent(&k, 1025, 0, 1);
    kit_release(&k);
}

static void test_direct_to_nobody(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_direct(&k, 1, 3);
    kit_expect_end(&k, 1, SCHED_S_REFUSED);
    kit_engine(&k, SCHED_ENGINE_JOIN, 3);
    kit_dead(&k, 3, 0, 0);
    kit_direct(&k, 2, 3);
    kit_expect_end(&k, 2, SCHED_S_ENGINE_DIED);
    assert_int_equal(kit_action(&k, SCHED_DELIVER, 2)->engine, 3);
    kit_release(&k);
}

/* Submitted again to a new scheduler: what an engine holds is not sent, and may be lost, given back
 * and stopped like any other; a part knows its place in the payload. */
static void test_held_by_an_engine(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 8});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    struct sched_event ev = kit_task(&k, 10, 2);
    ev.submit.offset = 3;
    ev.submit.retries = 1;
    ev.submit.held.engine = 0;
    ev.submit.held.incarnation = 1;
    ev.submit.held.attempt = 2;
    ev.submit.held.running = true;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    assert_int_equal(k.a.n, 0);
    assert_int_equal(kit_state(&k, 10), SCHED_T_RUNNING);
    ev.id.seq = 12;
    ev.submit.offset = 5;
    ev.submit.held.running = false;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    assert_int_equal(k.a.n, 0);
    assert_int_equal(kit_state(&k, 12), SCHED_T_SENT);
    kit_result(&k, 0, 10, 1, 2, SCHED_S_OK, 0);
    kit_expect_end(&k, 10, SCHED_S_OK);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    kit_dead(&k, 0, 11, 2);
    kit_expect_sent(&k, 11, 1, 3);
    assert_int_equal(kit_action(&k, SCHED_SEND, 11)->offset, 4);
    kit_expect_sent(&k, 12, 1, 3);
    assert_int_equal(kit_action(&k, SCHED_SEND, 12)->offset, 5);
    ev.id.seq = 20; /* its holder is dead: an ordinary task */
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    kit_expect_sent(&k, 20, 1, 1);
    kit_release(&k);
}

static void test_broadcast_is_a_record_per_target(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 4);
    kit_engine(&k, SCHED_ENGINE_JOIN, 5);
    struct sched_event ev = kit_task(&k, 10, 3);
    uint32_t targets[] = {5, 9, 4};
    ev.submit.mode = SCHED_BROADCAST;
    ev.submit.targets = targets;
    ev.submit.ntargets = 3;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    kit_expect_sent(&k, 10, 5, 1);
    kit_expect_end(&k, 11, SCHED_S_REFUSED);
    kit_expect_sent(&k, 12, 4, 1);
    kit_result(&k, 4, 12, 1, 1, SCHED_S_OK, 0);
    kit_expect_end(&k, 12, SCHED_S_OK);
    ev.submit.ntargets = 2;
    ev.id.seq = 20;
    assert_int_equal(kit_handle(&k, &ev), CV_EINVAL);
    kit_release(&k);
}

static void test_balanced_spreads_and_queues(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 1});
    kit_balanced(&k, 1, 1, 0);
    assert_int_equal(k.a.n, 0);
    assert_int_equal(sched_unassigned(k.s), 1);
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_expect_sent(&k, 1, 0, 1);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    kit_balanced(&k, 2, 1, 0);
    kit_expect_sent(&k, 2, 1, 1);
    kit_balanced(&k, 3, 1, 0);
    kit_balanced(&k, 4, 1, 0);
    assert_int_equal(k.a.n, 0);
    kit_result(&k, 1, 2, 1, 1, SCHED_S_OK, 0);
    kit_expect_sent(&k, 3, 1, 1);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_sent(&k, 4, 0, 1);
    kit_release(&k);
}

static void test_resend_is_ignored(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 10, 0);
    assert_int_equal(kit_actions(&k, SCHED_SEND), 1);
    kit_result(&k, 0, 1, 9, 1, SCHED_S_OK, 0);
    kit_balanced(&k, 1, 10, 0);
    assert_int_equal(k.a.n, 0);
    assert_int_equal(sched_task_count(k.s), 1);
    kit_release(&k);
}

static void test_quick_tasks_are_sent_ahead_slow_ones_not(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_warm(&k, 0, 1);
    size_t sent = 0;
    for (uint64_t seq = 2; seq < 502; seq++) {
        kit_balanced(&k, seq, 1, 0);
        sent += kit_actions(&k, SCHED_SEND);
    }
    assert_in_range(sent, 16, 256);
    for (uint64_t seq = 2; kit_state(&k, 501) == SCHED_T_QUEUED && seq < 501; seq++) {
        k.now += 3 * MS;
        kit_result(&k, 0, seq, 1, 1, SCHED_S_OK, 3 * MS);
        if (seq > 10 && seq < sent)
            assert_int_equal(kit_actions(&k, SCHED_SEND), 0); /* what it holds comes first */
    }
    struct sched_engine_info info;
    assert_true(sched_engine_info(k.s, 0, &info));
    assert_int_equal(info.held_balanced, 1);
    kit_release(&k);
}

static void test_idle_engine_gets_what_another_holds(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 16});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    for (uint64_t seq = 1; seq <= 16; seq++)
        kit_balanced(&k, seq, 1, 0);
    kit_direct(&k, 17, 0);
    k.now += 2 * MS;
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    assert_int_equal(kit_actions(&k, SCHED_TAKE), 8);
    assert_null(kit_action(&k, SCHED_TAKE, 17));
    assert_non_null(kit_action(&k, SCHED_TAKE, 16));
    kit_result(&k, 0, 15, 1, 1, SCHED_S_OK, 0); /* crossed the TAKE: counts */
    kit_expect_end(&k, 15, SCHED_S_OK);
    kit_word(&k, SCHED_GIVE_BACK, 0, 15, 0, 1);
    kit_word(&k, SCHED_GIVE_BACK, 0, 16, 1, 1);
    kit_expect_sent(&k, 16, 1, 2);
    kit_release(&k);
}

static void test_running_range_is_shared(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 1});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 100, 0);
    kit_word(&k, SCHED_STARTED, 0, 1, 1, 1);
    k.now += 5 * MS;
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    const struct sched_action *a = kit_action(&k, SCHED_TAKE, 100);
    assert_non_null(a);
    assert_true(a->id.seq > 40);
    kit_word(&k, SCHED_GIVE_BACK, 0, 61, 40, 1);
    kit_expect_sent(&k, 61, 1, 2);
    assert_int_equal(kit_action(&k, SCHED_SEND, 61)->offset, 60);
    assert_int_equal(sched_task_count(k.s), 2);
    kit_release(&k);
}

static void test_the_less_loaded_is_chosen(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 8});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    for (uint64_t seq = 1; seq <= 3; seq++)
        kit_direct(&k, seq, 0);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    for (uint64_t seq = 4; seq <= 6; seq++) {
        kit_balanced(&k, seq, 1, 0);
        kit_expect_sent(&k, seq, 1, 1);
    }
    kit_release(&k);
}

static void test_words_of_old_attempts_change_nothing(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 2});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 0);
    kit_word(&k, SCHED_GIVE_BACK, 0, 1, 1, 1);
    kit_expect_sent(&k, 1, 0, 2);
    kit_word(&k, SCHED_GIVE_BACK, 0, 1, 1, 1);
    assert_int_equal(k.a.n, 0);
    kit_word(&k, SCHED_STARTED, 0, 1, 1, 1);
    assert_int_equal(kit_state(&k, 1), SCHED_T_SENT);
    kit_word(&k, SCHED_STARTED, 0, 1, 1, 2);
    assert_int_equal(kit_state(&k, 1), SCHED_T_RUNNING);
    kit_release(&k);
}

static void submit_to(struct kit *k, uint64_t seq, uint32_t *targets, uint32_t n, int32_t priority)
{
    struct sched_event ev = kit_task(k, seq, 1);
    ev.submit.targets = targets;
    ev.submit.ntargets = n;
    ev.submit.priority = priority;
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

static void test_targets_and_priorities(void **state)
{
    struct kit k;
    uint32_t first[] = {0}, missing[] = {8, 9};
    kit_init(&k, (struct sched_options){.hwm = 1});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 0);
    submit_to(&k, 2, first, 1, 0);
    submit_to(&k, 3, NULL, 0, 5);
    submit_to(&k, 4, first, 1, -5);
    submit_to(&k, 5, missing, 2, 0);
    kit_expect_end(&k, 5, SCHED_S_IMPOSSIBLE);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_sent(&k, 3, 0, 1);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    assert_int_equal(k.a.n, 0); /* the others are for engine 0 */
    kit_result(&k, 0, 3, 1, 1, SCHED_S_OK, 0);
    kit_expect_sent(&k, 2, 0, 1);
    kit_dead(&k, 0, 2, 1);
    kit_expect_end(&k, 4, SCHED_S_IMPOSSIBLE);
    kit_release(&k);
}

/* It is kept off the engine that it failed on, noted once: sched_check() sees to that. */
static void test_many_retries_on_one_engine(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 50);
    for (uint16_t attempt = 1; attempt <= 50; attempt++) {
        kit_result(&k, 0, 1, 1, attempt, SCHED_S_ERROR, 0);
        kit_expect_sent(&k, 1, 0, attempt + 1);
    }
    kit_result(&k, 0, 1, 1, 51, SCHED_S_ERROR, 0);
    kit_expect_end(&k, 1, SCHED_S_ERROR);
    kit_release(&k);
}

/* A program may give each of its tasks a priority of its own. */
static void test_priorities_without_tasks_cost_nothing(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 1});
    for (uint64_t seq = 1; seq <= 1000; seq++) {
        struct sched_event ev = kit_task(&k, seq, 1);
        ev.submit.priority = (int32_t)seq - 500;
        assert_int_equal(kit_handle(&k, &ev), CV_OK);
    }
    assert_int_equal(k.s->any.levels.count, 999);
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    for (uint64_t seq = 1000; seq >= 1; seq--) {
        kit_expect_sent(&k, seq, 0, 1);
        kit_result(&k, 0, seq, 1, 1, SCHED_S_OK, 1 * MS);
    }
    assert_true(k.s->any.levels.count < 100);
    kit_release(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_direct_goes_to_its_engine),
        cmocka_unit_test(test_direct_window),
        cmocka_unit_test(test_direct_to_nobody),
        cmocka_unit_test(test_held_by_an_engine),
        cmocka_unit_test(test_broadcast_is_a_record_per_target),
        cmocka_unit_test(test_balanced_spreads_and_queues),
        cmocka_unit_test(test_resend_is_ignored),
        cmocka_unit_test(test_quick_tasks_are_sent_ahead_slow_ones_not),
        cmocka_unit_test(test_idle_engine_gets_what_another_holds),
        cmocka_unit_test(test_running_range_is_shared),
        cmocka_unit_test(test_the_less_loaded_is_chosen),
        cmocka_unit_test(test_words_of_old_attempts_change_nothing),
        cmocka_unit_test(test_targets_and_priorities),
        cmocka_unit_test(test_many_retries_on_one_engine),
        cmocka_unit_test(test_priorities_without_tasks_cost_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sending: direct, broadcast, balanced; prefetch and taking back; restrictions and order. */
#include "sched/testkit.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_direct_goes_to_its_engine),
        cmocka_unit_test(test_direct_window),
        cmocka_unit_test(test_direct_to_nobody),
        cmocka_unit_test(test_broadcast_is_a_record_per_target),
        cmocka_unit_test(test_balanced_spreads_and_queues),
        cmocka_unit_test(test_resend_is_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

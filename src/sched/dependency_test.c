/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dependencies between tasks, and engines that do not meet a task's own. */
#include "sched/testkit.h"

#define ALL 1
#define SUCCESS 2
#define FAILURE 4

static void submit(struct kit *k, uint64_t seq, struct sched_range *after, uint8_t af,
                   struct sched_range *follow, uint8_t ff)
{
    struct sched_event ev = kit_task(k, seq, 1);
    ev.submit.after = after;
    ev.submit.nafter = after != NULL;
    ev.submit.after_flags = af;
    ev.submit.follow = follow;
    ev.submit.nfollow = follow != NULL;
    ev.submit.follow_flags = ff;
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

static void setup(struct kit *k)
{
    kit_init(k, (struct sched_options){.hwm = 1});
    kit_engine(k, SCHED_ENGINE_JOIN, 0);
    kit_engine(k, SCHED_ENGINE_JOIN, 1);
}

static void test_after_all(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION, 1, 3};
    setup(&k);
    kit_balanced(&k, 1, 2, 0);
    submit(&k, 3, &on, ALL | SUCCESS, NULL, 0);
    assert_int_equal(kit_state(&k, 3), SCHED_T_WAITING);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    assert_int_equal(kit_state(&k, 3), SCHED_T_WAITING);
    kit_result(&k, 0, 2, 1, 1, SCHED_S_OK, 0);
    assert_non_null(kit_action(&k, SCHED_SEND, 3));
    kit_release(&k);
}

static void test_after_fails(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION, 1, 3}, chain = {SESSION, 3, 4};
    setup(&k);
    kit_balanced(&k, 1, 2, 0);
    submit(&k, 3, &on, ALL | SUCCESS, NULL, 0);
    submit(&k, 4, &chain, ALL | FAILURE, NULL, 0);
    submit(&k, 5, &chain, ALL | SUCCESS, NULL, 0);
    submit(&k, 6, &on, SUCCESS, NULL, 0);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_ERROR, 0);
    kit_expect_end(&k, 3, SCHED_S_IMPOSSIBLE);
    kit_expect_end(&k, 5, SCHED_S_IMPOSSIBLE);
    assert_non_null(kit_action(&k, SCHED_SEND, 4)); /* it waited for the failure */
    assert_int_equal(kit_state(&k, 6), SCHED_T_WAITING);
    kit_release(&k);
}

static void test_follow_goes_where_it_ran(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION, 1, 2}, both = {SESSION, 1, 3};
    setup(&k);
    kit_balanced(&k, 1, 1, 0);
    kit_balanced(&k, 2, 1, 0);
    uint32_t where = 0;
    assert_int_equal(sched_task_state(k.s, (struct sched_id){SESSION, 1}, &where), SCHED_T_SENT);
    submit(&k, 3, NULL, 0, &on, ALL | SUCCESS);
    submit(&k, 4, NULL, 0, &both, ALL | SUCCESS);
    kit_result(&k, !where, 2, 1, 1, SCHED_S_OK, 0);
    assert_int_equal(k.a.n, 1);
    kit_result(&k, where, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_sent(&k, 3, where, 1);
    kit_expect_end(&k, 4, SCHED_S_IMPOSSIBLE); /* no one engine had both */
    kit_release(&k);
}

static void test_ended_and_unknown(void **state)
{
    struct kit k;
    struct sched_range good = {SESSION, 40, 41}, bad = {SESSION, 41, 42}, none = {SESSION, 42, 43},
                       self = {SESSION, 53, 54};
    setup(&k);
    k.past[40].known = k.past[41].known = true;
    k.past[40].engine = 1;
    k.past[41].status = SCHED_S_ERROR;
    submit(&k, 50, NULL, 0, &good, ALL | SUCCESS);
    kit_expect_sent(&k, 50, 1, 1);
    submit(&k, 51, &bad, ALL | SUCCESS, NULL, 0);
    kit_expect_end(&k, 51, SCHED_S_IMPOSSIBLE);
    submit(&k, 52, &none, ALL | SUCCESS, NULL, 0);
    kit_expect_end(&k, 52, SCHED_S_INVALID);
    submit(&k, 53, &self, ALL | SUCCESS, NULL, 0);
    kit_expect_end(&k, 53, SCHED_S_INVALID);
    kit_release(&k);
}

static void test_waiting_times_out(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION, 1, 2};
    setup(&k);
    kit_balanced(&k, 1, 1, 0);
    struct sched_event ev = kit_task(&k, 2, 1);
    ev.submit.after = &on;
    ev.submit.nafter = 1;
    ev.submit.after_flags = ALL | SUCCESS;
    ev.submit.timeout = 0.001;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    kit_tick(&k, 1 * MS);
    kit_expect_end(&k, 2, SCHED_S_TIMEOUT);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    assert_int_equal(k.a.n, 1);
    kit_release(&k);
}

static void test_unmet_tries_the_next(void **state)
{
    struct kit k;
    setup(&k);
    kit_balanced(&k, 1, 1, 0);
    uint32_t first = kit_action(&k, SCHED_SEND, 1)->engine;
    kit_result(&k, first, 1, 1, 1, SCHED_S_UNMET, 0);
    kit_expect_sent(&k, 1, !first, 2);
    kit_result(&k, !first, 1, 1, 2, SCHED_S_UNMET, 0);
    kit_expect_end(&k, 1, SCHED_S_IMPOSSIBLE);
    kit_release(&k);
}

static void test_cancelled_with_what_it_waits_for(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION, 1, 2};
    kit_init(&k, (struct sched_options){0});
    kit_balanced(&k, 1, 1, 0);
    submit(&k, 2, &on, ALL | FAILURE, NULL, 0);
    kit_cancel(&k, 1, 2, SCHED_CANCEL_INTERRUPT, 0);
    assert_int_equal(kit_actions(&k, SCHED_DELIVER), 2);
    kit_expect_end(&k, 2, SCHED_S_CANCELLED);
    kit_release(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_after_all),
        cmocka_unit_test(test_after_fails),
        cmocka_unit_test(test_follow_goes_where_it_ran),
        cmocka_unit_test(test_ended_and_unknown),
        cmocka_unit_test(test_waiting_times_out),
        cmocka_unit_test(test_unmet_tries_the_next),
        cmocka_unit_test(test_cancelled_with_what_it_waits_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

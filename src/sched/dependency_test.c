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

static int submit_direct(struct kit *k, uint64_t seq, uint32_t engine,
                         const struct sched_range *after, const struct sched_range *follow)
{
    struct sched_event ev = kit_task(k, seq, 1);
    ev.submit.mode = SCHED_DIRECT;
    ev.submit.targets = &engine;
    ev.submit.ntargets = 1;
    ev.submit.after = after;
    ev.submit.nafter = after != NULL;
    ev.submit.follow = follow;
    ev.submit.nfollow = follow != NULL;
    ev.submit.after_flags = ev.submit.follow_flags = ALL | SUCCESS;
    return kit_handle(k, &ev);
}

static void test_direct_waits_too(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION, 1, 2}, nobody = {SESSION, 40, 41};
    setup(&k);
    kit_direct(&k, 1, 0); /* what a direct task is depended on for is no different either */
    assert_int_equal(submit_direct(&k, 2, 1, &on, NULL), CV_OK);
    assert_int_equal(submit_direct(&k, 3, 0, NULL, &on), CV_OK);
    assert_int_equal(submit_direct(&k, 4, 1, NULL, &on), CV_OK);
    assert_int_equal(submit_direct(&k, 5, 1, &nobody, NULL), CV_OK);
    kit_expect_end(&k, 5, SCHED_S_INVALID);
    for (uint64_t seq = 2; seq <= 4; seq++)
        assert_int_equal(kit_state(&k, seq), SCHED_T_WAITING);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_sent(&k, 2, 1, 1);
    kit_expect_sent(&k, 3, 0, 1);
    kit_expect_end(&k, 4, SCHED_S_IMPOSSIBLE); /* it is for the other one */
    kit_release(&k);
}

static void test_direct_ends_with_its_engine(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION, 1, 2};
    setup(&k);
    kit_direct(&k, 1, 0);
    assert_int_equal(submit_direct(&k, 2, 1, &on, NULL), CV_OK);
    kit_dead(&k, 1, 0, 0);
    kit_expect_end(&k, 2, SCHED_S_ENGINE_DIED);
    kit_release(&k);
}

/* Items of one broadcast can't wait for each other: that would never end. */
static void test_broadcast_waits_whole(void **state)
{
    struct kit k;
    uint32_t targets[] = {0, 1};
    struct sched_range on = {SESSION, 1, 2}, itself = {SESSION, 6, 7};
    setup(&k);
    kit_direct(&k, 1, 0);
    struct sched_event ev = kit_task(&k, 2, 2);
    ev.submit.mode = SCHED_BROADCAST;
    ev.submit.targets = targets;
    ev.submit.ntargets = 2;
    ev.submit.after = &on;
    ev.submit.nafter = 1;
    ev.submit.after_flags = ALL | SUCCESS;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    assert_int_equal(sched_unassigned(k.s), 2);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_sent(&k, 2, 0, 1);
    kit_expect_sent(&k, 3, 1, 1);
    ev.id.seq = 5;
    ev.submit.after = &itself;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    kit_expect_end(&k, 5, SCHED_S_INVALID);
    kit_expect_end(&k, 6, SCHED_S_INVALID);
    kit_release(&k);
}

/* Whatever its client, a task can be depended on; one that nobody submitted can't. */
static void test_tasks_of_other_clients(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION + 1, 1, 2}, unknown = {SESSION + 2, 1, 2};
    setup(&k);
    struct sched_event ev = kit_task(&k, 1, 1);
    ev.id.session = SESSION + 1;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    uint32_t at = kit_action(&k, SCHED_SEND, 1)->engine;
    submit(&k, 1, &on, ALL | SUCCESS, NULL, 0);
    assert_int_equal(kit_state(&k, 1), SCHED_T_WAITING);
    submit(&k, 2, &unknown, ALL | SUCCESS, NULL, 0);
    kit_expect_end(&k, 2, SCHED_S_INVALID);
    struct sched_event done = {.type = SCHED_RESULT,
                               .id = {SESSION + 1, 1},
                               .count = 1,
                               .attempt = 1,
                               .engine = at,
                               .incarnation = 1};
    assert_int_equal(kit_handle(&k, &done), CV_OK);
    assert_int_equal(kit_action(&k, SCHED_SEND, 1)->id.session, SESSION);
    kit_release(&k);
}

/* after × follow, all × any, success × failure: what each says when one of two tasks fails. */
static void test_every_kind(void **state)
{
    static const struct {
        uint8_t flags;
        bool met;
    } rows[] = {{SUCCESS, true},        {FAILURE, true},        {SUCCESS | FAILURE, true},
                {ALL | SUCCESS, false}, {ALL | FAILURE, false}, {ALL | SUCCESS | FAILURE, true}};
    for (int follow = 0; follow < 2; follow++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            struct kit k;
            struct sched_range on = {SESSION, 1, 3};
            kit_init(&k, (struct sched_options){.hwm = 4});
            kit_engine(&k, SCHED_ENGINE_JOIN, 0);
            kit_balanced(&k, 1, 1, 0);
            kit_balanced(&k, 2, 1, 0);
            submit(&k, 3, follow ? NULL : &on, rows[i].flags, follow ? &on : NULL, rows[i].flags);
            kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
            bool early = kit_action(&k, SCHED_SEND, 3) || kit_action(&k, SCHED_DELIVER, 3);
            kit_result(&k, 0, 2, 1, 1, SCHED_S_ERROR, 0);
            if (rows[i].met)
                assert_true(early || kit_action(&k, SCHED_SEND, 3));
            else if (!early)
                kit_expect_end(&k, 3, SCHED_S_IMPOSSIBLE);
            enum sched_task_state st = kit_state(&k, 3);
            assert_int_equal(st == SCHED_T_SENT, rows[i].met);
            kit_release(&k);
        }
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

static void test_unmet_of_a_direct_task_is_told(void **state)
{
    struct kit k;
    setup(&k);
    kit_direct(&k, 1, 0);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_UNMET, 0);
    kit_expect_end(&k, 1, SCHED_S_UNMET); /* there is no other engine to ask */
    assert_non_null(kit_action(&k, SCHED_DELIVER, 1)->why);
    kit_release(&k);
}

static void test_unmet_tries_those_that_come_later(void **state)
{
    struct kit k;
    setup(&k);
    for (uint64_t seq = 1; seq <= 2; seq++)
        kit_balanced(&k, seq, 1, 0);
    kit_result(&k, 0, kit_state(&k, 1) == SCHED_T_SENT ? 1 : 2, 0, 0, SCHED_S_OK, 0);
    uint32_t at = 0;
    sched_task_state(k.s, (struct sched_id){SESSION, 1}, &at);
    kit_result(&k, at, 1, 1, 1, SCHED_S_UNMET, 0);
    assert_int_equal(kit_state(&k, 1), SCHED_T_QUEUED); /* the other one is busy, but there */
    kit_engine(&k, SCHED_ENGINE_JOIN, 2);
    kit_expect_sent(&k, 1, 2, 2);
    kit_result(&k, 2, 1, 1, 2, SCHED_S_UNMET, 0);
    kit_dead(&k, !at, 0, 0);
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

/* More items than counters hold, though some of them are there. */
static void test_ranges_without_end(void **state)
{
    struct kit k;
    struct sched_range on[] = {
        {SESSION, 1, (1ull << 63) + 1}, {SESSION, 5, (1ull << 63) + 5}, {SESSION, 1, 2}};
    kit_init(&k, (struct sched_options){0});
    kit_balanced(&k, 1, 3, 0);
    struct sched_event ev = kit_task(&k, 4, 1);
    ev.submit.after = on;
    ev.submit.after_flags = SUCCESS;
    for (ev.submit.nafter = 1; ev.submit.nafter <= 3; ev.submit.nafter++, ev.id.seq++) {
        assert_int_equal(kit_handle(&k, &ev), CV_OK);
        kit_expect_end(&k, ev.id.seq, SCHED_S_INVALID);
    }
    kit_release(&k);
}

static void test_a_task_does_not_wait_for_itself(void **state)
{
    struct kit k;
    struct sched_range itself = {SESSION, 1, 3};
    setup(&k);
    kit_balanced(&k, 1, 1, 0);
    submit(&k, 2, &itself, ALL | SUCCESS, NULL, 0);
    kit_expect_end(&k, 2, SCHED_S_INVALID);
    submit(&k, 3, NULL, 0, &(struct sched_range){SESSION, 3, 4}, SUCCESS);
    kit_expect_end(&k, 3, SCHED_S_INVALID);
    kit_release(&k);
}

/* Many wait for one task: they hear of its end in slices, and what has a chain behind it, too. */
static void test_many_that_wait_are_told_in_slices(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION, 1, 2};
    uint64_t last = 9;
    size_t ended = 0;
    kit_init(&k, (struct sched_options){.hwm = 1, .slice = 4});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 0);
    for (uint64_t seq = 2; seq <= last; seq++)
        submit(&k, seq, &on, ALL | SUCCESS, NULL, 0);
    for (uint64_t seq = last + 1; seq <= 2 * last; seq++)
        submit(&k, seq, &(struct sched_range){SESSION, seq - 1, seq}, ALL | SUCCESS, NULL, 0);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_ERROR, 0);
    kit_expect_end(&k, 1, SCHED_S_ERROR);
    assert_int_equal(kit_actions(&k, SCHED_DELIVER), 1); /* a result's slice is a small one */
    assert_int_equal(kit_state(&k, 3), SCHED_T_WAITING);
    kit_cancel(&k, 3, 1, SCHED_CANCEL_INTERRUPT, 0); /* before it has heard */
    kit_expect_end(&k, 3, SCHED_S_CANCELLED);
    submit(&k, 30, &(struct sched_range){SESSION, 2 * last, 2 * last + 1}, ALL | SUCCESS, NULL, 0);
    while (sched_deadline(k.s) <= k.now) {
        kit_tick(&k, 1);
        assert_true(kit_actions(&k, SCHED_DELIVER) <= 4);
        ended += kit_actions(&k, SCHED_DELIVER);
        if (kit_action(&k, SCHED_DELIVER, last))
            assert_int_equal(kit_action(&k, SCHED_DELIVER, last)->about.seq, 1);
    }
    assert_int_equal(ended, 2 * last - 1); /* [2, 18] without 3, and 30 */
    assert_int_equal(sched_task_count(k.s), 0);
    kit_release(&k);
}

static void test_freed_before_all_were_told(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION, 1, 2};
    kit_init(&k, (struct sched_options){.hwm = 1, .slice = 2});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 0);
    for (uint64_t seq = 2; seq <= 9; seq++)
        submit(&k, seq, &on, ALL | SUCCESS, NULL, 0);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    kit_release(&k); /* nothing leaks */
}

static unsigned ticks(struct kit *k)
{
    unsigned n = 0;
    for (; sched_deadline(k->s) <= k->now; n++)
        kit_tick(k, 1);
    return n;
}

static void twenty(struct kit *k)
{
    kit_init(k, (struct sched_options){.hwm = 1, .slice = 4});
    kit_engine(k, SCHED_ENGINE_JOIN, 0);
    for (uint64_t seq = 1; seq <= 20; seq++)
        kit_balanced(k, seq, 1, 0);
}

/* What ends before it was looked at counts, though no record says so (any more). */
static void test_many_ids_are_looked_at_in_slices(void **state)
{
    struct kit k;
    struct sched_range on[] = {{SESSION, 5, 10}, {SESSION, 1, 21}, {SESSION, 3, 3}};
    twenty(&k);
    struct sched_event ev = kit_task(&k, 21, 1);
    ev.submit.after = on;
    ev.submit.nafter = 3;
    ev.submit.after_flags = ALL | SUCCESS | FAILURE;
    ev.submit.follow = &on[1];
    ev.submit.nfollow = 1;
    ev.submit.follow_flags = SUCCESS | FAILURE; /* of any */
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    kit_cancel(&k, 2, 1, SCHED_CANCEL_INTERRUPT, 0);  /* it was looked at */
    kit_cancel(&k, 15, 1, SCHED_CANCEL_INTERRUPT, 0); /* it was not */
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    assert_true(ticks(&k) >= 7);
    for (uint64_t seq = 3; seq <= 20; seq++) {
        assert_int_equal(kit_state(&k, 21), SCHED_T_WAITING);
        if (seq != 15)
            kit_cancel(&k, seq, 1, SCHED_CANCEL_INTERRUPT, 0);
    }
    ticks(&k);
    kit_result(&k, 0, 3, 1, 1, SCHED_S_CANCELLED, 0); /* the engine had it */
    ticks(&k);
    assert_int_equal(kit_state(&k, 21), SCHED_T_SENT); /* where 1 ran */
    kit_release(&k);
}

static void test_a_later_slice_finds_what_never_was(void **state)
{
    static const uint64_t own[] = {21, 40, 41};
    for (int i = 0; i < 3; i++) { /* itself, nothing, all are there */
        struct kit k;
        struct sched_range on = {SESSION, 1, i < 2 ? 31 : 21};
        twenty(&k);
        submit(&k, own[i], &on, ALL | SUCCESS, NULL, 0);
        assert_int_equal(kit_state(&k, own[i]), SCHED_T_WAITING);
        while (sched_deadline(k.s) <= k.now && !kit_actions(&k, SCHED_DELIVER))
            kit_tick(&k, 1);
        if (i < 2)
            kit_expect_end(&k, own[i], SCHED_S_INVALID);
        else
            assert_int_equal(kit_state(&k, own[i]), SCHED_T_WAITING);
        ticks(&k);
        kit_release(&k);
    }
}

/* Of what its records have forgotten it is known how it ended, not where. */
static void test_follows_what_ran_nobody_knows_where(void **state)
{
    struct kit k;
    struct sched_range on = {SESSION, 5, 6};
    setup(&k);
    k.past[5].known = true;
    k.past[5].engine = SCHED_ENGINE_NONE;
    submit(&k, 10, &on, ALL | SUCCESS, NULL, 0);
    assert_int_equal(kit_state(&k, 10), SCHED_T_SENT);
    submit(&k, 11, NULL, 0, &on, ALL | SUCCESS);
    kit_expect_end(&k, 11, SCHED_S_IMPOSSIBLE);
    assert_non_null(strstr(kit_action(&k, SCHED_DELIVER, 11)->why, "not known"));
    kit_release(&k);
}

/* At each point: before all was looked at, and before all edges are gone. */
static void test_it_ends_or_all_ends_in_the_middle(void **state)
{
    for (int n = 0; n < 14; n++) {
        for (int ended = 0; ended < 2; ended++) {
            struct kit k;
            twenty(&k);
            submit(&k, 21, &(struct sched_range){SESSION, 1, 21}, SUCCESS | FAILURE, NULL, 0);
            for (int i = 0; i < n; i++)
                kit_tick(&k, 1);
            if (ended) {
                kit_cancel(&k, 21, 1, SCHED_CANCEL_INTERRUPT, 0);
                kit_expect_end(&k, 21, SCHED_S_CANCELLED);
                kit_cancel(&k, 2, 1, SCHED_CANCEL_INTERRUPT, 0);
                kit_cancel(&k, 19, 1, SCHED_CANCEL_INTERRUPT, 0);
                if (n % 2)
                    ticks(&k);
            }
            kit_release(&k);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_after_all),
        cmocka_unit_test(test_after_fails),
        cmocka_unit_test(test_follow_goes_where_it_ran),
        cmocka_unit_test(test_direct_waits_too),
        cmocka_unit_test(test_direct_ends_with_its_engine),
        cmocka_unit_test(test_broadcast_waits_whole),
        cmocka_unit_test(test_tasks_of_other_clients),
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_ended_and_unknown),
        cmocka_unit_test(test_waiting_times_out),
        cmocka_unit_test(test_unmet_tries_the_next),
        cmocka_unit_test(test_unmet_of_a_direct_task_is_told),
        cmocka_unit_test(test_unmet_tries_those_that_come_later),
        cmocka_unit_test(test_cancelled_with_what_it_waits_for),
        cmocka_unit_test(test_ranges_without_end),
        cmocka_unit_test(test_a_task_does_not_wait_for_itself),
        cmocka_unit_test(test_many_that_wait_are_told_in_slices),
        cmocka_unit_test(test_freed_before_all_were_told),
        cmocka_unit_test(test_many_ids_are_looked_at_in_slices),
        cmocka_unit_test(test_a_later_slice_finds_what_never_was),
        cmocka_unit_test(test_follows_what_ran_nobody_knows_where),
        cmocka_unit_test(test_it_ends_or_all_ends_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Losing engines: what ran and what did not, retries, away and back, draining. */
#include "sched/testkit.h"

static void test_death_costs_what_ran(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 16});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    for (uint64_t seq = 1; seq <= 16; seq++) {
        kit_balanced(&k, seq, 1, 0);
        kit_expect_sent(&k, seq, 0, 1);
    }
    kit_direct(&k, 17, 0);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    kit_dead(&k, 0, 1, 1);
    kit_expect_end(&k, 1, SCHED_S_ENGINE_DIED);
    kit_expect_end(&k, 17, SCHED_S_ENGINE_DIED);
    assert_int_equal(kit_actions(&k, SCHED_DELIVER), 2);
    assert_int_equal(kit_actions(&k, SCHED_SEND), 15);
    assert_int_equal(kit_action(&k, SCHED_SEND, 0)->id.seq, 2);
    kit_expect_sent(&k, 2, 1, 2);
    kit_release(&k);
}

static void test_unknown_death_costs_all(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 4});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 0);
    kit_balanced(&k, 2, 1, 1);
    kit_dead_unknown(&k, 0);
    kit_expect_end(&k, 1, SCHED_S_ENGINE_DIED);
    assert_int_equal(kit_state(&k, 2), SCHED_T_QUEUED);
    kit_release(&k);
}

static void test_results_that_died_too(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 4});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    for (uint64_t seq = 1; seq <= 4; seq++)
        kit_balanced(&k, seq, 1, 0);
    struct sched_event ev = {.type = SCHED_ENGINE_DEAD, .engine = 0, .incarnation = 1};
    ev.dead.known = true;
    ev.dead.running = (struct sched_held){{SESSION, 3}, 1, 1};
    ev.dead.unreported = 2;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    for (uint64_t seq = 1; seq <= 3; seq++)
        kit_expect_end(&k, seq, SCHED_S_ENGINE_DIED);
    assert_int_equal(kit_state(&k, 4), SCHED_T_QUEUED);
    kit_release(&k);
}

static void test_retries_and_three_kills(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_balanced(&k, 1, 1, 100);
    for (uint32_t e = 0; e < 3; e++) {
        kit_engine(&k, SCHED_ENGINE_JOIN, e);
        kit_expect_sent(&k, 1, e, (uint16_t)(e + 1));
        kit_dead(&k, e, 1, (uint16_t)(e + 1));
    }
    kit_expect_end(&k, 1, SCHED_S_ENGINE_DIED);
    const struct sched_action *a = kit_action(&k, SCHED_DELIVER, 1);
    assert_int_equal(a->nkilled, 3);
    assert_int_equal(a->killed[2], 2);
    kit_release(&k);
}

static void test_planned_end_is_free(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 1);
    struct sched_event ev = {.type = SCHED_ENGINE_DEAD, .engine = 0, .incarnation = 1};
    ev.dead.known = true;
    ev.dead.free_of_charge = true;
    ev.dead.running = (struct sched_held){{SESSION, 1}, 1, 1};
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    assert_int_equal(kit_state(&k, 1), SCHED_T_QUEUED);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    kit_dead(&k, 1, 1, 2); /* the retry is still there */
    assert_int_equal(kit_state(&k, 1), SCHED_T_QUEUED);
    kit_engine(&k, SCHED_ENGINE_JOIN, 2);
    kit_dead(&k, 2, 1, 3);
    kit_expect_end(&k, 1, SCHED_S_ENGINE_DIED);
    kit_release(&k);
}

static void test_error_is_retried_elsewhere(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    kit_balanced(&k, 1, 1, 2);
    uint32_t first = kit_action(&k, SCHED_SEND, 1)->engine;
    kit_result(&k, first, 1, 1, 1, SCHED_S_ERROR, 0);
    kit_expect_sent(&k, 1, !first, 2);
    kit_result(&k, !first, 1, 1, 2, SCHED_S_ERROR, 0);
    assert_int_equal(kit_actions(&k, SCHED_SEND), 1); /* both failed once: any will do */
    kit_result(&k, kit_action(&k, SCHED_SEND, 1)->engine, 1, 1, 3, SCHED_S_ERROR, 0);
    kit_expect_end(&k, 1, SCHED_S_ERROR);
    kit_release(&k);
}

/* retries=1: one for an engine that dies, one for an error of its own, and neither pays for the
 * other. */
static void test_budgets_are_separate(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    for (uint32_t e = 0; e < 3; e++)
        kit_engine(&k, SCHED_ENGINE_JOIN, e);
    kit_balanced(&k, 1, 1, 1);
    uint32_t at = kit_action(&k, SCHED_SEND, 1)->engine;
    kit_dead(&k, at, 1, 1);
    at = kit_action(&k, SCHED_SEND, 1)->engine;
    kit_result(&k, at, 1, 1, 2, SCHED_S_ERROR, 0);
    at = kit_action(&k, SCHED_SEND, 1)->engine;
    kit_result(&k, at, 1, 1, 3, SCHED_S_ERROR, 0);
    kit_expect_end(&k, 1, SCHED_S_ERROR);
    kit_release(&k);
}

static void test_direct_is_retried_where_it_is_for(void **state)
{
    struct kit k;
    uint32_t target = 1;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    struct sched_event ev = kit_task(&k, 1, 1);
    ev.submit.mode = SCHED_DIRECT;
    ev.submit.targets = &target;
    ev.submit.ntargets = 1;
    ev.submit.retries = 2;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    kit_result(&k, 1, 1, 1, 1, SCHED_S_ERROR, 0);
    kit_expect_sent(&k, 1, 1, 2);
    kit_result(&k, 1, 1, 1, 2, SCHED_S_ERROR, 0);
    kit_expect_sent(&k, 1, 1, 3);
    kit_dead(&k, 1, 1, 3); /* its engine is the only one that it is for */
    kit_expect_end(&k, 1, SCHED_S_ENGINE_DIED);
    kit_release(&k);
}

static void test_broadcast_is_retried_item_by_item(void **state)
{
    struct kit k;
    uint32_t targets[] = {0, 1};
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    struct sched_event ev = kit_task(&k, 1, 2);
    ev.submit.mode = SCHED_BROADCAST;
    ev.submit.targets = targets;
    ev.submit.ntargets = 2;
    ev.submit.retries = 1;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_end(&k, 1, SCHED_S_OK);
    kit_result(&k, 1, 2, 1, 1, SCHED_S_ERROR, 0);
    kit_expect_sent(&k, 2, 1, 2);
    assert_int_equal(kit_action(&k, SCHED_SEND, 2)->offset, 1);
    kit_result(&k, 1, 2, 1, 2, SCHED_S_ERROR, 0);
    kit_expect_end(&k, 2, SCHED_S_ERROR);
    kit_release(&k);
}

static void test_range_is_split_where_it_ran(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 100, 200, 0);
    kit_result(&k, 0, 100, 50, 1, SCHED_S_OK, 0);
    kit_result(&k, 0, 120, 40, 1, SCHED_S_OK, 0); /* overlaps what is known */
    assert_int_equal(kit_actions(&k, SCHED_DELIVER), 1);
    assert_int_equal(k.a.v[0].id.seq, 150);
    assert_int_equal(k.a.v[0].count, 10);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    kit_dead(&k, 0, 160, 1);
    kit_expect_end(&k, 160, SCHED_S_ENGINE_DIED);
    assert_int_equal(kit_actions(&k, SCHED_DELIVER), 1);
    kit_expect_sent(&k, 161, 1, 2);
    assert_int_equal(kit_action(&k, SCHED_SEND, 161)->offset, 61);
    assert_int_equal(kit_action(&k, SCHED_SEND, 161)->count, 139);
    kit_release(&k);
}

static void back(struct kit *k, uint64_t running, uint64_t unstarted)
{
    struct sched_event ev = {.type = SCHED_ENGINE_BACK, .engine = 0, .incarnation = 1};
    struct sched_held held = {{SESSION, unstarted}, 1, 1};
    if (running)
        ev.back.running = (struct sched_held){{SESSION, running}, 1, 1};
    ev.back.unstarted = &held;
    ev.back.nunstarted = unstarted ? 1 : 0;
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

static void test_away_and_back(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 8});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    for (uint64_t seq = 1; seq <= 4; seq++)
        kit_balanced(&k, seq, 1, 0);
    kit_direct(&k, 5, 0);
    kit_engine(&k, SCHED_ENGINE_AWAY, 0);
    kit_direct(&k, 6, 0);
    assert_int_equal(k.a.n, 0);
    kit_cancel(&k, 2, 1, SCHED_CANCEL_INTERRUPT, 0);
    assert_int_equal(k.a.n, 0);
    back(&k, 1, 2);
    assert_non_null(kit_action(&k, SCHED_INTERRUPT, 2));
    kit_expect_sent(&k, 6, 0, 1);
    assert_null(kit_action(&k, SCHED_SEND, 3)); /* its result may be on the way */
    kit_result(&k, 0, 3, 1, 1, SCHED_S_OK, 0);
    kit_expect_end(&k, 3, SCHED_S_OK);
    kit_engine(&k, SCHED_ENGINE_SYNCED, 0);
    kit_expect_sent(&k, 4, 0, 2);
    kit_expect_sent(&k, 5, 0, 2);
    assert_int_equal(kit_actions(&k, SCHED_SEND), 2);
    kit_release(&k);
}

static void test_back_with_what_ended(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){0});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_engine(&k, SCHED_ENGINE_AWAY, 0);
    back(&k, 0, 9);
    const struct sched_action *a = kit_action(&k, SCHED_INTERRUPT, 9);
    assert_non_null(a);
    assert_int_equal(a->engine, 0);
    kit_release(&k);
}

/* The grace time is over, but nobody has noticed yet. */
static void test_back_at_the_last_moment(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.away_grace_ns = 10 * MS});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    kit_direct(&k, 5, 0);
    kit_engine(&k, SCHED_ENGINE_AWAY, 0);
    kit_engine(&k, SCHED_ENGINE_AWAY, 1);
    k.now += 10 * MS;
    back(&k, 5, 0); /* engine 0 */
    assert_int_equal(kit_actions(&k, SCHED_ENGINE_GONE), 1);
    assert_int_equal(kit_state(&k, 5), SCHED_T_RUNNING);
    kit_result(&k, 0, 5, 1, 1, SCHED_S_OK, 0);
    kit_expect_end(&k, 5, SCHED_S_OK);
    kit_release(&k);
}

static void test_away_too_long(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.away_grace_ns = 10 * MS});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 1);
    kit_engine(&k, SCHED_ENGINE_AWAY, 0);
    assert_int_equal(sched_deadline(k.s), k.now + 10 * MS);
    kit_tick(&k, 10 * MS);
    assert_int_equal(kit_actions(&k, SCHED_ENGINE_GONE), 1);
    assert_int_equal(kit_state(&k, 1), SCHED_T_QUEUED);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    kit_expect_sent(&k, 1, 1, 2);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_ERROR,
               0); /* an attempt that is over: only a good result counts */
    assert_int_equal(k.a.n, 0);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_end(&k, 1, SCHED_S_OK);
    assert_int_equal(kit_action(&k, SCHED_INTERRUPT, 1)->engine, 1);
    kit_result(&k, 1, 1, 1, 2, SCHED_S_OK, 0);
    assert_int_equal(k.a.n, 0);
    kit_release(&k);
}

static void test_drain(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 4});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 0);
    kit_balanced(&k, 2, 1, 0);
    kit_engine(&k, SCHED_ENGINE_DRAIN, 0);
    assert_int_equal(kit_actions(&k, SCHED_TAKE), 2);
    kit_word(&k, SCHED_GIVE_BACK, 0, 2, 1, 1);
    assert_int_equal(kit_state(&k, 2), SCHED_T_QUEUED);
    kit_direct(&k, 3, 0);
    kit_expect_sent(&k, 3, 0, 1);
    kit_release(&k);
}

/* Also while a queued task names one. */
static void test_the_dead_are_forgotten_in_time(void **state)
{
    struct kit k;
    struct sched_engine_info info;
    const uint32_t targets[] = {1, 9000}, last = 1500;
    kit_init(&k, (struct sched_options){.hwm = 1});
    kit_engine(&k, SCHED_ENGINE_JOIN, 9000);
    kit_balanced(&k, 1, 1, 0);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    kit_dead(&k, 1, 0, 0);
    struct sched_event ev = kit_task(&k, 2, 1);
    ev.submit.targets = targets;
    ev.submit.ntargets = 2;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    for (uint32_t i = 2; i <= last; i++) {
        kit_engine(&k, SCHED_ENGINE_JOIN, i);
        kit_dead(&k, i, 0, 0);
    }
    assert_false(sched_engine_info(k.s, 1, &info));
    assert_true(sched_engine_info(k.s, last, &info));
    assert_int_equal(info.state, SCHED_DEAD);
    kit_result(&k, 9000, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_sent(&k, 2, 9000, 1);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1); /* its number may come again */
    kit_engine(&k, SCHED_ENGINE_JOIN, last);
    kit_direct(&k, 3, 1);
    kit_expect_sent(&k, 3, 1, 1);
    kit_release(&k);
}

/* The engine is away, so that direct tasks wait for it; they are [1, 10]. */
static void ten_wait(struct kit *k, struct sched_options o)
{
    kit_init(k, o);
    kit_engine(k, SCHED_ENGINE_JOIN, 0);
    kit_engine(k, SCHED_ENGINE_AWAY, 0);
    for (uint64_t seq = 1; seq <= 10; seq++)
        kit_direct(k, seq, 0);
}

/* TICKs until none is due: how many tasks they end. */
static size_t tick_through(struct kit *k, size_t slice)
{
    size_t n = 0;
    while (sched_deadline(k->s) <= k->now) {
        kit_tick(k, 1);
        size_t ended = kit_actions(k, SCHED_DELIVER);
        assert_true(ended <= slice);
        n += ended;
    }
    return n;
}

static void join_again(struct kit *k, uint32_t incarnation)
{
    struct sched_event ev = {.type = SCHED_ENGINE_JOIN, .engine = 0, .incarnation = incarnation};
    assert_int_equal(kit_handle(k, &ev), CV_OK);
}

/* Its successor comes meanwhile, is sent what is for it, and dies too. */
static void test_a_long_queue_ends_in_slices(void **state)
{
    struct kit k;
    ten_wait(&k, (struct sched_options){.slice = 4});
    kit_dead(&k, 0, 0, 0);
    assert_int_equal(kit_actions(&k, SCHED_DELIVER), 4);
    kit_expect_end(&k, 4, SCHED_S_ENGINE_DIED);
    kit_balanced(&k, 20, 1, 0);
    assert_int_equal(k.a.n, 0); /* what is left is TICK's */
    join_again(&k, 2);
    kit_expect_sent(&k, 20, 0, 1);
    kit_direct(&k, 21, 0);
    assert_non_null(kit_action(&k, SCHED_SEND, 21));
    kit_tick(&k, 1);
    assert_int_equal(kit_actions(&k, SCHED_DELIVER), 4);
    assert_int_equal(kit_action(&k, SCHED_DELIVER, 8)->incarnation, 1);
    join_again(&k, 3); /* the second is gone with what it had: that was sent */
    kit_tick(&k, 1);
    kit_expect_end(&k, 10, SCHED_S_ENGINE_DIED);
    assert_int_equal(tick_through(&k, 4), 0);
    assert_int_equal(sched_task_count(k.s), 0);
    kit_release(&k);
}

/* All that is left is cancelled, and its successor's tasks are not for an end. */
static void test_nothing_is_left_to_end(void **state)
{
    struct kit k;
    ten_wait(&k, (struct sched_options){.slice = 4});
    kit_dead(&k, 0, 0, 0);
    kit_cancel(&k, 5, 6, SCHED_CANCEL_INTERRUPT, 0);
    assert_int_equal(sched_task_count(k.s), 0);
    join_again(&k, 2);
    struct sched_event away = {.type = SCHED_ENGINE_AWAY, .engine = 0, .incarnation = 2};
    assert_int_equal(kit_handle(&k, &away), CV_OK);
    kit_direct(&k, 30, 0);
    kit_tick(&k, 1);
    assert_int_equal(k.a.n, 0);
    assert_int_equal(kit_state(&k, 30), SCHED_T_QUEUED);
    kit_release(&k);
}

static void test_freed_with_a_long_queue(void **state)
{
    struct kit k;
    ten_wait(&k, (struct sched_options){.slice = 1});
    kit_dead(&k, 0, 0, 0);
    join_again(&k, 2);
    kit_release(&k); /* nothing leaks */
}

/* Meanwhile one of them is cancelled, and a paused client's are there. */
static void test_what_is_about_to_end_can_be_cancelled(void **state)
{
    struct kit k;
    ten_wait(&k, (struct sched_options){.slice = 2});
    struct sched_event pause = {.type = SCHED_CLIENT_PAUSE, .id = {SESSION, 0}};
    assert_int_equal(kit_handle(&k, &pause), CV_OK);
    kit_dead(&k, 0, 0, 0);
    kit_cancel(&k, 9, 1, SCHED_CANCEL_INTERRUPT, 0);
    kit_expect_end(&k, 9, SCHED_S_CANCELLED);
    pause.type = SCHED_CLIENT_RESUME;
    assert_int_equal(kit_handle(&k, &pause), CV_OK);
    assert_int_equal(tick_through(&k, 2), 7);
    kit_release(&k);
}

/* Tasks of a set whose last engine has gone: those that are left when it comes again go there. */
static void test_targets_that_are_gone_end_in_slices(void **state)
{
    struct kit k;
    uint32_t target = 0;
    kit_init(&k, (struct sched_options){.slice = 4, .hwm = 1});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_engine(&k, SCHED_ENGINE_JOIN, 1);
    kit_engine(&k, SCHED_ENGINE_AWAY, 0);
    for (uint64_t seq = 1; seq <= 10; seq++) {
        struct sched_event ev = kit_task(&k, seq, 1);
        ev.submit.targets = &target;
        ev.submit.ntargets = 1;
        assert_int_equal(kit_handle(&k, &ev), CV_OK);
    }
    kit_dead(&k, 0, 0, 0);
    assert_int_equal(kit_actions(&k, SCHED_DELIVER), 4);
    kit_expect_end(&k, 1, SCHED_S_IMPOSSIBLE);
    kit_tick(&k, 1);
    assert_int_equal(kit_actions(&k, SCHED_DELIVER), 4);
    join_again(&k, 2);
    kit_expect_sent(&k, 9, 0, 1);
    assert_int_equal(tick_through(&k, 4), 0);
    assert_int_equal(kit_state(&k, 10), SCHED_T_QUEUED);
    kit_release(&k);
}

static void test_a_client_gone_for_too_long(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.slice = 4, .hwm = 1, .client_grace_ns = 10 * MS});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    for (uint64_t seq = 1; seq <= 12; seq++)
        kit_balanced(&k, seq, 1, 0);
    struct sched_event gone = {.type = SCHED_CLIENT_GONE, .id = {SESSION, 0}};
    assert_int_equal(kit_handle(&k, &gone), CV_OK);
    kit_tick(&k, 10 * MS);
    assert_int_equal(kit_actions(&k, SCHED_DELIVER),
                     3); /* and it has looked at the one that runs */
    kit_expect_end(&k, 2, SCHED_S_ABORTED);
    struct sched_range all = {SESSION, 1, 13};
    struct sched_event back = {.type = SCHED_CLIENT_BACK, .id = {SESSION, 0}};
    back.client.waiting = &all;
    back.client.nwaiting = 1;
    assert_int_equal(kit_handle(&k, &back), CV_OK);
    assert_int_equal(kit_action(&k, SCHED_AGAIN, 2)->count, 3);
    assert_int_equal(tick_through(&k, 4), 0); /* it is there: the others stay */
    assert_int_equal(sched_unassigned(k.s), 8);
    assert_int_equal(kit_handle(&k, &gone), CV_OK);
    k.now += 10 * MS;
    assert_int_equal(tick_through(&k, 4), 8);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 0);
    kit_expect_end(&k, 1, SCHED_S_OK);
    kit_release(&k);
}

/* Whatever else is due waits for TICK: who asks takes nothing but the answer. */
static void test_a_client_that_is_back_gets_its_answer_alone(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.away_grace_ns = 10 * MS});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_engine(&k, SCHED_ENGINE_AWAY, 0);
    struct sched_event ev = kit_task(&k, 1, 1);
    ev.submit.timeout = 0.01;
    assert_int_equal(kit_handle(&k, &ev), CV_OK);
    k.now += 10 * MS;
    struct sched_event back = {.type = SCHED_CLIENT_BACK, .id = {SESSION, 0}};
    assert_int_equal(kit_handle(&k, &back), CV_OK);
    assert_int_equal(k.a.n, 0);
    assert_true(sched_deadline(k.s) <= k.now);
    kit_tick(&k, 0);
    assert_int_equal(kit_actions(&k, SCHED_ENGINE_GONE), 1);
    kit_expect_end(&k, 1, SCHED_S_TIMEOUT);
    kit_release(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_death_costs_what_ran),
        cmocka_unit_test(test_unknown_death_costs_all),
        cmocka_unit_test(test_results_that_died_too),
        cmocka_unit_test(test_retries_and_three_kills),
        cmocka_unit_test(test_planned_end_is_free),
        cmocka_unit_test(test_error_is_retried_elsewhere),
        cmocka_unit_test(test_budgets_are_separate),
        cmocka_unit_test(test_direct_is_retried_where_it_is_for),
        cmocka_unit_test(test_broadcast_is_retried_item_by_item),
        cmocka_unit_test(test_range_is_split_where_it_ran),
        cmocka_unit_test(test_away_and_back),
        cmocka_unit_test(test_back_with_what_ended),
        cmocka_unit_test(test_back_at_the_last_moment),
        cmocka_unit_test(test_away_too_long),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_the_dead_are_forgotten_in_time),
        cmocka_unit_test(test_a_long_queue_ends_in_slices),
        cmocka_unit_test(test_nothing_is_left_to_end),
        cmocka_unit_test(test_freed_with_a_long_queue),
        cmocka_unit_test(test_what_is_about_to_end_can_be_cancelled),
        cmocka_unit_test(test_targets_that_are_gone_end_in_slices),
        cmocka_unit_test(test_a_client_gone_for_too_long),
        cmocka_unit_test(test_a_client_that_is_back_gets_its_answer_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Walks over all tasks in slices, with tasks that come and go between them, and what stays of
 * clients that are gone. */
#include "sched/testkit.h"

#include "sched/state.h"

#define IDS 30000u

struct seen {
    uint8_t times[IDS];
    uint32_t engine[IDS];
    uint64_t most, now; /* items in one slice */
};

static void see(void *arg, struct sched_id id, uint32_t count, uint32_t engine,
                enum sched_mode mode)
{
    struct seen *s = arg;
    assert_true(id.session == SESSION && id.seq + count <= IDS);
    for (uint32_t i = 0; i < count; i++) {
        s->times[id.seq + i]++;
        s->engine[id.seq + i] = engine;
    }
    s->now += count;
}

static bool look(struct kit *k, struct sched_walk *w, struct seen *s)
{
    s->now = 0;
    bool more = sched_walk_some(k->s, w, see, s);
    if (s->now > s->most)
        s->most = s->now;
    return more;
}

/* One range, single tasks, gaps, items that are done, direct tasks with and without their engine.
 */
static void test_every_task_is_seen_once(void **state)
{
    struct kit k;
    struct sched_walk w;
    static struct seen s;
    memset(&s, 0, sizeof s);
    kit_init(&k, (struct sched_options){.hwm = 1});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 0);
    kit_expect_sent(&k, 1, 0, 1);
    kit_direct(&k, 2, 0);
    kit_balanced(&k, 100, 20000, 0);
    kit_cancel(&k, 5000, 3000, SCHED_CANCEL_ABORT, 0);
    for (uint64_t seq = 25000; seq < 25100; seq += 2)
        kit_balanced(&k, seq, 1, 0);
    assert_int_equal(sched_walk_begin(k.s, &w), CV_OK);
    uint32_t turns = 1;
    while (look(&k, &w, &s)) {
        if (turns++ == 2) {
            kit_cancel(&k, 25010, 1, SCHED_CANCEL_ABORT, 0);
            kit_balanced(&k, 26000, 1, 0);
        }
    }
    sched_walk_release(&w);
    assert_true(turns > 3);
    assert_true(s.most < 10000);
    for (uint64_t seq = 1; seq < IDS; seq++) {
        uint32_t engine = SCHED_ENGINE_NONE;
        bool lives =
            sched_task_state(k.s, (struct sched_id){SESSION, seq}, &engine) != SCHED_T_UNKNOWN;
        if (s.times[seq] != lives)
            fail_msg("%u was seen %u times", (unsigned)seq, s.times[seq]);
        if (lives)
            assert_int_equal(s.engine[seq], engine);
    }
    kit_release(&k);
}

static void client_is(struct kit *k, enum sched_event_type type)
{
    assert_int_equal(kit_handle(k, &(struct sched_event){.type = type, .id = {SESSION, 0}}), CV_OK);
}

/* A client that was paused and went: what it queued ends, and when its last task has ended and it
 * is not paused any more, nothing of it is left. */
static void test_nothing_is_left_of_a_paused_client_that_went(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.client_grace_ns = 10 * MS, .hwm = 1});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 0);
    kit_balanced(&k, 2, 1, 0);
    client_is(&k, SCHED_CLIENT_PAUSE);
    client_is(&k, SCHED_CLIENT_GONE);
    kit_tick(&k, 10 * MS);
    kit_expect_end(&k, 2, SCHED_S_ABORTED);
    assert_true(sched_client_live(k.s, SESSION));
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 1000);
    assert_false(sched_client_live(k.s, SESSION));
    client_is(&k, SCHED_CLIENT_RESUME);
    kit_tick(&k, 1 * MS);
    assert_int_equal(k.s->clients.count, 0);
    client_is(&k, SCHED_CLIENT_RESUME);
    assert_int_equal(k.s->clients.count, 0);
    kit_release(&k);
}

/* It is paused just after it went, before TICK has forgotten it: what it sent before stays. */
static void test_a_client_that_went_is_paused_in_time(void **state)
{
    struct kit k;
    kit_init(&k, (struct sched_options){.hwm = 1});
    kit_engine(&k, SCHED_ENGINE_JOIN, 0);
    kit_balanced(&k, 1, 1, 0);
    kit_result(&k, 0, 1, 1, 1, SCHED_S_OK, 1000);
    client_is(&k, SCHED_CLIENT_GONE);
    client_is(&k, SCHED_CLIENT_PAUSE);
    kit_tick(&k, 1 * MS);
    kit_balanced(&k, 2, 1, 0);
    assert_int_equal(k.a.n, 0);
    client_is(&k, SCHED_CLIENT_RESUME);
    kit_expect_sent(&k, 2, 0, 1);
    kit_release(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_task_is_seen_once),
        cmocka_unit_test(test_nothing_is_left_of_a_paused_client_that_went),
        cmocka_unit_test(test_a_client_that_went_is_paused_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

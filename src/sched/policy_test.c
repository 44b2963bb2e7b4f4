/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What each policy chooses, and how far ahead of the engines it goes (hwm). */
#include "sched/testkit.h"

#define UNLIMITED (1u << 30)
#define ENGINES 4
#define TASKS 2000

static void setup(struct kit *k, const char *policy, uint32_t hwm)
{
    kit_init(k, (struct sched_options){.policy = policy, .hwm = hwm, .seed = 7});
    for (uint32_t e = 0; e < ENGINES; e++)
        kit_engine(k, SCHED_ENGINE_JOIN, e);
}

static uint32_t place(struct kit *k, uint64_t seq)
{
    kit_balanced(k, seq, 1, 0);
    const struct sched_action *a = kit_action(k, SCHED_SEND, seq);
    assert_non_null(a);
    return a->engine;
}

/* Where TASKS tasks went that never end, and how often one went where the one before it had. */
static uint32_t place_many(struct kit *k, uint64_t from, uint32_t n[ENGINES])
{
    uint32_t again = 0, last = UINT32_MAX;
    for (uint64_t i = 0; i < TASKS; i++) {
        uint32_t e = place(k, from + i);
        again += e == last;
        last = e;
        n[e]++;
    }
    return again;
}

static void test_leastload(void **state)
{
    struct kit k;
    setup(&k, "leastload", UNLIMITED);
    for (uint64_t seq = 1; seq <= 5; seq++)
        kit_direct(&k, seq, 0); /* direct tasks are load, too */
    kit_direct(&k, 6, 1);
    assert_true(place(&k, 10) >= 2);
    assert_true(place(&k, 11) >= 2);
    uint32_t n[ENGINES] = {0};
    for (uint64_t seq = 12; seq < 24; seq++)
        n[place(&k, seq)]++;
    assert_int_equal(n[0], 0);
    assert_int_equal(n[1], 4);
    assert_int_equal(place(&k, 24), 0); /* all have five: the one that was served longest ago */
    kit_release(&k);
}

static void test_lru_and_pure(void **state)
{
    static const char *const names[] = {"lru", "pure"};
    for (int i = 0; i < 2; i++) {
        struct kit k;
        setup(&k, names[i], UNLIMITED);
        uint32_t turn[ENGINES];
        for (uint64_t seq = 1; seq <= 1000; seq++) {
            uint32_t e = place(&k, seq);
            if (seq <= ENGINES)
                turn[seq - 1] = e;
            else
                assert_int_equal(e, turn[(seq - 1) % ENGINES]); /* whatever they hold */
        }
        kit_release(&k);
    }
}

static void test_plainrandom(void **state)
{
    struct kit k;
    uint32_t n[ENGINES] = {0};
    setup(&k, "plainrandom", UNLIMITED);
    uint32_t again = place_many(&k, 1, n);
    for (int e = 0; e < ENGINES; e++)
        assert_in_range(n[e], TASKS / ENGINES * 8 / 10, TASKS / ENGINES * 12 / 10);
    assert_in_range(again, TASKS / 5, TASKS / 3); /* one in four */
    kit_release(&k);
}

/* Of two drawn the one used longer ago: the last one is taken again only if it is drawn twice. */
static void test_twobin(void **state)
{
    struct kit k;
    uint32_t n[ENGINES] = {0};
    setup(&k, "twobin", UNLIMITED);
    uint32_t again = place_many(&k, 1, n);
    for (int e = 0; e < ENGINES; e++)
        assert_in_range(n[e], TASKS / ENGINES * 9 / 10, TASKS / ENGINES * 11 / 10);
    assert_in_range(again, TASKS / 32, TASKS / 10); /* one in sixteen */
    kit_release(&k);
}

static void test_weighted(void **state)
{
    struct kit k;
    uint32_t n[ENGINES] = {0};
    setup(&k, "weighted", UNLIMITED);
    for (uint64_t seq = 1; seq <= 900; seq++)
        kit_direct(&k, seq, 0);
    for (uint64_t i = 0; i < 300; i++)
        n[place(&k, 1000 + i)]++;
    assert_true(n[0] < 20); /* rarely, not never */
    for (int e = 1; e < ENGINES; e++)
        assert_in_range(n[e], 60, 140);
    kit_release(&k);
}

static void test_hwm(void **state)
{
    static const char *const names[] = {"leastload", "lru",         "weighted",
                                        "twobin",    "plainrandom", "pure"};
    struct sched *s = NULL;
    static const struct sched_payload_ops ops = {kit_ref, kit_unref};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (uint32_t hwm = 1; hwm <= 3; hwm++) {
            struct kit k;
            setup(&k, names[i], hwm);
            size_t sent = 0;
            for (uint64_t seq = 1; seq <= 20; seq++) {
                kit_balanced(&k, seq, 1, 0);
                sent += kit_actions(&k, SCHED_SEND);
            }
            assert_int_equal(sent, ENGINES * hwm);
            assert_int_equal(sched_unassigned(k.s), 20 - ENGINES * hwm);
            kit_release(&k);
        }
    assert_int_equal(sched_new(&s, &(struct sched_options){.policy = "fairest"}, &ops, NULL),
                     CV_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leastload),   cmocka_unit_test(test_lru_and_pure),
        cmocka_unit_test(test_plainrandom), cmocka_unit_test(test_twobin),
        cmocka_unit_test(test_weighted),    cmocka_unit_test(test_hwm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

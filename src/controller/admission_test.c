/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who makes room at the door, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "controller/admission.h"

#define MS 1000000ull

static struct place *must_leave(struct admission *a, uint64_t now)
{
    struct place *victim;
    uint64_t when;

    assert_true(admission_ask(a, now, &victim, &when));
    return victim;
}

static uint64_t must_wait(struct admission *a, uint64_t now)
{
    struct place *victim;
    uint64_t when;

    assert_false(admission_ask(a, now, &victim, &when));
    assert_null(victim);
    return when;
}

static void fill(struct admission *a, struct place *p, uint64_t now)
{
    admission_init(a);
    for (int i = 0; i < ADMISSION_PLACES; i++) {
        assert_null(must_leave(a, now));
        admission_enter(a, &p[i], now);
    }
}

static void full_house(void **state)
{
    struct admission a;
    struct place p[ADMISSION_PLACES + 1];

    fill(&a, p, 5 * MS);
    assert_int_equal(must_wait(&a, 204 * MS), 205 * MS); /* nobody has waited for 200 ms yet */
    assert_ptr_equal(must_leave(&a, 205 * MS), &p[0]);
    admission_prove(&a, &p[0]); /* it has the key: it needs no place and stays */
    assert_null(must_leave(&a, 205 * MS));
    admission_enter(&a, &p[ADMISSION_PLACES], 205 * MS);
    assert_ptr_equal(must_leave(&a, 205 * MS), &p[1]);
    admission_leave(&a, &p[1]);
    assert_null(must_leave(&a, 205 * MS));
    admission_leave(&a, &p[0]);
    assert_int_equal(a.n, ADMISSION_PLACES - 1);
}

static void patience(void **state)
{
    struct admission a;
    struct place p[ADMISSION_PLACES];

    fill(&a, p, 0);
    for (int i = 0; i < 1000; i++)
        admission_lose(&a);
    assert_int_equal(must_wait(&a, 9 * MS), 10 * MS); /* an idle crowd: little is left of it */
    for (int i = 0; i < 100; i++)
        admission_welcome(&a);
    assert_int_equal(must_wait(&a, 10 * MS), 200 * MS);
}

static void flood(void **state)
{
    struct admission a;

    admission_init(&a);
    for (int i = 0; i < ADMISSION_FLOOD; i++)
        assert_false(admission_failed(&a, 0));
    assert_true(admission_failed(&a, 0));
    assert_false(admission_failed(&a, 1001 * MS)); /* half of them are forgotten */
    for (int i = 0; i < 1000; i++) {               /* where one in five comes in it is none */
        assert_false(admission_failed(&a, 1001 * MS));
        if (i % 4 == 0)
            admission_welcome(&a);
    }
}

static void time_is_over(void **state)
{
    struct admission a;
    struct place p[2];
    uint64_t next;

    admission_init(&a);
    assert_null(admission_expired(&a, 0, &next));
    assert_true(next == UINT64_MAX);
    admission_enter(&a, &p[0], 10 * MS);
    admission_enter(&a, &p[1], 20 * MS);
    admission_prove(&a, &p[0]); /* helps only so much */
    assert_null(admission_expired(&a, 5009 * MS, &next));
    assert_true(next == 5010 * MS);
    assert_ptr_equal(admission_expired(&a, 5010 * MS, &next), &p[0]);
    admission_leave(&a, &p[0]);
    assert_null(admission_expired(&a, 5010 * MS, &next));
    assert_true(next == 5020 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(full_house), cmocka_unit_test(patience),
                                       cmocka_unit_test(flood), cmocka_unit_test(time_is_over)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

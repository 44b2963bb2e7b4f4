/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who makes room at the door, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "controller/admission.h"

#define MS 1000000ull

static void full_house(void **state)
{
    struct admission a;
    struct place p[ADMISSION_PLACES + 1], *victim;

    admission_init(&a);
    for (int i = 0; i < ADMISSION_PLACES; i++) {
        assert_true(admission_ask(&a, i * MS, &victim));
        assert_null(victim);
        admission_enter(&a, &p[i], i * MS);
    }
    assert_false(admission_ask(&a, 199 * MS, &victim)); /* nobody was silent for 200 ms yet */
    assert_true(admission_ask(&a, 200 * MS, &victim));
    assert_ptr_equal(victim, &p[0]);
    p[0].heard = 150 * MS;
    assert_true(admission_ask(&a, 201 * MS, &victim)); /* who speaks stays, the next oldest goes */
    assert_ptr_equal(victim, &p[1]);
    admission_leave(&a, victim);
    assert_true(admission_ask(&a, 201 * MS, &victim));
    assert_null(victim);
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
    p[0].heard = 4000 * MS; /* words without HELLO do not help */
    assert_null(admission_expired(&a, 5009 * MS, &next));
    assert_true(next == 5010 * MS);
    assert_ptr_equal(admission_expired(&a, 5010 * MS, &next), &p[0]);
    admission_leave(&a, &p[0]);
    assert_null(admission_expired(&a, 5010 * MS, &next));
    assert_true(next == 5020 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(full_house),
                                       cmocka_unit_test(time_is_over)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

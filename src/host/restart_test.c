/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When dead engines start again. */
#include "host/restart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SECOND 1000000000ull

static void early_crashes_wait_longer_and_end(void **state)
{
    struct restarts r = {0};
    uint64_t first = restart_after(&r, SECOND), second = restart_after(&r, SECOND);
    assert_true(first > 0 && first < second && second < 10 * SECOND);
    assert_true(restart_after(&r, SECOND) == RESTART_NEVER);
    assert_true(restart_after(&r, SECOND) == RESTART_NEVER);
}

static void a_long_life_forgives(void **state)
{
    struct restarts r = {0};
    for (int i = 0; i < 10; i++) {
        assert_true(restart_after(&r, SECOND) != RESTART_NEVER);
        assert_true(restart_after(&r, SECOND) != RESTART_NEVER);
        assert_int_equal(restart_after(&r, 11 * SECOND), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(early_crashes_wait_longer_and_end),
        cmocka_unit_test(a_long_life_forgives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copies of all sizes around the limits arrive whole and write nothing beside them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pyext/bigcopy.h"

#define MIB ((size_t)1 << 20)
#define EDGE 64

static void copies_are_whole(void **state)
{
    static const size_t sizes[] = {0,
                                   1,
                                   4095,
                                   8 * MIB - 1,
                                   8 * MIB,
                                   8 * MIB + 1,
                                   12 * MIB + 7,
                                   16 * MIB - 9,
                                   32 * MIB,
                                   33 * MIB + 4097};
    size_t most = 34 * MIB;
    uint8_t *src = malloc(most), *dst = malloc(most + 2 * EDGE);
    assert_non_null(src);
    assert_non_null(dst);
    for (size_t i = 0; i < most; i++)
        src[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i], at = EDGE + i % 3; /* not aligned, too */
        memset(dst, 0xEE, most + 2 * EDGE);
        big_copy(dst + at, src, n);
        assert_int_equal(memcmp(dst + at, src, n), 0);
        for (size_t j = 0; j < at; j++)
            assert_int_equal(dst[j], 0xEE);
        for (size_t j = at + n; j < most + 2 * EDGE; j++)
            assert_int_equal(dst[j], 0xEE);
    }
    free(src);
    free(dst);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies_are_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of the hash map and the range sets against naive models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/ranges.h"

static void *value(uint64_t i)
{
    return (void *)(uintptr_t)(i + 1);
}

static void hash_keeps_what_was_put(void **state)
{
    struct hash h = {0};
    void *old = value(7);
    assert_null(hash_get(&h, 1, 2));
    assert_null(hash_del(&h, 1, 2));
    for (uint64_t i = 0; i < 5000; i++)
        assert_int_equal(hash_put(&h, i % 3, i, value(i), NULL), CV_OK);
    assert_int_equal(h.count, 5000);
    assert_int_equal(hash_put(&h, 0, 3, value(99), &old), CV_OK);
    assert_ptr_equal(old, value(3));
    assert_int_equal(h.count, 5000);
    assert_ptr_equal(hash_get(&h, 0, 3), value(99));
    assert_null(hash_get(&h, 1, 3));
    for (uint64_t i = 0; i < 5000; i += 2)
        assert_non_null(hash_del(&h, i % 3, i));
    for (uint64_t i = 4; i < 5000; i++)
        assert_ptr_equal(hash_get(&h, i % 3, i), i % 2 ? value(i) : NULL);
    size_t n = 0;
    for (size_t i = 0; hash_next(&h, &i);)
        n++;
    assert_int_equal(n, 2500);
    hash_release(&h);
    assert_null(hash_get(&h, 0, 3));
}

/* Random puts and deletes on few keys, so that probe chains wrap around and holes are refilled. */
static void hash_agrees_with_an_array(void **state)
{
    struct hash h = {0};
    void *model[64] = {0};
    srand(20);
    for (unsigned step = 0; step < 200000; step++) {
        unsigned k = (unsigned)rand() % 64;
        if (rand() % 2) {
            assert_int_equal(hash_put(&h, k, k * 16, value(step), NULL), CV_OK);
            model[k] = value(step);
        } else {
            assert_ptr_equal(hash_del(&h, k, k * 16), model[k]);
            model[k] = NULL;
        }
        unsigned probe = (unsigned)rand() % 64;
        assert_ptr_equal(hash_get(&h, probe, probe * 16), model[probe]);
    }
    hash_release(&h);
}

static void ranges_agree_with_a_bitmap(void **state)
{
    struct ranges r = {0};
    bool model[300] = {0};
    srand(4);
    for (unsigned step = 0; step < 20000; step++) {
        uint64_t lo = (uint64_t)rand() % 300, hi = lo + (uint64_t)rand() % 20;
        hi = hi > 300 ? 300 : hi;
        bool add = rand() % 2;
        assert_int_equal(add ? ranges_add(&r, lo, hi) : ranges_del(&r, lo, hi), CV_OK);
        for (uint64_t i = lo; i < hi; i++)
            model[i] = add;
        uint64_t count = 0;
        for (uint64_t i = 0; i < 300; i++) {
            assert_int_equal(ranges_has(&r, i), model[i]);
            count += model[i];
        }
        assert_int_equal(ranges_count(&r), count);
        for (size_t i = 1; i < r.n; i++)
            assert_true(r.v[i - 1].hi < r.v[i].lo);
    }
    ranges_release(&r);
}

static void ranges_reach_the_last_number(void **state)
{
    struct ranges r = {0};
    assert_int_equal(ranges_add(&r, UINT64_MAX - 1, UINT64_MAX), CV_OK);
    assert_int_equal(ranges_add(&r, 5, 5), CV_OK);
    assert_int_equal(ranges_count(&r), 1);
    assert_true(ranges_has(&r, UINT64_MAX - 1));
    assert_false(ranges_has(&r, UINT64_MAX));
    ranges_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_keeps_what_was_put),
        cmocka_unit_test(hash_agrees_with_an_array),
        cmocka_unit_test(ranges_agree_with_a_bitmap),
        cmocka_unit_test(ranges_reach_the_last_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

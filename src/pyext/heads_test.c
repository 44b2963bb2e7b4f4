/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Functions by content: equal bytes are one payload, others never, and the bound holds. */
#include "pyext/heads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MIB (1ull << 20)

static void equal_bytes_are_one(void **state)
{
    struct heads *h;
    struct payload *a, *b, *c;
    char one[5000], two[5000];
    memset(one, 'x', sizeof one);
    memcpy(two, one, sizeof two);
    assert_int_equal(heads_new(&h), CV_OK);
    assert_int_equal(heads_get(h, one, sizeof one, &a), CV_OK);
    assert_int_equal(heads_get(h, two, sizeof two, &b), CV_OK);
    assert_ptr_equal(a, b);
    two[4999] = 'y'; /* the memory is the same, the content is not */
    assert_int_equal(heads_get(h, two, sizeof two, &c), CV_OK);
    assert_ptr_not_equal(a, c);
    assert_memory_equal(a->bufs[0].data, one, sizeof one);
    assert_memory_equal(c->bufs[0].data, two, sizeof two);
    payload_unref(a);
    payload_unref(b);
    heads_free(h);
    assert_memory_equal(c->bufs[0].data, two, sizeof two); /* who has it keeps it */
    payload_unref(c);
}

static void the_bound_holds_and_the_oldest_goes_first(void **state)
{
    struct heads *h;
    struct payload *p, *hot = NULL, *again;
    char *data = calloc(1, 3 * MIB);
    assert_int_equal(heads_new(&h), CV_OK);
    for (int i = 0; i < 40; i++) {
        data[1] = (char)(i + 1);
        assert_int_equal(heads_get(h, data, 3 * MIB, &p), CV_OK);
        payload_unref(p);
        assert_true(heads_bytes(h) <= HEADS_MAX);
        data[1] = 0; /* used each time: stays */
        assert_int_equal(heads_get(h, data, 3 * MIB, &again), CV_OK);
        if (hot)
            assert_ptr_equal(again, hot);
        hot = again;
        payload_unref(again);
    }
    assert_true(heads_bytes(h) > HEADS_MAX - 3 * MIB);
    heads_free(h);
    free(data);
}

static void there_are_never_many(void **state)
{
    struct heads *h;
    struct payload *first, *p;
    char data[8] = {0};
    assert_int_equal(heads_new(&h), CV_OK);
    assert_int_equal(heads_get(h, data, sizeof data, &first), CV_OK);
    for (unsigned i = 1; i <= HEADS_COUNT_MAX; i++) {
        memcpy(data, &i, sizeof i);
        assert_int_equal(heads_get(h, data, sizeof data, &p), CV_OK);
        payload_unref(p);
    }
    assert_int_equal(heads_bytes(h), HEADS_COUNT_MAX * sizeof data);
    memset(data, 0, sizeof data);
    assert_int_equal(heads_get(h, data, sizeof data, &p), CV_OK);
    assert_ptr_not_equal(p, first);
    payload_unref(p);
    payload_unref(first);
    heads_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_bytes_are_one),
        cmocka_unit_test(the_bound_holds_and_the_oldest_goes_first),
        cmocka_unit_test(there_are_never_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

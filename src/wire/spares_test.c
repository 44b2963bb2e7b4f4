/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Mappings that are used again: only for the same size, within the bound, and not for ever. */
#include "wire/spares.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "base/clock.h"
#include "wire/payload.h"

#define MIB (1ull << 20)

static struct payload *make(struct spares *s, uint64_t len)
{
    struct payload *p;
    assert_int_equal(payload_new_empty(&p, 1, &len), CV_OK);
    payload_reuse(p, s);
    assert_int_equal(payload_map(p, 0), CV_OK);
    p->bufs[0].data[len - 1] = 1;
    return p;
}

static void memory_is_used_again_for_its_size(void **state)
{
    struct spares *s;
    assert_int_equal(spares_new(&s), CV_OK);
    struct payload *a = make(s, 5 * MIB - 9);
    uint8_t *map = a->bufs[0].data;
    payload_unref(a);
    assert_int_equal(spares_bytes(s), 5 * MIB);
    struct payload *other = make(s, 3 * MIB), *b = make(s, 5 * MIB);
    assert_ptr_not_equal(other->bufs[0].data, map);
    assert_ptr_equal(b->bufs[0].data, map);
    assert_int_equal(spares_bytes(s), 0);
    spares_unref(s); /* payloads hold it */
    payload_unref(other);
    payload_unref(b);
}

static void small_ones_are_not_kept(void **state)
{
    struct spares *s;
    assert_int_equal(spares_new(&s), CV_OK);
    payload_unref(make(s, MIB));
    assert_int_equal(spares_bytes(s), 0);
    payload_unref(make(s, SPARES_MAX + MIB)); /* nor what is larger than all may be */
    assert_int_equal(spares_bytes(s), 0);
    spares_unref(s);
}

static void the_bound_holds(void **state)
{
    struct spares *s;
    struct payload *v[100];
    assert_int_equal(spares_new(&s), CV_OK);
    for (int i = 0; i < 100; i++)
        v[i] = make(s, (uint64_t)(3 + i % 2) * MIB);
    for (int i = 0; i < 100; i++) {
        payload_unref(v[i]);
        assert_true(spares_bytes(s) <= SPARES_MAX);
    }
    assert_true(spares_bytes(s) > SPARES_MAX - 8 * MIB);
    spares_unref(s);
}

static void what_nobody_wanted_is_let_go(void **state)
{
    struct spares *s;
    assert_int_equal(spares_new(&s), CV_OK);
    payload_unref(make(s, 3 * MIB));
    uint64_t between = clock_mono();
    while (clock_mono() <= between)
        ;
    payload_unref(make(s, 4 * MIB));
    spares_age(s, between + 1);
    assert_int_equal(spares_bytes(s), 4 * MIB);
    spares_close(s);
    assert_int_equal(spares_bytes(s), 0);
    payload_unref(make(s, 4 * MIB)); /* its loop is gone: nothing is kept */
    assert_int_equal(spares_bytes(s), 0);
    spares_unref(s);
}

static void *churn(void *arg)
{
    for (int i = 0; i < 200; i++)
        payload_unref(make(arg, (uint64_t)(2 + i % 3) * MIB));
    return NULL;
}

static void any_thread_may_let_go(void **state)
{
    struct spares *s;
    pthread_t t[3];
    assert_int_equal(spares_new(&s), CV_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&t[i], NULL, churn, s), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    assert_true(spares_bytes(s) <= SPARES_MAX);
    spares_unref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_used_again_for_its_size),
        cmocka_unit_test(small_ones_are_not_kept),
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(what_nobody_wanted_is_let_go),
        cmocka_unit_test(any_thread_may_let_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

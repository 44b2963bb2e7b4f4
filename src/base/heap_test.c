/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The heap keeps its least key on top whatever is pushed and taken out, in whatever order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/heap.h"

#define N 500

static void check(const struct heap *h)
{
    for (uint32_t i = 0; i < h->n; i++) {
        assert_int_equal(h->v[i]->pos, i + 1);
        if (i)
            assert_true(h->v[(i - 1) / 2]->key <= h->v[i]->key);
    }
}

static void test_order(void **state)
{
    struct heap h = {0};
    static struct heap_node nodes[N];
    uint64_t rng = 1, last = 0;
    for (int i = 0; i < N; i++) {
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        assert_int_equal(heap_push(&h, &nodes[i], rng >> 56), CV_OK);
    }
    check(&h);
    for (int i = 0; i < N; i += 3) {
        heap_del(&h, &nodes[i]);
        heap_del(&h, &nodes[i]); /* in no heap: fine */
        assert_false(heap_in(&nodes[i]));
        check(&h);
    }
    while (h.n) {
        assert_true(heap_top(&h)->key >= last);
        last = heap_top(&h)->key;
        heap_del(&h, heap_top(&h));
    }
    assert_null(heap_top(&h));
    heap_release(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

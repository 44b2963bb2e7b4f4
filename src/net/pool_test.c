/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool of memfds: reuse, limits, seals, what is never written again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/pool.h"

#define MIB (1ull << 20)

static struct pool *new_pool(uint64_t bytes)
{
    struct pool *p;
    assert_int_equal(pool_new(&p, bytes), CV_OK);
    return p;
}

static void what_nobody_holds_is_used_again(void **state)
{
    struct pool *p = new_pool(64 * MIB);
    struct pool_stats s;
    struct region *a = pool_get(p, 3 * MIB), *b = pool_get(p, 3 * MIB);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    uint8_t *at = a->data;
    memset(at, 1, 3 * MIB);
    region_ref(a);
    region_unref(a);
    pool_stats(p, &s);
    assert_int_equal(s.idle, 0); /* one holder is left */
    region_unref(a);
    struct region *c = pool_get(p, 3 * MIB - 5000); /* of the same class */
    assert_ptr_equal(c, a);
    assert_ptr_equal(c->data, at);
    assert_int_equal(c->len, 3 * MIB - 5000);
    struct region *d = pool_get(p, MIB); /* of another one */
    assert_ptr_not_equal(d, b);
    pool_stats(p, &s);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.reused, 1);
    region_unref(b);
    region_unref(c);
    region_unref(d);
    pool_free(p);
}

static void what_may_still_be_mapped_is_dropped(void **state)
{
    struct pool *p = new_pool(64 * MIB);
    struct pool_stats s;
    struct region *a = pool_get(p, MIB);
    int fd = a->fd;
    atomic_store(&a->discard, true);
    region_unref(a);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    pool_stats(p, &s);
    assert_int_equal(s.n, 0);
    assert_int_equal(s.bytes, 0);
    assert_int_equal(s.dropped, 1);
    pool_free(p);
}

static void the_budget_holds(void **state)
{
    struct pool *p = new_pool(10 * MIB);
    struct region *a = pool_get(p, 4 * MIB), *b = pool_get(p, 4 * MIB);
    assert_non_null(b);
    assert_null(pool_get(p, 4 * MIB));
    assert_null(pool_get(p, UINT64_MAX / 2));
    region_unref(a); /* idle: makes room for another size */
    struct region *c = pool_get(p, 6 * MIB);
    assert_non_null(c);
    region_unref(b);
    region_unref(c);
    pool_free(p);
    p = new_pool(0);
    assert_null(pool_get(p, MIB));
    pool_free(p);
}

static void without_descriptors_there_is_no_memory(void **state)
{
    struct pool *p = new_pool(64 * MIB);
    struct pool_stats s;
    struct rlimit was, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = (struct rlimit){3, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct region *a = pool_get(p, MIB);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_null(a);
    pool_stats(p, &s);
    assert_int_equal(s.n, 0);
    assert_int_equal(s.bytes, 0);
    a = pool_get(p, MIB);
    assert_non_null(a);
    region_unref(a);
    pool_free(p);
}

static void a_region_outlives_its_pool(void **state)
{
    struct pool *p = new_pool(64 * MIB);
    struct region *a = pool_get(p, MIB);
    int fd = a->fd;
    pool_free(p);
    memset(a->data, 2, MIB);
    region_unref(a);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void nobody_else_can_change_it(void **state)
{
    struct pool *p = new_pool(64 * MIB);
    struct region *a = pool_get(p, MIB);
    assert_int_not_equal(ftruncate(a->fd, 0), 0);
    assert_int_not_equal(ftruncate(a->fd, 64 << 20), 0);
    assert_int_not_equal(pwrite(a->fd, "x", 1, 0), 1);
    assert_true(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0) == MAP_FAILED);
    assert_true(fcntl(a->fd, F_GETFD) & FD_CLOEXEC);
    a->data[0] = 7; /* its owner can, always */
    uint8_t *m = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE, a->fd, 0);
    assert_true(m != MAP_FAILED);
    assert_int_equal(m[0], 7);
    m[0] = 8;
    assert_int_equal(a->data[0], 7);
    munmap(m, MIB);
    region_unref(a);
    pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_nobody_holds_is_used_again),
        cmocka_unit_test(what_may_still_be_mapped_is_dropped),
        cmocka_unit_test(the_budget_holds),
        cmocka_unit_test(without_descriptors_there_is_no_memory),
        cmocka_unit_test(a_region_outlives_its_pool),
        cmocka_unit_test(nobody_else_can_change_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Forks as other threads see them counted, and what a child closes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pyext/fork.h"

static unsigned under_way; /* what a handler inside the fork counted */

static void look(void)
{
    under_way = atomic_load(fork_count());
}

/* What `child` returns in a forked child. */
static int in_a_child(int (*child)(void *arg), void *arg)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(child(arg));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int count_is_odd(void *arg)
{
    return (int)(atomic_load(fork_count()) % 2);
}

static void the_count_is_odd_while_a_fork_is_under_way(void **state)
{
    struct fork_guard g;
    struct err e;
    assert_int_equal(pthread_atfork(look, NULL, NULL), 0); /* runs after those registered later */
    assert_int_equal(fork_guard_add(&g, &e), CV_OK);
    for (int i = 0; i < 3; i++) {
        unsigned before = atomic_load(fork_count());
        assert_int_equal(before % 2, 0);
        assert_int_equal(in_a_child(count_is_odd, NULL), 0);
        assert_int_equal(under_way, before + 1);
        assert_int_equal(atomic_load(fork_count()), before + 2);
    }
    fork_guard_del(&g);
}

struct held {
    struct fork_guard guard;
    int kept, dropped;
};

static int is_marked_and_closed(void *arg)
{
    struct held *h = arg;
    return !(atomic_load(&h->guard.forked) && fcntl(h->kept, F_GETFD) < 0 &&
             fcntl(h->dropped, F_GETFD) >= 0);
}

static void a_child_closes_what_is_held(void **state)
{
    struct held h = {.kept = dup(0), .dropped = dup(0)};
    struct err e;
    assert_int_equal(fork_guard_add(&h.guard, &e), CV_OK);
    fork_guard_hold(&h.guard, h.kept);
    fork_guard_hold(&h.guard, h.dropped);
    fork_guard_drop_begin(&h.guard, h.dropped);
    fork_guard_drop_end();
    assert_int_equal(in_a_child(is_marked_and_closed, &h), 0);
    assert_false(atomic_load(&h.guard.forked));
    assert_true(fcntl(h.kept, F_GETFD) >= 0);
    fork_guard_del(&h.guard);
    close(h.kept);
    close(h.dropped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_count_is_odd_while_a_fork_is_under_way),
        cmocka_unit_test(a_child_closes_what_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

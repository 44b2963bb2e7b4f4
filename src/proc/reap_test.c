/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The reaper: own children, children that others forked for us, and orphans. */
#include "proc/reap.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <cmocka.h>

struct world {
    uv_loop_t loop;
    uv_timer_t deadline;
    struct reaper *reaper;
    unsigned ends;
    struct reaped last;
};

static void on_deadline(uv_timer_t *t)
{
    fail_msg("no word within the deadline");
}

static int setup(void **state)
{
    static struct world w;
    memset(&w, 0, sizeof w);
    assert_int_equal(uv_loop_init(&w.loop), 0);
    uv_timer_init(&w.loop, &w.deadline);
    uv_timer_start(&w.deadline, on_deadline, 60000, 0);
    assert_int_equal(reaper_new(&w.reaper, &w.loop, NULL), CV_OK);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    reaper_free(w->reaper);
    uv_close((uv_handle_t *)&w->deadline, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    return 0;
}

static void on_end(void *arg, const struct reaped *r)
{
    struct world *w = arg;
    w->last = *r;
    w->ends++;
}

static void run_until(struct world *w, unsigned ends)
{
    while (w->ends < ends)
        uv_run(&w->loop, UV_RUN_ONCE);
}

static pid_t child_exits(int code)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(code);
    return pid;
}

static void exit_code_and_signal_are_told(void **state)
{
    struct world *w = *state;
    pid_t pid = child_exits(3);
    assert_int_equal(reaper_add(w->reaper, pid, on_end, w), CV_OK);
    run_until(w, 1);
    assert_int_equal(w->last.pid, pid);
    assert_true(w->last.known);
    assert_int_equal(w->last.code, 3);
    assert_int_equal(w->last.signal, 0);
    assert_true(w->last.peak_rss > 0);
    pid = fork();
    if (pid == 0) {
        raise(SIGKILL);
        _exit(0);
    }
    assert_int_equal(reaper_add(w->reaper, pid, on_end, w), CV_OK);
    run_until(w, 2);
    assert_int_equal(w->last.signal, SIGKILL);
}

static void many_at_once_are_all_told(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 50; i++)
        assert_int_equal(reaper_add(w->reaper, child_exits(0), on_end, w), CV_OK);
    run_until(w, 50);
}

/* An end that was reaped before anybody asked is told to who adopts the pid, once. */
static void an_end_before_its_adoption_is_kept(void **state)
{
    struct world *w = *state;
    pid_t early = child_exits(7);
    while (kill(early, 0) == 0)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(w->ends, 0);
    assert_int_equal(reaper_adopt(w->reaper, early, on_end, w), CV_OK);
    assert_int_equal(w->ends, 0);
    run_until(w, 1);
    assert_true(w->last.known);
    assert_int_equal(w->last.code, 7);
    assert_int_equal(reaper_adopt(w->reaper, early, on_end, w), CV_OK);
    run_until(w, 2);
    assert_false(w->last.known);
}

/* A grandchild becomes ours when its parent leaves. */
static void an_adopted_grandchild_is_told(void **state)
{
    struct world *w = *state;
    int p[2], go[2];
    pid_t grandchild;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    assert_int_equal(pipe(p), 0);
    assert_int_equal(pipe(go), 0);
    pid_t middle = fork();
    if (middle == 0) {
        pid_t g = fork();
        if (g == 0) {
            char c;
            close(go[1]);
            _exit(read(go[0], &c, 1) == 1 ? 9 : 1);
        }
        _exit(write(p[1], &g, sizeof g) == sizeof g ? 0 : 1);
    }
    assert_int_equal(read(p[0], &grandchild, sizeof grandchild), sizeof grandchild);
    assert_int_equal(reaper_adopt(w->reaper, grandchild, on_end, w), CV_OK);
    assert_int_equal(reaper_add(w->reaper, middle, on_end, w), CV_OK);
    run_until(w, 1);
    assert_int_equal(w->last.pid, middle);
    assert_int_equal(write(go[1], "x", 1), 1);
    run_until(w, 2);
    assert_int_equal(w->last.pid, grandchild);
    assert_int_equal(w->last.code, 9);
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
    for (int i = 0; i < 2; i++) {
        close(p[i]);
        close(go[i]);
    }
}

static void removed_children_are_reaped_silently(void **state)
{
    struct world *w = *state;
    pid_t pid = child_exits(0);
    assert_int_equal(reaper_add(w->reaper, pid, on_end, w), CV_OK);
    reaper_remove(w->reaper, pid);
    while (kill(pid, 0) == 0)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(w->ends, 0);
}

static void signals_have_names(void **state)
{
    assert_string_equal(signal_name(SIGSEGV), "SIGSEGV");
    assert_string_equal(signal_name(SIGKILL), "SIGKILL");
    assert_string_equal(signal_name(1000), "signal 1000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(exit_code_and_signal_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(many_at_once_are_all_told, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_before_its_adoption_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(an_adopted_grandchild_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(removed_children_are_reaped_silently, setup, teardown),
        cmocka_unit_test(signals_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

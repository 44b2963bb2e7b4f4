/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Captured output: what comes through, what is kept, and what is left in a dead child's pipe. */
#include "proc/capture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

struct seen {
    struct buf all;
    bool ended;
    struct capture **free_me; /* freed from the callback */
};

static void on_data(void *arg, const void *data, size_t n)
{
    struct seen *s = arg;
    if (n == 0)
        s->ended = true;
    else
        assert_int_equal(buf_add(&s->all, data, n), CV_OK);
    if (s->free_me) {
        capture_free(*s->free_me);
        *s->free_me = NULL;
    }
}

static void close_loop(uv_loop_t *loop)
{
    uv_run(loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(loop), 0);
}

static void all_comes_through_and_the_tail_is_kept(void **state)
{
    uv_loop_t loop;
    struct capture *c;
    struct seen s = {0};
    struct buf tail = {0};
    int p[2];
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(capture_pipe(p, NULL), CV_OK);
    assert_int_equal(capture_new(&c, &loop, p[0], 10, on_data, &s), CV_OK);
    assert_int_equal(write(p[1], "abc", 3), 3);
    while (s.all.len < 3)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(capture_tail(c, &tail), CV_OK);
    assert_int_equal(tail.len, 3);
    for (int i = 0; i < 100; i++) {
        char line[8];
        snprintf(line, sizeof line, "%02d\n", i);
        assert_int_equal(write(p[1], line, 3), 3);
    }
    capture_drain(c);
    assert_int_equal(s.all.len, 303);
    buf_clear(&tail);
    assert_int_equal(capture_tail(c, &tail), CV_OK);
    assert_int_equal(tail.len, 10);
    assert_memory_equal(tail.data, "\n97\n98\n99\n", 10);
    close(p[1]);
    while (!s.ended)
        uv_run(&loop, UV_RUN_ONCE);
    capture_free(c);
    close_loop(&loop);
    buf_release(&s.all);
    buf_release(&tail);
}

static void a_callback_may_free_it(void **state)
{
    uv_loop_t loop;
    struct capture *c;
    struct seen s = {.free_me = &c};
    int p[2];
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(capture_pipe(p, NULL), CV_OK);
    assert_int_equal(capture_new(&c, &loop, p[0], 4, on_data, &s), CV_OK);
    assert_int_equal(write(p[1], "abcdef", 6), 6);
    close(p[1]);
    while (c)
        uv_run(&loop, UV_RUN_ONCE);
    close_loop(&loop);
    assert_int_equal(s.all.len, 6);
    assert_false(s.ended);
    buf_release(&s.all);
}

static void leftovers_are_read_without_waiting(void **state)
{
    struct buf out = {0};
    int p[2];
    assert_int_equal(capture_pipe(p, NULL), CV_OK);
    assert_int_equal(capture_leftover(p[0], 100, &out), CV_OK); /* the writer is alive and silent */
    assert_int_equal(out.len, 0);
    assert_int_equal(write(p[1], "last words", 10), 10);
    assert_int_equal(capture_leftover(p[0], 4, &out), CV_OK);
    assert_int_equal(out.len, 4);
    assert_int_equal(capture_leftover(p[0], 100, &out), CV_OK);
    assert_memory_equal(out.data, "last words", 10);
    close(p[0]);
    close(p[1]);
    buf_release(&out);
}

static void last_lines(void **state)
{
    static const char text[] = "one\ntwo\nthree\n\n";
    assert_string_equal(text + tail_lines(text, sizeof text - 1, 1), "three\n\n");
    assert_string_equal(text + tail_lines(text, sizeof text - 1, 2), "two\nthree\n\n");
    assert_int_equal(tail_lines(text, sizeof text - 1, 9), 0);
    assert_int_equal(tail_lines("", 0, 3), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_comes_through_and_the_tail_is_kept),
        cmocka_unit_test(a_callback_may_free_it),
        cmocka_unit_test(leftovers_are_read_without_waiting),
        cmocka_unit_test(last_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

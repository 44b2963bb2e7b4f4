/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of log lines: what they look like, and what a pipe that nobody reads costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"

#define LINES 500

struct pipe_log {
    struct log *log;
    int read_fd, write_fd;
    char text[1 << 16];
};

static struct pipe_log *open_log(int level)
{
    static struct pipe_log p;
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    p.read_fd = fds[0];
    p.write_fd = fds[1];
    assert_int_equal(fcntl(p.read_fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(log_new(&p.log, "IPTest", level, p.write_fd), CV_OK);
    return &p;
}

/* All that is there. */
static const char *take(struct pipe_log *p)
{
    size_t n = 0;

    for (ssize_t r; (r = read(p->read_fd, p->text + n, sizeof(p->text) - 1 - n)) > 0;)
        n += (size_t)r;
    p->text[n] = 0;
    return p->text;
}

static void close_log(struct pipe_log *p)
{
    log_free(p->log);
    close(p->read_fd);
    close(p->write_fd);
}

static void a_line_has_time_program_and_level(void **state)
{
    struct pipe_log *p = open_log(LOG_INFO_);
    int day, ms;
    (void)state;

    log_debug(p->log, "not this one");
    log_info(p->log, "engine %d", 3);
    assert_int_equal(sscanf(take(p), "%*d-%*d-%d %*d:%*d:%*d.%d [IPTest] engine 3", &day, &ms), 2);
    log_warn(p->log, "twice?\n");
    assert_non_null(strstr(take(p), "[IPTest] WARNING | twice?\n"));
    assert_null(strstr(p->text, "\n\n"));
    close_log(p);
}

static void a_long_line_is_cut(void **state)
{
    struct pipe_log *p = open_log(LOG_INFO_);
    static char text[10000];
    (void)state;

    memset(text, 'x', sizeof(text) - 1);
    log_info(p->log, "%s", text);
    assert_in_range(strlen(take(p)), 4000, 4096);
    assert_int_equal(p->text[strlen(p->text) - 1], '\n');
    close_log(p);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

/* Without the check the first of these writes never returns. */
static void a_pipe_that_nobody_reads_costs_lines(void **state)
{
    struct pipe_log *p = open_log(LOG_INFO_);
    unsigned written, lost = 0;
    (void)state;

    assert_true(fcntl(p->write_fd, F_SETPIPE_SZ, 8192) >= 0);
    for (int i = 0; i < LINES; i++)
        log_info(p->log, "a line that nobody reads");
    written = count(take(p), "nobody reads");
    assert_in_range(written, 1, LINES - 1);
    log_info(p->log, "and on");
    const char *told = strstr(take(p), "WARNING | ");
    assert_non_null(told);
    assert_int_equal(sscanf(told, "WARNING | %u lines are missing here", &lost), 1);
    assert_int_equal(lost, LINES - written);
    assert_int_equal(count(p->text, "and on"), 1);
    log_info(p->log, "once");
    assert_null(strstr(take(p), "missing"));
    close_log(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_program_and_level),
        cmocka_unit_test(a_long_line_is_cut),
        cmocka_unit_test(a_pipe_that_nobody_reads_costs_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * process_spawn: what the child sees, and that failures are told by the call and leave no child. */
#include "proc/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define QUIET .stdin_fd = SPAWN_NULL, .stdout_fd = SPAWN_INHERIT, .stderr_fd = SPAWN_INHERIT

/* Runs a shell script with `s`'s other settings; its standard output and exit code. */
static int run(struct spawn s, const char *script, char *out, size_t cap)
{
    int p[2];
    struct err e;
    pid_t pid;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    const char *argv[] = {"sh", "-c", script, NULL};
    s.argv = argv;
    s.stdout_fd = p[1];
    assert_int_equal(process_spawn(&s, &pid, &e), CV_OK);
    close(p[1]);
    size_t have = 0;
    ssize_t n;
    while (have < cap - 1 && (n = read(p[0], out + have, cap - 1 - have)) > 0)
        have += (size_t)n;
    out[have] = 0;
    close(p[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void no_child_left(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void missing_program_is_an_error_of_the_call(void **state)
{
    const char *argv[] = {"no-such-program-anywhere", NULL};
    struct spawn s = {.argv = argv, QUIET};
    struct err e;
    pid_t pid = -7;
    assert_int_equal(process_spawn(&s, &pid, &e), CV_ENOENT);
    assert_non_null(strstr(e.text, "no-such-program-anywhere"));
    assert_non_null(strstr(e.text, "No such file"));
    assert_int_equal(pid, -7);
    no_child_left();
}

static void a_file_that_may_not_run_is_eacces(void **state)
{
    const char *argv[] = {"/etc/passwd", NULL};
    struct spawn s = {.argv = argv, QUIET};
    struct err e;
    pid_t pid;
    assert_int_equal(process_spawn(&s, &pid, &e), CV_EACCES);
    no_child_left();
}

static void missing_folder_names_it(void **state)
{
    const char *argv[] = {"true", NULL};
    struct spawn s = {.argv = argv, .cwd = "/no/such/folder", QUIET};
    struct err e;
    pid_t pid;
    assert_int_equal(process_spawn(&s, &pid, &e), CV_ENOENT);
    assert_non_null(strstr(e.text, "/no/such/folder"));
    no_child_left();
}

static void environment_is_changed(void **state)
{
    char out[256];
    setenv("SPAWN_TEST_OLD", "old", 1);
    setenv("SPAWN_TEST_GONE", "x", 1);
    const char *env[] = {"SPAWN_TEST_OLD=new", "SPAWN_TEST_GONE", "SPAWN_TEST_MORE=first",
                         "SPAWN_TEST_MORE=last", NULL};
    struct spawn s = {.env = env, QUIET};
    assert_int_equal(run(s,
                         "echo $SPAWN_TEST_OLD-${SPAWN_TEST_GONE:-none}-$SPAWN_TEST_MORE; env | "
                         "grep -c SPAWN_TEST",
                         out, sizeof out),
                     0);
    assert_string_equal(out, "new-none-last\n2\n");
}

static void descriptors_arrive_where_asked_even_when_they_cross(void **state)
{
    int a[2], b[2];
    char out[256];
    assert_int_equal(pipe2(a, O_CLOEXEC), 0);
    assert_int_equal(pipe2(b, O_CLOEXEC), 0);
    assert_int_equal(write(a[1], "from-a\n", 7), 7);
    assert_int_equal(write(b[1], "from-b\n", 7), 7);
    /* each source's number is the other one's target */
    struct spawn_fd fds[] = {{a[0], b[0]}, {b[0], a[0]}};
    struct spawn s = {.fds = fds, .nfds = 2, QUIET};
    char script[128];
    snprintf(script, sizeof script, "read x <&%d; read y <&%d; echo $x $y", b[0], a[0]);
    assert_int_equal(run(s, script, out, sizeof out), 0);
    assert_string_equal(out, "from-a from-b\n");
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
}

static void others_stay_here_unless_all_are_inherited(void **state)
{
    char out[64], script[64];
    int fd = open("/dev/null", O_RDONLY);
    snprintf(script, sizeof script, "[ -e /proc/self/fd/%d ] && echo open || echo closed", fd);
    struct spawn s = {QUIET};
    run(s, script, out, sizeof out);
    assert_string_equal(out, "closed\n");
    s.flags = SPAWN_KEEP_FDS;
    run(s, script, out, sizeof out);
    assert_string_equal(out, "open\n");
    close(fd);
}

static void session_and_stdin(void **state)
{
    char out[256];
    struct spawn s = {.flags = SPAWN_SESSION, .cwd = "/", QUIET};
    run(s,
        "set -- $(cat /proc/$$/stat); [ $1 = $5 ] && [ $1 = $6 ] && echo leader; readlink "
        "/proc/$$/fd/0; pwd",
        out, sizeof out);
    assert_string_equal(out, "leader\n/dev/null\n/\n");
    s.flags = SPAWN_GROUP;
    run(s, "set -- $(cat /proc/$$/stat); [ $1 = $5 ] && [ $1 != $6 ] && echo group", out,
        sizeof out);
    assert_string_equal(out, "group\n");
}

static void signals_are_as_by_default(void **state)
{
    char out[256];
    sigset_t block;
    sigemptyset(&block);
    sigaddset(&block, SIGTERM);
    sigprocmask(SIG_BLOCK, &block, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    struct spawn s = {QUIET};
    run(s, "grep -E 'SigBlk|SigIgn' /proc/self/status", out, sizeof out);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    assert_non_null(strstr(out, "SigBlk:\t0000000000000000"));
    const char *ignored = strstr(out, "SigIgn:\t");
    assert_non_null(ignored);
    assert_int_equal(strtoull(ignored + 8, NULL, 16) & (1u << (SIGPIPE - 1) | 1u << (SIGXFSZ - 1)),
                     0);
}

static void the_child_ends_with_its_parent(void **state)
{
    int p[2];
    char byte;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    pid_t parent = fork();
    assert_true(parent >= 0);
    if (parent == 0) {
        const char *argv[] = {"sleep", "1000", NULL};
        struct spawn_fd keep = {p[1], 9};
        struct spawn s = {.argv = argv, .fds = &keep, .nfds = 1, .death_signal = SIGKILL, QUIET};
        pid_t pid;
        if (process_spawn(&s, &pid, NULL) != CV_OK)
            _exit(1);
        raise(SIGKILL);
    }
    close(p[1]);
    int status;
    assert_int_equal(waitpid(parent, &status, 0), parent);
    assert_true(WIFSIGNALED(status));
    alarm(60);
    assert_int_equal(read(p[0], &byte, 1), 0); /* the last holder of the write end is gone */
    alarm(0);
    close(p[0]);
}

static void not_now(int signum)
{
}

/* Ends a moment after it has begun to start a child: from one call to the next in another moment of
 * that. Its handler is not the child's: between fork and exec the signal must end it all the same.
 */
static void the_parent_ends_while_it_starts_a_child(void **state)
{
    int p[2];
    char byte;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    for (int i = 0; i < 200; i++) {
        pid_t parent = fork();
        assert_true(parent >= 0);
        if (parent == 0) {
            const char *argv[] = {"sleep", "1000", NULL};
            struct spawn_fd keep = {p[1], 9};
            struct spawn s = {
                .argv = argv, .fds = &keep, .nfds = 1, .death_signal = SIGTERM, QUIET};
            struct itimerval soon = {.it_value = {.tv_usec = 50 + 20 * (i % 100)}};
            pid_t pid;
            signal(SIGTERM, not_now);
            setitimer(ITIMER_REAL, &soon, NULL); /* SIGALRM ends it */
            if (process_spawn(&s, &pid, NULL) != CV_OK)
                _exit(1);
            pause();
        }
        assert_int_equal(waitpid(parent, NULL, 0), parent);
    }
    close(p[1]);
    alarm(60);
    assert_int_equal(read(p[0], &byte, 1), 0);
    alarm(0);
    close(p[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_program_is_an_error_of_the_call),
        cmocka_unit_test(a_file_that_may_not_run_is_eacces),
        cmocka_unit_test(missing_folder_names_it),
        cmocka_unit_test(environment_is_changed),
        cmocka_unit_test(descriptors_arrive_where_asked_even_when_they_cross),
        cmocka_unit_test(others_stay_here_unless_all_are_inherited),
        cmocka_unit_test(session_and_stdin),
        cmocka_unit_test(signals_are_as_by_default),
        cmocka_unit_test(the_child_ends_with_its_parent),
        cmocka_unit_test(the_parent_ends_while_it_starts_a_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * /proc and cgroup files: the parsers with files of other machines, the readers with our own. */
#include "proc/procinfo.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static void stat_with_a_hostile_name(void **state)
{
    static const char text[] =
        "4711 (a) R 1 (b) S 10 20 30 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3\n";
    struct procinfo p;
    assert_int_equal(procinfo_parse(text, sizeof text - 1, &p), CV_OK);
    assert_int_equal(p.pid, 4711);
    assert_string_equal(p.name, "a) R 1 (b");
    assert_int_equal(p.state, 'S');
    assert_int_equal(p.ppid, 10);
    assert_int_equal(p.pgid, 20);
    assert_int_equal(p.sid, 30);
    assert_int_equal(p.start, 987654);
    assert_int_equal(procinfo_parse("4711 (a", 7, &p), CV_EINVAL);
    assert_int_equal(procinfo_parse("", 0, &p), CV_EINVAL);
}

static void oom_files_of_both_versions(void **state)
{
    static const char v2[] = "low 0\nhigh 12\nmax 3\noom 2\noom_kill 5\noom_group_kill 0\n";
    static const char v1[] = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n";
    static const char old_v1[] = "oom_kill_disable 0\nunder_oom 0\n";
    uint64_t n = 99;
    assert_int_equal(oom_kills_parse(v2, sizeof v2 - 1, &n), CV_OK);
    assert_int_equal(n, 5);
    assert_int_equal(oom_kills_parse(v1, sizeof v1 - 1, &n), CV_OK);
    assert_int_equal(n, 7);
    assert_int_equal(oom_kills_parse(old_v1, sizeof old_v1 - 1, &n), CV_ENOENT);
    assert_int_equal(oom_kills_parse("oom_kill x\n", 11, &n), CV_EINVAL);
    assert_int_equal(oom_kills_parse("oom_kill 12", 11, &n), CV_OK);
    assert_int_equal(n, 12);
}

static void find_child(void *arg, const struct procinfo *p)
{
    pid_t *wanted = arg;
    if (p->pid == *wanted)
        *wanted = 0;
}

static void a_child_is_seen_alive_and_then_not(void **state)
{
    struct procinfo p;
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    assert_int_equal(procinfo_get(pid, &p, NULL), CV_OK);
    assert_int_equal(p.ppid, getpid());
    assert_true(process_alive(pid, p.start));
    assert_false(process_alive(pid, p.start + 1));
    pid_t wanted = pid;
    assert_int_equal(process_children(getpid(), find_child, &wanted, NULL), CV_OK);
    assert_int_equal(wanted, 0);
    siginfo_t info;
    kill(pid, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_false(process_alive(pid, p.start)); /* a zombie */
    waitpid(pid, NULL, 0);
    assert_int_equal(procinfo_get(pid, &p, NULL), CV_ENOENT);
}

static void groups(void **state)
{
    struct err e;
    assert_int_equal(pgroup_kill(getpgrp(), 0, &e), CV_EINVAL);
    assert_int_equal(pgroup_kill(0, SIGTERM, &e), CV_EINVAL);
    assert_int_equal(pgroup_kill(1, SIGTERM, &e), CV_EINVAL);
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    setpgid(pid, pid);
    assert_int_equal(kill(-pid, 0), 0);
    assert_int_equal(pgroup_kill(pid, SIGKILL, &e), CV_OK);
    waitpid(pid, NULL, 0);
    assert_int_equal(kill(-pid, 0), -1);
    assert_int_equal(pgroup_kill(pid, SIGKILL, &e), CV_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stat_with_a_hostile_name),
        cmocka_unit_test(oom_files_of_both_versions),
        cmocka_unit_test(a_child_is_seen_alive_and_then_not),
        cmocka_unit_test(groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

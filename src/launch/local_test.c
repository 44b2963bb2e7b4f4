/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of launching: names of every era, and the local back end with real processes: started,
 * watched, told apart from another process with its pid, stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "launch/launch.h"

static void names_of_every_era(void **state)
{
    static const char *const LOCAL[] = {
        NULL,
        "",
        "local",
        "Local",
        "LOCAL",
        "LocalEngineSetLauncher",
        "LocalControllerLauncher",
        "LocalEngineLauncher",
        "localengineset",
        "ipyparallel.apps.launcher.LocalEngineSetLauncher",
        "ipyparallel.cluster.launcher:LocalEngineSetLauncher",
        "IPython.parallel.apps.launcher.LocalControllerLauncher",
    };
    static const struct {
        const char *name;
        const struct launch_ops *ops;
    } OTHERS[] = {
        {"mpi", &launch_mpi},
        {"MPIEngineSetLauncher", &launch_mpi},
        {"MPIExecEngineSetLauncher", &launch_mpi},
        {"mpiengineSetLauncher", &launch_mpi},
        {"SLURM", &launch_slurm},
        {"SLURMEngineSetLauncher", &launch_slurm},
        {"SlurmControllerLauncher", &launch_slurm},
        {"IPython.parallel.apps.launcher.PBSEngineSetLauncher", &launch_pbs},
        {"ipyparallel.apps.launcher.PBSControllerLauncher", &launch_pbs},
        {"Torque", &launch_pbs},
        {"SGE", &launch_sge},
        {"LSFEngineSetLauncher", &launch_lsf},
        {"HTCondor", &launch_htcondor},
        {"condor", &launch_htcondor},
        {"IPython.parallel.apps.launcher.SSHEngineSetLauncher", &launch_ssh},
        {"SSH", &launch_ssh},
        {"sshproxy", &launch_sshproxy},
        {"batch", &launch_batch},
        {"BatchSystemLauncher", &launch_batch},
    };
    const struct launch_ops *ops;
    struct err e;
    for (size_t i = 0; i < sizeof LOCAL / sizeof LOCAL[0]; i++) {
        ops = NULL;
        assert_int_equal(launch_find(LOCAL[i], &ops, &e), CV_OK);
        assert_ptr_equal(ops, &launch_local);
    }
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++) {
        assert_int_equal(launch_find(OTHERS[i].name, &ops, &e), CV_OK);
        assert_ptr_equal(ops, OTHERS[i].ops);
    }
    assert_int_equal(launch_find("WinHPC", &ops, &e), CV_EINVAL);
    assert_non_null(strstr(e.text, "covey runs on Linux"));
    static const char *const OWN[] = {"my.module.MPIEngineSetLauncher", "m:Class", "Mesos",
                                      "@/tmp/x.pickle", "/a/b.py:Local"};
    for (size_t i = 0; i < sizeof OWN / sizeof OWN[0]; i++) {
        assert_int_equal(launch_find(OWN[i], &ops, &e), CV_OK);
        assert_ptr_equal(ops, &launch_python);
    }
}

/* A plan that runs a shell line. */
static struct launch_plan shell_plan(const char *line)
{
    struct launch_plan p = {.argv = calloc(4, sizeof(char *)), .env = calloc(3, sizeof(char *))};
    p.argv[0] = strdup("/bin/sh");
    p.argv[1] = strdup("-c");
    p.argv[2] = strdup(line);
    p.env[0] = strdup("COVEY_EVENTS_FD");
    p.env[1] = strdup("EXTRA=here");
    return p;
}

static size_t read_all(int fd, char *out, size_t size)
{
    size_t n = 0;
    for (ssize_t k; n + 1 < size && (k = read(fd, out + n, size - 1 - n)) > 0; n += (size_t)k)
        ;
    out[n] = 0;
    return n;
}

static void output_and_events_arrive(void **state)
{
    int output[2], events[2], status;
    struct launch_job job;
    struct err e;
    char text[200];
    struct launch_plan p =
        shell_plan("echo to-out $EXTRA; echo to-err >&2; echo event >&$COVEY_EVENTS_FD");
    assert_int_equal(pipe(output) | pipe(events), 0);
    assert_int_equal(
        launch_local.start(&p, &(struct launch_io){-1, output[1], events[1]}, &job, &e), CV_OK);
    close(output[1]);
    close(events[1]);
    read_all(output[0], text, sizeof text);
    assert_string_equal(text, "to-out here\nto-err\n");
    read_all(events[0], text, sizeof text);
    assert_string_equal(text, "event\n");
    assert_int_equal(waitpid(job.pid, &status, 0), job.pid);
    assert_int_equal(status, 0);
    assert_false(launch_local.poll(&job));
    close(output[0]);
    close(events[0]);
    launch_plan_release(&p);
}

static void stop_ends_it_and_force_ends_its_group(void **state)
{
    for (int force = 0; force < 2; force++) {
        int output[2], status;
        struct launch_job job, back;
        struct err e;
        char text[8];
        struct launch_plan p =
            shell_plan(force ? "trap '' TERM; (trap '' TERM; sleep 60) & echo up; wait"
                             : "echo up; exec sleep 60");
        assert_int_equal(pipe(output), 0);
        assert_int_equal(launch_local.start(&p, &(struct launch_io){-1, output[1], -1}, &job, &e),
                         CV_OK);
        close(output[1]);
        assert_int_equal(read(output[0], text, 3), 3);
        assert_true(launch_local.poll(&job));
        json_t *o = launch_local.describe(&launch_local, &job);
        assert_string_equal(json_string_value(json_object_get(o, "class")), "Local");
        assert_int_equal(launch_local.restore(o, &back, &e), CV_OK);
        assert_true(launch_local.poll(&back));
        back.pid_start++; /* another process that got this pid later */
        assert_false(launch_local.poll(&back));
        assert_int_equal(launch_local.stop(&back, true, &e), CV_OK); /* ... is left alone */
        assert_true(launch_local.poll(&job));
        assert_int_equal(launch_local.stop(&job, force, &e), CV_OK);
        assert_int_equal(waitpid(job.pid, &status, 0), job.pid);
        assert_int_equal(WTERMSIG(status), force ? SIGKILL : SIGTERM);
        assert_int_equal(read_all(output[0], text, sizeof text),
                         0); /* nobody of the group holds it any more */
        close(output[0]);
        json_decref(o);
        launch_plan_release(&p);
    }
}

static void what_can_t_start_says_so(void **state)
{
    struct launch_plan p = {.argv = calloc(2, sizeof(char *)), .env = calloc(1, sizeof(char *))};
    struct launch_job job;
    struct err e;
    p.argv[0] = strdup("/nonexistent/ipcontroller");
    assert_int_equal(launch_local.start(&p, &(struct launch_io){-1, STDERR_FILENO, -1}, &job, &e),
                     CV_ENOENT);
    assert_non_null(strstr(e.text, "/nonexistent/ipcontroller"));
    launch_plan_release(&p);
}

static void a_broken_description_is_refused(void **state)
{
    static const char *const CASES[] = {"{}", "{\"pid\": -1, \"pid_start\": 4}", "{\"pid\": 4}",
                                        "[]", "{\"pid\": 99999999999, \"pid_start\": 4}"};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct launch_job job;
        struct err e;
        json_t *o = json_loads(CASES[i], 0, NULL);
        assert_int_equal(launch_local.restore(o, &job, &e), CV_EINVAL);
        json_decref(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_every_era),
        cmocka_unit_test(output_and_events_arrive),
        cmocka_unit_test(stop_ends_it_and_force_ends_its_group),
        cmocka_unit_test(what_can_t_start_says_so),
        cmocka_unit_test(a_broken_description_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Golden command lines: what the launchers run for a few requests, argument by argument and
 * variable by variable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "launch/launch.h"

struct golden {
    struct launch_request r;
    const char *argv[12], *env[12];
};

static const char *const EXTRA[] = {"--ip=*", "--TaskScheduler.hwm=4", NULL};
static const char *const OMP_SET[] = {"PATH=/bin", "OMP_NUM_THREADS=7", "MKL_NUM_THREADS_NOT=1",
                                      NULL};

static const struct golden CASES[] = {
    {{.what = LAUNCH_CONTROLLER,
      .program_dir = "/p",
      .profile_dir = "/h/.ipython/profile_default",
      .cluster_id = ""},
     {"/p/ipcontroller", "--profile-dir=/h/.ipython/profile_default"},
     {"IPP_PROFILE_DIR=/h/.ipython/profile_default", "COVEY_EVENTS_FD"}},
    {{.what = LAUNCH_CONTROLLER,
      .program_dir = "/p q/",
      .profile_dir = "/d e",
      .cluster_id = "x",
      .work_dir = "/w",
      .python = "/usr/bin/python3",
      .cluster_file = "/d e/security/cluster-x.json",
      .args = EXTRA},
     {"/p q/ipcontroller", "--profile-dir=/d e", "--cluster-id=x", "--work-dir=/w",
      "--python=/usr/bin/python3", "--ip=*", "--TaskScheduler.hwm=4"},
     {"IPP_PROFILE_DIR=/d e", "IPP_CLUSTER_ID=x", "COVEY_CLUSTER_FILE=/d e/security/cluster-x.json",
      "COVEY_EVENTS_FD"}},
    {{.what = LAUNCH_ENGINES,
      .program_dir = "/p",
      .profile_dir = "/d",
      .cluster_id = "",
      .n = 16,
      .threads = 2,
      .cluster_file = "/d/security/cluster-.json"},
     {"/p/ipengine", "--profile-dir=/d", "--n=16"},
     {"IPP_PROFILE_DIR=/d", "COVEY_EVENTS_FD", "OMP_NUM_THREADS=2", "MKL_NUM_THREADS=2",
      "OPENBLAS_NUM_THREADS=2", "NUMEXPR_NUM_THREADS=2"}},
    {{.what = LAUNCH_ENGINES,
      .program_dir = "/p",
      .profile_dir = "/d",
      .n = 1,
      .threads = 3,
      .env = OMP_SET},
     {"/p/ipengine", "--profile-dir=/d", "--n=1"},
     {"IPP_PROFILE_DIR=/d", "COVEY_EVENTS_FD", "MKL_NUM_THREADS=3", "OPENBLAS_NUM_THREADS=3",
      "NUMEXPR_NUM_THREADS=3"}},
    {{.what = LAUNCH_ENGINES, .program_dir = "/p", .profile_dir = "/d", .n = 1, .threads = 0},
     {"/p/ipengine", "--profile-dir=/d", "--n=1"},
     {"IPP_PROFILE_DIR=/d", "COVEY_EVENTS_FD"}},
};

static void compare(char **got, const char *const *want)
{
    for (size_t i = 0; want[i] || got[i]; i++) {
        if (!want[i] || !got[i])
            fail_msg("item %zu: %s is %s", i, want[i] ? want[i] : got[i],
                     want[i] ? "missing" : "too many");
        else
            assert_string_equal(got[i], want[i]);
    }
}

static void local_command_lines(void **state)
{
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct launch_plan p;
        assert_int_equal(launch_local.prepare(&launch_local, &CASES[i].r, &p, NULL), CV_OK);
        compare(p.argv, CASES[i].argv);
        compare(p.env, CASES[i].env);
        launch_plan_release(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(local_command_lines)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

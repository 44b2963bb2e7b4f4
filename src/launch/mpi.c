/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The MPI back end: `mpiexec -n N` starts a transparent host of one engine on each rank, so the
 * engine's number is its rank. Signals and the end go to mpiexec, which hands them on. A process
 * manager may close descriptors: a controller's events come by a file. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "launch/words.h"

static int add_command(struct words *w, const struct launch_ops *ops,
                       const struct launch_request *r, struct err *e)
{
    bool engines = r->what == LAUNCH_ENGINES;
    int rc = words_add_trait(w, ops, r, "mpi_cmd", NULL, e);
    if (!w->n)
        words_add(w, "mpiexec");
    words_add(w, "-n");
    words_take(w, str_printf("%u", engines ? r->n : 1));
    rc = rc ? rc : words_add_trait(w, ops, r, "mpi_args", NULL, e);
    return rc ? rc : words_add_program(w, ops, r, 1, e);
}

static int mpi_prepare(const struct launch_ops *ops, const struct launch_request *r,
                       struct launch_plan *ret, struct err *e)
{
    struct words argv = {0}, env = {0};
    int rc = add_command(&argv, ops, r, e);
    rc = rc ? rc : words_add_environment(&env, ops, r, e);
    words_add(&env, "COVEY_EVENTS_FD");
    if (r->what == LAUNCH_CONTROLLER && r->cluster_file)
        words_take(&env, str_printf("COVEY_CLUSTER_FILE=%s", r->cluster_file));
    if (r->what == LAUNCH_CONTROLLER && r->events_file)
        words_take(&env, str_printf("COVEY_EVENTS_FILE=%s", r->events_file));
    if (!rc && (argv.failed || env.failed))
        rc = err_set(e, CV_ENOMEM, "out of memory");
    struct launch_plan p = {.argv = argv.v, .env = env.v};
    if (rc) {
        launch_plan_release(&p);
        return rc;
    }
    *ret = p;
    return CV_OK;
}

static const char *const ALIASES[] = {"mpiexec", "mpirun", NULL};
static const char *const CONTROLLER[] = {
    "MPIControllerLauncher", "MPIExecControllerLauncher", "MPILauncher",  "MPIExecLauncher",
    "ControllerLauncher",    "LocalProcessLauncher",      "BaseLauncher", NULL};
static const char *const ENGINES[] = {
    "MPIEngineSetLauncher", "MPIExecEngineSetLauncher", "MPILauncher",  "MPIExecLauncher",
    "EngineLauncher",       "LocalProcessLauncher",     "BaseLauncher", NULL};

const struct launch_ops launch_mpi = {
    .name = "mpi",
    .cls = "MPI",
    .aliases = ALIASES,
    .flags = LAUNCH_EVENTS_FILE | LAUNCH_RANKS,
    .classes = {CONTROLLER, ENGINES},
    .prepare = mpi_prepare,
    LAUNCH_JOB_FUNCTIONS,
};

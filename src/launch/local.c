/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The local back end: a child process, one ipengine host for all engines of a set. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "launch/words.h"

static bool is_set(const char *const *env, const char *name)
{
    size_t n = strlen(name);
    for (; env && *env; env++)
        if (!strncmp(*env, name, n) && (*env)[n] == '=')
            return true;
    return false;
}

/* Libraries that start a thread per cpu of the machine, whoever else runs there. */
static void add_threads(struct words *w, const struct launch_request *r)
{
    static const char *const NAMES[] = {"OMP_NUM_THREADS", "MKL_NUM_THREADS",
                                        "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"};
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0] && r->threads; i++)
        if (!is_set(r->env, NAMES[i]) && !is_set((const char *const *)w->v, NAMES[i]))
            words_take(w, str_printf("%s=%u", NAMES[i], r->threads));
}

static int local_prepare(const struct launch_ops *ops, const struct launch_request *r,
                         struct launch_plan *ret, struct err *e)
{
    struct words argv = {0}, env = {0};
    int rc = words_add_program(&argv, ops, r, r->n, e);
    rc = rc ? rc : words_add_environment(&env, ops, r, e);
    if (r->what == LAUNCH_CONTROLLER && r->cluster_file)
        words_take(&env, str_printf("COVEY_CLUSTER_FILE=%s", r->cluster_file));
    words_add(&env, "COVEY_EVENTS_FD");
    if (r->what == LAUNCH_ENGINES)
        add_threads(&env, r);
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

static const char *const CONTROLLER[] = {"LocalControllerLauncher", "ControllerLauncher",
                                         "LocalProcessLauncher", "BaseLauncher", NULL};
static const char *const ENGINES[] = {"LocalEngineSetLauncher", "LocalEngineLauncher",
                                      "EngineLauncher",         "LocalProcessLauncher",
                                      "BaseLauncher",           NULL};

const struct launch_ops launch_local = {
    .name = "local",
    .cls = "Local",
    .classes = {CONTROLLER, ENGINES},
    .prepare = local_prepare,
    LAUNCH_JOB_FUNCTIONS,
};

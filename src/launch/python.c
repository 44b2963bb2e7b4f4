/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Launchers that are Python classes: `python -m covey.launcher SPEC` is their agent, SPEC what the
 * user said (MODULE:CLASS, a dotted path, an entry point) or @FILE with a pickled class. The agent
 * gets the whole config: which traits count is the class's business. */
#include <stdlib.h>
#include "base/file.h"
#include "base/jsontext.h"
#include "launch/words.h"

/* A list of texts; NULL gives an empty one. */
static json_t *texts(const char *const *v)
{
    json_t *list = json_array();
    for (; list && v && *v; v++)
        if (json_array_append_new(list, json_string(*v))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static char *make_request(const struct launch_request *r)
{
    char *config = r->config ? config_dump(r->config) : NULL;
    json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s?, s:o, s:o*}", "do", "start", "what",
                          r->what == LAUNCH_ENGINES ? "engines" : "controller", "n",
                          (json_int_t)r->n, "profile_dir", r->profile_dir, "cluster_id",
                          r->cluster_id, "work_dir", r->work_dir, "args", texts(r->args), "config",
                          config ? json_loads(config, 0, NULL) : NULL);
    char *text = o ? jsontext(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(o);
    free(config);
    return text;
}

static int python_prepare(const struct launch_ops *ops, const struct launch_request *r,
                          struct launch_plan *ret, struct err *e)
{
    struct words argv = {0}, env = {0};
    words_add(&argv, r->python ? r->python : "python3");
    words_add(&argv, "-m");
    words_add(&argv, "covey.launcher");
    words_add(&argv, r->launcher);
    int rc = words_add_environment(&env, ops, r, e);
    words_add(&env, "COVEY_EVENTS_FD");
    if (r->what == LAUNCH_CONTROLLER && r->cluster_file)
        words_take(&env, str_printf("COVEY_CLUSTER_FILE=%s", r->cluster_file));
    if (r->what == LAUNCH_CONTROLLER && r->events_file)
        words_take(&env, str_printf("COVEY_EVENTS_FILE=%s", r->events_file));
    struct launch_plan p = {.argv = argv.v, .env = env.v, .input = rc ? NULL : make_request(r)};
    if (!rc && (argv.failed || env.failed || !p.input))
        rc = err_set(e, CV_ENOMEM, "out of memory");
    if (rc) {
        launch_plan_release(&p);
        return rc;
    }
    *ret = p;
    return CV_OK;
}

const struct launch_ops launch_python = {
    .name = "python",
    .cls = "Python",
    .flags = LAUNCH_AGENT | LAUNCH_EVENTS_FILE,
    .prepare = python_prepare,
    LAUNCH_JOB_FUNCTIONS,
};

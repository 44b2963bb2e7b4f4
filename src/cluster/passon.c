/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Arguments for the children (passon.h). At start only. */
#include "cluster/passon.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/jsontext.h"
#include "launch/words.h"

/* A trait of the launcher that is used: its most specific class that says something. */
static int add_launcher_trait(struct words *w, const struct settings *s, enum launch_what what,
                              const char *trait, struct err *e)
{
    const struct launch_ops *ops = what == LAUNCH_ENGINES ? s->engines : s->controller;
    for (const char *const *cls = ops ? ops->classes[what] : NULL; cls && *cls; cls++)
        if (config_get(s->config, *cls, trait))
            return words_add_value(w, s->config, *cls, trait, e);
    return CV_OK;
}

static bool is_one_of(const char *cls, const char *const *names)
{
    for (; *names; names++)
        if (!strncmp(cls, *names, strlen(*names)))
            return true;
    return false;
}

/* Classes (by how their names begin) that are ipcluster's own, and those that only one child knows.
 */
static const char *const OURS[] = {"IPCluster", "Cluster",     "ProfileDir",
                                   "Base",      "Application", NULL};
static const char *const ENGINES[] = {"IPEngine", "EngineFactory", "InteractiveShell",
                                      "IPKernel", "IPythonKernel", "ZMQInteractive",
                                      "Kernel",   "MPI",           NULL};
static const char *const CONTROLLER[] = {
    "IPController", "Hub",  "TaskScheduler", "ControllerFactory",
    "HeartMonitor", "Dict", "SQLite",        "Mongo",
    "NoDB",         NULL};

/* An option --Class.trait=value for the programs that are named. */
static void add_setting(struct words *controller, struct words *engines, const char *cls,
                        const char *trait, const json_t *v)
{
    char *value = json_is_string(v) ? strdup(json_string_value(v))
                                    : jsontext(v, JSON_ENCODE_ANY | JSON_COMPACT);
    if (controller)
        words_take(controller, value ? str_printf("--%s.%s=%s", cls, trait, value) : NULL);
    if (engines)
        words_take(engines, value ? str_printf("--%s.%s=%s", cls, trait, value) : NULL);
    free(value);
}

/* Class.trait of the command line goes to the program that knows the class, or to both. */
static void add_settings(struct words *controller, struct words *engines, const struct config *cli)
{
    const char *cls, *trait;
    json_t *traits, *v;
    json_object_foreach(config_tree(cli), cls, traits)
    {
        if (is_one_of(cls, OURS) || strstr(cls, "Launcher"))
            continue;
        json_object_foreach(traits, trait, v)
        {
            add_setting(is_one_of(cls, ENGINES) ? NULL : controller,
                        is_one_of(cls, CONTROLLER) ? NULL : engines, cls, trait, v);
        }
    }
}

/* c.Class.trait of ipcluster's config files, where one program alone knows the class. The shell's
 * settings are not among them: ipython_config.py, which is read here as well, has them for all. */
static void add_file_settings(struct words *controller, struct words *engines,
                              const struct settings *s, const struct config *cli)
{
    static const char *const HOST[] = {"IPEngine", NULL};
    const char *cls, *trait;
    json_t *traits, *v;
    json_object_foreach(config_tree(s->config), cls, traits)
    {
        bool to_controller = is_one_of(cls, CONTROLLER), to_engines = is_one_of(cls, HOST);
        json_object_foreach(traits, trait, v)
        {
            if (json_is_null(v) || config_get(cli, cls, trait) || (!to_controller && !to_engines))
                continue;
            add_setting(to_controller ? controller : NULL, to_engines ? engines : NULL, cls, trait,
                        v);
        }
    }
}

/* A setting of ours that the controller has an option for. */
static int add_option(struct words *w, const struct config *c, const char *trait,
                      const char *option, struct err *e)
{
    const char *v = NULL;
    int rc = config_str(c, "Cluster", trait, &v, e);
    if (!rc && v && *v)
        words_take(w, str_printf("--%s=%s", option, v));
    return rc;
}

static int add_gpus(struct words *w, const struct config *c, struct err *e)
{
    long n = 0;
    int rc = config_int(c, "Cluster", "gpus_per_engine", &n, e);
    if (!rc && n)
        words_take(w, str_printf("--gpus-per-engine=%ld", n));
    return rc;
}

int passon_args(struct settings *s, const struct config *cli, struct err *e)
{
    struct words controller = {0}, engines = {0};
    add_file_settings(&controller, &engines, s, cli); /* what follows wins */
    int rc = add_launcher_trait(&controller, s, LAUNCH_CONTROLLER, "controller_args", e);
    rc = rc ? rc : add_option(&controller, s->config, "controller_ip", "ip", e);
    rc = rc ? rc : add_option(&controller, s->config, "controller_location", "location", e);
    rc = rc ? rc : words_add_value(&controller, s->config, "Cluster", "controller_args", e);
    rc = rc ? rc : add_gpus(&engines, s->config, e);
    rc = rc ? rc : add_launcher_trait(&engines, s, LAUNCH_ENGINES, "engine_args", e);
    add_settings(&controller, &engines, cli);
    if (s->verb == VERB_START)
        words_add_all(&controller, (const char *const *)s->words);
    if (!rc && (controller.failed || engines.failed))
        rc = err_set(e, CV_ENOMEM, "out of memory");
    s->controller_args = controller.v;
    s->engine_args = engines.v;
    return rc;
}

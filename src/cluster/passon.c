/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Arguments for the children (passon.h). At start only. */
#include "cluster/passon.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"

struct words {
    char **v;
    size_t n;
};

static int add_take(struct words *w, char *text, struct err *e)
{
    char **v = text ? reallocarray(w->v, w->n + 2, sizeof *v) : NULL;
    if (!v) {
        free(text);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    w->v = v;
    w->v[w->n++] = text;
    w->v[w->n] = NULL;
    return CV_OK;
}

/* A trait that is a list of words, or one text with blanks between them. */
static int add_trait(struct words *w, const struct config *c, const char *cls, const char *trait,
                     struct err *e)
{
    json_t *v = config_get(c, cls, trait);
    int rc = CV_OK;
    if (json_is_string(v)) {
        for (const char *p = json_string_value(v) + strspn(json_string_value(v), " "); *p && !rc;
             p += strspn(p, " ")) {
            size_t n = strcspn(p, " ");
            rc = add_take(w, strndup(p, n), e);
            p += n;
        }
        return rc;
    }
    if (v && !json_is_null(v) && !json_is_array(v))
        return config_bad(c, cls, trait, e, "must be a list of arguments");
    for (size_t i = 0; i < json_array_size(v) && !rc; i++) {
        const char *text = json_string_value(json_array_get(v, i));
        rc = text ? add_take(w, strdup(text), e)
                  : config_bad(c, cls, trait, e, "must be a list of texts");
    }
    return rc;
}

/* The same of the launcher that is used: its most specific class that says something. */
static int add_launcher_trait(struct words *w, const struct settings *s, enum launch_what what,
                              const char *trait, struct err *e)
{
    const struct launch_ops *ops = what == LAUNCH_ENGINES ? s->engines : s->controller;
    for (const char *const *cls = ops ? ops->classes[what] : NULL; cls && *cls; cls++)
        if (config_get(s->config, *cls, trait))
            return add_trait(w, s->config, *cls, trait, e);
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
static int add_setting(struct words *controller, struct words *engines, const char *cls,
                       const char *trait, const json_t *v, struct err *e)
{
    char *value = json_is_string(v) ? strdup(json_string_value(v))
                                    : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    int rc = CV_OK;
    if (controller)
        rc = add_take(controller, value ? str_printf("--%s.%s=%s", cls, trait, value) : NULL, e);
    if (engines && !rc)
        rc = add_take(engines, value ? str_printf("--%s.%s=%s", cls, trait, value) : NULL, e);
    free(value);
    return rc;
}

/* Class.trait of the command line goes to the program that knows the class, or to both. */
static int add_settings(struct words *controller, struct words *engines, const struct config *cli,
                        struct err *e)
{
    const char *cls, *trait;
    json_t *traits, *v;
    int rc = CV_OK;
    json_object_foreach(config_tree(cli), cls, traits)
    {
        if (is_one_of(cls, OURS) || strstr(cls, "Launcher"))
            continue;
        json_object_foreach(traits, trait, v)
        {
            rc = rc ? rc
                    : add_setting(is_one_of(cls, ENGINES) ? NULL : controller,
                                  is_one_of(cls, CONTROLLER) ? NULL : engines, cls, trait, v, e);
        }
    }
    return rc;
}

/* c.Class.trait of ipcluster's config files, where one program alone knows the class. The shell's
 * settings are not among them: ipython_config.py, which is read here as well, has them for all. */
static int add_file_settings(struct words *controller, struct words *engines,
                             const struct settings *s, const struct config *cli, struct err *e)
{
    static const char *const HOST[] = {"IPEngine", NULL};
    const char *cls, *trait;
    json_t *traits, *v;
    int rc = CV_OK;
    json_object_foreach(config_tree(s->config), cls, traits)
    {
        bool to_controller = is_one_of(cls, CONTROLLER), to_engines = is_one_of(cls, HOST);
        json_object_foreach(traits, trait, v)
        {
            if (rc || json_is_null(v) || config_get(cli, cls, trait) ||
                (!to_controller && !to_engines))
                continue;
            rc = add_setting(to_controller ? controller : NULL, to_engines ? engines : NULL, cls,
                             trait, v, e);
        }
    }
    return rc;
}

/* A setting of ours that the controller has an option for. */
static int add_option(struct words *w, const struct config *c, const char *trait,
                      const char *option, struct err *e)
{
    const char *v = NULL;
    int rc = config_str(c, "Cluster", trait, &v, e);
    return rc || !v || !*v ? rc : add_take(w, str_printf("--%s=%s", option, v), e);
}

static int add_gpus(struct words *w, const struct config *c, struct err *e)
{
    long n = 0;
    int rc = config_int(c, "Cluster", "gpus_per_engine", &n, e);
    return rc || !n ? rc : add_take(w, str_printf("--gpus-per-engine=%ld", n), e);
}

int passon_args(struct settings *s, const struct config *cli, struct err *e)
{
    struct words controller = {0}, engines = {0};
    int rc = add_file_settings(&controller, &engines, s, cli, e); /* what follows wins */
    rc = rc ? rc : add_launcher_trait(&controller, s, LAUNCH_CONTROLLER, "controller_args", e);
    rc = rc ? rc : add_option(&controller, s->config, "controller_ip", "ip", e);
    rc = rc ? rc : add_option(&controller, s->config, "controller_location", "location", e);
    rc = rc ? rc : add_trait(&controller, s->config, "Cluster", "controller_args", e);
    rc = rc ? rc : add_gpus(&engines, s->config, e);
    rc = rc ? rc : add_launcher_trait(&engines, s, LAUNCH_ENGINES, "engine_args", e);
    rc = rc ? rc : add_settings(&controller, &engines, cli, e);
    for (char **w = s->words; w && *w && !rc && s->verb == VERB_START; w++)
        rc = add_take(&controller, strdup(*w), e);
    s->controller_args = controller.v;
    s->engine_args = engines.v;
    return rc;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The values that come of the command lines of ipcluster's verbs and of its config files
 * (settings.h); what there is to set is in catalog/cluster.c. */
#include "cluster/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "base/confload.h"
#include "base/file.h"
#include "base/reader.h"
#include "catalog/catalog.h"
#include "cluster/cpus.h"
#include "cluster/passon.h"
#include "cluster/profile.h"

#define ENGINES_MAX 100000
#define SHARED                                                                                     \
    "IPCluster", "Cluster", "BaseParallelApplication", "BaseIPythonApplication", "Application"

static const struct args_spec *const SPECS[VERB_END] = {
    [VERB_START] = &catalog_start, [VERB_STOP] = &catalog_stop,   [VERB_ENGINES] = &catalog_engines,
    [VERB_LIST] = &catalog_list,   [VERB_CLEAN] = &catalog_clean,
};

static const char *const NAMES[VERB_END] = {"start", "stop", "engines", "list", "clean"};
static const char *const APPS[VERB_END] = {"IPClusterStart", "IPClusterStop", "IPClusterEngines",
                                           "IPClusterList", "IPClusterClean"};

const char *settings_verb_name(enum verb v)
{
    return NAMES[v];
}

const char *settings_verb_help(enum verb v)
{
    return SPECS[v]->description;
}

/* The verb's class first; those of the other verbs hold what several have (daemonize). */
static const char *const CLASSES[VERB_END][8] = {
    [VERB_START] = {"IPClusterStart", "IPClusterEngines", SHARED},
    [VERB_STOP] = {"IPClusterStop", SHARED},
    [VERB_ENGINES] = {"IPClusterEngines", SHARED},
    [VERB_LIST] = {"IPClusterList", SHARED},
    [VERB_CLEAN] = {"IPClusterClean", SHARED},
};

/* An id is part of file names. */
static void read_cluster_id(struct reader *r, struct settings *s)
{
    const char *env = getenv("IPP_CLUSTER_ID");
    s->cluster_id = reader_str(r, "cluster_id", env ? env : "");
    if (!r->code && strchr(s->cluster_id, '/'))
        r->code = err_set(r->e, CV_EINVAL, "a cluster's id has no '/': \"%.80s\"", s->cluster_id);
}

static void read_launchers(struct reader *r, struct settings *s)
{
    const char *c = reader_str(r, "controller_launcher_class", NULL);
    const char *n = reader_str(r, "engine_launcher_class", NULL);
    s->controller_launcher = c;
    s->engine_launcher = n;
    r->code = r->code ? r->code : launch_find(c, &s->controller, r->e);
    r->code = r->code ? r->code : launch_find(n, &s->engines, r->e);
}

/* n, where it comes from, and each engine's share of the cpus. */
static void read_n(struct reader *r, struct settings *s)
{
    struct cpus cpus;
    long n = reader_int(r, "n", -1, 0, ENGINES_MAX);
    cpus_available(&cpus);
    uint32_t places = n < 0 && s->engines == &launch_ssh ? launch_ssh_count(s->config) : 0;
    s->n = places ? places : n < 0 ? cpus.n : (uint32_t)n;
    if (places)
        s->why_n = strdup("the hosts of SSHEngineSetLauncher.engines");
    else if (n < 0)
        s->why_n = str_printf("%u cpu%s: %s", cpus.n, cpus.n == 1 ? "" : "s", cpus.why);
    const char *cls = reader_class(r, "threads");
    json_t *v = cls ? config_get(s->config, cls, "threads") : NULL;
    if (json_is_string(v) && !strcmp(json_string_value(v), "inherit"))
        return;
    uint32_t share = s->n && cpus.n / s->n > 1 ? cpus.n / s->n : 1;
    s->threads = (uint32_t)reader_int(r, "threads", share, 1, 4096);
}

static void read_all(struct reader *r, struct settings *s)
{
    s->log_level = reader_log_level(r);
    read_cluster_id(r, s);
    s->python = reader_str(r, "python", "python3");
    s->work_dir = reader_str(r, "work_dir", NULL);
    s->daemonize = reader_bool(r, "daemonize", false);
    s->all = reader_bool(r, s->verb == VERB_CLEAN ? "all_profiles" : "all_cluster_ids", false);
    s->show_config = reader_bool(r, "show_config", false);
    s->init = reader_bool(r, "init", false);
    s->force = reader_bool(r, "force", false);
    s->parent_pid = reader_int(r, "parent_pid", 0, 0, INT32_MAX);
    int fd = -1;
    if (r->code == CV_OK && s->verb == VERB_START)
        r->code = file_env_descriptor("COVEY_EVENTS_FD", &fd, r->e);
    s->events_fd = (int)reader_int(r, "events_fd", fd, -1, 1 << 20);
    const char *format = reader_str(r, "output_format", "text");
    s->json = !strcasecmp(format, "json");
    if (!r->code && !s->json && strcasecmp(format, "text"))
        r->code = err_set(r->e, CV_EINVAL, "-o must be text or json, not \"%.40s\"", format);
    s->engine_timeout = 60;
    if (!r->code)
        r->code = config_real(s->config, "Cluster", "engine_timeout", &s->engine_timeout, r->e);
    if (!r->code)
        r->code = config_bool(s->config, "IPController", "reuse_files", &s->reuse, r->e);
    if (s->verb == VERB_START || s->verb == VERB_ENGINES) {
        read_launchers(r, s);
        read_n(r, s);
    }
}

/* ---- the way from the command line to a config ---- */

static int find_profile(struct settings *s, struct config *cli, struct err *e)
{
    const char *root = NULL, *dir = NULL, *name = NULL;
    int rc = config_str(cli, "IPCluster", "ipython_dir", &root, e);
    rc = rc ? rc : config_str(cli, "ProfileDir", "location", &dir, e);
    rc = rc ? rc : config_str(cli, "IPCluster", "profile", &name, e);
    rc = rc || name ? rc : config_str(cli, "BaseIPythonApplication", "profile", &name, e);
    rc = rc ? rc : profile_root(root, &s->ipython_dir, e);
    rc = rc ? rc : profile_dir(dir, name, s->ipython_dir, &s->profile_dir, e);
    const char *env = getenv("IPP_PROFILE_DIR");
    s->profile_named = dir || (name && strcmp(name, "default")) || (env && *env);
    if (rc || profile_exists(s->profile_dir))
        return rc;
    if (s->verb == VERB_START)
        return profile_create(s->profile_dir, e);
    if (s->profile_named)
        return err_set(e, CV_ENOENT,
                       "Profile %s not found: there is no folder %s. `ipcluster list` shows where "
                       "clusters run, `ipcluster start` makes a profile",
                       profile_name(s->profile_dir), s->profile_dir);
    return CV_OK;
}

static char *program_dir(void)
{
    const char *given = getenv("COVEY_BIN");
    return given && *given ? strdup(given) : path_program_dir();
}

static int load(struct settings *s, struct config *cli, struct err *e)
{
    bool starts = s->verb == VERB_START || s->verb == VERB_ENGINES;
    /* programs read the first line of what stop says, and the start has told */
    int rc = confload_all(s->config, SPECS[s->verb]->schema, cli, "IPCluster", s->profile_dir,
                          stderr, !starts, e);
    if (rc)
        return rc;
    struct reader r = {s->config, CLASSES[s->verb], e, CV_OK};
    read_all(&r, s);
    rc = r.code;
    if (!rc && starts)
        rc = passon_args(s, cli, e);
    return rc;
}

enum settings_next settings_parse(struct settings *ret, enum verb verb, int argc, char **argv,
                                  struct err *e)
{
    struct settings s = {.verb = verb, .program_dir = program_dir(), .events_fd = -1};
    struct config *cli = NULL;
    enum settings_next next = SETTINGS_FAILED;
    if (!s.program_dir || config_new(&cli) || config_new(&s.config)) {
        err_set(e, CV_ENOMEM, "out of memory");
        goto out;
    }
    int rc = args_parse(SPECS[verb], argc, argv, cli, &s.words, stderr, e);
    if (rc) {
        next = rc > 0 ? SETTINGS_DONE : SETTINGS_USAGE;
        goto out;
    }
    if (find_profile(&s, cli, e) || load(&s, cli, e))
        goto out;
    if (log_new(&s.log, APPS[verb], s.log_level, STDERR_FILENO)) {
        err_set(e, CV_ENOMEM, "out of memory");
        goto out;
    }
    next = SETTINGS_RUN;
out:
    config_free(cli);
    if (next == SETTINGS_RUN)
        *ret = s;
    else
        settings_release(&s);
    return next;
}

static void free_strings(char **v)
{
    for (char **p = v; p && *p; p++)
        free(*p);
    free(v);
}

void settings_release(struct settings *s)
{
    free_strings(s->controller_args);
    free_strings(s->engine_args);
    free(s->words);
    free(s->why_n);
    free(s->ipython_dir);
    free(s->profile_dir);
    free(s->program_dir);
    log_free(s->log);
    config_free(s->config);
    *s = (struct settings){0};
}

int settings_write_template(const struct settings *s, char **ret_path, struct err *e)
{
    return schema_write_template(SPECS[s->verb]->schema, s->profile_dir, ret_path, e);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command lines of ipcluster's verbs, and the values that come of them (settings.h). The
 * command line is read twice: to find the profile, and then over what the profile's files say. */
#include "cluster/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "base/args.h"
#include "base/confload.h"
#include "base/file.h"
#include "cluster/cpus.h"
#include "cluster/passon.h"
#include "cluster/profile.h"

#define ENGINES_MAX 100000

#define COMMON_ROWS                                                                                \
    {"profile", 0,    ARG_VALUE, "IPCluster",                                                      \
     "profile", NULL, "NAME",    "the profile (default: default)"},                                \
        {"profile-dir", 0,    ARG_VALUE, "ProfileDir",                                             \
         "location",    NULL, "PATH",    "the profile's folder"},                                  \
        {"ipython-dir", 0,                                                                         \
         ARG_VALUE,     "IPCluster",                                                               \
         "ipython_dir", NULL,                                                                      \
         "PATH",        "folder of the profiles (default: $IPYTHONDIR or ~/.ipython)"},            \
        {"cluster-id", 0,                                                                          \
         ARG_VALUE,    "IPCluster",                                                                \
         "cluster_id", NULL,                                                                       \
         "ID",         "name of the cluster, for several in a profile (default: none)"},           \
        {"config",                                                                                 \
         0,                                                                                        \
         ARG_VALUE,                                                                                \
         "IPCluster",                                                                              \
         "extra_config_file",                                                                      \
         NULL,                                                                                     \
         "FILE",                                                                                   \
         "one more config file"},                                                                  \
        {"python", 0,    ARG_VALUE, "IPCluster",                                                   \
         "python", NULL, "PATH",    "the interpreter (default: python3)"},                         \
        {"log-level", 0,    ARG_VALUE, "IPCluster",                                                \
         "log_level", NULL, "LEVEL",   "DEBUG, INFO, WARN ... (default: INFO)"},                   \
        {"debug",     0,    ARG_FLAG, "IPCluster",                                                 \
         "log_level", "10", NULL,     "log much (--log-level=DEBUG)"},                             \
        {"quiet", 0, ARG_FLAG, "IPCluster", "log_level", "50", NULL, "log only what is critical"}, \
        {"log-url",                                                                                \
         0,                                                                                        \
         ARG_IGNORED_VALUE,                                                                        \
         NULL,                                                                                     \
         NULL,                                                                                     \
         NULL,                                                                                     \
         "URL",                                                                                    \
         "logs go to standard error and PROFILE/log/"},                                            \
        {"log-to-file",                                                                            \
         0,                                                                                        \
         ARG_IGNORED_FLAG,                                                                         \
         NULL,                                                                                     \
         NULL,                                                                                     \
         NULL,                                                                                     \
         NULL,                                                                                     \
         "the children's logs are in PROFILE/log/"},                                               \
        {"clean-logs",                                                                             \
         0,                                                                                        \
         ARG_IGNORED_FLAG,                                                                         \
         NULL,                                                                                     \
         NULL,                                                                                     \
         NULL,                                                                                     \
         NULL,                                                                                     \
         "`ipcluster clean` removes logs"}

#define ENGINE_ROWS                                                                                \
    {"n", 'n',  ARG_VALUE, "Cluster",                                                              \
     "n", NULL, "N",       "engines to start (default: the cpus that this process may use)"},      \
        {"engines",                                                                                \
         0,                                                                                        \
         ARG_VALUE,                                                                                \
         "Cluster",                                                                                \
         "engine_launcher_class",                                                                  \
         NULL,                                                                                     \
         "KIND",                                                                                   \
         "launcher: local, ssh, mpi, slurm ... (default: local)"},                                 \
        {"threads",   0,                                                                           \
         ARG_VALUE,   "IPCluster",                                                                 \
         "threads",   NULL,                                                                        \
         "N|inherit", "OMP_NUM_THREADS and the like for each engine (default: cpus / engines)"},   \
        {"work-dir", 0,    ARG_VALUE, "IPCluster",                                                 \
         "work_dir", NULL, "PATH",    "the engines' folder (default: this)"},                      \
        {"restart", 0,      ARG_FLAG, "IPEngine",                                                  \
         "restart", "true", NULL,     "start engines that died again"},                            \
        {"daemonize", 0,      ARG_FLAG, "IPCluster",                                               \
         "daemonize", "true", NULL,     "leave it running in the background"}

static const struct arg START_ROWS[] = {
    ENGINE_ROWS,
    {"controller", 0, ARG_VALUE, "Cluster", "controller_launcher_class", NULL, "KIND",
     "launcher: local, ssh, mpi, slurm ... (default: local)"},
    {"ip", 0, ARG_VALUE, "Cluster", "controller_ip", NULL, "ADDR",
     "the controller listens here; '*' for all (default: 127.0.0.1)"},
    {"location", 0, ARG_VALUE, "Cluster", "controller_location", NULL, "HOST",
     "the controller's name for other machines"},
    {"engine-timeout", 0, ARG_VALUE, "Cluster", "engine_timeout", NULL, "SECONDS",
     "all engines must be there by then (default: 60)"},
    {"parent-pid", 0, ARG_VALUE, "IPCluster", "parent_pid", NULL, "PID",
     "stop when this process ends"},
    {"events-fd", 0, ARG_VALUE, "IPCluster", "events_fd", NULL, "N",
     "write events to this descriptor, as JSON lines"},
    {"reuse", 0, ARG_FLAG, "IPController", "reuse_files", "true", NULL,
     "keep key and ports of the connection files"},
    {"delay", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "SEC",
     "engines wait for the controller, not for a time"},
    COMMON_ROWS,
    {NULL},
};

static const struct arg ENGINES_ROWS[] = {ENGINE_ROWS, COMMON_ROWS, {NULL}};

static const struct arg STOP_ROWS[] = {
    {"all", 0, ARG_FLAG, "IPCluster", "all", "true", NULL, "all clusters of the profile"},
    {"signal", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "N",
     "a stop is SIGTERM and, after 5 seconds, SIGKILL"},
    COMMON_ROWS,
    {NULL},
};

static const struct arg LIST_ROWS[] = {
    {"output", 'o', ARG_VALUE, "IPCluster", "output_format", NULL, "text|json",
     "how to show them (default: text)"},
    {"o", 0, ARG_VALUE, "IPCluster", "output_format", NULL, "text|json", "the same"},
    COMMON_ROWS,
    {NULL},
};

static const struct arg CLEAN_ROWS[] = {
    {"force", 0, ARG_FLAG, "IPCluster", "force", "true", NULL,
     "stop clusters that run, and remove their files too"},
    {"all", 0, ARG_FLAG, "IPCluster", "all", "true", NULL, "all profiles"},
    COMMON_ROWS,
    {NULL},
};

static const struct args_spec SPECS[VERB_END] = {
    [VERB_START] =
        {"ipcluster start",
         "Starts a controller and engines and stays until Ctrl-C, SIGTERM, `ipcluster stop` or "
         "the\n"
         "controller's end. What follows -- is given to the controller.",
         "  ipcluster start                            as many engines as there are cpus\n"
         "  ipcluster start -n 8 --profile=sim         eight engines, files in the profile `sim`\n"
         "  ipcluster start -n 4 --daemonize           leave it running; `ipcluster stop` ends it\n"
         "  ipcluster start -n 0 --ip='*'              a controller for engines on other machines\n"
         "  ipcluster start -n 4 -- --scheme=lru       an option for the controller",
         START_ROWS},
    [VERB_STOP] = {"ipcluster stop", "Stops a cluster. Further words are ids of clusters.",
                   "  ipcluster stop\n  ipcluster stop --profile=sim\n  ipcluster stop one two     "
                   "clusters by their ids\n"
                   "  ipcluster stop --all",
                   STOP_ROWS},
    [VERB_ENGINES] = {"ipcluster engines",
                      "Starts more engines for the profile's controller. Ctrl-C interrupts what "
                      "they run, SIGTERM ends them.",
                      "  ipcluster engines -n 4\n  ipcluster engines -n 4 --daemonize",
                      ENGINES_ROWS},
    [VERB_LIST] = {"ipcluster list",
                   "Lists the clusters of all profiles, or of the one that is named.",
                   "  ipcluster list\n  ipcluster list -o json", LIST_ROWS},
    [VERB_CLEAN] = {"ipcluster clean", "Removes logs and what stopped clusters left behind.",
                    "  ipcluster clean\n  ipcluster clean --all\n  ipcluster clean --force",
                    CLEAN_ROWS},
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
    return SPECS[v].description;
}

/* ---- values: today's class first, then those of former times ---- */

struct reader {
    struct settings *s;
    struct err *e;
    int rc; /* the first failure */
};

static const char *const CLASSES[] = {"IPCluster",
                                      "Cluster",
                                      "IPClusterStart",
                                      "IPClusterEngines",
                                      "IPClusterStop",
                                      "IPClusterList",
                                      "IPClusterClean",
                                      "IPClusterApp",
                                      "BaseParallelApplication",
                                      "BaseIPythonApplication",
                                      "Application"};

static const char *class_of(struct reader *r, const char *trait)
{
    for (size_t i = 0; i < sizeof CLASSES / sizeof CLASSES[0]; i++) {
        json_t *v = config_get(r->s->config, CLASSES[i], trait);
        if (v && !json_is_null(v))
            return CLASSES[i];
    }
    return NULL;
}

static const char *get_str(struct reader *r, const char *trait, const char *fallback)
{
    const char *cls = class_of(r, trait), *v = NULL;
    if (cls && !r->rc)
        r->rc = config_str(r->s->config, cls, trait, &v, r->e);
    return v && *v ? v : fallback;
}

static bool get_bool(struct reader *r, const char *trait)
{
    const char *cls = class_of(r, trait);
    bool v = false;
    if (cls && !r->rc)
        r->rc = config_bool(r->s->config, cls, trait, &v, r->e);
    return v;
}

static long get_int(struct reader *r, const char *trait, long fallback, long min, long max)
{
    const char *cls = class_of(r, trait);
    long v = fallback;
    if (!cls || r->rc)
        return fallback;
    r->rc = config_int(r->s->config, cls, trait, &v, r->e);
    if (!r->rc && (v < min || v > max))
        r->rc = err_set(r->e, CV_EINVAL, "%s.%s must be from %ld to %ld, not %ld", cls, trait, min,
                        max, v);
    return r->rc ? fallback : v;
}

static void read_log_level(struct reader *r)
{
    const char *cls = class_of(r, "log_level");
    json_t *v = cls ? config_get(r->s->config, cls, "log_level") : NULL;
    r->s->log_level = LOG_INFO_;
    if (json_is_integer(v))
        r->s->log_level = (int)get_int(r, "log_level", LOG_INFO_, 0, 100);
    else if (v && !r->rc &&
             (!json_is_string(v) || log_level_parse(json_string_value(v), &r->s->log_level)))
        r->rc = err_set(r->e, CV_EINVAL,
                        "the log level must be DEBUG, INFO, WARN, ERROR, CRITICAL or a number");
}

/* An id is part of file names. */
static void read_cluster_id(struct reader *r)
{
    const char *env = getenv("IPP_CLUSTER_ID");
    r->s->cluster_id = get_str(r, "cluster_id", env ? env : "");
    if (!r->rc && strchr(r->s->cluster_id, '/'))
        r->rc = err_set(r->e, CV_EINVAL, "a cluster's id has no '/': \"%.80s\"", r->s->cluster_id);
}

static void read_launchers(struct reader *r)
{
    const char *c = get_str(r, "controller_launcher_class", get_str(r, "controller", NULL));
    const char *n = get_str(r, "engine_launcher_class",
                            get_str(r, "engine_launcher", get_str(r, "engines", NULL)));
    r->s->controller_launcher = c;
    r->s->engine_launcher = n;
    r->rc = r->rc ? r->rc : launch_find(c, &r->s->controller, r->e);
    r->rc = r->rc ? r->rc : launch_find(n, &r->s->engines, r->e);
}

/* n, where it comes from, and each engine's share of the cpus. */
static void read_n(struct reader *r)
{
    struct settings *s = r->s;
    struct cpus cpus;
    long n = get_int(r, "n", -1, 0, ENGINES_MAX);
    cpus_available(&cpus);
    uint32_t places = n < 0 && s->engines == &launch_ssh ? launch_ssh_count(s->config) : 0;
    s->n = places ? places : n < 0 ? cpus.n : (uint32_t)n;
    if (places)
        s->why_n = strdup("the hosts of SSHEngineSetLauncher.engines");
    else if (n < 0)
        s->why_n = str_printf("%u cpu%s: %s", cpus.n, cpus.n == 1 ? "" : "s", cpus.why);
    const char *cls = class_of(r, "threads");
    json_t *v = cls ? config_get(s->config, cls, "threads") : NULL;
    if (json_is_string(v) && !strcmp(json_string_value(v), "inherit"))
        return;
    uint32_t share = s->n && cpus.n / s->n > 1 ? cpus.n / s->n : 1;
    s->threads = (uint32_t)get_int(r, "threads", share, 1, 4096);
}

static void read_all(struct reader *r)
{
    struct settings *s = r->s;
    read_log_level(r);
    read_cluster_id(r);
    s->python = get_str(r, "python", "python3");
    s->work_dir = get_str(r, "work_dir", NULL);
    s->daemonize = get_bool(r, "daemonize");
    s->all = get_bool(r, "all");
    s->force = get_bool(r, "force");
    s->parent_pid = get_int(r, "parent_pid", 0, 0, INT32_MAX);
    const char *env = getenv("COVEY_EVENTS_FD");
    s->events_fd = (int)get_int(r, "events_fd", env && *env ? atol(env) : -1, -1, 1 << 20);
    const char *format = get_str(r, "output_format", "text");
    s->json = !strcasecmp(format, "json");
    if (!r->rc && !s->json && strcasecmp(format, "text"))
        r->rc = err_set(r->e, CV_EINVAL, "-o must be text or json, not \"%.40s\"", format);
    s->engine_timeout = 60;
    if (!r->rc)
        r->rc = config_real(s->config, "Cluster", "engine_timeout", &s->engine_timeout, r->e);
    if (!r->rc)
        r->rc = config_bool(s->config, "IPController", "reuse_files", &s->reuse, r->e);
    if (s->verb == VERB_START || s->verb == VERB_ENGINES) {
        read_launchers(r);
        read_n(r);
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
        return err_set(e, CV_ENOENT, "Profile %s not found: there is no folder %s",
                       profile_name(s->profile_dir), s->profile_dir);
    return CV_OK;
}

static char *program_dir(void)
{
    const char *given = getenv("COVEY_BIN");
    return given && *given ? strdup(given) : path_program_dir();
}

static int load(struct settings *s, int argc, char **argv, struct config *cli, struct err *e)
{
    const char *extra = NULL, *python = "python3";
    char **rest = NULL;
    int rc = config_str(cli, "IPCluster", "extra_config_file", &extra, e);
    rc = rc ? rc : config_str(cli, "IPCluster", "python", &python, e);
    rc = rc ? rc : confload_files(s->config, "ipcluster", s->profile_dir, extra, python, e);
    rc = rc ? rc : args_parse(&SPECS[s->verb], argc, argv, s->config, &rest, NULL, e);
    free(rest);
    if (rc)
        return rc;
    struct reader r = {.s = s, .e = e};
    read_all(&r);
    rc = r.rc;
    if (!rc && (s->verb == VERB_START || s->verb == VERB_ENGINES))
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
    int rc = args_parse(&SPECS[verb], argc, argv, cli, &s.words, stderr, e);
    if (rc) {
        next = rc > 0 ? SETTINGS_DONE : SETTINGS_USAGE;
        goto out;
    }
    if (find_profile(&s, cli, e) || load(&s, argc, argv, cli, e))
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

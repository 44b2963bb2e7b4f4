/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See options.h. The table below is the command line. It is read twice: first to find the profile,
 * then over what the profile's files say. Names of former times are looked up after today's. */
#include "host/options.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/args.h"
#include "base/confload.h"
#include "base/file.h"
#include "base/log.h"
#include "wire/header.h"

#define NO_SESSION "connections are always authenticated and, between machines, encrypted"
#define N_MAX 4096

static const struct arg rows[] = {
    {"n", 'n', ARG_VALUE, "IPEngine", "n", NULL, "N", "engines to start here (default: 1)"},
    {"profile", 0, ARG_VALUE, "IPEngine", "profile", NULL, "NAME",
     "the profile (default: default)"},
    {"profile-dir", 0, ARG_VALUE, "ProfileDir", "location", NULL, "PATH", "the profile's folder"},
    {"ipython-dir", 0, ARG_VALUE, "IPEngine", "ipython_dir", NULL, "PATH",
     "folder of the profiles (default: $IPYTHONDIR or ~/.ipython)"},
    {"cluster-id", 0, ARG_VALUE, "IPEngine", "cluster_id", NULL, "ID",
     "part of the connection file's name, for several clusters in a profile (default: none)"},
    {"file", 0, ARG_VALUE, "IPEngine", "url_file", NULL, "PATH",
     "the connection file (default: security/ipcontroller[-ID]-engine.json in the profile)"},
    {"location", 0, ARG_VALUE, "IPEngine", "location", NULL, "HOST",
     "the controller's name or address as seen from here (default: as the connection file says)"},
    {"no-unix", 0, ARG_FLAG, "IPEngine", "no_unix", "true", NULL,
     "reach the controller by TCP alone, even on the same machine"},
    {"restart", 0, ARG_FLAG, "IPEngine", "restart", "true", NULL,
     "start engines that died again, under their numbers"},
    {"timeout", 0, ARG_VALUE, "IPEngine", "timeout", NULL, "SECONDS",
     "wait this long for a controller and for word from it (default: 60)"},
    {"grace", 0, ARG_VALUE, "IPEngine", "grace", NULL, "SECONDS",
     "keep the engines for so long while the controller can't be reached (default: 300)"},
    {"controller-grace", 0, ARG_VALUE, "IPEngine", "controller_grace", NULL, "SECONDS",
     "keep the engines for so long when the controller's process on this machine has ended without "
     "a word; one that is started again with --reuse finds them as they were (default: 10)"},
    {"stop-grace", 0, ARG_VALUE, "IPEngine", "stop_grace", NULL, "SECONDS",
     "kill engines that have not ended so long after they were told to (default: 5)"},
    {"c", 'c', ARG_VALUE, "IPEngine", "startup_command", NULL, "CODE",
     "code that each engine runs at its start"},
    {"s", 's', ARG_VALUE, "IPEngine", "startup_script", NULL, "FILE",
     "file that each engine runs at its start"},
    {"id", 0, ARG_VALUE, "IPEngine", "id", NULL, "N",
     "number to ask for; with -n the engines ask for N, N+1 ... (default: the next free one)"},
    {"mpi", 0, ARG_FLAG, "IPEngine", "use_mpi", "true", NULL,
     "the number is the MPI rank, and engines define MPI, mpi_rank and mpi_size (needs mpi4py)"},
    {"config", 0, ARG_VALUE, "IPEngine", "extra_config_file", NULL, "FILE", "one more config file"},
    {"work-dir", 0, ARG_VALUE, "IPEngine", "work_dir", NULL, "PATH",
     "the engines' working folder (default: this one)"},
    {"log-level", 0, ARG_VALUE, "IPEngine", "log_level", NULL, "LEVEL",
     "DEBUG, INFO, WARN ... (default: INFO)"},
    {"debug", 0, ARG_FLAG, "IPEngine", "log_level", "10", NULL, "log much (--log-level=DEBUG)"},
    {"quiet", 0, ARG_FLAG, "IPEngine", "log_level", "50", NULL, "log only what is critical"},
    {"log-to-file", 0, ARG_FLAG, "IPEngine", "log_to_file", "true", NULL,
     "log to PROFILE/log/ipengine-ID-PID.log"},
    {"python", 0, ARG_VALUE, "IPEngine", "python", NULL, "PATH",
     "the engines' interpreter (default: python3)"},
    {"engine-module", 0, ARG_VALUE, "IPEngine", "engine_module", NULL, "NAME",
     "Python module that is an engine (default: covey.engine)"},
    {"show-config", 0, ARG_FLAG, "IPEngine", "show_config", "true", NULL,
     "print the config as JSON and exit"},
    {"show-config-json", 0, ARG_FLAG, "IPEngine", "show_config", "true", NULL, "the same"},
    {"ssh", 0, ARG_VALUE, "IPEngine", "sshserver", NULL, "[USER@]HOST[:PORT]", "not available yet"},
    {"sshkey", 0, ARG_VALUE, "IPEngine", "sshkey", NULL, "FILE", "not available yet"},
    {"url", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "URL",
     "the connection file says where the controller is"},
    {"secure", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL, NO_SESSION},
    {"no-secure", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL, NO_SESSION},
    {"ident", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "TEXT", NO_SESSION},
    {"user", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "TEXT", NO_SESSION},
    {"keyfile", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "PATH", NO_SESSION},
    {"log-url", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "URL",
     "logs go to standard error or to a file"},
    {"clean-logs", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL, "logs are left where they are"},
    {NULL},
};

static const struct args_spec spec = {
    .program = "ipengine",
    .description = "Starts and watches engines on this machine. It finds the controller by the "
                   "connection file of the\n"
                   "profile and waits for that file if it is not there yet.\n\n"
                   "SIGTERM stops the engines and then this program. Ctrl-C (SIGINT) interrupts "
                   "what the engines run;\n"
                   "when none of them runs anything, a second Ctrl-C within 5 seconds stops all.\n"
                   "Under mpiexec or srun, with one engine, both go to that engine, and its exit "
                   "code is this program's.",
    .examples =
        "  ipengine                                one engine for the default profile\n"
        "  ipengine -n 4 --profile=sim             four engines\n"
        "  ipengine --file=/shared/ipcontroller-engine.json --location=node7\n"
        "  srun ipengine                           one engine for each task of a Slurm job\n",
    .rows = rows,
};

/* The classes in which a setting may stand, today's first; `renamed` ones are told. */
static const struct {
    const char *cls;
    bool renamed;
} classes[] = {{"IPEngine", false},
               {"BaseParallelApplication", false},
               {"BaseIPythonApplication", false},
               {"Application", false},
               {"EngineFactory", true},
               {"IPEngineApp", true}};

struct reader {
    struct options *o;
    FILE *notices;
    struct err *e;
    int code; /* the first failure */
};

static const char *class_of(struct reader *r, const char *trait)
{
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (!config_get(r->o->config, classes[i].cls, trait))
            continue;
        if (classes[i].renamed)
            fprintf(r->notices, "%s.%s is now called IPEngine.%s\n", classes[i].cls, trait, trait);
        return classes[i].cls;
    }
    return NULL;
}

/* The text of a setting; "" counts as unset. */
static const char *get_str(struct reader *r, const char *trait, const char *fallback)
{
    const char *cls = class_of(r, trait), *ret = NULL;
    if (cls && r->code == CV_OK && !json_is_null(config_get(r->o->config, cls, trait)))
        r->code = config_str(r->o->config, cls, trait, &ret, r->e);
    return ret && *ret ? ret : fallback;
}

static bool get_bool(struct reader *r, const char *trait, bool fallback)
{
    const char *cls = class_of(r, trait);
    if (cls && r->code == CV_OK)
        r->code = config_bool(r->o->config, cls, trait, &fallback, r->e);
    return fallback;
}

static long get_int(struct reader *r, const char *trait, long fallback, long min, long max)
{
    const char *cls = class_of(r, trait);
    long ret = fallback;
    if (!cls || r->code != CV_OK || json_is_null(config_get(r->o->config, cls, trait)))
        return ret;
    r->code = config_int(r->o->config, cls, trait, &ret, r->e);
    if (r->code == CV_OK && (ret < min || ret > max))
        r->code = err_set(r->e, CV_EINVAL, "%s.%s is %ld, but must be between %ld and %ld", cls,
                          trait, ret, min, max);
    return ret;
}

static double get_seconds(struct reader *r, const char *trait, double fallback)
{
    const char *cls = class_of(r, trait);
    if (cls && r->code == CV_OK)
        r->code = config_real(r->o->config, cls, trait, &fallback, r->e);
    if (r->code == CV_OK && !(fallback >= 0 && fallback < 1e9))
        r->code = err_set(r->e, CV_EINVAL, "IPEngine.%s is not a number of seconds", trait);
    return fallback;
}

static int get_log_level(struct reader *r)
{
    const char *cls = class_of(r, "log_level");
    json_t *v = cls ? config_get(r->o->config, cls, "log_level") : NULL;
    int level = LOG_INFO_;
    if (json_is_integer(v))
        level = (int)json_integer_value(v);
    else if (v && (!json_is_string(v) || log_level_parse(json_string_value(v), &level) != CV_OK) &&
             r->code == CV_OK)
        r->code =
            err_set(r->e, CV_EINVAL,
                    "%s.log_level is neither a number nor DEBUG, INFO, WARN, ERROR, CRITICAL", cls);
    return level;
}

/* Where the connection file is: --file, else below the profile. */
static void get_file(struct reader *r)
{
    struct options *o = r->o;
    const char *file = get_str(r, "url_file", NULL), *name = get_str(r, "url_file_name", NULL);
    if (file) {
        o->file = confload_absolute(file);
    } else {
        char *leaf = name             ? strdup(name)
                     : *o->cluster_id ? str_printf("ipcontroller-%s-engine.json", o->cluster_id)
                                      : strdup("ipcontroller-engine.json");
        char *folder = path_join(o->profile_dir, "security");
        o->file = leaf && folder ? path_join(folder, leaf) : NULL;
        free(leaf);
        free(folder);
    }
    if (!o->file && r->code == CV_OK)
        r->code = err_set(r->e, CV_ENOMEM, "out of memory");
}

static void get_work_dir(struct reader *r)
{
    const char *folder = get_str(r, "work_dir", NULL);
    if (folder && !(r->o->work_dir = confload_absolute(folder)) && r->code == CV_OK)
        r->code = err_set(r->e, CV_ENOMEM, "out of memory");
}

static int read_values(struct options *o, FILE *notices, struct err *e)
{
    static const char mpi_init[] = "from mpi4py import MPI\nmpi_size = MPI.COMM_WORLD.Get_size()\n"
                                   "mpi_rank = MPI.COMM_WORLD.Get_rank()\n";
    struct reader r = {o, notices, e, CV_OK};
    const char *id = getenv("IPP_CLUSTER_ID"), *info = getenv("IPP_CONNECTION_INFO");
    o->cluster_id = get_str(&r, "cluster_id", id ? id : "");
    if (r.code == CV_OK && strchr(o->cluster_id, '/'))
        r.code = err_set(e, CV_EINVAL, "a cluster id is part of a file's name and has no '/'");
    get_file(&r);
    get_work_dir(&r);
    o->info = info && *info && !class_of(&r, "url_file") ? info : NULL;
    o->location = get_str(&r, "location", "");
    o->python = get_str(&r, "python", "python3");
    o->module = get_str(&r, "engine_module", "covey.engine");
    o->command = get_str(&r, "startup_command", NULL);
    o->script = get_str(&r, "startup_script", NULL);
    o->n = (uint32_t)get_int(&r, "n", 1, 1, N_MAX);
    o->number = (uint32_t)get_int(&r, "id", WIRE_ENGINE_NONE, 0, INT_MAX);
    o->no_unix = get_bool(&r, "no_unix", false);
    o->restart = get_bool(&r, "restart", false);
    o->log_to_file = get_bool(&r, "log_to_file", false);
    o->show_config = get_bool(&r, "show_config", false);
    if (get_bool(&r, "use_mpi", false))
        o->mpi_init = get_str(&r, "init_mpi", mpi_init);
    o->timeout = get_seconds(&r, "timeout", 60);
    o->grace = get_seconds(&r, "grace", 300);
    o->controller_grace = get_seconds(&r, "controller_grace", 10);
    o->stop_grace = get_seconds(&r, "stop_grace", 5);
    o->log_level = get_log_level(&r);
    if (r.code == CV_OK && (get_str(&r, "sshserver", NULL) || get_str(&r, "sshkey", NULL)))
        r.code = err_set(e, CV_EINVAL,
                         "--ssh and --sshkey: this version can't go through ssh; give the "
                         "controller --ip='*' and engines its file");
    return r.code;
}

/* --mpi=mpi4py and the like of former versions mean --mpi. malloc'ed. */
static char **without_mpi_value(int argc, char **argv)
{
    static char mpi[] = "--mpi";
    char **copy = malloc(((size_t)argc + 1) * sizeof *copy);
    for (int i = 0; copy && i <= argc; i++) {
        const char *value = i < argc && strncmp(argv[i], "--mpi=", 6) == 0 ? argv[i] + 6 : NULL;
        bool plain = !value || strcasecmp(value, "true") == 0 || strcasecmp(value, "false") == 0;
        copy[i] = plain ? argv[i] : mpi;
    }
    return copy;
}

static int parse_line(int argc, char **argv, struct config *c, FILE *notices, struct err *e)
{
    char **rest = NULL;
    int rc = args_parse(&spec, argc, argv, c, &rest, notices, e);
    if (rc == CV_OK && rest && rest[0])
        rc = err_set(e, CV_EINVAL, "'%s' is not an option (see ipengine --help)", rest[0]);
    if (rc == CV_OK || rest)
        free(rest);
    return rc;
}

/* Config files, and over them the command line once more. */
static int load(struct options *o, const struct config *first, int argc, char **argv, struct err *e)
{
    const char *extra = NULL, *python = "python3";
    int rc = confload_profile_dir(first, "IPEngine", &o->profile_dir, e);
    if (rc == CV_OK)
        rc = config_new(&o->config);
    if (rc == CV_OK)
        rc = config_str(first, "IPEngine", "extra_config_file", &extra, e);
    if (rc == CV_OK)
        rc = config_str(first, "IPEngine", "python", &python, e);
    if (rc == CV_OK)
        rc = confload_files(o->config, "ipengine", o->profile_dir, extra, python, e);
    return rc == CV_OK ? parse_line(argc, argv, o->config, NULL, e) : rc;
}

enum options_next options_parse(struct options *ret, int argc, char **argv, FILE *notices,
                                struct err *e)
{
    enum options_next next = OPTIONS_FAILED;
    struct config *first = NULL;
    char **line = without_mpi_value(argc, argv);
    memset(ret, 0, sizeof *ret);
    if (!line || config_new(&first) != CV_OK) {
        err_set(e, CV_ENOMEM, "out of memory");
        goto out;
    }
    int rc = parse_line(argc, line, first, notices, e);
    if (rc != CV_OK)
        next = rc > 0 ? OPTIONS_DONE : OPTIONS_USAGE;
    else if (load(ret, first, argc, line, e) == CV_OK && read_values(ret, notices, e) == CV_OK)
        next = OPTIONS_RUN;
out:
    free(line);
    config_free(first);
    if (next != OPTIONS_RUN)
        options_release(ret);
    return next;
}

void options_release(struct options *o)
{
    config_free(o->config);
    free(o->profile_dir);
    free(o->file);
    free(o->work_dir);
    memset(o, 0, sizeof *o);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See options.h. The table below is the command line; the values come from a config in which the
 * command line lies over the files. Names of former times are looked up after today's. */
#include "controller/options.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "base/args.h"
#include "base/confload.h"
#include "base/file.h"
#include "base/log.h"

#define NOT_NEEDED_HEARTBEAT "covey has no heartbeat to tune: a lost link is noticed at once"
#define PORT_MAX 65535
#define NOT_NEEDED_SESSION                                                                         \
    "covey's connections are always authenticated and, between machines, encrypted"

static const struct arg rows[] = {
    {"ip", 0, ARG_VALUE, "IPController", "ip", NULL, "ADDRESS",
     "address to listen on; '*' is every address (default: 127.0.0.1)"},
    {"port", 0, ARG_VALUE, "IPController", "port", NULL, "N",
     "the one TCP port (default: a free one)"},
    {"ports", 0, ARG_VALUE, "IPController", "ports", NULL, "RANGE",
     "a range such as 10101-10120, of which the first is used as the port"},
    {"location", 0, ARG_VALUE, "IPController", "location", NULL, "HOST",
     "name or address of this machine as others reach it (default: its host name)"},
    {"ssh", 0, ARG_VALUE, "IPController", "ssh_server", NULL, "[USER@]HOST[:PORT]",
     "clients go through this ssh server (default: none)"},
    {"enginessh", 0, ARG_VALUE, "IPController", "engine_ssh_server", NULL, "[USER@]HOST[:PORT]",
     "engines go through this ssh server (default: none)"},
    {"unix-path", 0, ARG_VALUE, "IPController", "unix_path", NULL, "PATH",
     "a socket file instead of the abstract socket, for containers that share a folder"},
    {"no-unix", 0, ARG_FLAG, "IPController", "no_unix", "true", NULL, "listen on TCP only"},
    {"reuse", 0, ARG_FLAG, "IPController", "reuse_files", "true", NULL,
     "keep keys, port and name of the existing connection files, and leave the files at exit"},
    {"restore", 0, ARG_FLAG, "IPController", "restore_engines", "true", NULL,
     "the same as --reuse: engines come back under their numbers by themselves"},
    {"profile", 0, ARG_VALUE, "IPController", "profile", NULL, "NAME",
     "the profile (default: default)"},
    {"profile-dir", 0, ARG_VALUE, "ProfileDir", "location", NULL, "PATH", "the profile's folder"},
    {"ipython-dir", 0, ARG_VALUE, "IPController", "ipython_dir", NULL, "PATH",
     "folder of the profiles (default: $IPYTHONDIR or ~/.ipython)"},
    {"cluster-id", 0, ARG_VALUE, "IPController", "cluster_id", NULL, "ID",
     "part of the connection files' names, for several clusters in a profile (default: none)"},
    {"config", 0, ARG_VALUE, "IPController", "extra_config_file", NULL, "FILE",
     "one more config file"},
    {"work-dir", 0, ARG_VALUE, "IPController", "work_dir", NULL, "PATH",
     "change to this folder first"},
    {"scheme", 0, ARG_VALUE, "TaskScheduler", "scheme_name", NULL, "NAME",
     "how engines are chosen for tasks (default: leastload)"},
    {"ping-interval", 0, ARG_VALUE, "IPController", "ping_interval", NULL, "SECONDS",
     "ask a TCP peer that says nothing for a sign of life after this time (default: 10)"},
    {"ping-timeout", 0, ARG_VALUE, "IPController", "ping_timeout", NULL, "SECONDS",
     "a TCP link on which nothing was heard for this time is lost, and its peer away (default: "
     "60)"},
    {"hwm", 0, ARG_VALUE, "TaskScheduler", "hwm", NULL, "N",
     "tasks that an engine holds at most; 0: no limit (default: by how long tasks take)"},
    {"sched-log", 0, ARG_VALUE, "IPController", "sched_log", NULL, "FILE",
     "write what the scheduler is told, so that it can be replayed (default: none)"},
    {"db", 0, ARG_VALUE, "IPController", "db_class", NULL, "NAME",
     "where task records are kept: memory, sqlite or none (default: memory)"},
    {"dictdb", 0, ARG_FLAG, "IPController", "db_class", "DictDB", NULL,
     "keep task records in memory (default)"},
    {"nodb", 0, ARG_FLAG, "IPController", "db_class", "NoDB", NULL,
     "keep no record once a result is delivered"},
    {"sqlitedb", 0, ARG_FLAG, "IPController", "db_class", "SQLiteDB", NULL,
     "keep task records in PROFILE/tasks.db, too"},
    {"mongodb", 0, ARG_FLAG, "IPController", "db_class", "MongoDB", NULL,
     "not there: task records are kept in memory"},
    {"log-level", 0, ARG_VALUE, "IPController", "log_level", NULL, "LEVEL",
     "DEBUG, INFO, WARN ... (default: INFO)"},
    {"debug", 0, ARG_FLAG, "IPController", "log_level", "10", NULL, "log much (--log-level=DEBUG)"},
    {"quiet", 0, ARG_FLAG, "IPController", "log_level", "50", NULL, "log only what is critical"},
    {"log-to-file", 0, ARG_FLAG, "IPController", "log_to_file", "true", NULL,
     "log to PROFILE/log/ipcontroller-ID-PID.log"},
    {"python", 0, ARG_VALUE, "IPController", "python", NULL, "PATH",
     "interpreter that evaluates config files (default: python3)"},
    {"init", 0, ARG_FLAG, "IPController", "init", "true", NULL,
     "write an ipcontroller_config.py of comments into the profile and exit"},
    {"show-config", 0, ARG_FLAG, "IPController", "show_config", "true", NULL,
     "print the config as JSON and exit"},
    {"show-config-json", 0, ARG_FLAG, "IPController", "show_config", "true", NULL, "the same"},
    {"ping", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "MS", NOT_NEEDED_HEARTBEAT},
    {"usethreads", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL,
     "the controller is one process with one loop"},
    {"transport", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "NAME",
     "covey uses a Unix socket where it can and TLS elsewhere"},
    {"secure", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL, NOT_NEEDED_SESSION},
    {"no-secure", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL, NOT_NEEDED_SESSION},
    {"ident", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "TEXT", NOT_NEEDED_SESSION},
    {"user", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "TEXT", NOT_NEEDED_SESSION},
    {"keyfile", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "PATH", NOT_NEEDED_SESSION},
    {"log-url", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "URL",
     "logs go to standard error or to a file"},
    {"clean-logs", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL, "logs are left where they are"},
    {NULL},
};

static const struct args_spec spec = {
    .program = "ipcontroller",
    .description = "The controller of a cluster: engines and clients connect to it by the files "
                   "that it writes into\n"
                   "PROFILE/security. It runs in the foreground until it is told to stop.",
    .examples = "  ipcontroller                         for this machine alone\n"
                "  ipcontroller --ip='*'                for engines on other machines, too\n"
                "  ipcontroller --profile=sim --reuse   with the same keys and port each time\n",
    .rows = rows,
};

/* The classes in which a trait may stand, today's first; `renamed` ones are told. */
static const struct {
    const char *cls;
    bool renamed;
} classes[] = {{"IPController", false},           {"BaseParallelApplication", false},
               {"BaseIPythonApplication", false}, {"Application", false},
               {"IPControllerApp", true},         {"HubFactory", true}};

struct reader {
    struct options *o;
    FILE *notices;
    struct err *e;
    int code; /* the first failure */
};

/* The class that has the trait, or NULL. */
static const char *class_of(struct reader *r, const char *trait)
{
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (!config_get(r->o->config, classes[i].cls, trait))
            continue;
        if (classes[i].renamed)
            fprintf(r->notices, "%s.%s is now called IPController.%s\n", classes[i].cls, trait,
                    trait);
        return classes[i].cls;
    }
    return NULL;
}

static const char *get_str(struct reader *r, const char *trait, const char *fallback)
{
    const char *cls = class_of(r, trait), *ret = fallback;

    if (cls && r->code == CV_OK && !json_is_null(config_get(r->o->config, cls, trait)))
        r->code = config_str(r->o->config, cls, trait, &ret, r->e);
    return ret;
}

static bool get_bool(struct reader *r, const char *trait)
{
    const char *cls = class_of(r, trait);
    bool ret = false;

    if (cls && r->code == CV_OK)
        r->code = config_bool(r->o->config, cls, trait, &ret, r->e);
    return ret;
}

static long get_int(struct reader *r, const char *cls, const char *trait, long fallback, long min,
                    long max)
{
    long ret = fallback;

    if (!config_get(r->o->config, cls, trait) || r->code != CV_OK)
        return ret;
    r->code = config_int(r->o->config, cls, trait, &ret, r->e);
    if (r->code == CV_OK && (ret < min || ret > max))
        r->code = err_set(r->e, CV_EINVAL, "%s.%s is %ld, but must be between %ld and %ld", cls,
                          trait, ret, min, max);
    return ret;
}

static double get_seconds(struct reader *r, const char *trait, double fallback)
{
    double ret = fallback;

    if (r->code == CV_OK)
        r->code = config_real(r->o->config, "IPController", trait, &ret, r->e);
    if (r->code == CV_OK && !(ret >= 0 && ret < 1e9))
        r->code = err_set(r->e, CV_EINVAL, "IPController.%s is not a number of seconds", trait);
    return ret;
}

static void get_log_level(struct reader *r)
{
    const char *cls = class_of(r, "log_level");
    json_t *v = cls ? config_get(r->o->config, cls, "log_level") : NULL;

    r->o->log_level = LOG_INFO_;
    if (json_is_integer(v))
        r->o->log_level = (int)json_integer_value(v);
    else if (v &&
             (!json_is_string(v) ||
              log_level_parse(json_string_value(v), &r->o->log_level) != CV_OK) &&
             r->code == CV_OK)
        r->code =
            err_set(r->e, CV_EINVAL,
                    "%s.log_level is neither a number nor DEBUG, INFO, WARN, ERROR, CRITICAL", cls);
}

/* One number of a port list from *at on, which moves behind it. */
static bool port_number(const char **at, long *ret)
{
    char *end;

    if (!isdigit((unsigned char)**at))
        return false;
    *ret = strtol(*at, &end, 10);
    *at = end;
    return *ret <= PORT_MAX;
}

/* The first of ports: 10101, "10101-10120,10200", [10101, ...]; 0 where none is named. False: these
 * are no ports. */
static bool first_port(const json_t *v, long *ret)
{
    const char *at;
    long other;

    if (json_is_array(v))
        v = json_array_get(v, 0);
    *ret = json_is_integer(v) ? (long)json_integer_value(v) : 0;
    if (!v || json_is_null(v) || json_is_integer(v))
        return *ret >= 0 && *ret <= PORT_MAX;
    at = json_string_value(v);
    if (!at || (*at && !port_number(&at, ret)))
        return false;
    while (*at == '-' || *at == ',')
        if (at++, !port_number(&at, &other))
            return false;
    return !*at;
}

static void get_port(struct reader *r)
{
    static const char *const names[] = {"port", "regport", "ports", "client_ports", "engine_ports"};
    long port = 0;
    const char *name = NULL;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && port == 0; i++) {
        const char *cls = class_of(r, names[i]);
        if (!cls || r->code != CV_OK)
            continue;
        name = names[i];
        if (!first_port(config_get(r->o->config, cls, name), &port))
            r->code = err_set(r->e, CV_EINVAL,
                              "%s.%s is neither a port between 1 and 65535 nor a range of ports "
                              "such as 10101-10120",
                              cls, name);
    }
    if (r->code != CV_OK)
        return;
    r->o->port = (uint16_t)port;
    if (name && !strcmp(name, "ports"))
        fprintf(r->notices, "covey needs one port: %ld, the first of --ports, is it\n", port);
}

/* The back end of a name of any era: "sqlite", "SQLiteDB",
 * "ipyparallel.controller.sqlitedb.SQLiteDB", "ipyparallel.controller.sqlitedb:SQLiteDB"; NULL:
 * there is none. */
static const char *store_of(const char *name)
{
    static const struct {
        const char *word, *store;
    } words[] = {{"memory", "memory"}, {"dict", "memory"},     {"DictDB", "memory"},
                 {"sqlite", "sqlite"}, {"SQLiteDB", "sqlite"}, {"none", "none"},
                 {"NoDB", "none"},     {"mongo", "mongo"},     {"MongoDB", "mongo"}};

    for (const char *p = name; *p; p++)
        if (*p == '.' || *p == ':')
            name = p + 1;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (!strcasecmp(name, words[i].word))
            return words[i].store;
    return NULL;
}

/* A trait of SQLiteDB that is not empty, or the fallback. */
static const char *sqlite_str(struct reader *r, const char *trait, const char *fallback)
{
    const char *ret = "";

    if (r->code == CV_OK && !json_is_null(config_get(r->o->config, "SQLiteDB", trait)))
        r->code = config_str(r->o->config, "SQLiteDB", trait, &ret, r->e);
    return *ret ? ret : fallback;
}

/* The file: as named, else in SQLiteDB.location, else in the profile's folder. */
static void get_file(struct reader *r)
{
    const char *name = sqlite_str(r, "filename", "tasks.db"), *home = getenv("HOME");
    const char *folder = sqlite_str(r, "location", r->o->profile_dir);

    r->o->db_table = sqlite_str(r, "table", "ipython-tasks");
    if (*name == '/')
        r->o->db_file = strdup(name);
    else if (folder[0] == '~' && folder[1] == '/' && home)
        r->o->db_file = str_printf("%s%s/%s", home, folder + 1, name);
    else
        r->o->db_file = str_printf("%s/%s", folder, name);
    if (!r->o->db_file && r->code == CV_OK)
        r->code = err_set(r->e, CV_ENOMEM, "out of memory");
    r->o->db_retry = 5;
    if (r->code == CV_OK)
        r->code = config_real(r->o->config, "SQLiteDB", "retry", &r->o->db_retry, r->e);
    if (r->code == CV_OK && !(r->o->db_retry >= 0.01 && r->o->db_retry < 1e6))
        r->code = err_set(r->e, CV_EINVAL, "SQLiteDB.retry is not a number of seconds");
}

static void get_store(struct reader *r)
{
    const char *name = get_str(r, "db_class", "memory");

    r->o->store = store_of(name);
    if (!r->o->store && r->code == CV_OK)
        r->code = err_set(r->e, CV_EINVAL,
                          "IPController.db_class is '%s', but task records are kept in memory, "
                          "sqlite or none (DictDB, SQLiteDB, NoDB)",
                          name);
    if (r->o->store && !strcmp(r->o->store, "mongo")) {
        r->o->store = "memory";
        fprintf(r->notices, "covey keeps no records in MongoDB: they are kept in memory and end "
                            "with the controller; --db=sqlite keeps them in a file\n");
    }
    get_file(r);
    r->o->record_limit = (uint64_t)get_int(r, "DictDB", "record_limit", 0, 0, LONG_MAX);
    r->o->size_limit = (uint64_t)get_int(r, "DictDB", "size_limit", 0, 0, LONG_MAX);
}

static void get_scheduler(struct reader *r)
{
    static const char *const known[] = {"leastload", "lru",         "weighted",
                                        "twobin",    "plainrandom", "pure"};
    bool found = false;

    r->o->scheme = "leastload";
    if (r->code == CV_OK)
        r->code = config_str(r->o->config, "TaskScheduler", "scheme_name", &r->o->scheme, r->e);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        found |= !strcmp(known[i], r->o->scheme);
    if (!found && r->code == CV_OK)
        r->code =
            err_set(r->e, CV_EINVAL,
                    "there is no scheme '%s' (leastload, lru, weighted, twobin, plainrandom, pure)",
                    r->o->scheme);
    r->o->sched_log = get_str(r, "sched_log", "");
    r->o->sched_log_limit =
        (uint64_t)get_int(r, "IPController", "sched_log_limit", 1l << 30, 0, LONG_MAX);
    r->o->hwm = (uint32_t)get_int(r, "TaskScheduler", "hwm", 0, 0, 1 << 30);
    if (config_get(r->o->config, "TaskScheduler", "hwm") && !r->o->hwm)
        r->o->hwm = 1u << 30;
}

static void get_liveness(struct reader *r)
{
    double ping = get_seconds(r, "ping_interval", 10), dead = get_seconds(r, "ping_timeout", 60);

    if (r->code == CV_OK && (ping < 0.01 || dead < 2 * ping || dead > 1e6))
        r->code = err_set(r->e, CV_EINVAL,
                          "IPController.ping_timeout (%g s) must be at least twice ping_interval "
                          "(%g s), which is at least 0.01 s",
                          dead, ping);
    r->o->ping_ns = (uint64_t)(ping * 1e9);
    r->o->dead_ns = (uint64_t)(dead * 1e9);
}

static int read_values(struct options *o, FILE *notices, struct err *e)
{
    struct reader r = {o, notices, e, CV_OK};
    const char *id = getenv("IPP_CLUSTER_ID");

    o->cluster_id = get_str(&r, "cluster_id", id ? id : "");
    if (r.code == CV_OK && strchr(o->cluster_id, '/'))
        r.code = err_set(e, CV_EINVAL, "a cluster id is part of a file's name and has no '/'");
    o->ip = get_str(&r, "ip", get_str(&r, "client_ip", get_str(&r, "engine_ip", "127.0.0.1")));
    if (!strcmp(o->ip, "0.0.0.0") || !*o->ip)
        o->ip = "*";
    o->location = get_str(&r, "location", "");
    o->ssh = get_str(&r, "ssh_server", "");
    o->enginessh = get_str(&r, "engine_ssh_server", "");
    o->unix_path = get_str(&r, "unix_path", "");
    o->work_dir = get_str(&r, "work_dir", "");
    o->python = get_str(&r, "python", "python3");
    o->no_unix = get_bool(&r, "no_unix");
    o->reuse = get_bool(&r, "reuse_files");
    o->reuse |= get_bool(&r, "restore_engines");
    o->log_to_file = get_bool(&r, "log_to_file");
    o->show_config = get_bool(&r, "show_config");
    o->init = get_bool(&r, "init");
    o->settle = get_seconds(&r, "settle", 3);
    o->away_grace = get_seconds(&r, "away_grace", 300);
    o->client_grace = get_seconds(&r, "client_grace", 0);
    o->client_buffer =
        (uint64_t)get_int(&r, "IPController", "client_buffer", 256l << 20, 1 << 16, LONG_MAX / 8);
    get_liveness(&r);
    get_log_level(&r);
    get_port(&r);
    get_store(&r);
    get_scheduler(&r);
    return r.code;
}

static int load(struct options *o, const struct config *cli, struct err *e)
{
    const char *extra = NULL, *python = "python3";
    char *text = NULL;
    int r = confload_profile_dir(cli, "IPController", &o->profile_dir, e);

    if (r == CV_OK)
        r = config_new(&o->config);
    if (r == CV_OK)
        r = config_str(cli, "IPController", "extra_config_file", &extra, e);
    if (r == CV_OK)
        r = config_str(cli, "IPController", "python", &python, e);
    if (r == CV_OK)
        r = confload_files(o->config, "ipcontroller", o->profile_dir, extra, python, e);
    if (r == CV_OK && !(text = config_dump(cli)))
        r = err_set(e, CV_ENOMEM, "out of memory");
    if (r == CV_OK)
        r = config_merge(o->config, text, strlen(text), e);
    free(text);
    return r;
}

enum options_next options_parse(struct options *ret, int argc, char **argv, FILE *notices,
                                struct err *e)
{
    struct config *cli = NULL;
    char **rest = NULL;
    enum options_next next = OPTIONS_FAILED;

    memset(ret, 0, sizeof(*ret));
    if (config_new(&cli) != CV_OK) {
        err_set(e, CV_ENOMEM, "out of memory");
        return OPTIONS_FAILED;
    }
    int r = args_parse(&spec, argc, argv, cli, &rest, notices, e);
    if (r != CV_OK) {
        next = r > 0 ? OPTIONS_DONE : OPTIONS_USAGE;
        goto out;
    }
    if (rest && rest[0]) {
        err_set(e, CV_EINVAL, "'%s' is not an option (see ipcontroller --help)", rest[0]);
        next = OPTIONS_USAGE;
        goto out;
    }
    if (load(ret, cli, e) == CV_OK && read_values(ret, notices, e) == CV_OK)
        next = OPTIONS_RUN;
out:
    free(rest);
    config_free(cli);
    if (next != OPTIONS_RUN)
        options_release(ret);
    return next;
}

void options_release(struct options *o)
{
    if (o->config)
        config_free(o->config);
    free(o->profile_dir);
    free(o->db_file);
    memset(o, 0, sizeof(*o));
}

int options_write_template(const struct options *o, char **ret_path, struct err *e)
{
    struct buf b = {0};
    char *path = path_join(o->profile_dir, "ipcontroller_config.py");
    int r = CV_ENOMEM;

    if (!path)
        goto out;
    r = buf_addstr(
        &b, "# Configuration of ipcontroller: remove the '#' before what you want to change.\n"
            "# c = get_config()  # noqa\n");
    for (const struct arg *a = rows; a->name && r == CV_OK; a++)
        if (a->cls && strcmp(a->trait, "init") && strcmp(a->trait, "show_config"))
            r = buf_addf(&b, "\n# %s\n# c.%s.%s = %s\n", a->help, a->cls, a->trait,
                         a->kind == ARG_FLAG && !strcmp(a->value, "true") ? "False" : "...");
    if (r == CV_OK && (r = file_mkdirs(o->profile_dir, 0755, e)) != CV_OK)
        goto out;
    struct buf old = {0};
    bool exists = file_read(path, 16u << 20, &old, NULL) == CV_OK;
    buf_release(&old);
    if (r == CV_OK && !exists)
        r = file_write_atomic(path, 0644, b.data, b.len, e);
out:
    buf_release(&b);
    if (r == CV_OK)
        *ret_path = path;
    else
        free(path);
    return r;
}

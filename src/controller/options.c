/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See options.h. The values come from a config in which the command line lies over the files; what
 * there is to set is in catalog/controller.c. */
#include "controller/options.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "base/confload.h"
#include "base/file.h"
#include "base/log.h"
#include "base/reader.h"
#include "catalog/catalog.h"

#define PORT_MAX 65535

static const char *const classes[] = {"IPController", "BaseParallelApplication",
                                      "BaseIPythonApplication", "Application", NULL};

/* A whole number of one of the classes that have a part of the settings. */
static long get_int(struct reader *r, const char *cls, const char *trait, long fallback, long min,
                    long max)
{
    const char *const one[] = {cls, NULL};
    struct reader part = {r->config, one, r->e, r->code};
    long ret = reader_int(&part, trait, fallback, min, max);

    r->code = part.code;
    return ret;
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
    long before, other;

    if (json_is_array(v))
        v = json_array_get(v, 0);
    *ret = json_is_integer(v) ? (long)json_integer_value(v) : 0;
    if (!v || json_is_null(v) || json_is_integer(v))
        return *ret >= 0 && *ret <= PORT_MAX;
    at = json_string_value(v);
    if (!at || (*at && !port_number(&at, ret)))
        return false;
    before = *ret;
    while (*at == '-' || *at == ',') {
        bool is_end = *at++ == '-';
        if (!port_number(&at, &other) || (is_end && other < before))
            return false;
        before = other;
    }
    return !*at;
}

static void get_port(struct reader *r, struct options *o, FILE *notices)
{
    static const char *const names[] = {"port", "ports", "client_ports", "engine_ports"};
    long port = 0;
    const char *name = NULL;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && port == 0; i++) {
        const char *cls = reader_class(r, names[i]);
        if (!cls || r->code != CV_OK)
            continue;
        name = names[i];
        if (!first_port(config_get(r->config, cls, name), &port))
            r->code = config_bad(r->config, cls, name, r->e,
                                 "is neither a port between 1 and 65535 nor a range of ports "
                                 "such as 10101-10120");
    }
    if (r->code != CV_OK)
        return;
    o->port = (uint16_t)port;
    if (name && !strcmp(name, "ports"))
        fprintf(notices, "covey needs one port: %ld, the first of --ports, is it\n", port);
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

    if (r->code == CV_OK && !json_is_null(config_get(r->config, "SQLiteDB", trait)))
        r->code = config_str(r->config, "SQLiteDB", trait, &ret, r->e);
    return *ret ? ret : fallback;
}

/* The file: as named, else in SQLiteDB.location, else in the profile's folder. */
static void get_file(struct reader *r, struct options *o)
{
    const char *name = sqlite_str(r, "filename", "tasks.db"), *home = getenv("HOME");
    const char *folder = sqlite_str(r, "location", o->profile_dir);

    o->db_table = sqlite_str(r, "table", "ipython-tasks");
    if (*name == '/')
        o->db_file = strdup(name);
    else if (folder[0] == '~' && folder[1] == '/' && home)
        o->db_file = str_printf("%s%s/%s", home, folder + 1, name);
    else
        o->db_file = str_printf("%s/%s", folder, name);
    if (!o->db_file && r->code == CV_OK)
        r->code = err_set(r->e, CV_ENOMEM, "out of memory");
    o->db_retry = 5;
    if (r->code == CV_OK)
        r->code = config_real(r->config, "SQLiteDB", "retry", &o->db_retry, r->e);
    if (r->code == CV_OK && !(o->db_retry >= 0.01 && o->db_retry < 1e6))
        r->code = err_set(r->e, CV_EINVAL, "SQLiteDB.retry is not a number of seconds");
}

static void get_store(struct reader *r, struct options *o, FILE *notices)
{
    const char *name = reader_str(r, "db_class", "memory");

    o->store = store_of(name);
    if (!o->store && r->code == CV_OK)
        r->code = err_set(r->e, CV_EINVAL,
                          "IPController.db_class is '%s', but task records are kept in memory, "
                          "sqlite or none (DictDB, SQLiteDB, NoDB)",
                          name);
    if (o->store && !strcmp(o->store, "mongo")) {
        o->store = "memory";
        fprintf(notices, "covey keeps no records in MongoDB: they are kept in memory and end "
                         "with the controller; --db=sqlite keeps them in a file\n");
    }
    get_file(r, o);
    o->record_limit = (uint64_t)get_int(r, "DictDB", "record_limit", 0, 0, LONG_MAX);
    o->size_limit = (uint64_t)get_int(r, "DictDB", "size_limit", 0, 0, LONG_MAX);
}

static void get_scheduler(struct reader *r, struct options *o)
{
    static const char *const known[] = {"leastload", "lru",         "weighted",
                                        "twobin",    "plainrandom", "pure"};
    bool found = false;

    o->scheme = "leastload";
    if (r->code == CV_OK)
        r->code = config_str(r->config, "TaskScheduler", "scheme_name", &o->scheme, r->e);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        found |= !strcmp(known[i], o->scheme);
    if (!found && r->code == CV_OK)
        r->code =
            err_set(r->e, CV_EINVAL,
                    "there is no scheme '%s' (leastload, lru, weighted, twobin, plainrandom, pure)",
                    o->scheme);
    o->sched_log = reader_str(r, "sched_log", "");
    o->sched_log_limit =
        (uint64_t)get_int(r, "IPController", "sched_log_limit", 1l << 30, 0, LONG_MAX);
    o->hwm = (uint32_t)get_int(r, "TaskScheduler", "hwm", 0, 0, 1 << 30);
    if (config_get(r->config, "TaskScheduler", "hwm") && !o->hwm)
        o->hwm = 1u << 30;
}

static void get_liveness(struct reader *r, struct options *o)
{
    double ping = reader_seconds(r, "ping_interval", 10),
           dead = reader_seconds(r, "ping_timeout", 60);

    if (r->code == CV_OK && (ping < 0.01 || dead < 2 * ping || dead > 1e6))
        r->code = err_set(r->e, CV_EINVAL,
                          "IPController.ping_timeout (%g s) must be at least twice ping_interval "
                          "(%g s), which is at least 0.01 s",
                          dead, ping);
    o->ping_ns = (uint64_t)(ping * 1e9);
    o->dead_ns = (uint64_t)(dead * 1e9);
}

static int read_values(struct options *o, FILE *notices, struct err *e)
{
    struct reader r = {o->config, classes, e, CV_OK};
    const char *id = getenv("IPP_CLUSTER_ID");

    o->cluster_id = reader_str(&r, "cluster_id", id ? id : "");
    if (r.code == CV_OK && strchr(o->cluster_id, '/'))
        r.code = err_set(e, CV_EINVAL, "a cluster id is part of a file's name and has no '/'");
    o->ip =
        reader_str(&r, "ip", reader_str(&r, "client_ip", reader_str(&r, "engine_ip", "127.0.0.1")));
    if (!strcmp(o->ip, "0.0.0.0") || !*o->ip)
        o->ip = "*";
    o->location = reader_str(&r, "location", "");
    o->ssh = reader_str(&r, "ssh_server", "");
    o->enginessh = reader_str(&r, "engine_ssh_server", "");
    o->unix_path = reader_str(&r, "unix_path", "");
    o->work_dir = reader_str(&r, "work_dir", "");
    o->python = reader_str(&r, "python", "python3");
    o->no_unix = reader_bool(&r, "no_unix", false);
    o->reuse = reader_bool(&r, "reuse_files", false);
    o->reuse |= reader_bool(&r, "restore_engines", false);
    o->log_to_file = reader_bool(&r, "log_to_file", false);
    o->show_config = reader_bool(&r, "show_config", false);
    o->init = reader_bool(&r, "init", false);
    o->settle = reader_seconds(&r, "settle", 3);
    o->away_grace = reader_seconds(&r, "away_grace", 300);
    o->client_grace = reader_seconds(&r, "client_grace", 0);
    o->client_buffer =
        (uint64_t)get_int(&r, "IPController", "client_buffer", 256l << 20, 1 << 16, LONG_MAX / 8);
    get_liveness(&r, o);
    o->log_level = reader_log_level(&r);
    get_port(&r, o, notices);
    get_store(&r, o, notices);
    get_scheduler(&r, o);
    return r.code;
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
    int r = args_parse(&catalog_controller, argc, argv, cli, &rest, notices, e);
    if (r != CV_OK) {
        next = r > 0 ? OPTIONS_DONE : OPTIONS_USAGE;
        goto out;
    }
    if (rest && rest[0]) {
        err_set(e, CV_EINVAL, "'%s' is not an option (see ipcontroller --help)", rest[0]);
        next = OPTIONS_USAGE;
        goto out;
    }
    r = confload_profile_dir(cli, "IPController", &ret->profile_dir, e);
    r = r ? r : config_new(&ret->config);
    r = r ? r
          : confload_all(ret->config, catalog_controller.schema, cli, "IPController",
                         ret->profile_dir, notices, false, e);
    catalog_check_environment(notices);
    if (r == CV_OK && read_values(ret, notices, e) == CV_OK)
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
    return schema_write_template(catalog_controller.schema, o->profile_dir, ret_path, e);
}

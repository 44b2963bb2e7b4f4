/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See options.h. What there is to set is in catalog/engine.c. */
#include "host/options.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <strings.h>
#include "base/confload.h"
#include "base/file.h"
#include "base/reader.h"
#include "catalog/catalog.h"
#include "wire/header.h"

#define N_MAX 4096

static const char *const classes[] = {"IPEngine", "BaseParallelApplication",
                                      "BaseIPythonApplication", "Application", NULL};

/* Where the connection file is: --file, else below the profile. */
static void get_file(struct reader *r, struct options *o)
{
    const char *file = reader_str(r, "url_file", NULL),
               *name = reader_str(r, "url_file_name", NULL);
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

static void get_work_dir(struct reader *r, struct options *o)
{
    const char *folder = reader_str(r, "work_dir", NULL);
    struct stat st;
    if (!folder || !*folder || r->code != CV_OK)
        return;
    if (!(o->work_dir = confload_absolute(folder)))
        r->code = err_set(r->e, CV_ENOMEM, "out of memory");
    else if (stat(o->work_dir, &st) || !S_ISDIR(st.st_mode))
        r->code = config_bad(r->config, reader_class(r, "work_dir"), "work_dir", r->e,
                             "must be a folder that is there, not %s", o->work_dir);
}

static void get_environment(struct reader *r, struct options *o)
{
    const char *cls = reader_class(r, "environment"), *name;
    json_t *own = cls ? config_get(r->config, cls, "environment") : NULL, *v;
    bool bad = own && !json_is_object(own);
    json_object_foreach(own, name, v)
    {
        bad |= !json_is_string(v);
    }
    if (bad && r->code == CV_OK)
        r->code = config_bad(r->config, cls, "environment", r->e, "must be a dict of texts");
    o->environment = own;
}

/* use_mpi once named a library ("mpi4py"). */
static bool get_mpi(struct reader *r)
{
    const char *cls = reader_class(r, "use_mpi");
    const char *text = cls ? json_string_value(config_get(r->config, cls, "use_mpi")) : NULL;
    if (text && (!strcmp(text, "mpi4py") || !strcmp(text, "default")))
        return true;
    return reader_bool(r, "use_mpi", false);
}

static int read_values(struct options *o, struct err *e)
{
    static const char mpi_init[] = "from mpi4py import MPI\nmpi_size = MPI.COMM_WORLD.Get_size()\n"
                                   "mpi_rank = MPI.COMM_WORLD.Get_rank()\n";
    struct reader r = {o->config, classes, e, CV_OK};
    const char *id = getenv("IPP_CLUSTER_ID"), *info = getenv("IPP_CONNECTION_INFO");
    o->cluster_id = reader_str(&r, "cluster_id", id ? id : "");
    if (r.code == CV_OK && strchr(o->cluster_id, '/'))
        r.code = err_set(e, CV_EINVAL, "a cluster id is part of a file's name and has no '/'");
    get_file(&r, o);
    get_work_dir(&r, o);
    o->info = info && *info && !reader_class(&r, "url_file") ? info : NULL;
    o->location = reader_str(&r, "location", "");
    o->ssh_server = reader_str(&r, "sshserver", "");
    o->ssh_key = reader_str(&r, "sshkey", "");
    o->python = reader_str(&r, "python", "python3");
    o->module = reader_str(&r, "engine_module", "covey.engine");
    o->command = reader_str(&r, "startup_command", NULL);
    o->script = reader_str(&r, "startup_script", NULL);
    o->n = (uint32_t)reader_int(&r, "n", 1, 1, N_MAX);
    o->number = (uint32_t)reader_int(&r, "id", WIRE_ENGINE_NONE, 0, INT_MAX);
    o->no_unix = reader_bool(&r, "no_unix", false);
    o->restart = reader_bool(&r, "restart", false);
    o->log_to_file = reader_bool(&r, "log_to_file", false);
    o->show_config = reader_bool(&r, "show_config", false);
    o->init = reader_bool(&r, "init", false);
    get_environment(&r, o);
    o->gpus = (uint32_t)reader_int(&r, "gpus_per_engine", 0, 0, 64);
    if (get_mpi(&r))
        o->mpi_init = reader_str(&r, "init_mpi", mpi_init);
    o->timeout = reader_seconds(&r, "timeout", 60);
    o->grace = reader_seconds(&r, "grace", 300);
    o->controller_grace = reader_seconds(&r, "controller_grace", 10);
    o->stop_grace = reader_seconds(&r, "stop_grace", 5);
    o->log_level = reader_log_level(&r);
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
    int rc = args_parse(&catalog_engine, argc, argv, c, &rest, notices, e);
    if (rc == CV_OK && rest && rest[0])
        rc = err_set(e, CV_EINVAL, "'%s' is not an option (see ipengine --help)", rest[0]);
    if (rc == CV_OK || rest)
        free(rest);
    return rc;
}

static int load(struct options *o, struct config *cli, FILE *notices, struct err *e)
{
    int rc = confload_profile_dir(cli, "IPEngine", &o->profile_dir, e);
    rc = rc ? rc : config_new(&o->config);
    return rc ? rc
              : confload_all(o->config, catalog_engine.schema, cli, "IPEngine", o->profile_dir,
                             notices, false, e);
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
    else if (load(ret, first, notices, e) == CV_OK && read_values(ret, e) == CV_OK)
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

int options_write_template(const struct options *o, char **ret_path, struct err *e)
{
    return schema_write_template(catalog_engine.schema, o->profile_dir, ret_path, e);
}

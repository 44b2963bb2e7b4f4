/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See params.h. */
#include "host/params.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/confload.h"

/* Config lines that engines run at their start; --mpi's come before them. */
static json_t *exec_lines(const struct options *o)
{
    static const char *const classes[] = {"IPKernelApp", "InteractiveShellApp"};
    json_t *lines = json_array();
    if (!lines || !o->mpi_init) /* engines read the config's own */
        return lines;
    int bad = json_array_append_new(lines, json_string(o->mpi_init));
    for (size_t i = 0; i < 2 && !bad; i++) {
        json_t *more = config_get(o->config, classes[i], "exec_lines");
        if (!json_is_array(more) || json_array_size(more) == 0)
            continue;
        bad = json_array_extend(lines, more);
        break;
    }
    if (!bad)
        return lines;
    json_decref(lines);
    return NULL;
}

static json_t *startup_json(const struct options *o)
{
    char *script = o->script ? confload_absolute(o->script) : NULL;
    json_t *lines = o->script && !script ? NULL : exec_lines(o);
    json_t *j = lines ? json_pack("{s:s?,s:s?,s:o,s:[]}", "command", o->command, "script", script,
                                  "exec_lines", lines, "extensions")
                      : NULL;
    free(script);
    return j;
}

/* Which start of a supervisor's we are, or 0. */
static uint64_t engine_set(void)
{
    const char *text = getenv("COVEY_ENGINE_SET");
    char *end = NULL;
    uint64_t set = text && *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    return end && !*end ? set : 0;
}

int params_new(json_t **ret, const struct options *o, uint64_t host_session, bool process_manager)
{
    char session[24], machine[24], set[24];
    json_error_t unused;
    snprintf(session, sizeof session, "%" PRIu64, host_session);
    snprintf(machine, sizeof machine, "%" PRIu64, machine_id());
    snprintf(set, sizeof set, "%" PRIu64, engine_set());
    char *dump = config_dump(o->config);
    json_t *config = dump ? json_loads(dump, 0, &unused) : NULL;
    json_t *startup = startup_json(o), *p = NULL;
    if (config && startup)
        p = json_pack("{s:I,s:i,s:s,s:s,s:s?,s:O,s:i,s:O,s:b,s:s,s:s}", "uid",
                      (json_int_t)geteuid(), "host_pid", (int)getpid(), "host_session", session,
                      "profile_dir", o->profile_dir, "work_dir", o->work_dir, "startup", startup,
                      "log_level", o->log_level, "config", config, "process_manager",
                      process_manager, "machine", machine, "engine_set", set);
    free(dump);
    json_decref(config);
    json_decref(startup);
    if (!p)
        return CV_ENOMEM;
    *ret = p;
    return CV_OK;
}

int params_complete(json_t *params, const struct connfile *f)
{
    int bad =
        json_object_set_new(params, "cluster_id", json_string(f->cluster_id ? f->cluster_id : ""));
    bad = bad || json_object_set_new(params, "boot_id", json_string(f->boot_id ? f->boot_id : ""));
    return bad ? CV_ENOMEM : CV_OK;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipcluster stop: asks the supervisor and waits for its end. Where it is gone, or does not answer,
 * what its file names is stopped process by process. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "cluster/clusterfile.h"
#include "cluster/control.h"
#include "cluster/profile.h"
#include "cluster/verbs.h"
#include "launch/launch.h"

#define ASK_SECONDS 20
#define TERM_NS (5 * NS_PER_S)

static void pause_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Calls cb for the supervisor, the engine sets and the controller of a file. */
static void
each_job(const json_t *o,
         void (*cb)(const struct launch_ops *ops, const struct launch_job *j, void *arg), void *arg)
{
    const struct launch_ops *ops;
    struct launch_job job;
    const char *id;
    json_t *set;
    if (!launch_local.restore(o, &job, NULL))
        cb(&launch_local, &job, arg);
    json_object_foreach(json_object_get(o, "engines"), id, set)
    {
        if (!launch_find(json_string_value(json_object_get(set, "class")), &ops, NULL) &&
            !ops->restore(set, &job, NULL))
            cb(ops, &job, arg);
    }
    set = json_object_get(o, "controller");
    if (!launch_find(json_string_value(json_object_get(set, "class")), &ops, NULL) &&
        !ops->restore(set, &job, NULL))
        cb(ops, &job, arg);
}

struct stopping {
    bool force;
    int rc; /* of the first that failed, whose words are in e */
    struct err *e;
};

static void stop_job(const struct launch_ops *ops, const struct launch_job *j, void *arg)
{
    struct stopping *s = arg;
    int rc = ops->stop(j, s->force, s->rc ? NULL : s->e);
    s->rc = s->rc ? s->rc : rc;
}

int cluster_undo(const json_t *o, struct err *e)
{
    struct stopping s = {.force = true, .e = e};
    each_job(o, stop_job, &s);
    return s.rc;
}

/* TERM to all, then KILL to what is left; fails, too, when a job may still be in its queue. */
static int stop_processes(const json_t *o, struct err *e)
{
    for (int round = 0; round < 2; round++) {
        struct stopping s = {.force = round == 1, .e = e};
        each_job(o, stop_job, &s);
        uint64_t until = clock_mono() + TERM_NS;
        while (clusterfile_running(o) && clock_mono() < until)
            pause_ms(10);
        if (!clusterfile_running(o))
            return s.rc;
    }
    return err_set(e, CV_ETIMEOUT, "processes of the cluster don't end, even by SIGKILL");
}

/* Asks the supervisor; CV_OK when the cluster has ended. ret_left: a job may have stayed. */
static int ask_supervisor(const struct settings *s, const json_t *o, bool *ret_left, struct err *e)
{
    const char *address = json_string_value(json_object_get(o, "control"));
    json_t *command = json_pack("{s:s}", "do", "stop"), *answer = NULL;
    int rc = !command   ? err_set(e, CV_ENOMEM, "out of memory")
             : !address ? err_set(e, CV_EINVAL, "the cluster file names no control socket")
                        : control_call(address, command, ASK_SECONDS, &answer, e);
    if (!rc && json_object_get(answer, "error"))
        rc = err_set(e, CV_EINVAL, "%.200s", json_string_value(json_object_get(answer, "error")));
    size_t i;
    json_t *left = json_object_get(answer, "ok"), *job;
    json_array_foreach(left, i, job)
    {
        log_error(s->log, "%s", json_string_value(job));
        *ret_left = true;
    }
    json_decref(answer);
    json_decref(command);
    for (uint64_t until = clock_mono() + TERM_NS;
         !rc && clusterfile_supervised(o) && clock_mono() < until;)
        pause_ms(5);
    return rc;
}

int cluster_stop(const struct settings *s, const char *path, const json_t *o, struct err *e)
{
    bool supervised = clusterfile_supervised(o), left = false;
    int rc = supervised ? ask_supervisor(s, o, &left, e) : CV_OK;
    if (rc)
        log_warn(s->log, "the supervisor did not stop the cluster (%s): stopping its processes",
                 e->text);
    if (rc || clusterfile_running(o))
        rc = stop_processes(o, e);
    if (!rc)
        unlink(path);
    return !rc && left ? err_set(e, CV_ESYS, "the cluster has ended, but for what is named above")
                       : rc;
}

static const char *shown_id(const char *id)
{
    return *id ? id : "''";
}

static int stop_one(const struct settings *s, const char *path, const char *id, const json_t *o)
{
    struct err e;
    log_info(s->log, "Stopping cluster %s of profile %s", shown_id(id),
             profile_name(s->profile_dir));
    if (cluster_stop(s, path, o, &e)) {
        log_error(s->log, "%s", e.text);
        return EXIT_FAILED;
    }
    return EXIT_FINE;
}

/* A cluster that may run on another machine is left alone. */
static int not_from_here(const struct settings *s, const char *path, const json_t *o)
{
    log_error(s->log,
              "the cluster of %s was started on %s and can't be seen from here: stop it there, or, "
              "if it is gone, `ipcluster clean --force`",
              path, clusterfile_elsewhere(o));
    return EXIT_FAILED;
}

static int not_ours(const struct settings *s, const char *path)
{
    log_error(s->log,
              "the cluster of %s is of ipyparallel's own programs: their `ipcluster stop` ends it",
              path);
    return EXIT_FAILED;
}

/* What is left of one whose processes are gone. Its file stays while a job may be in its queue. */
static int undo_stale(const struct settings *s, const char *path, const json_t *o)
{
    struct err e;
    int rc = cluster_undo(o, &e);
    if (rc)
        log_error(s->log, "%s", e.text);
    else
        unlink(path);
    return rc;
}

static int stop_id(const struct settings *s, const char *id)
{
    char *path = clusterfile_path(s->profile_dir, id);
    json_t *o = NULL;
    int code = EXIT_FAILED;
    if (!path) {
        log_error(s->log, "out of memory");
    } else if (!clusterfile_read(path, &o, NULL) && clusterfile_running(o)) {
        code = stop_one(s, path, id, o);
    } else if (o && clusterfile_others(o)) {
        code = not_ours(s, path);
    } else if (o && clusterfile_elsewhere(o)) {
        code = not_from_here(s, path, o);
    } else if (!(o && undo_stale(s, path, o))) {
        log_critical(s->log, "Could not find cluster file %s%s: `ipcluster list` shows what runs",
                     path, o ? " of a cluster that runs (it was stale)" : "");
        code = EXIT_ALREADY_STOPPED;
    }
    json_decref(o);
    free(path);
    return code;
}

struct all {
    const struct settings *s;
    int code;
};

static int stop_file(void *arg, const char *path, json_t *o)
{
    struct all *a = arg;
    const char *id = json_string_value(json_object_get(o, "cluster_id"));
    int code = EXIT_FINE;
    if (clusterfile_running(o)) {
        code = stop_one(a->s, path, id ? id : "", o);
    } else if (clusterfile_others(o)) {
        code = not_ours(a->s, path);
    } else if (clusterfile_elsewhere(o)) {
        code = not_from_here(a->s, path, o);
    } else if (undo_stale(a->s, path, o)) {
        a->code = EXIT_FAILED;
    }
    a->code = a->code ? a->code : code;
    return CV_OK;
}

int verb_stop(const struct settings *s)
{
    struct all a = {.s = s};
    int code = EXIT_FINE;
    if (s->all)
        return clusterfile_each(s->profile_dir, stop_file, &a) ? EXIT_FAILED : a.code;
    if (!s->words[0])
        return stop_id(s, s->cluster_id);
    for (char **id = s->words; *id; id++) {
        int one = strchr(*id, '/') ? EXIT_ALREADY_STOPPED : stop_id(s, *id);
        code = code ? code : one;
    }
    return code;
}

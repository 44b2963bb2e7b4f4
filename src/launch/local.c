/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The local back end: a child process in a session of its own, which gets SIGTERM if this program
 * dies without a word. One ipengine host for all engines of a set. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "launch/launch.h"
#include "proc/procinfo.h"
#include "proc/spawn.h"

#define EVENTS_AS 3 /* the child's descriptor for events */

/* A NULL-terminated array of malloc'ed strings that grows; the first failure stays. */
struct strings {
    char **v;
    size_t n;
    bool failed;
};

static void add_take(struct strings *s, char *text)
{
    char **v = text && !s->failed ? reallocarray(s->v, s->n + 2, sizeof *v) : NULL;
    if (!v) {
        s->failed = true;
        free(text);
        return;
    }
    s->v = v;
    s->v[s->n++] = text;
    s->v[s->n] = NULL;
}

static void add_option(struct strings *s, const char *name, const char *value)
{
    if (value && *value)
        add_take(s, str_printf("--%s=%s", name, value));
}

static void add_variable(struct strings *s, const char *name, const char *value)
{
    if (value && *value)
        add_take(s, str_printf("%s=%s", name, value));
}

static bool is_set(const char *const *env, const char *name)
{
    size_t n = strlen(name);
    for (; env && *env; env++)
        if (!strncmp(*env, name, n) && (*env)[n] == '=')
            return true;
    return false;
}

/* Libraries that start a thread per cpu of the machine, whoever else runs there. */
static void add_threads(struct strings *s, const struct launch_request *r)
{
    static const char *const NAMES[] = {"OMP_NUM_THREADS", "MKL_NUM_THREADS",
                                        "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"};
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0] && r->threads; i++)
        if (!is_set(r->env, NAMES[i]))
            add_take(s, str_printf("%s=%u", NAMES[i], r->threads));
}

static int local_prepare(const struct launch_request *r, struct launch_plan *ret, struct err *e)
{
    bool engines = r->what == LAUNCH_ENGINES;
    struct strings argv = {0}, env = {0};
    add_take(&argv, path_join(r->program_dir, engines ? "ipengine" : "ipcontroller"));
    add_option(&argv, "profile-dir", r->profile_dir);
    add_option(&argv, "cluster-id", r->cluster_id);
    add_option(&argv, "work-dir", r->work_dir);
    add_option(&argv, "python", r->python);
    if (engines)
        add_take(&argv, str_printf("--n=%u", r->n));
    for (const char *const *a = r->args; a && *a; a++)
        add_take(&argv, strdup(*a));
    add_variable(&env, "IPP_PROFILE_DIR", r->profile_dir);
    add_variable(&env, "IPP_CLUSTER_ID", r->cluster_id);
    add_variable(&env, "COVEY_CLUSTER_FILE", engines ? NULL : r->cluster_file);
    add_take(&env, strdup("COVEY_EVENTS_FD"));
    if (engines)
        add_threads(&env, r);
    struct launch_plan p = {.argv = argv.v, .env = env.v};
    if (argv.failed || env.failed) {
        launch_plan_release(&p);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    *ret = p;
    return CV_OK;
}

/* The plan's environment with the events' descriptor, which only a start knows; borrowed strings.
 */
static const char **with_events(char *const *env, const char *events)
{
    size_t n = 0;
    while (env[n])
        n++;
    const char **v = calloc(n + 2, sizeof *v);
    if (!v)
        return NULL;
    for (size_t i = 0; i < n; i++)
        v[i] = strcmp(env[i], "COVEY_EVENTS_FD") || !events ? env[i] : events;
    return v;
}

static int local_start(const struct launch_plan *p, int output_fd, int events_fd,
                       struct launch_job *ret, struct err *e)
{
    const struct spawn_fd fds[] = {{events_fd, EVENTS_AS}};
    char events[32];
    snprintf(events, sizeof events, "COVEY_EVENTS_FD=%d", EVENTS_AS);
    const char **env = with_events(p->env, events_fd < 0 ? NULL : events);
    if (!env)
        return err_set(e, CV_ENOMEM, "out of memory");
    const struct spawn s = {
        .argv = (const char *const *)p->argv,
        .env = env,
        .cwd = p->cwd,
        .fds = fds,
        .nfds = events_fd < 0 ? 0 : 1,
        .stdin_fd = SPAWN_NULL,
        .stdout_fd = output_fd,
        .stderr_fd = output_fd,
        .death_signal = SIGTERM,
        .flags = SPAWN_SESSION,
    };
    pid_t pid;
    struct procinfo info = {0};
    int rc = process_spawn(&s, &pid, e);
    free(env);
    if (rc)
        return rc;
    /* A child that has ended is a zombie until its reaper comes: it can be looked up all the same.
     */
    rc = procinfo_get(pid, &info, NULL);
    *ret = (struct launch_job){.pid = pid, .pid_start = rc ? 0 : info.start};
    return CV_OK;
}

static bool local_poll(const struct launch_job *j)
{
    return j->pid > 0 && process_alive(j->pid, j->pid_start);
}

static int local_signal(const struct launch_job *j, int signum, struct err *e)
{
    if (!local_poll(j))
        return CV_OK;
    if (kill(j->pid, signum) && errno != ESRCH)
        return err_sys(e, "can't signal process %d", (int)j->pid);
    return CV_OK;
}

/* By force the whole group goes: what the program left behind there has no one to wait for it. */
static int local_stop(const struct launch_job *j, bool force, struct err *e)
{
    if (!force)
        return local_signal(j, SIGTERM, e);
    return local_poll(j) ? pgroup_kill(j->pid, SIGKILL, e) : CV_OK;
}

static json_t *local_describe(const struct launch_job *j)
{
    return json_pack("{s:s, s:I, s:I}", "class", launch_local.cls, "pid", (json_int_t)j->pid,
                     "pid_start", (json_int_t)j->pid_start);
}

static int local_restore(const json_t *o, struct launch_job *ret, struct err *e)
{
    json_int_t pid = json_integer_value(json_object_get(o, "pid"));
    json_int_t start = json_integer_value(json_object_get(o, "pid_start"));
    if (pid <= 0 || pid > INT32_MAX || start <= 0)
        return err_set(e, CV_EINVAL, "\"pid\" and \"pid_start\" must be positive numbers");
    *ret = (struct launch_job){.pid = (pid_t)pid, .pid_start = (uint64_t)start};
    return CV_OK;
}

const struct launch_ops launch_local = {
    .name = "local",
    .cls = "Local",
    .prepare = local_prepare,
    .start = local_start,
    .poll = local_poll,
    .signal = local_signal,
    .stop = local_stop,
    .describe = local_describe,
    .restore = local_restore,
};

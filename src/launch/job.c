/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Jobs of all back ends: a child process in a session of its own, which gets SIGTERM if this
 * program dies without a word. What runs elsewhere is an agent's, which is such a child; `undo`
 * ends it when agent and supervisor are both gone. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "launch/batchstate.h"
#include "launch/words.h"
#include "proc/procinfo.h"
#include "proc/spawn.h"

#define EVENTS_AS 3             /* the child's descriptor for events */
#define UNDO_NS (12 * NS_PER_S) /* Slurm's commands give up after 10 s */

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

int job_start(const struct launch_plan *p, const struct launch_io *io, struct launch_job *ret,
              struct err *e)
{
    bool agent = p->input != NULL;
    const struct spawn_fd fds[] = {{io->events, EVENTS_AS}};
    char events[32];
    snprintf(events, sizeof events, "COVEY_EVENTS_FD=%d", EVENTS_AS);
    const char **env = with_events(p->env, agent || io->events < 0 ? NULL : events);
    if (!env)
        return err_set(e, CV_ENOMEM, "out of memory");
    const struct spawn s = {
        .argv = (const char *const *)p->argv,
        .env = env,
        .cwd = p->cwd,
        .fds = fds,
        .nfds = agent || io->events < 0 ? 0 : 1,
        .stdin_fd = agent ? io->input : SPAWN_NULL,
        .stdout_fd = agent ? io->events : io->output,
        .stderr_fd = io->output,
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

bool job_poll(const struct launch_job *j)
{
    return j->pid > 0 && process_alive(j->pid, j->pid_start);
}

int job_signal(const struct launch_job *j, int signum, struct err *e)
{
    if (!job_poll(j))
        return CV_OK;
    if (kill(j->pid, signum) && errno != ESRCH)
        return err_sys(e, "can't signal process %d", (int)j->pid);
    return CV_OK;
}

/* Waits for a child until the deadline, then kills its group; its exit code, or -1: it was killed.
 */
static int wait_or_kill(pid_t pid)
{
    int status = 0, ended = 0;
    for (uint64_t until = clock_mono() + UNDO_NS; !ended && clock_mono() < until;) {
        ended = waitpid(pid, &status, WNOHANG);
        if (!ended)
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    if (ended == pid)
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    kill(-pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return -1;
}

/* What an agent would have done at its end. A job that is not there any more is no failure. */
static int run_undo(const struct launch_job *j, struct err *e)
{
    int said = memfd_create("covey-undo", MFD_CLOEXEC);
    const char *const argv[] = {"/bin/sh", "-c", j->undo, NULL};
    const struct spawn s = {.argv = argv,
                            .stdin_fd = SPAWN_NULL,
                            .stdout_fd = said < 0 ? SPAWN_NULL : said,
                            .stderr_fd = said < 0 ? SPAWN_NULL : said,
                            .flags = SPAWN_SESSION};
    char text[300] = "it did not end";
    pid_t pid;
    int rc = process_spawn(&s, &pid, e);
    int code = rc ? 0 : wait_or_kill(pid);
    ssize_t n = said < 0 || code <= 0 ? -1 : pread(said, text, sizeof text - 1, 0);
    if (n >= 0)
        text[n] = 0;
    if (said >= 0)
        close(said);
    if (code && !(code > 0 && *text && batch_unknown(text)))
        rc = err_set(e, CV_ESYS, "job %s was not deleted and may still be in its queue: `%s`: %s",
                     j->id, j->undo, text);
    return rc;
}

/* By force the whole group goes: what the program left behind there has no one to wait for it. */
int job_stop(const struct launch_job *j, bool force, struct err *e)
{
    bool alive = job_poll(j);
    int rc = CV_OK;
    if (alive && force)
        rc = pgroup_kill(j->pid, SIGKILL, e);
    else if (alive)
        return job_signal(j, SIGTERM, e);
    return j->undo[0] && !rc ? run_undo(j, e) : rc;
}

json_t *job_describe(const struct launch_ops *ops, const struct launch_job *j)
{
    json_t *o = json_pack("{s:s, s:I, s:I}", "class", ops->cls, "pid", (json_int_t)j->pid,
                          "pid_start", (json_int_t)j->pid_start);
    bool failed = j->id[0] && json_object_set_new(o, "job_id", json_string(j->id));
    failed |= j->undo[0] && json_object_set_new(o, "undo", json_string(j->undo));
    if (failed) {
        json_decref(o);
        return NULL;
    }
    return o;
}

int job_restore(const json_t *o, struct launch_job *ret, struct err *e)
{
    json_int_t pid = json_integer_value(json_object_get(o, "pid"));
    json_int_t start = json_integer_value(json_object_get(o, "pid_start"));
    const char *id = json_string_value(json_object_get(o, "job_id"));
    const char *undo = json_string_value(json_object_get(o, "undo"));
    if (pid <= 0 || pid > INT32_MAX || start <= 0)
        return err_set(e, CV_EINVAL, "\"pid\" and \"pid_start\" must be positive numbers");
    struct launch_job j = {.pid = (pid_t)pid, .pid_start = (uint64_t)start};
    if ((id && strlen(id) >= sizeof j.id) || (undo && strlen(undo) >= sizeof j.undo))
        return err_set(e, CV_EINVAL, "\"job_id\" or \"undo\" is too long");
    snprintf(j.id, sizeof j.id, "%s", id ? id : "");
    snprintf(j.undo, sizeof j.undo, "%s", undo ? undo : "");
    *ret = j;
    return CV_OK;
}

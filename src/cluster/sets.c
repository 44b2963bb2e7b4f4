/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sets of engines (super_priv.h): each is one host, started, watched and stopped as a whole. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "cluster/super_priv.h"
#include "proc/procinfo.h"

#define TOLD_LINES 60 /* mpiexec says the reason first, and much after it */
#define STOP_NS (5 * NS_PER_S)
#define ANCESTORS 8

extern char **environ;

struct engine_set *set_find(struct supervisor *v, const char *id)
{
    list_each(at, &v->sets)
    {
        struct engine_set *s = list_entry(at, struct engine_set, node);
        if (!id || !strcmp(s->id, id))
            return s;
    }
    return NULL;
}

void set_free(struct engine_set *s)
{
    list_del(&s->node);
    s->owner->asked -= s->n;
    child_free(s->child);
    free(s->id);
    free(s);
}

static void on_event(void *arg, struct child *c, json_t *event)
{
    struct engine_set *s = arg;
    if (!setend_event(s, event))
        super_event(s->owner, c, event);
}

static int launch(struct engine_set *s, struct err *e);

/* The end of a set that was to be started again. Who asked hears of a failure here, and of success
 * from the caller. */
static bool start_again(struct engine_set *s)
{
    struct err e;
    child_free(s->child);
    s->child = NULL;
    s->stopping = s->again = false;
    s->kill_at = 0;
    int rc = launch(s, &e);
    if (!rc)
        return true;
    if (s->waiter)
        control_answer(s->owner->control, s->waiter, control_error(e.text));
    s->waiter = 0;
    log_error(s->owner->s->log, "the engines were not started again: %s", e.text);
    return false;
}

static void on_ended(void *arg, struct child *c, const struct reaped *r)
{
    struct engine_set *s = arg;
    struct supervisor *v = s->owner;
    char *how = child_end_text(r), *tail = child_tail(c, TOLD_LINES);
    bool expected = s->stopping || v->state == SUPER_STOPPING;
    if (!expected && v->state == SUPER_STARTING) {
        char *why = str_printf(v->s->engines == &launch_local
                                   ? "the engines' host (ipengine) %s before all engines were ready"
                                   : "what starts the engines %s before all engines were ready",
                               how ? how : "ended");
        super_fail(v, why ? why : "out of memory", tail ? tail : "");
        free(why);
    } else if (!expected) {
        bool job = child_job(c)->id[0]; /* its agent's exit code tells nothing */
        log_warn(v->s->log, "the engines of set %s have ended: %s%s%s%s", s->id,
                 job ? "" : "their host ",
                 job   ? "the batch system says: "
                 : how ? how
                       : "ended",
                 !job && tail && *tail ? "; it said last: " : "", tail && *tail ? tail : "");
    }
    setend_reaped(s, r, tail);
    free(how);
    free(tail);
    bool again = s->again && v->state != SUPER_STOPPING && start_again(s);
    uint64_t waiter = s->waiter;
    s->waiter = 0;
    if (!again)
        set_free(s);
    if (v->state != SUPER_STOPPING)
        tell_cluster_file(v);
    if (waiter) /* who asked may read the cluster file at once */
        control_answer(v->control, waiter, control_ok(NULL));
    super_check_end(v);
}

static int launch(struct engine_set *s, struct err *e)
{
    struct supervisor *v = s->owner;
    const struct child_callbacks cb = {.event = on_event, .ended = on_ended, .arg = s};
    struct launch_request request = {
        .what = LAUNCH_ENGINES,
        .program_dir = v->s->program_dir,
        .profile_dir = v->s->profile_dir,
        .cluster_id = v->s->cluster_id,
        .work_dir = v->s->work_dir,
        .python = v->s->python,
        .args = (const char *const *)v->s->engine_args,
        .env = (const char *const *)environ,
        .config = v->s->config,
        .launcher = v->s->engine_launcher,
        .engine_set = s->start,
        .n = s->n,
        .threads = v->s->threads,
    };
    int rc = setend_name_start(s, e);
    rc = rc ? rc : super_launch(v, &s->child, v->s->engines, &request, s->id, &cb, e);
    if (!rc)
        tell_event(v, json_pack("{s:s, s:s, s:I}", "event", "engine_set", "id", s->id, "n",
                                (json_int_t)s->n));
    return rc;
}

int set_start(struct supervisor *v, const char *id, uint32_t n, struct engine_set **ret,
              struct err *e)
{
    char own[24];
    snprintf(own, sizeof own, "%u", v->next_set);
    if (!id)
        v->next_set++;
    if (set_find(v, id ? id : own))
        return err_set(e, CV_EEXIST, "there is an engine set \"%.60s\" already", id ? id : own);
    struct engine_set *s = calloc(1, sizeof *s);
    char *name = strdup(id ? id : own);
    if (!s || !name) {
        free(s);
        free(name);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    *s = (struct engine_set){.owner = v, .id = name, .n = n};
    list_add_tail(&v->sets, &s->node);
    v->asked += n;
    int rc = launch(s, e);
    if (rc) {
        set_free(s);
        return rc;
    }
    *ret = s;
    return CV_OK;
}

void set_stop(struct engine_set *s, uint64_t waiter, bool again)
{
    struct err e;
    if (s->waiter && waiter)
        control_answer(s->owner->control, s->waiter,
                       control_error("another command stops it, too"));
    s->waiter = waiter ? waiter : s->waiter;
    s->again = again;
    s->stopping = true;
    s->kill_at = clock_mono() + STOP_NS;
    if (s->child && child_stop(s->child, false, &e))
        log_warn(s->owner->s->log, "%s", e.text);
    super_tick(s->owner);
}

/* Is the engine that the controller spoke of a descendant of this set's process? (A child of its
 * host; mpiexec has more between.) */
static bool is_of(const struct engine_set *s, pid_t pid)
{
    struct procinfo info;
    for (int depth = 0; s->child && depth < ANCESTORS && !procinfo_get(pid, &info, NULL); depth++) {
        if (info.ppid == child_job(s->child)->pid)
            return true;
        pid = info.ppid;
    }
    return false;
}

/* Engines on other machines get it from what was started for them. */
static uint32_t signal_elsewhere(struct engine_set *s, int signum)
{
    struct err e;
    if (!s->child || !(s->owner->s->engines->flags & LAUNCH_AGENT))
        return 0;
    if (child_signal(s->child, signum, &e)) {
        log_warn(s->owner->s->log, "%s", e.text);
        return 0;
    }
    return s->n;
}

uint32_t set_signal(struct engine_set *s, int signum)
{
    uint32_t n = 0;
    const char *number;
    char here[256] = "";
    json_t *engine;
    int named = gethostname(here, sizeof here - 1);
    json_object_foreach(s->owner->engines, number, engine)
    {
        const char *host = json_string_value(json_object_get(engine, "host"));
        if (!named && host && strcmp(host, here)) /* that number is another process here */
            continue;
        pid_t pid = (pid_t)json_integer_value(json_object_get(engine, "pid"));
        if (pid > 0 && is_of(s, pid) && !kill(pid, signum))
            n++;
    }
    return n ? n : signal_elsewhere(s, signum);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See engines.h. Registration is seen on the status page, which is looked at every 20 ms while an
 * engine is starting and not at all otherwise. An engine that can't be started counts as one that
 * died at its start. */
#include "host/engines.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/jsontext.h"
#include "host/single.h"
#include "host/slot.h"
#include "host/sweep.h"
#include "host/zygote.h"
#include "proc/procinfo.h"
#include "wire/header.h"

#define LOOK_NS (20 * NS_PER_MS)

struct engines {
    struct engines_config c;
    struct slot *slots;
    struct zygote *zygote; /* NULL with single */
    struct sweep *sweep;
    struct timer *look, *pause, *kill;
    json_t *params;     /* with the endpoint, from engines_start() on */
    uint64_t oom_kills; /* of our cgroup, when last read */
    bool stopping;
};

static int slot_start(struct engines *g, struct slot *s, struct err *e) CV_CHECK;
static void on_zygote(void *arg, uint32_t slot, pid_t pid, const char *why);
static void slot_end(struct engines *g, struct slot *s, struct death *d, const char *said);

/* --- looking: registration, pauses, kills --- */

static bool any_in(const struct engines *g, enum slot_state state)
{
    for (uint32_t i = 0; i < g->c.n; i++)
        if (g->slots[i].state == state)
            return true;
    return false;
}

/* An engine that has registered since we looked last goes UP. */
static void slot_look(struct engines *g, struct slot *s)
{
    uint32_t number = s->state == SLOT_STARTING ? atomic_load(&s->page->number) : WIRE_ENGINE_NONE;
    if (number == WIRE_ENGINE_NONE)
        return;
    s->state = SLOT_UP;
    s->number = number;
    s->incarnation = slot_incarnation(s);
    free(s->report);
    s->report = NULL;
    g->c.registered(g->c.arg, number);
}

static void on_look(void *arg)
{
    struct engines *g = arg;
    for (uint32_t i = 0; i < g->c.n; i++)
        slot_look(g, &g->slots[i]);
    if (!any_in(g, SLOT_STARTING))
        timer_stop(g->look);
}

static void pauses_schedule(struct engines *g)
{
    uint64_t now = clock_mono(), next = UINT64_MAX;
    for (uint32_t i = 0; i < g->c.n; i++)
        if (g->slots[i].state == SLOT_PAUSED && g->slots[i].start_at < next)
            next = g->slots[i].start_at;
    if (next == UINT64_MAX)
        timer_stop(g->pause);
    else
        timer_start(g->pause, next > now ? next - now : 0, 0);
}

/* why: one line, and what was said on stderr behind it. */
static void slot_failed(struct engines *g, struct slot *s, const char *why)
{
    char first[256];
    size_t n = strcspn(why, "\n");
    snprintf(first, sizeof first, "%.*s", (int)n, why);
    struct death d = {.failure = first};
    const char *said = why[n] ? why + n + 1 : "";
    slot_end(g, s, &d, said);
}

static void on_pause(void *arg)
{
    struct engines *g = arg;
    uint64_t now = clock_mono();
    for (uint32_t i = 0; i < g->c.n; i++) {
        struct slot *s = &g->slots[i];
        struct err e;
        if (s->state == SLOT_PAUSED && s->start_at <= now && slot_start(g, s, &e) != CV_OK)
            slot_failed(g, s, e.text);
    }
    pauses_schedule(g);
}

static void kills_schedule(struct engines *g)
{
    uint64_t now = clock_mono(), next = UINT64_MAX;
    for (uint32_t i = 0; i < g->c.n; i++)
        if (g->slots[i].pid && g->slots[i].kill_at && g->slots[i].kill_at < next)
            next = g->slots[i].kill_at;
    if (next == UINT64_MAX)
        timer_stop(g->kill);
    else
        timer_start(g->kill, next > now ? next - now : 0, 0);
}

static void on_kill(void *arg)
{
    struct engines *g = arg;
    uint64_t now = clock_mono();
    for (uint32_t i = 0; i < g->c.n; i++) {
        struct slot *s = &g->slots[i];
        if (!s->pid || !s->kill_at || s->kill_at > now)
            continue;
        log_warn(g->c.log, "engine process %d did not end when it was asked to; killing it",
                 s->pid);
        s->kill_at = 0;
        kill(s->pid, SIGKILL);
    }
    kills_schedule(g);
}

static void because_set(struct slot *s, const char *because)
{
    snprintf(s->because, sizeof s->because, "%s", because);
}

/* --- making --- */

int engines_new(struct engines **ret, const struct engines_config *c, struct err *e)
{
    struct engines *g = calloc(1, sizeof *g);
    int rc = g ? CV_OK : CV_ENOMEM;
    if (g) {
        g->c = *c;
        g->slots = calloc(c->n, sizeof *g->slots);
        rc = g->slots ? sweep_new(&g->sweep) : CV_ENOMEM;
        for (uint32_t i = 0; g->slots && i < c->n; i++)
            slot_init(&g->slots[i], i, c->number == WIRE_ENGINE_NONE ? c->number : c->number + i);
    }
    if (rc == CV_OK)
        rc = timer_new(&g->look, c->loop, on_look, g);
    if (rc == CV_OK)
        rc = timer_new(&g->pause, c->loop, on_pause, g);
    if (rc == CV_OK)
        rc = timer_new(&g->kill, c->loop, on_kill, g);
    if (rc == CV_OK && !c->single) {
        const struct zygote_config z = {c->python, c->module, c->loop, c->reaper,
                                        c->log,    on_zygote, g};
        rc = zygote_new(&g->zygote, &z);
    }
    if (rc != CV_OK) {
        engines_free(g);
        return err_set(e, rc, "out of memory");
    }
    if (cgroup_oom_kills(&g->oom_kills, NULL) != CV_OK)
        g->oom_kills = 0;
    *ret = g;
    return CV_OK;
}

int engines_prepare(struct engines *g, struct err *e)
{
    return g->zygote ? zygote_start(g->zygote, e) : CV_OK;
}

void engines_free(struct engines *g)
{
    if (!g)
        return;
    if (g->zygote && zygote_pid(g->zygote) && g->sweep)
        sweep_add(g->sweep, zygote_pid(g->zygote));
    zygote_free(g->zygote);
    for (uint32_t i = 0; g->slots && i < g->c.n; i++) {
        if (g->slots[i].pid) {
            reaper_remove(g->c.reaper, g->slots[i].pid);
            kill(g->slots[i].pid, SIGKILL);
        }
        slot_release(&g->slots[i]);
    }
    if (g->sweep && !g->c.process_manager)
        sweep_run(g->sweep);
    sweep_free(g->sweep);
    timer_free(g->look);
    timer_free(g->pause);
    timer_free(g->kill);
    json_decref(g->params);
    free(g->slots);
    free(g);
}

/* PARAMS of one slot: what all share, its number and place. */
static json_t *slot_params(const struct engines *g, const struct slot *s)
{
    json_t *p = json_copy(g->params);
    int bad = p ? 0 : 1;
    bad = bad || json_object_set_new(p, "slot", json_integer(s->index));
    bad = bad || json_object_set_new(p, "incarnation",
                                     json_integer(s->incarnation ? s->incarnation + 1 : 0));
    bad = bad ||
          json_object_set_new(
              p, "number", s->number == WIRE_ENGINE_NONE ? json_null() : json_integer(s->number));
    bad = bad || json_object_set(p, "environment", json_array_get(g->c.environments, s->index));
    if (!bad)
        return p;
    json_decref(p);
    return NULL;
}

static void on_reaped(void *arg, const struct reaped *r);

/* The process exists. */
static int slot_born(struct engines *g, struct slot *s, pid_t pid, bool adopted)
{
    int rc = adopted ? reaper_adopt(g->c.reaper, pid, on_reaped, g)
                     : reaper_add(g->c.reaper, pid, on_reaped, g);
    if (rc != CV_OK) {
        kill(pid, SIGKILL);
        return rc;
    }
    s->pid = pid;
    s->state = SLOT_STARTING;
    sweep_add(g->sweep, pid);
    log_debug(g->c.log, "slot %" PRIu32 ": engine process %d", s->index, pid);
    timer_start(g->look, LOOK_NS, LOOK_NS);
    return CV_OK;
}

static int start_single(struct engines *g, struct slot *s, json_t *params, const int fds[SLOT_FDS],
                        struct err *e)
{
    pid_t pid;
    int rc = single_start(g->c.python, g->c.module, params, fds, g->c.process_manager, &pid, e);
    for (int i = 0; i < SLOT_FDS; i++)
        close(fds[i]);
    if (rc == CV_OK && (rc = slot_born(g, s, pid, false)) != CV_OK)
        err_set(e, rc, "out of memory");
    return rc;
}

static int start_forked(struct engines *g, struct slot *s, json_t *params, const int fds[SLOT_FDS],
                        struct err *e)
{
    json_t *request =
        json_pack("{s:I,s:{},s:O}", "fork", (json_int_t)s->index, "env", "params", params);
    char *text = request ? jsontext(request, JSON_COMPACT) : NULL;
    int rc;
    if (text) {
        rc = zygote_fork(g->zygote, s->index, text, fds, e);
    } else {
        rc = err_set(e, CV_ENOMEM, "out of memory");
        for (int i = 0; i < SLOT_FDS; i++)
            close(fds[i]);
    }
    free(text);
    json_decref(request);
    return rc;
}

static int slot_start(struct engines *g, struct slot *s, struct err *e)
{
    int fds[SLOT_FDS];
    s->state = SLOT_ASKED;
    s->started = clock_mono();
    s->because[0] = 0;
    s->kill_at = 0;
    s->want_restart = false;
    int rc = slot_open(s, fds, e);
    if (rc != CV_OK)
        return rc;
    json_t *params = slot_params(g, s);
    if (!params) {
        for (int i = 0; i < SLOT_FDS; i++)
            close(fds[i]);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    rc = g->zygote ? start_forked(g, s, params, fds, e) : start_single(g, s, params, fds, e);
    json_decref(params);
    return rc;
}

int engines_start(struct engines *g, const char *endpoint, struct err *e)
{
    g->params = json_copy(g->c.params);
    if (!g->params || json_object_set_new(g->params, "endpoint", json_string(endpoint)))
        return err_set(e, CV_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < g->c.n; i++) {
        int rc = slot_start(g, &g->slots[i], e);
        if (rc != CV_OK) {
            g->slots[i].state = SLOT_EMPTY;
            return rc;
        }
    }
    return CV_OK;
}

static void on_zygote(void *arg, uint32_t slot, pid_t pid, const char *why)
{
    struct engines *g = arg;
    struct slot *s = slot < g->c.n ? &g->slots[slot] : NULL;
    if (!s || s->state != SLOT_ASKED) {
        if (pid) { /* came too late */
            sweep_add(g->sweep, pid);
            kill(pid, SIGKILL);
        }
        return;
    }
    if (pid == 0)
        slot_failed(g, s, why);
    else if (slot_born(g, s, pid, true) != CV_OK)
        slot_failed(g, s, "out of memory");
}

/* --- ends --- */

static bool last_one(const struct engines *g)
{
    return !any_in(g, SLOT_ASKED) && !any_in(g, SLOT_STARTING) && !any_in(g, SLOT_UP) &&
           !any_in(g, SLOT_PAUSED);
}

/* Does this slot get a successor, and when? */
static bool slot_plan_restart(struct engines *g, struct slot *s, const struct death *d)
{
    if (g->stopping)
        return false;
    if (s->want_restart) {
        s->start_at = clock_mono();
        return true;
    }
    if (!g->c.restart || death_is_clean(d))
        return false;
    uint64_t now = clock_mono(), wait = restart_after(&s->restarts, now - s->started);
    if (wait == RESTART_NEVER) {
        log_error(
            g->c.log,
            "slot %" PRIu32
            ": %d engines in a row ended within %d seconds of their start; not starting another",
            s->index, RESTART_QUICK_MAX, (int)(RESTART_QUICK_NS / NS_PER_S));
        return false;
    }
    s->start_at = now + wait;
    return true;
}

static void report_keep(struct slot *s, const struct death *d)
{
    json_t *cause = NULL;
    free(s->report);
    s->report = death_json(d, &cause) == CV_OK ? jsontext(cause, JSON_COMPACT) : NULL;
    s->report_number = d->number;
    s->report_incarnation = d->incarnation;
    json_decref(cause);
}

/* The engine of this slot is no more: tells it and goes on. d says how it ended, said what others
 * heard on its stderr. */
static void slot_end(struct engines *g, struct slot *s, struct death *d, const char *said)
{
    struct buf err = {0};
    slot_look(g, s);
    d->slot = s->index;
    d->host = g->c.host;
    d->number = WIRE_ENGINE_NONE;
    if (buf_addstr(&err, said) != CV_OK || slot_autopsy(s, d, &err) != CV_OK)
        log_warn(g->c.log, "out of memory while reading what a dead engine left");
    d->err = err;
    if (s->because[0])
        d->because = s->because;
    d->rank = g->c.process_manager && single_is_mpiexec();
    d->planned = g->stopping || s->want_restart;
    bool again = slot_plan_restart(g, s, d);
    d->restart = again;
    s->state = again ? SLOT_PAUSED : SLOT_EMPTY;
    s->pid = 0;
    slot_close(s);
    report_keep(s, d);
    if (again)
        pauses_schedule(g);
    g->c.died(g->c.arg, d, last_one(g));
    buf_release(&err);
}

/* A SIGKILL that the kernel's counter of our cgroup explains. */
static bool was_oom(struct engines *g, const struct reaped *r, bool by_us)
{
    uint64_t now;
    if (r->signal != SIGKILL || cgroup_oom_kills(&now, NULL) != CV_OK)
        return false;
    bool more = now > g->oom_kills;
    g->oom_kills = now;
    return more && !by_us;
}

static void on_reaped(void *arg, const struct reaped *r)
{
    struct engines *g = arg;
    for (uint32_t i = 0; i < g->c.n; i++) {
        struct slot *s = &g->slots[i];
        if (s->pid != r->pid)
            continue;
        struct death d = {
            .pid = r->pid,
            .known = r->known,
            .signal = r->signal,
            .code = r->code,
            .peak_rss = r->peak_rss,
            .oom = was_oom(g, r, s->because[0] != 0),
        };
        slot_end(g, s, &d, "");
        return;
    }
}

/* --- orders --- */

bool engines_stop(struct engines *g, uint64_t grace_ns, const char *because)
{
    g->stopping = true;
    timer_stop(g->pause);
    for (uint32_t i = 0; i < g->c.n; i++) {
        struct slot *s = &g->slots[i];
        if (s->state == SLOT_PAUSED || s->state == SLOT_ASKED)
            s->state = SLOT_EMPTY; /* one that the zygote makes now is swept away at the end */
        if (!s->pid)
            continue;
        if (!s->because[0])
            because_set(s, because);
        s->kill_at = clock_mono() + grace_ns;
        kill(s->pid, SIGTERM);
    }
    kills_schedule(g);
    return engines_alive(g) > 0;
}

static struct slot *slot_by_number(struct engines *g, uint32_t number)
{
    for (uint32_t i = 0; number != WIRE_ENGINE_NONE && i < g->c.n; i++) {
        struct slot *s = &g->slots[i];
        if (s->number == number || (s->page && atomic_load(&s->page->number) == number))
            return s;
    }
    return NULL;
}

int engines_signal(struct engines *g, uint32_t number, int signum, const char *because,
                   struct err *e)
{
    struct slot *s = slot_by_number(g, number);
    if (!s || !s->pid)
        return err_set(e, CV_ENOENT, "there is no engine %" PRIu32 " on this host", number);
    if (kill(s->pid, signum) < 0)
        return err_sys(e, "can't signal engine %" PRIu32, number);
    if ((signum == SIGKILL || signum == SIGTERM) && !s->because[0])
        because_set(s, because);
    return CV_OK;
}

void engines_signal_all(struct engines *g, int signum)
{
    for (uint32_t i = 0; i < g->c.n; i++)
        if (g->slots[i].pid)
            kill(g->slots[i].pid, signum);
}

uint32_t engines_interrupt(struct engines *g)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->c.n; i++)
        if (g->slots[i].pid && slot_running(&g->slots[i]) && kill(g->slots[i].pid, SIGINT) == 0)
            n++;
    return n;
}

int engines_replace(struct engines *g, uint32_t number, const char *because, uint64_t grace_ns,
                    struct err *e)
{
    struct slot *s = slot_by_number(g, number);
    if (!s || g->stopping)
        return err_set(e, CV_ENOENT, "there is no engine %" PRIu32 " on this host", number);
    if (s->pid) {
        because_set(s, because);
        s->want_restart = true;
        s->kill_at = clock_mono() + grace_ns;
        kills_schedule(g);
        return kill(s->pid, SIGTERM) == 0 ? CV_OK : err_sys(e, "can't end engine %" PRIu32, number);
    }
    if (s->state == SLOT_EMPTY) {
        s->state = SLOT_PAUSED;
        s->start_at = clock_mono();
        pauses_schedule(g);
    }
    return CV_OK;
}

uint32_t engines_alive(const struct engines *g)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->c.n; i++)
        n += g->slots[i].pid != 0;
    return n;
}

void engines_each_report(struct engines *g,
                         void (*cb)(void *arg, uint32_t number, uint32_t incarnation,
                                    const char *json),
                         void *arg)
{
    for (uint32_t i = 0; i < g->c.n; i++) {
        const struct slot *s = &g->slots[i];
        if (s->report && s->report_number != WIRE_ENGINE_NONE)
            cb(arg, s->report_number, s->report_incarnation, s->report);
    }
}

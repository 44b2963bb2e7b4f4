/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See death.h. While a death is unclear the engine has a `struct death`: a timer, and a pidfd if
 * its process is on this machine. */
#include "controller/death.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "controller/act.h"
#include "controller/ended.h"
#include "controller/events.h"
#include "controller/say.h"

#define WAIT_FOR_LINK_NS (500 * NS_PER_MS) /* a forked child may hold the link open */
#define WAIT_FOR_HOST_NS (10 * NS_PER_S)   /* what it does not say must count as run */

struct death {
    struct controller *c;
    struct engine *e;
    struct timer *timer;
    struct watch *watch;
    int pidfd;     /* -1: none */
    json_t *cause; /* what the host said */
    bool gone;     /* the process is known to have ended */
};

uint64_t death_pid_start(uint32_t pid)
{
    char path[64], text[1024], state;
    unsigned long long start = 0;

    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    int fd = pid ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *p = strrchr(text, ')'); /* the name may hold anything */
    if (!p ||
        sscanf(p + 1,
               " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &state, &start) != 2 ||
        state == 'Z' || state == 'X')
        return 0;
    return start;
}

int death_signal(struct controller *c, struct engine *e, int signum, struct err *err)
{
    if (!e->pid_start || death_pid_start(e->pid) != e->pid_start)
        return err_set(err, CV_ENOENT, "engine %u's host is not connected", e->number);
    return kill((pid_t)e->pid, signum) < 0 ? err_sys(err, "engine %u can't be signalled", e->number)
                                           : CV_OK;
}

void death_cancel(struct engine *e)
{
    struct death *d = e->death;

    if (!d)
        return;
    e->death = NULL;
    timer_free(d->timer);
    watch_free(d->watch);
    if (d->pidfd >= 0)
        close(d->pidfd);
    json_decref(d->cause);
    free(d);
}

/* --- the end --- */

/* CAUSE with what the controller knows better or in addition. Takes j (may be NULL). */
static json_t *cause_complete(const struct engine *e, json_t *j, const char *text)
{
    json_t *full = json_pack("{s:I,s:s,s:I,s:n,s:n,s:b,s:n,s:i,s:b,s:b,s:i,s:s,s:s}", "id",
                             (json_int_t)e->number, "host", e->host, "pid", (json_int_t)e->pid,
                             "signal", "code", "oom", 0, "running", "running_attempt", 0, "planned",
                             0, "restart", 0, "peak_rss", 0, "stderr", "", "text", text);

    if (j && full)
        json_object_update(full, j);
    if (full)
        json_object_set_new(full, "id", json_integer(e->number));
    json_decref(j);
    return full;
}

static void parse_running(const json_t *cause, struct sched_held *ret)
{
    const char *id = json_string_value(json_object_get(cause, "running"));

    memset(ret, 0, sizeof(*ret));
    if (id && msg_id_parse(id, &ret->id.session, &ret->id.seq) == CV_OK) {
        ret->count = 1;
        ret->attempt = (uint16_t)json_integer_value(json_object_get(cause, "running_attempt"));
    }
}

/* CAUSE's sentence with the last line that the engine wrote: for a log, where nothing else shows
 * it. */
static void cause_line(const json_t *cause, char *out, size_t n)
{
    const char *text = json_string_value(json_object_get(cause, "text")),
               *err = json_string_value(json_object_get(cause, "stderr"));
    size_t end = err ? strlen(err) : 0, from;

    while (end && strchr(" \t\r\n", err[end - 1]))
        end--;
    for (from = end; from && err[from - 1] != '\n';)
        from--;
    size_t len = end - from < 300 ? end - from : 300;
    while (len && len < end - from && (err[from + len] & 0xC0) == 0x80)
        len--; /* no half characters */
    if (len)
        snprintf(out, n, "%s; its stderr ends with: %.*s", text ? text : "no reason is known",
                 (int)len, err + from);
    else
        snprintf(out, n, "%s", text ? text : "no reason is known");
}

/* [lo, lo + count) had been sent by an earlier controller and died with its engine: its client,
 * which will ask, must not have it run again. */
static void end_unseen(struct controller *c, struct sched_id id, uint32_t count, uint32_t engine,
                       const char *cause)
{
    const struct store_task t = {
        .session = id.session, .seq = id.seq, .count = count, .origin = id.seq};
    const struct store_record *r;

    if (sched_task_state(c->sched, id, NULL) == SCHED_T_UNKNOWN &&
        c->store->ops->find(c->store, id.session, id.seq, &r, NULL) == STORE_UNKNOWN &&
        c->store->ops->submit(c->store, &t) == CV_OK)
        act_end(c, id, count, RESULT_ENGINE_DIED, engine, NULL, cause, NULL);
}

/* Of its orphans those end that may have run. */
static void end_orphans(struct controller *c, const struct engine *e, const struct sched_event *ev,
                        const char *cause)
{
    const struct sched_held *ran = &ev->dead.running;

    for (uint32_t i = 0; i < e->norphans; i++) {
        const struct orphan *o = &e->orphans[i];
        struct sched_id id = {o->session, o->lo};
        if (!ev->dead.known)
            end_unseen(c, id, (uint32_t)(o->hi - o->lo), e->number, cause);
        else if (ran->count && ran->id.session == o->session && ran->id.seq >= o->lo &&
                 ran->id.seq < o->hi)
            end_unseen(c, ran->id, 1, e->number, cause);
    }
}

static bool is_zero(const json_t *cause, const char *key)
{
    const json_t *v = json_object_get(cause, key);

    return json_is_integer(v) && json_integer_value(v) == 0;
}

/* How many results died with it: made, says its status page, but not received. */
static uint32_t unreported(const struct engine *e, const json_t *cause)
{
    json_int_t done = json_integer_value(json_object_get(cause, "tasks_done"));

    return e->counted && done > e->ran ? (uint32_t)(done - e->ran) : 0;
}

/* Is dead from here on. cause_take: what the host said, or NULL; known: it is clear what it ran. */
static void die(struct controller *c, struct engine *e, json_t *cause_take, bool known,
                const char *text)
{
    json_t *cause = cause_complete(e, cause_take, text);
    struct sched_event ev = {
        .type = SCHED_ENGINE_DEAD, .engine = e->number, .incarnation = e->incarnation, .count = 0};
    struct conn *own = e->conn && !e->relayed ? e->conn : NULL;
    char *dump = cause ? jsontext(cause, JSON_COMPACT) : NULL;
    char line[1200];

    death_cancel(e);
    act_forget_words(c);
    peer_engine_detach(e);
    if (own)
        conn_bye(own, "this engine has ended, says its host");
    ev.dead.known = known;
    if (known)
        parse_running(cause, &ev.dead.running);
    if (known)
        ev.dead.unreported = unreported(e, cause);
    bool planned = e->asked || json_is_true(json_object_get(cause, "planned"));
    ev.dead.free_of_charge = planned;
    ev.dead.cause = dump;
    cause_line(cause, line, sizeof(line));
    if (planned || e->leaving || is_zero(cause, "code"))
        log_info(c->log, "engine %u has left: %s", e->number, line);
    else
        log_warn(c->log, "engine %u died: %s", e->number, line);
    event_engine_died(c, e,
                      dump ? dump : "{}"); /* first: who gets an error knows that it is gone */
    act_must(c, &ev);
    end_orphans(c, e, &ev, dump);
    registry_engine_dead(&c->registry, e, dump);
    json_decref(cause);
}

static bool host_connected(const struct controller *c, const struct engine *e)
{
    const struct host *x = e->host_session ? registry_host(&c->registry, e->host_session) : NULL;

    return x && x->conn && !x->conn->closing;
}

/* Out of reach, as is its host, and all of its set has ended: why; else NULL. A process that can be
 * seen from here tells its end itself. */
static const char *set_ended(const struct controller *c, const struct engine *e)
{
    bool lost = e->state == ENGINE_AWAY && !e->pid_start && !host_connected(c, e);

    return lost ? ended_why(c->ended, e->set) : NULL;
}

/* Whatever is known by now has to do. */
static void conclude(struct controller *c, struct engine *e)
{
    struct death *d = e->death;
    json_t *cause = d && d->cause ? json_incref(d->cause) : NULL;
    const char *why = set_ended(c, e);
    char text[1000];

    e->ended = cause || e->leaving || !why; /* nobody has seen this one end: it may come back */
    if (!e->ended)
        snprintf(text, sizeof(text), "engine %u (pid %u on %s) is gone: %s", e->number, e->pid,
                 e->host, why);
    else if (cause || e->leaving)
        snprintf(text, sizeof(text), "engine %u (pid %u on %s) has ended", e->number, e->pid,
                 e->host);
    else if (host_connected(c, e))
        snprintf(text, sizeof(text),
                 "engine %u (pid %u on %s) is gone, and its host, which could say why, has not "
                 "answered since: is it stopped, or its machine overloaded?",
                 e->number, e->pid, e->host);
    else
        snprintf(text, sizeof(text),
                 "engine %u (pid %u on %s) is gone, and so is its host, which could have said why: "
                 "as when "
                 "its machine fails, or mpiexec kills all ranks because of MPI_Abort on one",
                 e->number, e->pid, e->host);
    die(c, e, cause, cause ? json_object_get(cause, "running") != NULL : e->leaving, text);
}

static void on_timer(void *arg)
{
    struct death *d = arg;

    conclude(d->c, d->e);
}

static struct death *death_of(struct controller *c, struct engine *e)
{
    struct death *d = e->death;

    if (d)
        return d;
    d = calloc(1, sizeof(*d));
    if (!d || timer_new(&d->timer, c->loop, on_timer, d) != CV_OK) {
        free(d);
        return NULL;
    }
    d->c = c;
    d->e = e;
    d->pidfd = -1;
    e->death = d;
    return d;
}

static void process_gone(struct death *d)
{
    d->gone = true;
    watch_free(d->watch);
    d->watch = NULL;
    if (host_connected(d->c, d->e))
        timer_start(d->timer, WAIT_FOR_HOST_NS, 0);
    else
        conclude(d->c, d->e);
}

static void on_pidfd(void *arg, int events)
{
    process_gone(arg);
}

/* The process is on this machine: learn when it ends. */
static void watch_process(struct controller *c, struct engine *e)
{
    struct death *d = death_of(c, e);

    if (!d || d->watch)
        return;
    d->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)e->pid, 0);
    if (d->pidfd < 0 ? errno == ESRCH : death_pid_start(e->pid) != e->pid_start)
        process_gone(d);
    else if (d->pidfd >= 0 &&
             watch_new(&d->watch, c->loop, d->pidfd, UV_READABLE, on_pidfd, d) != CV_OK)
        log_debug(c->log, "engine %u's process can't be watched", e->number);
}

/* --- what is heard --- */

void death_link_lost(struct controller *c, struct engine *e)
{
    if (e->death && e->death->cause) {
        conclude(c, e);
    } else if (e->leaving) {
        struct death *d = host_connected(c, e) ? death_of(c, e) : NULL;
        if (d)
            timer_start(d->timer, WAIT_FOR_HOST_NS, 0);
        else
            conclude(c, e);
    } else if (e->pid_start) {
        watch_process(c, e);
    } else if (set_ended(c, e)) {
        conclude(c, e);
    }
}

void death_host_lost(struct controller *c, uint64_t host_session)
{
    list_each_safe(l, tmp, &c->registry.engines)
    {
        struct engine *e = list_entry(l, struct engine, node);
        bool gone = e->death && (e->death->gone || e->leaving);
        if (e->host_session == host_session && (gone || set_ended(c, e)))
            conclude(c, e);
    }
}

void death_set_ended(struct controller *c)
{
    list_each_safe(l, tmp, &c->registry.engines)
    {
        struct engine *e = list_entry(l, struct engine, node);
        if (set_ended(c, e))
            conclude(c, e);
    }
}

void death_gave_up(struct controller *c, struct engine *e)
{
    char text[300];

    if (!e || e->state == ENGINE_DEAD)
        return;
    snprintf(text, sizeof(text),
             "engine %u (pid %u on %s) was not heard of for %.0f s and is given up", e->number,
             e->pid, e->host, (double)(clock_mono() - e->away_since) / 1e9);
    log_warn(c->log, "%s", text);
    death_cancel(e);
    act_forget_words(c);
    peer_engine_detach(e);
    json_t *cause = cause_complete(e, NULL, text);
    char *dump = cause ? jsontext(cause, JSON_COMPACT) : NULL;
    json_decref(cause);
    event_engine_died(c, e, dump ? dump : "{}");
    registry_engine_dead(&c->registry, e, dump);
}

void death_succeeded(struct controller *c, struct engine *e)
{
    conclude(c, e);
}

/* An engine that never got a number: only those who watch the start want to know. */
static void failed_start(struct controller *c, struct host *x, json_t *cause_take)
{
    json_t *slot = json_object_get(cause_take, "slot");
    char line[1200];

    cause_line(cause_take, line, sizeof(line));
    log_error(c->log, "an engine on %s ended before it was ready: %s", x->name, line);
    event_notice(c, "an engine on %s ended before it was ready: %s", x->name, line);
    events_line(c->events, json_pack("{s:s,s:O?,s:s,s:O}", "event", "engine_failed", "slot", slot,
                                     "host", x->name, "cause", cause_take));
    json_decref(cause_take);
}

/* While there was no controller. */
static void died_unseen(struct controller *c, uint32_t number, const json_t *cause)
{
    struct sched_held ran;
    char *dump = jsontext(cause, JSON_COMPACT);

    parse_running(cause, &ran);
    if (ran.count)
        end_unseen(c, ran.id, 1, number, dump);
    free(dump);
}

void death_exit(struct controller *c, struct host *x, const struct msg *m)
{
    json_t *cause = say_parse(m);
    struct engine *e = registry_engine(&c->registry, m->h.engine);

    if (!cause && !(cause = json_object()))
        return;
    if (m->h.engine == WIRE_ENGINE_NONE) {
        failed_start(c, x, cause);
        return;
    }
    if (c->files.reused && (!e || e->incarnation > m->h.incarnation))
        died_unseen(c, m->h.engine, cause);
    if (!e || e->state == ENGINE_DEAD || e->incarnation != m->h.incarnation ||
        (e->host_session != x->session && e->conn != x->conn)) { /* nor relayed by that host */
        json_decref(cause);
        return;
    }
    struct death *d = death_of(c, e);
    if (d) {
        json_decref(d->cause);
        d->cause = cause;
    } else {
        json_decref(cause);
    }
    if (d && e->conn && !e->relayed)
        timer_start(d->timer, WAIT_FOR_LINK_NS, 0);
    else
        conclude(c, e);
}

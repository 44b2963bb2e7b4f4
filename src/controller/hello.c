/* SPDX-License-Identifier: BSD-3-Clause
 *
 * HELLO: who is it, may it come in, was it here before. Answers WELCOME, or WELCOME with a reason
 * and the end of the connection. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include "base/clock.h"
#include "base/file.h"
#include "controller/act.h"
#include "controller/death.h"
#include "controller/events.h"
#include "controller/handover.h"
#include "controller/orphan.h"
#include "controller/query.h"
#include "controller/say.h"
#include "controller/schedlog.h"
#include "controller/task.h"

struct visit {
    struct controller *c;
    struct conn *k; /* the connection, of the relay for a relayed engine */
    const struct msg *m;
    struct hello h;
    struct welcome w;
};

#define MEMFDS_MAX 1024u /* kept here; beyond that buffers are copied */
#define MEMFDS_EACH 256u /* that one peer may have here */

/* On this machine large buffers travel as descriptors, if the peer takes them; what comes from
 * another one is made ready to do so. */
static void agree_on_memfds(struct visit *v)
{
    struct controller *c = v->c;
    struct link_memfds m = {
        .send = v->h.memfds, .receive = MEMFDS_EACH, .kept = &c->memfds, .kept_max = MEMFDS_MAX};
    struct rlimit l;

    if (!link_is_unix(v->k->link) && !c->no_memfds)
        link_receive_into_memfds(v->k->link);
    if (!v->h.memfds || v->k->role == ROLE_HOST || c->no_memfds || !link_is_unix(v->k->link))
        return;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur / 4 < MEMFDS_MAX)
        m.kept_max = (uint32_t)(l.rlim_cur / 4);
    v->w.memfds = m.receive;
    link_set_memfds(v->k->link, &m);
}

static int send_welcome(struct visit *v, struct payload *p)
{
    struct header h = {.type = MSG_WELCOME,
                       .engine = v->w.number,
                       .incarnation = v->w.incarnation,
                       .aux = v->m->h.aux};
    struct buf route = {0};
    int r = welcome_encode(&v->w, &route);

    if (r == CV_OK)
        r = link_send(v->k->link, &h, route.data, (uint32_t)route.len, p, 0);
    buf_release(&route);
    return r;
}

/* --- may it come in? --- */

static const char *role_name(uint8_t role)
{
    return role == ROLE_CLIENT   ? "client"
           : role == ROLE_ENGINE ? "engine"
           : role == ROLE_HOST   ? "host"
                                 : "nobody";
}

/* CV_EACCES: e says why not. */
static int check(const struct visit *v, struct err *e)
{
    const struct hello *h = &v->h;
    const char *identity = link_identity(v->k->link),
               *boot = v->c->files.content[FILES_CLIENT].boot_id;
    bool relayed = v->k->role == ROLE_HOST;

    if (h->role < ROLE_CLIENT || h->role > ROLE_HOST)
        return err_set(e, CV_EACCES,
                       "this controller knows clients, engines and hosts, but no peer of kind %u",
                       h->role);
    if (relayed && h->role != ROLE_ENGINE)
        return err_set(e, CV_EACCES, "a host relays engines, not a %s", role_name(h->role));
    if (identity && !strcmp(identity, "engine") && h->role == ROLE_CLIENT)
        return err_set(
            e, CV_EACCES,
            "the engines' connection file does not make a client: use ipcontroller-client.json");
    if (h->cluster_id && *h->cluster_id && strcmp(h->cluster_id, v->c->opt->cluster_id))
        return err_set(e, CV_EACCES, "this is the controller of cluster '%s', not of '%s'",
                       v->c->opt->cluster_id, h->cluster_id);
    for (uint32_t i = 0; i < h->nwaiting; i++)
        if (h->waiting[i].hi - h->waiting[i].lo > UINT32_MAX)
            return err_set(e, CV_EACCES, "nobody waits for so many tasks (%llu at once)",
                           (unsigned long long)(h->waiting[i].hi - h->waiting[i].lo));
    if (h->boot_id && *h->boot_id && strcmp(h->boot_id, boot))
        return err_set(
            e, CV_EACCES,
            "the connection file is of an earlier controller; it has been restarted since");
    return CV_OK;
}

static void refuse(struct visit *v)
{
    uint32_t skipped;

    if (quiet_ask(&v->c->refusals, loop_now(v->c->loop), &skipped))
        log_info(v->c->log, "a %s from %s is not let in: %s%s", role_name(v->h.role), v->k->from,
                 v->w.refused, skipped ? " (and others since the last line)" : "");
    int r = send_welcome(v, NULL);
    if (v->k->role == ROLE_HOST) /* the relay's link stays */
        return;
    v->k->closing = true; /* it keeps its place at the door until it is gone */
    link_close_after_flush(v->k->link, r == CV_OK ? NS_PER_S : 0);
}

/* The engine of this session, also if it is dead, or NULL. */
static const struct engine *engine_of(const struct registry *r, const struct hello *h)
{
    const struct engine *e = registry_engine_by_session(r, h->session);

    if (!e && h->number != WIRE_ENGINE_NONE)
        e = registry_engine(r, h->number);
    return e && e->session == h->session ? e : NULL;
}

/* A connection that was given up, and was on the way for so long that a newer one (or the end of
 * its process) came first: what it says holds no more. Nobody reads an answer. */
static bool is_late(const struct visit *v)
{
    const struct registry *r = &v->c->registry;
    const struct engine *e = v->h.role == ROLE_ENGINE ? engine_of(r, &v->h) : NULL;
    const struct host *x = v->h.role == ROLE_HOST ? registry_host(r, v->h.session) : NULL;
    const struct client *y = v->h.role == ROLE_CLIENT ? registry_client(r, v->h.session) : NULL;
    uint64_t newest = e ? e->connects : x ? x->connects : y ? y->connects : 0;

    return (v->h.connects && v->h.connects <= newest) || (e && e->ended);
}

static void turn_late_away(struct visit *v)
{
    log_info(v->c->log, "an old connection of the %s on %s came late; it is closed",
             role_name(v->h.role), v->h.host ? v->h.host : "?");
    if (v->k->role == ROLE_HOST) /* the relay's link stays */
        return;
    if (!v->k->role) /* else it has waited, see hello_settled() */
        conn_admitted(v->k, v->h.role);
    v->k->closing = true;
    link_close_after_flush(v->k->link, 0);
}

static void out_of_memory(struct visit *v)
{
    if (!v->k->role)
        conn_admitted(v->k, ROLE_CLIENT);
    conn_bye(v->k, "the controller is out of memory");
}

/* --- engines --- */

/* The process, if it can be seen from here, so that its end can be learned without its host. In
 * another container of this machine its number means another process, or none. */
static void find_process(struct visit *v, struct engine *e)
{
    struct ucred u;
    socklen_t n = sizeof(u);

    e->pid_start = 0;
    if (v->h.machine != v->c->machine)
        return;
    if (!e->relayed && link_is_unix(v->k->link) &&
        getsockopt(link_fd(v->k->link), SOL_SOCKET, SO_PEERCRED, &u, &n) == 0 && u.pid > 0)
        e->pid = (uint32_t)u.pid;
    else if (v->h.pid_namespace != v->c->pid_namespace)
        return;
    e->pid_start = death_pid_start(e->pid);
}

static void python_differs(struct visit *v, const struct engine *e)
{
    list_each(l, &v->c->registry.engines)
    {
        struct engine *other = list_entry(l, struct engine, node);
        if (strcmp(other->python, e->python)) {
            log_warn(v->c->log,
                     "engines run Python %s and %s: functions by value go only to engines of "
                     "their Python",
                     other->python, e->python);
            v->c->python_differs = true;
            return;
        }
    }
}

static void note_python(struct visit *v, const struct engine *e)
{
    if (!v->c->python_differs && !registry_python(&v->c->registry))
        python_differs(v, e);
    list_each(l, &v->c->registry.clients)
    {
        struct client *x = list_entry(l, struct client, node);
        if (*x->python && strcmp(x->python, e->python)) {
            event_notice(v->c,
                         "engine %u runs Python %s, this client %s: it can't take functions by "
                         "value from here",
                         e->number, e->python, x->python);
            break;
        }
    }
}

static void welcome_engine(struct visit *v, struct engine *e)
{
    peer_engine_attach(e, v->k);
    find_process(v, e);
    v->w.number = e->number;
    v->w.incarnation = e->incarnation;
    if (send_welcome(v, NULL) != CV_OK)
        conn_bye(v->k, "the controller is out of memory");
}

static void join(struct visit *v, struct engine *e, const char *event)
{
    struct sched_event ev = {
        .type = SCHED_ENGINE_JOIN, .engine = e->number, .incarnation = e->incarnation};
    struct err err = {{0}};

    e->ran = 0;
    e->counted = !v->h.incarnation || !strcmp(event, "engine_restarted");
    welcome_engine(v, e);
    if (orphans_note(e) != CV_OK)
        log_error(v->c->log, "out of memory: what engine %u holds may run twice", e->number);
    else if (e->norphans)
        log_info(v->c->log, "engine %u has work of an earlier controller: %u tasks", e->number,
                 (e->running.count != 0) + e->nunstarted);
    registry_engine_forget_held(e);
    log_info(v->c->log, "engine %u %s: pid %u on %s, Python %s", e->number,
             strcmp(event, "engine_joined") ? "is back, restarted" : "registered", e->pid, e->host,
             e->python);
    if (act(v->c, &ev, &err) == CV_ENOMEM) {
        log_error(v->c->log, "engine %u is sent away: %s", e->number, err.text);
        conn_bye_engine(e, "the controller is out of memory");
        peer_engine_detach(e);
        registry_engine_dead(&v->c->registry, e, NULL);
        return;
    }
    note_python(v, e);
    event_engine(v->c, event, e);
}

static void come_back(struct visit *v, struct engine *e)
{
    struct conn *old = e->conn;
    bool own = old && !e->relayed;

    death_cancel(e);
    if (e->state != ENGINE_AWAY) {
        struct sched_event ev = {
            .type = SCHED_ENGINE_AWAY, .engine = e->number, .incarnation = e->incarnation};
        act_must(v->c, &ev);
    }
    peer_engine_detach(e);
    if (own && old != v->k)
        conn_free(old);
    if (registry_engine_update(&v->c->registry, e, &v->h) != CV_OK) {
        out_of_memory(v);
        return;
    }
    e->state = ENGINE_UP;
    e->resend_left = v->m->h.seq;
    welcome_engine(v, e);
    log_info(v->c->log, "engine %u is connected again", e->number);
    event_engine_back(v->c, e);
    task_engine_back(v->c, e);
}

/* A number that was given as often as a header can say is used up: its next engine is a new one. */
static void renumber(struct visit *v)
{
    const struct engine *e = registry_engine(&v->c->registry, v->h.number);

    if (v->h.incarnation <= WIRE_INCARNATION_MAX && !(e && e->incarnation == WIRE_INCARNATION_MAX))
        return;
    v->h.number = WIRE_ENGINE_NONE;
    v->h.incarnation = 0;
}

static void hello_engine(struct visit *v)
{
    struct registry *r = &v->c->registry;
    struct engine *e = registry_engine_by_session(r, v->h.session);

    if (e && e->state != ENGINE_DEAD) {
        come_back(v, e);
        return;
    }
    renumber(v);
    e = v->h.number == WIRE_ENGINE_NONE ? NULL : registry_engine(r, v->h.number);
    if (e && e->state != ENGINE_DEAD && v->h.incarnation == e->incarnation + 1)
        death_succeeded(v->c, e);
    if (e && e->state == ENGINE_DEAD && v->h.incarnation) {
        bool restarted = v->h.incarnation > e->incarnation;
        if (registry_engine_renew(r, e, &v->h, restarted ? v->h.incarnation : e->incarnation + 1) ==
            CV_OK)
            join(v, e, restarted ? "engine_restarted" : "engine_joined");
        else
            out_of_memory(v);
        return;
    }
    if (registry_engine_add(r, &v->h, &e) == CV_OK)
        join(v, e, "engine_joined");
    else
        out_of_memory(v);
}

/* --- hosts --- */

static void hello_host(struct visit *v)
{
    struct registry *r = &v->c->registry;
    struct host *old = registry_host(r, v->h.session);

    if (old) {
        struct conn *k = old->conn;
        peer_lost(k, "its host has connected again");
        conn_free(k);
    }
    if (registry_host_add(r, &v->h, &v->k->host) != CV_OK) {
        conn_bye(v->k, "the controller is out of memory");
        return;
    }
    v->k->host->conn = v->k;
    log_debug(v->c->log, "host %s (pid %u) with %u engines connected from %s", v->k->host->name,
              v->h.pid, v->h.slot, v->k->from);
    if (send_welcome(v, NULL) != CV_OK)
        conn_bye(v->k, "the controller is out of memory");
}

/* --- clients --- */

/* What a client that was here before waits for and sched does not have any more: found records are
 * handed over after it, unknown ids go into WELCOME. */
static int sort_again(struct visit *v, const struct sched_range *again, size_t n)
{
    struct store *s = v->c->store;

    for (size_t i = 0; i < n; i++) {
        uint64_t end = 0;
        for (uint64_t seq = again[i].lo; seq < again[i].hi; seq = end) {
            const struct store_record *rec;
            enum store_find f = s->ops->find(s, again[i].session, seq, &rec, &end);
            if (end > again[i].hi)
                end = again[i].hi;
            if (f == STORE_EXPIRED || (f == STORE_FOUND && rec->state != STORE_PENDING))
                continue;
            struct id_range *u = realloc(v->w.unknown, (v->w.nunknown + 1) * sizeof(*u));
            if (!u)
                return CV_ENOMEM;
            v->w.unknown = u;
            u[v->w.nunknown++] = (struct id_range){again[i].session, seq, end};
            if (ranges_add(&v->k->client->unknown, seq, end) != CV_OK)
                return CV_ENOMEM;
        }
    }
    return CV_OK;
}

static int by_lo(const void *a, const void *b)
{
    uint64_t x = ((const struct id_range *)a)->lo, y = ((const struct id_range *)b)->lo;

    return (x > y) - (x < y);
}

/* sched's answer to CLIENT_BACK; *ret: malloc'ed. */
static int ask_sched(struct visit *v, struct sched_range **ret, size_t *ret_n)
{
    struct sched_range *waiting = calloc(v->h.nwaiting + 1, sizeof(*waiting));
    struct sched_event ev = {.type = SCHED_CLIENT_BACK, .id = {v->h.session, 0}};
    struct sched_actions answer = {0};
    struct ranges merged = {0};
    int r = waiting ? CV_OK : CV_ENOMEM;

    if (v->h.nwaiting) /* in order, they are added at the end */
        qsort(v->h.waiting, v->h.nwaiting, sizeof(*v->h.waiting), by_lo);
    for (uint32_t i = 0; i < v->h.nwaiting && r == CV_OK; i++)
        if (v->h.waiting[i].session == v->h.session)
            r = ranges_add(&merged, v->h.waiting[i].lo, v->h.waiting[i].hi);
    for (size_t i = 0; i < merged.n && r == CV_OK; i++)
        waiting[i] = (struct sched_range){v->h.session, merged.v[i].lo, merged.v[i].hi};
    ev.client.waiting = waiting;
    ev.client.nwaiting = (uint32_t)merged.n;
    ranges_release(&merged);
    if (r == CV_OK)
        r = schedlog_handle(v->c, &ev, &answer, NULL);
    act_check(v->c, r);
    *ret = calloc(answer.n + 1, sizeof(**ret));
    *ret_n = 0;
    for (size_t i = 0; i < answer.n && *ret; i++)
        if (answer.v[i].type == SCHED_AGAIN || answer.v[i].type == SCHED_UNKNOWN)
            (*ret)[(*ret_n)++] = (struct sched_range){answer.v[i].id.session, answer.v[i].id.seq,
                                                      answer.v[i].id.seq + answer.v[i].count};
    sched_actions_release(&answer);
    free(waiting);
    return r == CV_OK && *ret ? CV_OK : CV_ENOMEM;
}

static int python_note(struct visit *v)
{
    const char *all = registry_python(&v->c->registry);

    if (all && (!v->h.python || !strcmp(all, v->h.python)))
        return CV_OK;
    list_each(l, &v->c->registry.engines)
    {
        struct engine *e = list_entry(l, struct engine, node);
        if (v->h.python && *e->python && strcmp(e->python, v->h.python)) {
            v->w.python = str_printf(
                "engine %u runs Python %s, this client %s: functions that are defined here can't "
                "be sent there, all else can",
                e->number, e->python, v->h.python);
            return v->w.python ? CV_OK : CV_ENOMEM;
        }
    }
    return CV_OK;
}

/* Who comes while the task records can't be written hears of it. */
static void tell_trouble(struct visit *v)
{
    const char *text = v->c->store->ops->trouble(v->c->store);
    struct header h = {.type = MSG_EVENT, .engine = WIRE_ENGINE_NONE};

    if (text && v->k->client)
        say(v->k->link, &h, json_pack("{s:s,s:s}", "event", "notice", "text", text));
}

static void hello_client(struct visit *v)
{
    struct client *old = registry_client(&v->c->registry, v->h.session);
    struct sched_range *again = NULL;
    size_t n = 0;

    if (old) {
        struct conn *k = old->conn;
        peer_client_detach(v->c, old);
        conn_free(k);
    }
    if (registry_client_add(&v->c->registry, &v->h, &v->k->client) != CV_OK)
        goto fail;
    v->k->client->conn = v->k;
    backlog_came(v->c, v->h.session);
    if (ask_sched(v, &again, &n) != CV_OK || sort_again(v, again, n) != CV_OK ||
        python_note(v) != CV_OK)
        goto fail;
    log_info(v->c->log, "client %016" PRIx64 " connected: pid %u on %s, from %s", v->h.session,
             v->h.pid, v->h.host ? v->h.host : "?", v->k->from);
    struct payload *p = query_welcome(v->c);
    int r = p ? send_welcome(v, p) : CV_ENOMEM;
    payload_unref(p);
    if (r != CV_OK)
        goto fail;
    tell_trouble(v);
    handover_begin(v->c, v->h.session, again, n);
    return;
fail:
    free(again);
    conn_bye(v->k, "the controller is out of memory");
}

/* --- */

/* After a restart the engines of before come back first: only then is it clear which of the tasks
 * that a client waits for are still held. */
static bool must_wait(const struct visit *v)
{
    return v->c->settling && v->h.role == ROLE_CLIENT && v->h.nwaiting && v->k->role != ROLE_HOST;
}

static struct conn *who_waits(struct controller *c)
{
    list_each(l, &c->conns)
    {
        struct conn *k = list_entry(l, struct conn, node);
        if (k->hello)
            return k;
    }
    return NULL;
}

/* Handling one may free other connections: the list is looked at anew each time. */
void hello_settled(void *arg)
{
    struct controller *c = arg;

    c->settling = false;
    for (struct conn *k; (k = who_waits(c));) {
        struct msg *m = k->hello;
        k->hello = NULL;
        if (!k->closing)
            hello_handle(k, m);
        else
            msg_free(m);
    }
}

void hello_handle(struct conn *k, struct msg *m)
{
    struct visit v = {.c = k->c, .k = k, .m = m};
    struct err e = {{0}};
    int r = hello_decode(m->route, m->h.route_len, &v.h, &e);

    v.w = (struct welcome){.number = WIRE_ENGINE_NONE,
                           .credit = LINK_CREDIT_DEFAULT,
                           .ping = k->c->opt->ping_ns,
                           .dead = k->c->opt->dead_ns};
    v.w.cluster_id = strdup(k->c->opt->cluster_id);
    v.w.boot_id = strdup(k->c->files.content[FILES_CLIENT].boot_id);
    r = r == CV_OK ? check(&v, &e) : err_wrap(&e, r, "that is no HELLO");
    v.w.refused = r == CV_OK ? NULL : strdup(e.text);
    if (!v.w.cluster_id || !v.w.boot_id || r == CV_ENOMEM || (r != CV_OK && !v.w.refused)) {
        out_of_memory(&v);
    } else if (v.w.refused) {
        refuse(&v);
    } else if (is_late(&v)) {
        turn_late_away(&v);
    } else {
        if (!k->role)
            conn_admitted(k, v.h.role);
        agree_on_memfds(&v);
        if (must_wait(&v)) {
            k->hello = m;
            m = NULL;
        } else if (v.h.role == ROLE_ENGINE)
            hello_engine(&v);
        else if (v.h.role == ROLE_HOST)
            hello_host(&v);
        else
            hello_client(&v);
    }
    welcome_release(&v.w);
    hello_release(&v.h);
    msg_free(m);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See act.h. A result's payload goes from the engine's message to the client's link and into the
 * record by reference. What can't be queued for lack of memory is handled as if the link were cut.
 */
#include "controller/act.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/file.h"
#include "controller/backlog.h"
#include "controller/death.h"
#include "controller/say.h"
#include "controller/schedlog.h"

#define REFUSAL_MAX 4096 /* a longer reason of an engine is left out */

/* --- to the client --- */

void act_to_client(struct client *x, const struct header *h, const void *route, uint32_t route_len,
                   struct payload *p, int flags)
{
    if (!x->conn || x->conn->closing)
        return;
    if (link_send(x->conn->link, h, route, route_len, p, flags) != CV_OK)
        conn_bye(x->conn, "the controller is out of memory");
}

/* Notes what the client must acknowledge. */
static int note_sent(struct client *x, const struct header *h, const struct payload *p)
{
    struct sent s = {h->seq, p ? p->total : 0, h->count};

    return result_acked_by_name(p) ? client_named_push(x, s) : client_sent_push(x, s);
}

static void deliver(struct controller *c, const struct header *h, struct payload *p)
{
    struct client *x = registry_client(&c->registry, h->session);
    int flags = 0;

    backlog_add(c, h->session, p ? p->total : 0);
    if (!x || !x->conn)
        return;
    for (uint64_t s = h->seq; x->bulky.n && s < h->seq + h->count && !flags; s++)
        if (ranges_has(&x->bulky, s))
            flags = LINK_AFTER_BULK;
    if (flags && ranges_del(&x->bulky, h->seq, h->seq + h->count) != CV_OK)
        log_debug(c->log, "out of memory for the order of large messages");
    if (note_sent(x, h, p) != CV_OK) {
        conn_bye(x->conn, "the controller is out of memory");
        return;
    }
    act_to_client(x, h, NULL, 0, p, flags);
}

void act_hand_over(struct controller *c, struct client *x, const struct store_record *r)
{
    const struct store_result *s = &r->result;
    struct header h = {.type = MSG_RESULT,
                       .status = s->status,
                       .attempt = s->attempt,
                       .session = r->session,
                       .seq = s->seq,
                       .count = s->count,
                       .engine = s->engine,
                       .incarnation = s->incarnation,
                       .time = s->started,
                       .aux = s->completed};

    if (s->gone) {
        act_end(c, (struct sched_id){r->session, r->lo}, (uint32_t)(r->hi - r->lo), RESULT_LOST,
                WIRE_ENGINE_NONE, "ResultExpired", NULL,
                "the result was delivered once and, being large, is not kept after that");
        return;
    }
    backlog_add(c, r->session, s->payload ? s->bytes : 0);
    if (note_sent(x, &h, s->payload) == CV_OK)
        act_to_client(x, &h, NULL, 0, s->payload, 0);
}

static void record_end(struct controller *c, const struct sched_action *a, const struct header *h,
                       struct payload *p)
{
    struct store_result r = {.status = h->status,
                             .attempt = h->attempt,
                             .engine = h->engine,
                             .incarnation = h->incarnation,
                             .engine_uuid = registry_uuid(&c->registry, h->engine, h->incarnation),
                             .started = h->time,
                             .completed = h->aux,
                             .received = clock_wall(),
                             .seq = h->seq,
                             .count = h->count,
                             .payload = p,
                             .bytes = p ? p->total : 0};

    if (c->store->ops->end(c->store, a->id.session, a->id.seq, a->count, &r) != CV_OK)
        log_error(c->log, "out of memory: a task's record is incomplete");
}

/* --- ends that the scheduler decides --- */

static const char *ename_of(uint8_t status)
{
    static const char *const names[RESULT_STATUS_END] = {[RESULT_ABORTED] = "TaskAborted",
                                                         [RESULT_CANCELLED] = "CancelledError",
                                                         [RESULT_ENGINE_DIED] = "EngineError",
                                                         [RESULT_TIMEOUT] = "TaskTimeout",
                                                         [RESULT_IMPOSSIBLE] =
                                                             "ImpossibleDependency",
                                                         [RESULT_INVALID] = "InvalidDependency",
                                                         [RESULT_UNMET] = "UnmetDependency",
                                                         [RESULT_LOST] = "LostTask",
                                                         [RESULT_REFUSED] = "TaskRefused"};

    return status < RESULT_STATUS_END && names[status] ? names[status] : "KernelError";
}

static const char *sentence_of(uint8_t status)
{
    switch (status) {
    case RESULT_ABORTED:
        return "the task was taken out of the queue before it started";
    case RESULT_CANCELLED:
        return "the task was cancelled";
    case RESULT_ENGINE_DIED:
        return "its engine died";
    case RESULT_TIMEOUT:
        return "the task had not started within its timeout";
    case RESULT_IMPOSSIBLE:
        return "the task's dependencies can't be met";
    case RESULT_INVALID:
        return "the task depends on a task that does not exist";
    case RESULT_UNMET:
        return "the engine does not meet the task's condition";
    case RESULT_LOST:
        return "the task or its result was lost";
    default:
        return "the task was refused";
    }
}

/* The error's text: what is known of the death, and which engines the task had met before. What the
 * engine wrote last is in the cause. */
static json_t *end_json(uint8_t status, uint32_t engine, const char *ename, const char *evalue,
                        const char *cause, const struct sched_action *a)
{
    json_t *j = cause ? json_loads(cause, 0, NULL) : NULL;
    const char *text = json_string_value(json_object_get(j, "text"));
    struct buf b = {0};

    int r = buf_addstr(&b, evalue ? evalue : text ? text : sentence_of(status));
    if (r == CV_OK && a && a->nkilled > 1) {
        r = buf_addstr(&b, "; engines that died running it:");
        for (uint32_t i = 0; i < a->nkilled && i < 3 && r == CV_OK; i++)
            r = buf_addf(&b, " %u", a->killed[i]);
    }
    const char *all = r == CV_OK ? buf_cstr(&b) : NULL;
    json_t *ret =
        json_pack("{s:s,s:s,s:o,s:o?}", "ename", ename ? ename : ename_of(status), "evalue",
                  all ? all : sentence_of(status), "engine",
                  engine == WIRE_ENGINE_NONE ? json_null() : json_integer(engine), "cause", j);
    buf_release(&b);
    return ret;
}

void act_forget_words(struct controller *c)
{
    payload_unref(c->last_end.words);
    free(c->last_end.evalue);
    c->last_end = (struct last_end){.words = NULL};
}

static bool is_alike(const struct last_end *l, const struct sched_action *a, const char *ename,
                     const char *evalue)
{
    return l->words && l->status == a->status && l->engine == a->engine &&
           l->incarnation == a->incarnation && l->ename == ename && l->cause == a->cause &&
           (l->evalue && evalue ? !strcmp(l->evalue, evalue) : l->evalue == evalue);
}

/* The words of an end, with a reference; NULL: out of memory. */
static struct payload *end_words(struct controller *c, const struct sched_action *a,
                                 const char *ename, const char *evalue)
{
    struct last_end *l = &c->last_end;
    bool own = a->nkilled > 1 || (a->cause && !a->incarnation); /* of it alone */

    if (!own && is_alike(l, a, ename, evalue))
        return payload_ref(l->words);
    struct payload *p = say_json(end_json(a->status, a->engine, ename, evalue, a->cause, a));
    char *text = evalue && p && !own ? strdup(evalue) : NULL;
    if (!p || own || (evalue && !text))
        return p;
    act_forget_words(c);
    *l = (struct last_end){.words = payload_ref(p),
                           .status = a->status,
                           .engine = a->engine,
                           .incarnation = a->incarnation,
                           .ename = ename,
                           .cause = a->cause,
                           .evalue = text};
    return p;
}

static void end_by_controller(struct controller *c, const struct sched_action *a, const char *ename,
                              const char *evalue)
{
    struct header h = {.type = MSG_RESULT,
                       .status = a->status,
                       .attempt = a->attempt,
                       .session = a->id.session,
                       .seq = a->id.seq,
                       .count = a->count,
                       .engine = a->engine,
                       .incarnation = a->incarnation,
                       .aux = clock_wall()};
    struct payload *p = end_words(c, a, ename, evalue);

    deliver(c, &h, p);
    record_end(c, a, &h, p);
    payload_unref(p);
}

void act_end(struct controller *c, struct sched_id id, uint32_t count, uint8_t status,
             uint32_t engine, const char *ename, const char *cause, const char *evalue)
{
    struct sched_action a = {.type = SCHED_DELIVER,
                             .id = id,
                             .count = count,
                             .status = status,
                             .engine = engine,
                             .cause = (void *)cause};

    end_by_controller(c, &a, ename, evalue);
}

/* --- the actions --- */

/* The scheduler's reason, with the task that it is about or with what the engine said why it would
 * not run it (a peer's bytes: anything may be in them). malloc'ed; NULL: there is no more to it. */
static char *whole_reason(const struct sched_action *a)
{
    const struct msg *m = a->payload;
    json_t *j = m && m->h.status == RESULT_UNMET ? say_parse(m) : NULL;
    const char *said = json_string_value(json_object_get(j, "evalue"));
    char *text = NULL;

    if (a->why && a->about.session)
        text = str_printf("%s: %016llx_%llu", a->why, (unsigned long long)a->about.session,
                          (unsigned long long)a->about.seq);
    else if (a->why && said && *said && strlen(said) < REFUSAL_MAX)
        text = str_printf("%s: %s", a->why, said);
    json_decref(j);
    return text;
}

/* What is known of the engine that a task was lost with, where the scheduler says so later than the
 * death was told, or itself gave it up; NULL: nothing, or it is none of that. */
static void *cause_of_death(struct controller *c, const struct sched_action *a)
{
    const struct engine *e =
        a->status == RESULT_ENGINE_DIED ? registry_engine(&c->registry, a->engine) : NULL;

    return e && e->died == a->incarnation ? e->cause : NULL;
}

static void do_deliver(struct controller *c, const struct sched_action *a,
                       const struct msg **forwarded)
{
    const struct msg *m = a->payload;

    if (!m || m->h.status != a->status || a->status == RESULT_UNMET) {
        struct sched_action known = *a;
        known.cause = a->cause ? a->cause : cause_of_death(c, a);
        char *text = whole_reason(a);
        end_by_controller(c, &known, NULL, known.cause ? NULL : text ? text : a->why);
        free(text);
        return;
    }
    struct header h = m->h;
    if (*forwarded != m) /* parts of one RESULT go to the client as the one message that they are */
        deliver(c, &h, m->payload);
    *forwarded = m;
    record_end(c, a, &h, m->payload);
}

/* The engine that the action is for, if it can be spoken to. */
static struct engine *engine_for(struct controller *c, const struct sched_action *a)
{
    struct engine *e = registry_engine(&c->registry, a->engine);

    return e && e->incarnation == a->incarnation && e->conn && !e->conn->closing ? e : NULL;
}

static void to_engine(struct controller *c, const struct sched_action *a, uint8_t type)
{
    struct engine *e = engine_for(c, a);
    struct header h = {.type = type,
                       .attempt = a->attempt,
                       .session = a->id.session,
                       .seq = a->id.seq,
                       .count = a->count,
                       .engine = a->engine,
                       .incarnation = a->incarnation};
    struct payload *p = NULL;
    int flags = 0;

    if (!e)
        return;
    if (type == MSG_TASK) {
        h.status = a->kind;
        h.flags = a->flags;
        h.aux = a->offset;
        h.time = clock_wall();
        p = a->payload;
        if (a->flags & (MSG_F_DIRECT | MSG_F_BROADCAST))
            flags = LINK_AFTER_BULK;
        if (e->relayed && (a->flags & MSG_F_BROADCAST))
            flags |= LINK_SHARE; /* its host has more of its engines */
    }
    if (link_send(e->conn->link, &h, NULL, 0, p, flags) != CV_OK)
        conn_bye(e->conn, "the controller is out of memory");
}

static void do_kill(struct controller *c, const struct sched_action *a)
{
    struct engine *e = registry_engine(&c->registry, a->engine);
    struct err err = {{0}};

    if (e && e->incarnation == a->incarnation && act_signal(c, e, SIGKILL, &err) != CV_OK)
        log_warn(c->log, "engine %u can't be killed: %s", a->engine, err.text);
}

static void do_action(struct controller *c, const struct sched_action *a,
                      const struct msg **forwarded)
{
    switch (a->type) {
    case SCHED_SEND:
        to_engine(c, a, MSG_TASK);
        break;
    case SCHED_TAKE:
        to_engine(c, a, MSG_TAKE);
        break;
    case SCHED_INTERRUPT:
        to_engine(c, a, MSG_CANCEL);
        break;
    case SCHED_KILL:
        do_kill(c, a);
        break;
    case SCHED_DELIVER:
        do_deliver(c, a, forwarded);
        break;
    case SCHED_ENGINE_GONE:
        death_gave_up(c, registry_engine(&c->registry, a->engine));
        break;
    case SCHED_UNKNOWN: /* only in answer to CLIENT_BACK: see hello.c */
    case SCHED_AGAIN:
        break;
    }
}

void act_check(struct controller *c, int code)
{
    if (code != CV_ECLOSED || c->stopping)
        return;
    log_critical(c->log, "out of memory: decisions were lost, ending");
    c->failed = true;
    controller_stop(c, "out of memory");
}

int act(struct controller *c, const struct sched_event *ev, struct err *e)
{
    const struct msg *forwarded = NULL;

    c->actions.n = 0;
    int r = schedlog_handle(c, ev, &c->actions, e);
    act_check(c, r);
    for (size_t i = 0; i < c->actions.n; i++)
        do_action(c, &c->actions.v[i], &forwarded);
    return r;
}

void act_must(struct controller *c, const struct sched_event *ev)
{
    struct err e = {{0}};
    int r = act(c, ev, &e);

    if (r != CV_OK)
        log_debug(c->log, "not for the scheduler: %s", e.text);
}

void act_arm(struct controller *c)
{
    uint64_t at = sched_deadline(c->sched), now = loop_now(c->loop);

    if (at == c->tick_at)
        return;
    c->tick_at = at;
    if (at == UINT64_MAX)
        timer_stop(c->tick);
    else
        timer_start(c->tick, at > now ? at - now : 1, 0);
}

int act_signal(struct controller *c, struct engine *e, int signum, struct err *err)
{
    struct host *x = registry_host(&c->registry, e->host_session);
    struct header h = {.type = MSG_SIGNAL, .engine = e->number, .incarnation = e->incarnation};

    if (x && x->conn && !x->conn->closing) {
        say(x->conn->link, &h, json_pack("{s:i}", "signal", signum));
        return CV_OK;
    }
    return death_signal(c, e, signum, err);
}

bool act_outcome(void *arg, struct sched_id id, uint8_t *ret_status, uint32_t *ret_engine)
{
    struct controller *c = arg;
    const struct store_record *r;

    enum store_find f = c->store->ops->find(c->store, id.session, id.seq, &r, NULL);
    bool known = f == STORE_FOUND && r->state != STORE_PENDING, well;
    if (known) {
        *ret_status = r->result.status;
        *ret_engine = r->result.engine;
    } else if (f == STORE_EXPIRED) {
        known = c->store->ops->expired(c->store, id.session, id.seq, &well);
        if (known) {
            *ret_status = well ? SCHED_S_OK : SCHED_S_ERROR;
            *ret_engine = SCHED_ENGINE_NONE; /* which is not kept */
        }
    }
    schedlog_outcome(c, id, known, known ? *ret_status : 0, known ? *ret_engine : 0);
    return known;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See task.h. A TASK is checked for what the scheduler can't know (whose session, dead engines,
 * Python versions), recorded, and handed to the scheduler. */
#include "controller/task.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "controller/ack.h"
#include "controller/act.h"
#include "controller/backlog.h"
#include "controller/events.h"
#include "controller/orphan.h"
#include "wire/leftout.h"
#include "wire/route.h"

/* Calls up to this size are kept with their record, but for those that share a function. */
#define KEEP_TASK_MAX (1u << 20)
#define KEEP_ROUTE_MAX (16u << 10) /* routes likewise */

/* --- TASK --- */

struct submit {
    struct controller *c;
    const struct msg *m;
    struct route route;
    enum sched_mode mode;
    uint32_t *fit;               /* balanced: the allowed engines that have the right Python */
    const struct engine *holder; /* an engine that has this part as an orphan, or NULL */
    struct orphan orphan;
};

static struct sched_id id_of(const struct header *h)
{
    return (struct sched_id){h->session, h->seq};
}

static void refuse(struct submit *s, uint64_t seq, uint32_t count, uint32_t engine,
                   const char *evalue)
{
    act_end(s->c, (struct sched_id){s->m->h.session, seq}, count, RESULT_REFUSED, engine, NULL,
            NULL, evalue);
}

/* Ends item(s) for an engine that can't take them, with the reason. False: it can. */
static bool unusable(struct submit *s, uint64_t seq, uint32_t count, uint32_t number)
{
    struct engine *e = registry_engine(&s->c->registry, number);
    struct sched_id id = {s->m->h.session, seq};
    char text[200];

    if (!e) {
        snprintf(text, sizeof(text), "there is no engine %u", number);
        act_end(s->c, id, count, RESULT_REFUSED, WIRE_ENGINE_NONE, "EngineError", NULL, text);
    } else if (e->state == ENGINE_DEAD) {
        act_end(s->c, id, count, RESULT_ENGINE_DIED, number, NULL, e->cause, NULL);
    } else if (s->route.python && strcmp(s->route.python, e->python)) {
        snprintf(text, sizeof(text),
                 "a function of Python %s can't be run by engine %u, which is Python %s",
                 s->route.python, number, e->python);
        refuse(s, seq, count, number, text);
    } else {
        return false;
    }
    return true;
}

/* Balanced, with a function by value: only engines of that Python. False: none can (told). */
static bool fit_python(struct submit *s, uint64_t seq, uint32_t count)
{
    struct registry *r = &s->c->registry;
    uint32_t n = 0;
    bool all = true, any = false;
    const char *common = registry_python(r);

    if (!s->route.python || s->mode != SCHED_BALANCED ||
        (common && !strcmp(common, s->route.python)))
        return true;
    list_each(l, &r->engines)
    {
        bool same = !strcmp(list_entry(l, struct engine, node)->python, s->route.python);
        all &= same;
        any |= same;
    }
    if (all)
        return true;
    s->fit = malloc((r->nengines + 1) * sizeof(*s->fit));
    if (!s->fit)
        return true; /* the engine will say so itself */
    list_each(l, &r->engines)
    {
        struct engine *e = list_entry(l, struct engine, node);
        bool allowed = !s->route.has_targets;
        for (uint32_t i = 0; i < s->route.ntargets && !allowed; i++)
            allowed = s->route.targets[i] == e->number;
        if (allowed && !strcmp(e->python, s->route.python))
            s->fit[n++] = e->number;
    }
    if (!n) {
        char text[200];
        snprintf(text, sizeof(text), "no engine runs Python %s, of which this task's function is",
                 s->route.python);
        refuse(s, seq, count, WIRE_ENGINE_NONE, text);
        return false;
    }
    free(s->route.targets);
    s->route.targets = s->fit;
    s->fit = NULL;
    s->route.ntargets = n;
    s->route.has_targets = true;
    return any;
}

/* Ranges of route.h and of sched.h have the same fields. */
static struct sched_range *ranges_of(const struct id_range *v, uint32_t n)
{
    struct sched_range *r = calloc(n + 1, sizeof(*r));

    for (uint32_t i = 0; r && i < n; i++)
        r[i] = (struct sched_range){v[i].session, v[i].lo, v[i].hi};
    return r;
}

static uint8_t dep_bits(const struct dep_flags *f)
{
    return (uint8_t)((f->all ? 1 : 0) | (f->success ? 2 : 0) | (f->failure ? 4 : 0));
}

static void hand_to_sched(struct submit *s, uint64_t seq, uint32_t count, const uint32_t *targets,
                          uint32_t ntargets)
{
    const struct header *h = &s->m->h;
    struct sched_range *after = ranges_of(s->route.after, s->route.nafter);
    struct sched_range *follow = ranges_of(s->route.follow, s->route.nfollow);
    struct sched_event ev = {.type = SCHED_SUBMIT, .id = {h->session, seq}, .count = count};
    struct err e = {{0}};

    ev.submit.mode = s->mode;
    ev.submit.kind = h->status;
    ev.submit.flags = h->flags & (MSG_F_DIRECT | MSG_F_BROADCAST | MSG_F_SILENT);
    ev.submit.targets = targets;
    ev.submit.ntargets = ntargets;
    ev.submit.timeout = s->route.timeout;
    ev.submit.retries = s->route.retries;
    ev.submit.priority = s->route.priority;
    ev.submit.payload = s->m->payload;
    ev.submit.after = after;
    ev.submit.nafter = s->route.nafter;
    ev.submit.after_flags = dep_bits(&s->route.after_flags);
    ev.submit.follow = follow;
    ev.submit.nfollow = s->route.nfollow;
    ev.submit.follow_flags = dep_bits(&s->route.follow_flags);
    if (s->mode != SCHED_BROADCAST)
        ev.submit.offset = (uint32_t)(seq - h->seq);
    if (s->holder) {
        ev.submit.nafter = ev.submit.nfollow = 0;
        ev.submit.held.engine = s->holder->number;
        ev.submit.held.incarnation = s->holder->incarnation;
        ev.submit.held.attempt = s->orphan.attempt;
        ev.submit.held.running = s->orphan.running;
    }
    int r = after && follow ? act(s->c, &ev, &e)
                            : err_set(&e, CV_ENOMEM, "the controller is out of memory");
    if (r != CV_OK && r != CV_ECLOSED)
        refuse(s, seq, count, WIRE_ENGINE_NONE, e.text);
    free(after);
    free(follow);
}

/* Item i is for targets[i]: items of unusable engines end, runs of the others go on together. */
static void submit_broadcast(struct submit *s, uint64_t seq, uint32_t count)
{
    const uint32_t *targets = s->route.targets + (seq - s->m->h.seq);
    uint32_t from = 0;

    for (uint32_t i = 0; i <= count; i++) {
        if (i < count && !unusable(s, seq + i, 1, targets[i]))
            continue;
        if (i > from)
            hand_to_sched(s, seq + from, i - from, targets + from, i - from);
        from = i + 1;
    }
}

/* Its data was too much for the memory here. */
static void refuse_left_out(struct submit *s, uint64_t seq, uint32_t count)
{
    char text[120];

    snprintf(text, sizeof(text), "the controller has no memory for the %llu bytes of this task",
             (unsigned long long)s->m->h.body_len);
    act_end(s->c, (struct sched_id){s->m->h.session, seq}, count, RESULT_REFUSED, WIRE_ENGINE_NONE,
            "MemoryError", NULL, text);
}

/* False: it is a client's resend of something that is known. */
static bool record(struct submit *s, uint64_t seq, uint32_t count)
{
    const struct header *h = &s->m->h;
    const struct payload *p = s->m->payload;
    struct store_task t = {.session = h->session,
                           .seq = seq,
                           .count = count,
                           .kind = h->status,
                           .mode = (uint8_t)s->mode,
                           .flags = h->flags,
                           .target = h->engine,
                           .origin = h->seq,
                           .submitted = h->time,
                           .label = s->route.label,
                           .payload = p && !payload_head(p) && p->total <= KEEP_TASK_MAX &&
                                              !payload_has_regions(p)
                                          ? s->m->payload
                                          : NULL};

    t.bytes = t.payload ? p->total : 0;
    /* a broadcast's names its engines, which its parts would all keep; what is submitted again is
     * one item */
    if (s->mode != SCHED_BROADCAST && h->route_len <= KEEP_ROUTE_MAX) {
        t.route = s->m->route;
        t.route_len = h->route_len;
    }
    int r = s->c->store->ops->submit(s->c->store, &t);
    if (r == CV_ENOMEM)
        log_error(s->c->log, "out of memory: a task has no record");
    return r != CV_EEXIST;
}

static void submit_part(struct submit *s, uint64_t seq, uint32_t count)
{
    const struct header *h = &s->m->h;

    if (!record(s, seq, count)) {
        log_debug(s->c->log, "a task that is known was sent again");
    } else if (h->flags & MSG_F_LEFT_OUT && !s->holder) {
        refuse_left_out(s, seq, count);
    } else if (s->mode == SCHED_BROADCAST) {
        submit_broadcast(s, seq, count);
    } else if (s->mode == SCHED_DIRECT) {
        if (!unusable(s, seq, count, h->engine))
            hand_to_sched(s, seq, count, &h->engine, 1);
    } else if (s->holder || fit_python(s, seq, count)) {
        hand_to_sched(s, seq, count, s->route.has_targets ? s->route.targets : NULL,
                      s->route.ntargets);
    }
}

/* --- what an earlier controller had accepted and its client sends again --- */

/* [lo, hi) was never heard of: what an engine holds stays there, the rest is new. */
static void submit_unheard(struct submit *s, uint64_t lo, uint64_t hi)
{
    struct engine *e;
    uint64_t end;

    for (; lo < hi; lo = end) {
        bool held = orphan_find(&s->c->registry, s->m->h.session, lo, hi, &e, &s->orphan, &end);
        s->holder = held ? e : NULL;
        submit_part(s, lo, (uint32_t)(end - lo));
        if (held && orphans_drop(e, s->m->h.session, lo, end) != CV_OK)
            log_error(s->c->log, "out of memory for what engine %u holds", e->number);
    }
    s->holder = NULL;
}

/* [lo, hi) was unknown when the client connected; an engine may have told the end meanwhile. */
static void submit_missing(struct submit *s, struct client *x, uint64_t lo, uint64_t hi)
{
    const struct store_record *r;
    uint64_t end;

    for (; lo < hi; lo = end) {
        enum store_find f = s->c->store->ops->find(s->c->store, x->session, lo, &r, &end);
        end = end < hi ? end : hi;
        if (f == STORE_UNKNOWN) {
            submit_unheard(s, lo, end);
        } else if (f == STORE_EXPIRED) {
            act_end(s->c, (struct sched_id){x->session, lo}, (uint32_t)(end - lo), RESULT_LOST,
                    WIRE_ENGINE_NONE, "ResultExpired", NULL,
                    "the result was kept for a while and is gone by now");
        } else if (r->state != STORE_PENDING) {
            uint64_t last = r->result.seq + r->result.count;
            act_hand_over(s->c, x, r);
            end = last > lo && last < hi ? last : end;
        }
    }
}

/* A client sends a whole range again, of which it may miss a part: only that is run. */
static void submit_again(struct submit *s, struct client *x)
{
    const struct header *h = &s->m->h;
    uint64_t lo, hi, end = h->seq + h->count;

    for (lo = h->seq; lo < end; lo = hi) {
        const struct range *r = ranges_from(&x->unknown, lo);
        bool missing = r && r->lo <= lo;
        hi = missing ? r->hi : r ? r->lo : end;
        hi = hi < end ? hi : end;
        if (missing)
            submit_missing(s, x, lo, hi);
    }
    if (ranges_del(&x->unknown, h->seq, end) != CV_OK)
        log_error(s->c->log, "out of memory for what a client sends again");
}

static bool is_missing(const struct client *x, const struct header *h)
{
    const struct range *r = ranges_from(&x->unknown, h->seq);

    return r && r->lo < h->seq + h->count;
}

void task_submit(struct controller *c, const struct origin *o, struct msg *m)
{
    const struct header *h = &m->h;
    struct submit s = {.c = c, .m = m};
    struct err e = {{0}};

    if (h->session != o->client->session || !h->count || h->seq + h->count < h->seq) {
        conn_bye(o->conn, "a TASK needs ids of its client's own session");
        return;
    }
    route_init(&s.route);
    int r = h->route_len ? route_decode(m->route, h->route_len, &s.route, &e) : CV_OK;
    if (r == CV_ENOMEM)
        refuse(&s, h->seq, h->count, WIRE_ENGINE_NONE, "the controller is out of memory");
    else if (r != CV_OK)
        conn_bye(o->conn, "a TASK's route can't be read: %s", e.text);
    if (r != CV_OK)
        return;
    s.mode = h->flags & MSG_F_DIRECT      ? SCHED_DIRECT
             : h->flags & MSG_F_BROADCAST ? SCHED_BROADCAST
                                          : SCHED_BALANCED;
    if (s.mode == SCHED_BROADCAST && s.route.ntargets != h->count)
        conn_bye(o->conn, "a broadcast of %u tasks names %u engines", h->count, s.route.ntargets);
    else if (is_missing(o->client, h))
        submit_again(&s, o->client);
    else
        submit_part(&s, h->seq, h->count);
    free(s.fit);
    route_release(&s.route);
}

/* --- from engines --- */

static struct sched_event engine_event(enum sched_event_type type, const struct engine *e,
                                       const struct header *h)
{
    return (struct sched_event){.type = type,
                                .id = id_of(h),
                                .count = h->count,
                                .attempt = h->attempt,
                                .engine = e->number,
                                .incarnation = e->incarnation};
}

void task_started(struct controller *c, const struct origin *o, struct msg *m)
{
    struct sched_event ev = engine_event(SCHED_STARTED, o->engine, &m->h);

    act_must(c, &ev);
}

static void engine_synced(struct controller *c, struct engine *e)
{
    struct sched_event ev = {
        .type = SCHED_ENGINE_SYNCED, .engine = e->number, .incarnation = e->incarnation};

    act_must(c, &ev);
}

/* Orphans are not the scheduler's, which would have the engine drop them. What is mixed is: a part
 * of it is known there. */
static bool is_orphan(const struct controller *c, const struct engine *e, const struct held_task *h)
{
    if (!h->count || !orphans_overlap(e, h))
        return false;
    return !sched_live(c->sched, (struct sched_id){h->session, h->seq}, h->count);
}

void task_engine_back(struct controller *c, struct engine *e)
{
    struct sched_event ev = {
        .type = SCHED_ENGINE_BACK, .engine = e->number, .incarnation = e->incarnation};
    struct sched_held *held = calloc(e->nunstarted + 1, sizeof(*held));
    uint64_t resend_left = e->resend_left;

    if (!held) {
        conn_bye(e->conn, "the controller is out of memory");
        return;
    }
    if (orphans_keep(e) != CV_OK)
        log_error(c->log, "out of memory for what engine %u holds", e->number);
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->nunstarted; i++)
        if (!is_orphan(c, e, &e->unstarted[i]))
            held[n++] = (struct sched_held){{e->unstarted[i].session, e->unstarted[i].seq},
                                            e->unstarted[i].count,
                                            e->unstarted[i].attempt};
    if (!is_orphan(c, e, &e->running))
        ev.back.running = (struct sched_held){
            {e->running.session, e->running.seq}, e->running.count, e->running.attempt};
    ev.back.unstarted = held;
    ev.back.nunstarted = n;
    act_must(c, &ev);
    free(held);
    registry_engine_forget_held(e);
    e->resend_left = resend_left;
    if (!resend_left)
        engine_synced(c, e);
}

/* A result that the scheduler has no use for: if its task was never heard of, an earlier controller
 * had accepted it, and its client will come and ask for it. */
static void keep_stray(struct controller *c, const struct msg *m)
{
    const struct store_record *r;
    struct store_task t = {.session = m->h.session,
                           .seq = m->h.seq,
                           .count = m->h.count,
                           .target = m->h.engine,
                           .origin = m->h.seq};
    struct store_result res = {.status = m->h.status,
                               .attempt = m->h.attempt,
                               .engine = m->h.engine,
                               .incarnation = m->h.incarnation,
                               .engine_uuid =
                                   registry_uuid(&c->registry, m->h.engine, m->h.incarnation),
                               .started = m->h.time,
                               .completed = m->h.aux,
                               .received = clock_wall(),
                               .seq = m->h.seq,
                               .count = m->h.count,
                               .payload = m->payload,
                               .bytes = m->payload ? m->payload->total : 0};

    if (m->h.status > RESULT_ERROR ||
        sched_task_state(c->sched, id_of(&m->h), NULL) != SCHED_T_UNKNOWN ||
        c->store->ops->find(c->store, t.session, t.seq, &r, NULL) != STORE_UNKNOWN)
        return;
    if (c->store->ops->submit(c->store, &t) != CV_OK ||
        c->store->ops->end(c->store, t.session, t.seq, t.count, &res) != CV_OK)
        log_debug(c->log, "a result of an earlier life is not kept");
}

/* The engine's status page counts it too. */
static bool ran_here(const struct msg *m)
{
    return m->h.status <= RESULT_ERROR || m->h.status == RESULT_UNMET;
}

void task_result(struct controller *c, const struct origin *o, struct msg *m)
{
    struct engine *e = o->engine;
    struct sched_event ev = engine_event(SCHED_RESULT, e, &m->h);
    bool announced = m->h.flags & MSG_F_AGAIN, left_out = m->h.flags & MSG_F_LEFT_OUT;

    m->h.engine = e->number;
    m->h.incarnation = e->incarnation;
    m->h.flags = left_out ? MSG_F_LEFT_OUT : 0; /* until it is acknowledged */
    if (!m->h.count || m->h.status >= RESULT_STATUS_END) {
        if (e->relayed)
            conn_bye_engine(e, "a RESULT of nothing");
        else
            conn_bye(o->conn, "a RESULT of nothing");
        return;
    }
    ack_note(c, e, m);
    if (left_out && left_out_end(m, "the controller, or the host of its engine,") != CV_OK)
        log_error(c->log, "out of memory: a result has no content");
    m->h.flags = 0;
    ev.result.status = m->h.status;
    ev.result.run_ns = m->h.aux > m->h.time ? m->h.aux - m->h.time : 0;
    ev.result.payload = m;
    act_must(c, &ev);
    if (ran_here(m) && (c->actions.n || !e->resend_left))
        e->ran += m->h.count;
    if (!c->actions.n)
        keep_stray(c, m);
    if (orphans_drop(e, m->h.session, m->h.seq, m->h.seq + m->h.count) != CV_OK)
        log_error(c->log, "out of memory for what engine %u holds", e->number);
    if (announced && e->resend_left && !--e->resend_left)
        engine_synced(c, e);
}

void task_give_back(struct controller *c, const struct origin *o, struct msg *m)
{
    struct sched_event ev = engine_event(SCHED_GIVE_BACK, o->engine, &m->h);

    act_must(c, &ev);
}

/* --- from clients --- */

void task_cancel(struct controller *c, const struct origin *o, struct msg *m)
{
    struct sched_event ev = {
        .type = SCHED_CANCEL, .id = id_of(&m->h), .count = m->h.count, .engine = WIRE_ENGINE_NONE};

    ev.cancel.how = m->h.flags & MSG_F_ABORT  ? SCHED_CANCEL_ABORT
                    : m->h.flags & MSG_F_KILL ? SCHED_CANCEL_KILL
                                              : SCHED_CANCEL_INTERRUPT;
    ev.cancel.kill_after_ns = m->h.aux;
    cancels_add(c, &ev);
}

static void delivered(struct controller *c, const struct client *x, const struct sent *s)
{
    c->store->ops->delivered(c->store, x->session, s->seq, s->count);
    backlog_taken(c, x->session, s->bytes);
}

void task_client_ack(struct controller *c, const struct origin *o, struct msg *m)
{
    struct client *x = o->client;
    struct sent s;

    if (m->h.count) {
        if (client_named_pop(x, m->h.seq, m->h.count, &s))
            delivered(c, x, &s);
        return;
    }
    while (x->acked < m->h.aux && client_sent_pop(x, &s)) {
        x->acked++;
        delivered(c, x, &s);
    }
}

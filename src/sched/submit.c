/* SPDX-License-Identifier: BSD-3-Clause
 *
 * SUBMIT: from the event to records. Called by the scheduler's one thread. It is accepted whole or
 * not at all: all memory is taken before anything is changed. */
#include <stdlib.h>

#include "sched/dependency.h"
#include "sched/dispatch.h"
#include "sched/event.h"
#include "sched/policy.h"

#define SEQ_MAX (1ull << 57)
#define ITEMS_MAX (1u << 24) /* of one range: some steps look at each of its items */

static int submit_check(const struct sched_event *ev, struct err *e)
{
    if (ev->count == 0)
        return err_set(e, CV_EINVAL, "a task without items");
    if (ev->count > ITEMS_MAX)
        return err_set(e, CV_EINVAL, "%u items at once; at most %u are allowed", ev->count,
                       ITEMS_MAX);
    if (ev->id.seq >= SEQ_MAX || ev->count > SEQ_MAX - ev->id.seq)
        return err_set(e, CV_EINVAL, "a task number above 2^57");
    if (ev->submit.mode != SCHED_BALANCED && ev->submit.mode != SCHED_DIRECT &&
        ev->submit.mode != SCHED_BROADCAST)
        return err_set(e, CV_EINVAL, "a task of unknown mode %d", (int)ev->submit.mode);
    if (ev->submit.mode == SCHED_DIRECT && ev->submit.ntargets != 1)
        return err_set(e, CV_EINVAL, "a direct task needs one target, not %u", ev->submit.ntargets);
    if (ev->submit.mode == SCHED_BROADCAST && ev->submit.ntargets != ev->count)
        return err_set(e, CV_EINVAL, "a broadcast of %u items needs as many targets, not %u",
                       ev->count, ev->submit.ntargets);
    if (ev->submit.mode == SCHED_BALANCED && ev->submit.targets && ev->submit.ntargets == 0)
        return err_set(e, CV_EINVAL, "an empty list of targets");
    return CV_OK;
}

/* A client's resend: ids are used once, and a range was accepted whole. */
static bool submit_known(struct sched *s, const struct client *c, const struct sched_event *ev)
{
    if (ev->id.seq >= c->next)
        return false;
    struct task_walk w = task_walk(s, ev->id, ev->count);
    struct task *t;
    while ((t = task_walk_next(s, &w)))
        if (task_left_in(t, w.lo, w.hi))
            return true;
    return false;
}

static int more_fill(const struct sched *s, struct task *t, const struct sched_event *ev)
{
    bool timed = ev->submit.timeout >= 0 && ev->submit.timeout < 1e9;
    if (!timed && !ev->submit.retries && !ev->submit.note)
        return CV_OK;
    struct task_more *m = task_need_more(t);
    if (!m)
        return CV_ENOMEM;
    m->retries_lost = m->retries_error = ev->submit.retries;
    m->note = ev->submit.note;
    if (timed)
        m->deadline = s->now + (uint64_t)(ev->submit.timeout * 1e9);
    return CV_OK;
}

static struct task *record_new(struct sched *s, struct client *c, const struct sched_event *ev,
                               uint32_t item, uint32_t count)
{
    struct task *t = task_alloc(s);
    if (!t)
        return NULL;
    t->client = c;
    t->seq = ev->id.seq + item;
    t->count = t->left = count;
    t->offset = ev->submit.offset + item;
    if (count > 64) {
        t->done.words = calloc((count + 63) / 64, sizeof *t->done.words);
        if (!t->done.words) {
            t->count = 0; /* nothing to free there */
            task_free(s, t);
            return NULL;
        }
    }
    t->mode = (uint8_t)ev->submit.mode;
    t->kind = ev->submit.kind;
    t->wire_flags = ev->submit.flags;
    t->flags = ev->submit.retries ? 0 : TASK_ONCE;
    t->priority = ev->submit.priority;
    t->payload = ev->submit.payload;
    if (t->payload)
        s->payload_ops.ref(t->payload);
    if (more_fill(s, t, ev) < 0) {
        task_free(s, t);
        return NULL;
    }
    return t;
}

/* Undoes what submit_records() did. */
static void records_drop(struct sched *s, struct list *made)
{
    struct list *l;
    while ((l = list_first(made))) {
        struct task *t = list_entry(l, struct task, node);
        list_del(l);
        task_index_del(s, t);
        task_free(s, t);
    }
}

static int submit_records(struct sched *s, struct client *c, const struct sched_event *ev,
                          struct list *made)
{
    bool each = ev->submit.mode == SCHED_BROADCAST;
    uint32_t n = each ? ev->count : 1;
    if (heap_reserve(&s->task_timers, (uint32_t)s->records + n) < 0)
        return CV_ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        struct task *t = record_new(s, c, ev, i, each ? 1 : ev->count);
        if (!t)
            return CV_ENOMEM;
        if (task_index_add(s, t) < 0) {
            task_free(s, t);
            return CV_ENOMEM;
        }
        list_add_tail(made, &t->node);
    }
    return CV_OK;
}

/* engine: a direct one's, NULL for a balanced one. */
static void submit_place(struct sched *s, struct task *t, struct engine *engine,
                         enum deps_verdict verdict)
{
    struct task_word w =
        task_word(SCHED_S_IMPOSSIBLE, "a task that it depends on did not end as it asks for");
    const char *nowhere = deps_nowhere(t, engine);
    bool met = verdict == DEPS_MET && deps_met(s, t, engine);
    if (verdict == DEPS_OPEN) {
        task_move(s, t, SCHED_T_WAITING, engine, TASK_TAIL);
        return;
    }
    struct sched_id spoiler = deps_spoiler(t);
    struct task_word broken = deps_broken(t);
    deps_free(s, t);
    if (met) {
        task_move(s, t, SCHED_T_QUEUED, engine, TASK_TAIL);
        return;
    }
    if (verdict == DEPS_INVALID)
        w = broken;
    if (verdict == DEPS_MET)
        w.why = nowhere;
    else
        w.about = spoiler;
    task_end_all(s, t, &w);
}

static void submit_direct(struct sched *s, struct task *t, uint32_t target,
                          enum deps_verdict verdict)
{
    struct engine *e = hash_get(&s->engines, 0, target);
    if (e && e->state != SCHED_DEAD) {
        submit_place(s, t, e, verdict);
        return;
    }
    struct task_word w = task_word(e ? SCHED_S_ENGINE_DIED : SCHED_S_REFUSED,
                                   e ? "its engine is dead" : "there is no such engine");
    w.engine = target;
    w.incarnation = e ? e->incarnation : 0;
    task_end_all(s, t, &w);
}

static int submit_targets(struct sched *s, struct task *t, const struct sched_event *ev)
{
    struct task_set *set = NULL;
    if (ev->submit.targets) {
        struct task_more *m = task_need_more(t);
        if (!m || !(set = set_get(s, false, ev->submit.targets, ev->submit.ntargets)))
            return CV_ENOMEM;
        m->base = set;
        m->set = set_ref(set);
    }
    return queue_reserve(set ? &set->queue : &s->any, t->priority);
}

/* Meanwhile the new records are not in the index: a task that depends on itself, or on another of
 * its broadcast, depends on nothing that exists. */
static int submit_deps(struct sched *s, struct list *made, const struct sched_event *ev,
                       enum deps_verdict *verdict)
{
    int r = CV_OK;
    list_each(l, made) task_index_del(s, list_entry(l, struct task, node));
    list_each(l, made)
    {
        if (r == CV_OK)
            r = deps_new(s, list_entry(l, struct task, node), ev, verdict);
    }
    list_each(l, made)
    {
        int back = task_index_add(s, list_entry(l, struct task, node));
        if (r == CV_OK)
            r = back; /* takes the places just left: can't fail */
    }
    return r;
}

/* Its engine has it already. False: not (any more). */
static bool submit_held(struct sched *s, struct task *t, const struct sched_event *ev)
{
    struct engine *e = ev->submit.held.attempt
                           ? engine_find(s, ev->submit.held.engine, ev->submit.held.incarnation)
                           : NULL;
    if (!e || e->state == SCHED_DEAD)
        return false;
    deps_free(s, t);
    if (e->held[0] + e->held[1] == 0)
        e->progress_ns = s->now;
    task_move(s, t, SCHED_T_QUEUED, t->mode == SCHED_BALANCED ? NULL : e, TASK_TAIL);
    t->attempt = ev->submit.held.attempt;
    task_move(s, t, SCHED_T_SENT, e, TASK_TAIL);
    e->used = ++s->sends;
    t->order = (int64_t)s->sends;
    if (ev->submit.held.running)
        task_move(s, t, SCHED_T_RUNNING, e, TASK_TAIL);
    return true;
}

int submit_handle(struct sched *s, const struct sched_event *ev, struct err *e)
{
    int r = submit_check(ev, e);
    if (r < 0)
        return r;
    struct client *c = client_get(s, ev->id.session);
    if (!c)
        return CV_ENOMEM;
    if (submit_known(s, c, ev))
        return CV_OK;
    if (client_use(c, ev->id.seq, ev->id.seq + ev->count) < 0)
        return CV_ENOMEM;
    struct list made, *l;
    list_init(&made);
    enum deps_verdict verdict = DEPS_MET;
    r = submit_records(s, c, ev, &made);
    if (r == CV_OK && ev->submit.mode == SCHED_BALANCED)
        r = submit_targets(s, list_entry(made.next, struct task, node), ev);
    if (r == CV_OK && ev->submit.nafter + ev->submit.nfollow)
        r = submit_deps(s, &made, ev, &verdict);
    if (r < 0) {
        records_drop(s, &made);
        return r;
    }
    if (c->next < ev->id.seq + ev->count)
        c->next = ev->id.seq + ev->count;
    while ((l = list_first(&made))) {
        struct task *t = list_entry(l, struct task, node);
        list_del(l);
        c->live++;
        s->records++;
        if (submit_held(s, t, ev))
            continue;
        if (t->mode == SCHED_BALANCED)
            submit_place(s, t, NULL, verdict);
        else
            submit_direct(
                s, t,
                ev->submit.targets[t->mode == SCHED_BROADCAST ? t->offset - ev->submit.offset : 0],
                verdict);
    }
    return CV_OK;
}

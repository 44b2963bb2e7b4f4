/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which task goes where. Called by the scheduler's one thread at the end of each event. An engine
 * holds tasks ahead for PREFETCH_NS of work, none when they are slow; where one has nothing to do
 * while another holds tasks that it can't have started soon, those are asked back. After every
 * event no queued task has an engine with room. Failure: none but memory for actions. */
#include "sched/dispatch.h"

#include <stdlib.h>

#include "sched/dependency.h"
#include "sched/policy.h"

#define STEAL_GAP_MAX (64 * SLOW_NS)
#define STEAL_IDLE 64    /* idle engines served by one look */
#define STEAL_VICTIMS 16 /* engines looked at for each */

struct sched_action *sched_push(struct sched *s)
{
    struct sched_actions *a = s->out;
    if (a->n == a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 64;
        struct sched_action *v = realloc(a->v, cap * sizeof *v);
        if (!v) {
            s->oom = true;
            return NULL;
        }
        a->v = v;
        a->cap = cap;
    }
    a->v[a->n] = (struct sched_action){0};
    return &a->v[a->n++];
}

/* --- room --- */

uint64_t engine_load(const struct engine *e)
{
    return e->held[0] + e->held[1] + e->queued;
}

/* How long an item takes there, as far as one can tell now: one that is silent is slow. */
static uint64_t engine_pace(const struct sched *s, const struct engine *e)
{
    uint64_t silent = engine_load(e) && s->now > e->progress_ns ? s->now - e->progress_ns : 0;
    return e->ewma_ns > silent ? e->ewma_ns : silent;
}

bool engine_has_room(const struct sched *s, const struct engine *e)
{
    uint64_t load = engine_load(e);
    if (e->state != SCHED_UP)
        return false;
    if (load == 0)
        return true;
    if (s->o.hwm)
        return load < s->o.hwm;
    if (!e->ewma_ns)
        return false; /* one first */
    uint64_t pace = engine_pace(s, e);
    if (pace >= SLOW_NS)
        return false;
    uint64_t ahead = PREFETCH_NS / (pace ? pace : 1);
    return load < (ahead < PREFETCH_MAX ? ahead : PREFETCH_MAX);
}

void engine_touch(struct sched *s, struct engine *e)
{
    uint64_t load = engine_load(e);
    uint32_t level = levels_clamp(load);
    bool room = engine_has_room(s, e);
    if (e->ready && (!room || level != e->load_level || e->used != e->placed)) {
        s->policy->del(s, e);
        e->ready = false;
    }
    if (room && !e->ready) {
        e->load_level = level;
        e->placed = e->used;
        s->policy->add(s, e);
        e->ready = true;
    }
    bool send = room || (e->queued && (e->state == SCHED_UP || e->state == SCHED_DRAINING));
    if (send && list_empty(&e->dirty_node))
        list_add_tail(&s->dirty, &e->dirty_node);
    uint32_t steal = e->state == SCHED_UP ? levels_clamp(e->stealable) : 0;
    if (steal != e->steal_level) {
        if (e->steal_level)
            levels_del(&s->victims, &e->steal_node, e->steal_level);
        if (steal)
            levels_add(&s->victims, &e->steal_node, steal);
        e->steal_level = steal;
    }
    bool idle = e->state == SCHED_UP && load == 0;
    if (idle != !list_empty(&e->idle_node)) {
        list_del(&e->idle_node);
        if (idle) {
            list_add_tail(&s->idle, &e->idle_node);
            s->steal_gap = 0;
        }
    }
}

/* --- sending --- */

/* One action for each run of unfinished items of [lo, hi). */
static void act_runs(struct sched *s, struct task *t, enum sched_action_type type, uint64_t lo,
                     uint64_t hi, bool payload)
{
    while (lo < hi) {
        uint64_t end = lo;
        while (end < hi && !task_item_done(t, end))
            end++;
        if (end > lo) {
            struct sched_action *a = task_act(s, type, t, lo, end);
            if (a && payload)
                a->payload = t->payload;
        }
        lo = end > lo ? end : lo + 1;
    }
}

static void task_send(struct sched *s, struct task *t, struct engine *e)
{
    if (e->held[0] + e->held[1] == 0)
        e->progress_ns = s->now;
    e->used = ++s->sends;
    if (++t->attempt == 0)
        t->attempt = 1;
    task_move(s, t, SCHED_T_SENT, e, TASK_TAIL);
    t->order = (int64_t)s->sends;
    act_runs(s, t, SCHED_SEND, t->seq, task_end(t), true);
}

void task_take(struct sched *s, struct task *t, uint64_t lo, uint64_t hi)
{
    task_flag(s, t, TASK_TAKING, 0);
    task_act(s, SCHED_TAKE, t, lo, hi);
}

void task_interrupt(struct sched *s, struct task *t)
{
    act_runs(s, t, SCHED_INTERRUPT, t->seq, task_end(t), false);
}

void task_requeue(struct sched *s, struct task *t)
{
    task_move(s, t, SCHED_T_QUEUED, t->mode == SCHED_BALANCED ? NULL : t->engine, TASK_HEAD);
}

static void dispatch_engine(struct sched *s, struct engine *e)
{
    while (!list_empty(&e->waiting) && (e->state == SCHED_UP || e->state == SCHED_DRAINING) &&
           e->held[1] < DIRECT_WINDOW) {
        struct task *first = list_entry(e->waiting.next, struct task, node);
        if (first->client->paused)
            task_park(s, first);
        else
            task_send(s, first, e);
    }
    struct task *t;
    while (e->ready && engine_has_room(s, e) && (t = queue_best_for(s, e)))
        task_send(s, t, e);
    list_del(&e->dirty_node);
}

static void dispatch_queue(struct sched *s, struct queue *q)
{
    struct engine *e;
    while (queue_next(s, q) && (e = policy_pick(s, q->set)))
        task_send(s, queue_best_for(s, e), e); /* another queue's may be more urgent */
    list_del(&q->dirty_node);
}

/* --- taking back --- */

/* The part of t that is asked back if want items are wanted; from its end, so that the engine goes
 * on at the front. */
static uint64_t take_from(struct sched *s, struct task *t, uint64_t want)
{
    uint64_t hi = task_end(t), lo = hi, n = 0;
    uint64_t most = t->state == SCHED_T_SENT ? t->left : t->left - 1;
    if (want < most)
        most = want;
    while (n < most)
        n += !task_item_done(t, --lo);
    if (n)
        task_take(s, t, lo, hi);
    return n;
}

static bool takeable(const struct task *t, const struct engine *for_whom)
{
    const uint8_t no = TASK_TAKING | TASK_NO_TAKE | TASK_ABORT | TASK_CANCEL | TASK_UNSURE;
    return t->mode == SCHED_BALANCED && !(t->flags & no) &&
           set_has(task_more(t)->set, for_whom->number);
}

static uint64_t steal_from(struct sched *s, struct engine *v, const struct engine *for_whom)
{
    uint64_t want = (v->stealable + 1) / 2, got = 0;
    struct list *tails[] = {&v->sent[0], &v->running};
    for (int i = 0; i < 2; i++) {
        int looked = 0;
        for (struct list *l = tails[i]->prev; l != tails[i] && got < want && looked < PREFETCH_MAX;
             l = l->prev, looked++) {
            struct task *t = list_entry(l, struct task, node);
            if (takeable(t, for_whom))
                got += take_from(s, t, want - got);
        }
    }
    return got;
}

static uint64_t steal_for(struct sched *s, struct engine *idle)
{
    int looked = 0;
    for (uint32_t top = levels_top(&s->victims); top && top < LEVELS; top--) {
        list_each_safe(l, tmp, &s->victims.v[top])
        {
            struct engine *v = list_entry(l, struct engine, steal_node);
            if (looked++ == STEAL_VICTIMS)
                return 0;
            if (engine_load(v) < 2 || engine_pace(s, v) < SLOW_NS / engine_load(v))
                continue;
            uint64_t got = steal_from(s, v, idle);
            if (got)
                return got;
        }
    }
    return 0;
}

/* Gives idle engines work that others hold ahead. */
static void steal(struct sched *s)
{
    if (list_empty(&s->idle) || levels_top(&s->victims) == LEVELS) {
        s->steal_at = UINT64_MAX;
        return;
    }
    if (s->steal_gap && s->now < s->steal_at)
        return;
    uint64_t got = 0;
    int served = 0;
    list_each(l, &s->idle)
    {
        uint64_t n =
            served++ < STEAL_IDLE ? steal_for(s, list_entry(l, struct engine, idle_node)) : 0;
        if (!n)
            break;
        got += n;
    }
    if (got || !s->steal_gap)
        s->steal_gap = SLOW_NS;
    else if (s->steal_gap < STEAL_GAP_MAX)
        s->steal_gap *= 2;
    s->steal_at = s->now + s->steal_gap;
}

void dispatch(struct sched *s)
{
    do {
        deps_settle(s);
        while (!list_empty(&s->dirty_sets))
            dispatch_queue(s, list_entry(s->dirty_sets.next, struct queue, dirty_node));
        while (!list_empty(&s->dirty))
            dispatch_engine(s, list_entry(s->dirty.next, struct engine, dirty_node));
    } while (s->budget && deps_due(s));
    steal(s);
}

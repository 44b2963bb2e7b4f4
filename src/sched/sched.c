/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The scheduler's two ends: making and freeing it, and sched_handle(), which hands an event to its
 * handler and then sends what can be sent. One thread; owns all records. Failure: sched.h says what
 * remains after CV_ENOMEM. */
#include "sched/sched.h"

#include <stdlib.h>

#include "sched/dependency.h"
#include "sched/dispatch.h"
#include "sched/event.h"
#include "sched/policy.h"

#define AWAY_GRACE_NS (300 * 1000000000ull)

int sched_new(struct sched **ret, const struct sched_options *o, const struct sched_payload_ops *p,
              struct err *e)
{
    const struct policy_ops *policy = policy_find(o->policy ? o->policy : "leastload");
    if (!policy)
        return err_set(e, CV_EINVAL,
                       "no scheduling policy is called '%s'; there are leastload, lru, weighted, "
                       "twobin, plainrandom, pure",
                       o->policy);
    struct sched *s = calloc(1, sizeof *s);
    if (!s)
        return CV_ENOMEM;
    s->o = *o;
    s->o.policy = policy->name;
    if (!s->o.away_grace_ns)
        s->o.away_grace_ns = AWAY_GRACE_NS;
    s->payload_ops = *p;
    s->policy = policy;
    s->rng = o->seed ? o->seed : 0x9E3779B97F4A7C15u;
    s->steal_at = UINT64_MAX;
    struct list *lists[] = {&s->slabs, &s->waiting, &s->resolved,   &s->ended,   &s->filled,
                            &s->open,  &s->dirty,   &s->dirty_sets, &s->idle,    &s->dead,
                            &s->told,  &s->barren,  &s->losing,     &s->filling, &s->dropping};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    queue_init(&s->any, NULL);
    levels_init(&s->ready);
    levels_init(&s->victims);
    *ret = s;
    return CV_OK;
}

static void ended_free(struct sched *s)
{
    struct list *l;
    while ((l = list_first(&s->ended))) {
        list_del(l);
        task_free(s, list_entry(l, struct task, node));
    }
}

/* Ends every live record without a word, so that what they hold is released. */
static void records_free(struct sched *s)
{
    struct client *c;
    for (size_t i = 0; (c = hash_next(&s->clients, &i));) {
        struct task_walk w = task_walk(s, (struct sched_id){c->session, 0}, UINT64_MAX);
        struct task *t;
        while (c->live && (t = task_walk_next(s, &w)))
            task_move(s, t, SCHED_T_LOST, NULL, TASK_TAIL);
    }
    ended_free(s);
}

void sched_free(struct sched *s)
{
    if (!s)
        return;
    records_free(s);
    deps_release(s);
    void *v;
    list_each_safe(l, tmp, &s->losing)
    {
        struct engine *e = list_entry(l, struct engine, losing_node);
        if (e->forgotten)
            engine_free(e);
    }
    for (size_t i = 0; (v = hash_next(&s->engines, &i));)
        engine_free(v);
    for (size_t i = 0; (v = hash_next(&s->clients, &i));)
        client_free(v);
    task_index_release(s);
    hash_release(&s->clients);
    hash_release(&s->engines);
    hash_release(&s->watches);
    hash_release(&s->sets);
    heap_release(&s->task_timers);
    heap_release(&s->engine_timers);
    heap_release(&s->client_timers);
    heap_release(&s->lru);
    queue_release(&s->any);
    task_pool_release(s);
    free(s->pick);
    free(s);
}

static int event_handle(struct sched *s, const struct sched_event *ev, struct err *e)
{
    switch (ev->type) {
    case SCHED_SUBMIT:
        return submit_handle(s, ev, e);
    case SCHED_STARTED:
        started_handle(s, ev);
        return CV_OK;
    case SCHED_RESULT:
        result_handle(s, ev);
        return CV_OK;
    case SCHED_GIVE_BACK:
        give_back_handle(s, ev);
        return CV_OK;
    case SCHED_ENGINE_JOIN:
        return engine_join(s, ev, e);
    case SCHED_ENGINE_AWAY:
        engine_away(s, ev);
        return CV_OK;
    case SCHED_ENGINE_BACK:
        return engine_back(s, ev, e);
    case SCHED_ENGINE_SYNCED:
        engine_synced(s, ev);
        return CV_OK;
    case SCHED_ENGINE_DEAD:
        engine_dead(s, ev);
        return CV_OK;
    case SCHED_ENGINE_DRAIN:
        engine_drain(s, ev);
        return CV_OK;
    case SCHED_CLIENT_GONE:
        client_gone(s, ev);
        return CV_OK;
    case SCHED_CLIENT_BACK:
        client_back(s, ev);
        return CV_OK;
    case SCHED_CLIENT_PAUSE:
    case SCHED_CLIENT_RESUME:
        client_pause(s, ev);
        return CV_OK;
    case SCHED_CANCEL:
        cancel_handle(s, ev);
        return CV_OK;
    case SCHED_TICK:
        return CV_OK;
    }
    return err_set(e, CV_EINVAL, "an event of unknown type %d", (int)ev->type);
}

/* Some tasks are about to end, or to be queued, because of what an earlier event began. */
static bool unfinished(const struct sched *s)
{
    return deps_due(s) || !list_empty(&s->losing) || !list_empty(&s->barren);
}

/* What is left over is for TICK alone. Of messages about single tasks there are many in a turn of
 * the caller's loop. */
static uint32_t budget_of(const struct sched *s, const struct sched_event *ev)
{
    uint32_t slice = slice_of(s);
    bool many = ev->type == SCHED_SUBMIT || ev->type == SCHED_STARTED || ev->type == SCHED_RESULT ||
                ev->type == SCHED_GIVE_BACK;
    if (ev->type != SCHED_TICK && unfinished(s))
        return 0;
    return many ? slice / 16 + 1 : slice;
}

int sched_handle(struct sched *s, uint64_t now, const struct sched_event *ev,
                 struct sched_actions *actions, struct err *e)
{
    if (s->oom)
        return err_set(e, CV_ECLOSED, "the scheduler has run out of memory before");
    s->out = actions;
    if (now > s->now)
        s->now = now;
    s->budget = budget_of(s, ev);
    ended_free(s);
    bool asks = ev->type == SCHED_CLIENT_BACK;
    if (!asks) {
        engine_tick(s, ev);
        task_tick(s);
        client_tick(s);
    }
    int r = event_handle(s, ev, e);
    if (!asks) {
        engines_lose_some(s);
        queues_end_some(s);
        dispatch(s);
    }
    s->out = NULL;
    if (s->oom)
        return err_set(e, CV_ECLOSED, "out of memory: decisions of the scheduler were lost");
    return r == CV_ENOMEM ? err_set(e, r, "the scheduler is out of memory") : r;
}

void sched_actions_release(struct sched_actions *a)
{
    free(a->v);
    *a = (struct sched_actions){0};
}

uint64_t sched_deadline(const struct sched *s)
{
    const struct heap *heaps[] = {&s->task_timers, &s->engine_timers, &s->client_timers};
    uint64_t at = s->steal_at;
    if (unfinished(s))
        return s->now;
    for (size_t i = 0; i < sizeof heaps / sizeof *heaps; i++) {
        const struct heap_node *n = heap_top(heaps[i]);
        if (n && n->key < at)
            at = n->key;
    }
    return at;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where a task may still go: engines that it failed on, engines that are left, the way back from an
 * engine to a queue. Called by the scheduler's one thread. Failure: out of memory sets s->oom. */
#include <stdlib.h>
#include <string.h>

#include "sched/dispatch.h"
#include "sched/event.h"

struct task_walk task_walk(const struct sched *s, struct sched_id id, uint64_t count)
{
    const struct client *c = hash_get(&s->clients, 0, id.session);
    uint64_t end = c ? c->next : 0;
    if (id.seq < end && count < end - id.seq)
        end = id.seq + count;
    return (struct task_walk){.client = c, .session = id.session, .seq = id.seq, .end = end};
}

/* Ids far apart are no reason to look at all that lie between. */
static void walk_skip(struct task_walk *w)
{
    const struct range *place = ranges_from(&w->client->places, w->seq);
    if (!place || place->lo >= w->end) {
        w->seq = w->end;
        return;
    }
    if (place->lo > w->seq)
        w->seq = place->lo;
    w->place_end = place->hi;
}

struct task *task_walk_step(const struct sched *s, struct task_walk *w)
{
    if (w->seq < w->end && w->seq >= w->place_end)
        walk_skip(w);
    if (w->seq >= w->end)
        return NULL;
    uint64_t next;
    struct task *t = task_find_from(s, (struct sched_id){w->session, w->seq}, &next);
    w->lo = w->seq;
    w->hi = w->seq = !t ? next : task_end(t) < w->end ? task_end(t) : w->end;
    return t;
}

struct task *task_walk_next(const struct sched *s, struct task_walk *w)
{
    struct task *t = NULL;
    while (!t && w->seq < w->end)
        t = task_walk_step(s, w);
    return t;
}

bool task_is_at(const struct task *t, const struct sched_event *ev)
{
    return task_on_engine(t) && t->engine->number == ev->engine &&
           t->engine->incarnation == ev->incarnation && t->attempt == ev->attempt;
}

/* Puts set (whose reference it takes) in place of t's. A queued task changes queues. */
static void task_set_put(struct sched *s, struct task *t, struct task_set *set)
{
    struct task_set *was = t->more->set;
    if (t->state == SCHED_T_QUEUED)
        task_requeue_in(s, t, set);
    else
        t->more->set = set;
    set_unref(s, was);
}

/* t's targets without the engines to be kept off. NULL with *ok false: out of memory. */
static struct task_set *set_without(struct sched *s, struct task *t, bool hard_only, bool *ok)
{
    const struct task_more *x = t->more;
    uint32_t max = x->nblack + (x->base ? x->base->n : 0), n = 0;
    uint32_t *v = malloc((max ? max : 1) * sizeof *v);
    *ok = false;
    if (!v)
        return NULL;
    for (uint32_t i = 0; !x->base && i < x->nblack; i++)
        if (x->black[i].hard || !hard_only)
            v[n++] = x->black[i].engine;
    for (uint32_t i = 0; x->base && i < x->base->n; i++) {
        bool black = false;
        for (uint32_t j = 0; j < x->nblack; j++)
            black |= x->black[j].engine == x->base->engines[i] && (x->black[j].hard || !hard_only);
        if (!black)
            v[n++] = x->base->engines[i];
    }
    struct task_set *set = NULL;
    if (x->base || n) {
        set = set_get(s, !x->base, v, n);
        *ok = set != NULL;
    } else {
        *ok = true;
    }
    free(v);
    return set;
}

/* Sets the set of a task that failed somewhere to the engines that it may try now. False: none is
 * left. */
static bool task_narrow(struct sched *s, struct task *t)
{
    for (int hard_only = 0; hard_only < 2; hard_only++) {
        bool ok;
        struct task_set *set = set_without(s, t, hard_only, &ok);
        if (!ok) {
            s->oom = true;
            return false;
        }
        if (set_alive(s, set)) {
            task_set_put(s, t, set);
            return true;
        }
        set_unref(s, set);
    }
    return false;
}

void task_blame(struct sched *s, struct task *t, uint32_t engine, bool hard)
{
    struct task_more *m = task_need_more(t);
    for (uint32_t i = 0; m && i < m->nblack; i++) /* once: a task may have a million retries */
        if (m->black[i].engine == engine) {
            m->black[i].hard |= hard;
            return;
        }
    if (m && m->nblack == m->capblack) {
        uint32_t cap = m->capblack * 2 + 2;
        struct task_black *v = realloc(m->black, cap * sizeof *v);
        if (v) {
            m->black = v;
            m->capblack = cap;
        }
    }
    if (!m || m->nblack == m->capblack) {
        s->oom = true;
        return;
    }
    m->black[m->nblack++] = (struct task_black){engine, hard};
}

void task_started_once(struct task *t)
{
    if (t->more)
        t->more->deadline = UINT64_MAX; /* the move that follows disarms its timer */
}

void task_return(struct sched *s, struct task *t, const struct task_word *lost)
{
    struct task_word w = task_word(SCHED_S_IMPOSSIBLE, "no engine is left that may run it");
    if (t->flags & TASK_CANCEL)
        w = task_word(SCHED_S_CANCELLED, "cancelled before it had started");
    else if (t->flags & TASK_ABORT)
        w = task_word(SCHED_S_ABORTED, "aborted before it had started");
    else if (t->mode != SCHED_BALANCED ||
             (task_more(t)->nblack ? task_narrow(s, t) : set_alive(s, task_more(t)->set))) {
        task_requeue(s, t);
        return;
    } else if (lost)
        w = *lost;
    task_end_all(s, t, &w);
}

static void queue_recheck(struct sched *s, struct task_set *set)
{
    if (set_alive(s, set) || !list_empty(&set->barren_node))
        return;
    set_ref(set);
    list_add_tail(&s->barren, &set->barren_node);
}

/* An engine that joins meanwhile is one that may run what is left. */
void queues_end_some(struct sched *s)
{
    struct list *l;
    while (s->budget && (l = list_first(&s->barren))) {
        struct task_set *set = list_entry(l, struct task_set, barren_node);
        bool alive = set_alive(s, set);
        struct task *t;
        for (; !alive && s->budget && (t = queue_first(&set->queue)); s->budget--) {
            if (task_more(t)->nblack && task_narrow(s, t))
                continue;
            struct task_word w =
                task_word(SCHED_S_IMPOSSIBLE, "the last engine that might have run it is gone");
            task_end_all(s, t, &w);
        }
        if (!alive && queue_first(&set->queue))
            return;
        list_del(&set->barren_node);
        set_unref(s, set);
    }
}

void queues_recheck_open(struct sched *s)
{
    list_each_safe(l, tmp, &s->open) queue_recheck(s, list_entry(l, struct task_set, open_node));
}

void queues_recheck(struct sched *s, struct engine *left)
{
    list_each_safe(l, tmp, &left->sets) queue_recheck(s, list_entry(l, struct set_link, node)->set);
    queues_recheck_open(s);
    struct list *l;
    while ((l = list_first(&left->sets)))
        list_del(l);
}

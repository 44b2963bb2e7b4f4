/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What queries read. Changes nothing. */
#include "sched/event.h"
#include "sched/state.h"

bool sched_engine_info(const struct sched *s, uint32_t number, struct sched_engine_info *ret)
{
    const struct engine *e = hash_get(&s->engines, 0, number);
    if (!e)
        return false;
    *ret = (struct sched_engine_info){
        .number = e->number,
        .incarnation = e->incarnation,
        .state = e->state,
        .held_direct = (uint32_t)(e->held[1] + e->queued),
        .held_balanced = (uint32_t)e->held[0],
        .completed = e->completed,
        .away_since = e->state == SCHED_AWAY ? e->away_since : 0,
    };
    return true;
}

enum sched_task_state sched_task_state(const struct sched *s, struct sched_id id,
                                       uint32_t *ret_engine)
{
    const struct task *t = task_find(s, id);
    if (!t || task_item_done(t, id.seq))
        return SCHED_T_UNKNOWN;
    if (ret_engine)
        *ret_engine = t->engine ? t->engine->number : SCHED_ENGINE_NONE;
    return t->state;
}

bool sched_live(const struct sched *s, struct sched_id id, uint64_t count)
{
    struct task_walk w = task_walk(s, id, count);
    struct task *t;
    while ((t = task_walk_next(s, &w)))
        if (task_left_in(t, w.lo, w.hi))
            return true;
    return false;
}

const char *sched_state_name(enum sched_task_state st)
{
    static const char *const names[] = {"unknown", "waiting", "queued",    "sent",    "running",
                                        "done",    "failed",  "cancelled", "expired", "lost"};
    return (size_t)st < sizeof names / sizeof *names ? names[st] : "?";
}

size_t sched_unassigned(const struct sched *s)
{
    return s->unassigned;
}

size_t sched_task_count(const struct sched *s)
{
    return s->records;
}

struct visit {
    void (*cb)(void *arg, struct sched_id id, uint32_t count, enum sched_task_state st,
               enum sched_mode mode);
    void *arg;
};

static void visit_list(const struct list *head, const struct visit *v)
{
    list_each(l, head)
    {
        const struct task *t = list_entry(l, struct task, node);
        for (uint64_t lo = t->seq, end; lo<task_end(t); lo = end> lo ? end : lo + 1) {
            for (end = lo; end < task_end(t) && !task_item_done(t, end);)
                end++;
            if (end > lo)
                v->cb(v->arg, (struct sched_id){task_session(t), lo}, (uint32_t)(end - lo),
                      t->state, t->mode);
        }
    }
}

static void visit_queue(const struct queue *q, const struct visit *v)
{
    const struct queue_level *l;
    visit_list(&q->normal.tasks, v);
    for (size_t i = 0; (l = hash_next(&q->levels, &i));)
        visit_list(&l->tasks, v);
}

void sched_each_task(const struct sched *s, uint32_t engine,
                     void (*cb)(void *arg, struct sched_id id, uint32_t count,
                                enum sched_task_state st, enum sched_mode mode),
                     void *arg)
{
    struct visit v = {cb, arg};
    if (engine == SCHED_ENGINE_NONE) {
        visit_list(&s->waiting, &v);
        visit_queue(&s->any, &v);
        list_each(l, &s->filled)
            visit_queue(&list_entry(l, struct task_set, filled_node)->queue, &v);
        const struct engine *each;
        for (size_t i = 0; (each = hash_next(&s->engines, &i));) {
            visit_list(&each->pending, &v);
            visit_list(&each->parked, &v);
        }
        const struct client *c;
        for (size_t i = 0; (c = hash_next(&s->clients, &i));)
            visit_list(&c->parked, &v);
        return;
    }
    const struct engine *e = hash_get(&s->engines, 0, engine);
    if (!e)
        return;
    visit_list(&e->running, &v);
    visit_list(&e->sent[0], &v);
    visit_list(&e->sent[1], &v);
    visit_list(&e->waiting, &v);
}

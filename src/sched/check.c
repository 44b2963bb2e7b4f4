/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The invariants that hold between events, recomputed from the lists. For the simulator and debug
 * builds. Changes nothing. */
#include "sched/dispatch.h"
#include "sched/event.h"
#include "sched/state.h"

struct tally {
    const struct sched *s;
    uint64_t records, unassigned;
    const char *broken;
};

static uint64_t items_left(const struct task *t)
{
    return task_left_in(t, t->seq, task_end(t));
}

static const char *task_check(const struct sched *s, const struct task *t, uint8_t state,
                              const struct engine *e)
{
    if (t->state != state)
        return "a task is in a list that its state does not name";
    if (t->engine != e)
        return "a task is in the list of an engine that is not its own";
    if (t->left == 0 || t->left != items_left(t))
        return "a task's count of unfinished items is wrong";
    if (task_find(s, (struct sched_id){task_session(t), t->seq}) != t ||
        task_find(s, (struct sched_id){task_session(t), task_end(t) - 1}) != t)
        return "a task is not found by its id";
    if ((t->more && heap_in(&t->more->timer)) != ((t->flags & TASK_KILL) || task_is_timed(t)))
        return "a task's timer is not armed as its state asks for";
    if ((t->state == SCHED_T_WAITING) != (task_more(t)->deps != NULL))
        return "a task waits for nothing, or has dependencies and does not wait";
    if (!task_on_engine(t) && t->flags & (TASK_CANCEL | TASK_ABORT | TASK_TAKING | TASK_UNSURE))
        return "a task that is on no engine is being stopped there";
    if (t->state == SCHED_T_QUEUED && t->mode == SCHED_BALANCED && !t->parked &&
        !set_alive(s, task_more(t)->set) && list_empty(&t->more->set->barren_node))
        return "a queued task can go nowhere";
    for (uint32_t i = 1; i < task_more(t)->nblack; i++)
        if (t->more->black[i].engine == t->more->black[i - 1].engine)
            return "a task is kept off one engine twice";
    if (t->parked && !t->client->paused && !(e && e->state == SCHED_DEAD))
        return "a task is kept from its queue though its client is not paused";
    return NULL;
}

static uint64_t list_check(struct tally *y, const struct list *head, uint8_t state,
                           const struct engine *e)
{
    uint64_t items = 0;
    list_each(l, head)
    {
        const struct task *t = list_entry(l, struct task, node);
        const char *broken = task_check(y->s, t, state, e);
        if (broken)
            y->broken = broken;
        y->records++;
        items += t->left;
    }
    return items;
}

static void queue_check(struct tally *y, const struct queue *q)
{
    const struct queue_level *l;
    uint64_t n = list_check(y, &q->normal.tasks, SCHED_T_QUEUED, NULL);
    if (list_empty(&q->normal.tasks) == heap_in(&q->normal.node))
        y->broken = "a priority level is filled and not in line, or empty and in line";
    for (size_t i = 0; (l = hash_next(&q->levels, &i));)
        n += list_check(y, &l->tasks, SCHED_T_QUEUED, NULL);
    y->unassigned += n;
}

static const char *engine_check(struct tally *y, struct engine *e)
{
    uint64_t balanced = list_check(y, &e->sent[0], SCHED_T_SENT, e),
             direct = list_check(y, &e->sent[1], SCHED_T_SENT, e);
    uint64_t stealable = 0;
    list_check(y, &e->running, SCHED_T_RUNNING, e);
    list_each(l, &e->running)
    {
        const struct task *t = list_entry(l, struct task, node);
        *(t->mode == SCHED_BALANCED ? &balanced : &direct) += t->left;
    }
    const struct list *lists[] = {&e->sent[0], &e->running};
    for (int i = 0; i < 2; i++)
        list_each(l, lists[i]) stealable += task_stealable(list_entry(l, struct task, node));
    if (balanced != e->held[0] || direct != e->held[1] || stealable != e->stealable)
        return "an engine's count of held items is wrong";
    if (list_check(y, &e->waiting, SCHED_T_QUEUED, e) != e->queued)
        return "an engine's count of queued items is wrong";
    uint64_t pending = list_check(y, &e->pending, SCHED_T_WAITING, e);
    pending += list_check(y, &e->parked, SCHED_T_QUEUED, e);
    y->unassigned += pending;
    if (e->state == SCHED_DEAD && e->held[0] + e->held[1])
        return "a dead engine holds tasks";
    if (e->state == SCHED_DEAD ? e->queued + pending && list_empty(&e->losing_node)
                               : !list_empty(&e->losing_node))
        return "a dead engine's tasks are not about to end, or another's are";
    if (e->queued && engine_connected(e) && e->held[1] < DIRECT_WINDOW)
        return "a direct task is kept though its engine's window is open";
    if ((e->state == SCHED_AWAY) != heap_in(&e->grace))
        return "an away engine has no grace time, or another one has";
    if (!e->ready && e->state == SCHED_UP && engine_load(e) == 0)
        return "an idle engine is not in the policy's index";
    return NULL;
}

const char *sched_check(const struct sched *s)
{
    struct tally y = {.s = s};
    y.unassigned = list_check(&y, &s->waiting, SCHED_T_WAITING, NULL);
    queue_check(&y, &s->any);
    list_each(l, &s->filled) queue_check(&y, &list_entry(l, struct task_set, filled_node)->queue);
    const struct client *c;
    for (size_t i = 0; (c = hash_next(&s->clients, &i));)
        y.unassigned += list_check(&y, &c->parked, SCHED_T_QUEUED, NULL);
    struct engine *e;
    for (size_t i = 0; (e = hash_next(&s->engines, &i));) {
        const char *broken = engine_check(&y, e);
        if (broken)
            return broken;
    }
    list_each(l, &s->losing)
    {
        e = list_entry(l, struct engine, losing_node);
        const char *broken = e->forgotten ? engine_check(&y, e) : NULL;
        if (broken)
            return broken;
    }
    if (y.broken)
        return y.broken;
    if (y.records != s->records)
        return "the count of live records is wrong";
    if (y.unassigned != s->unassigned)
        return "the count of unassigned items is wrong";
    if (!list_empty(&s->dirty_sets))
        return "something was left undone at the end of an event";
    for (size_t i = 0; (e = hash_next(&s->engines, &i));) /* last: it may park some */
        if (engine_has_room(s, e) && queue_best_for((struct sched *)s, e))
            return "a task is queued though an engine has room for it";
    return NULL;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The queues of balanced tasks: FIFO per priority, one queue for tasks that may go anywhere and one
 * for each distinct set of engines that queued tasks are restricted to. Sets are shared by content
 * and live as long as a task names them. */
#ifndef COVEY_SCHED_QUEUE_H
#define COVEY_SCHED_QUEUE_H

#include "base/hash.h"
#include "base/heap.h"
#include "base/list.h"
#include "sched/task.h"

struct queue_level {
    struct heap_node node; /* key: lower is more urgent */
    struct list tasks;
    int32_t priority;
};

struct queue {
    struct queue_level normal; /* priority 0 needs no allocation */
    struct hash levels;        /* priority -> queue_level, the others */
    struct heap filled;
    struct list dirty_node; /* in s->dirty_sets, or alone */
    struct task_set *set;   /* NULL: the one for any engine */
};

struct set_link {
    struct list node; /* in engine->sets while the set's queue has tasks */
    struct task_set *set;
};

struct task_set {
    struct task_set *next; /* of the same hash */
    uint64_t hash;
    size_t refs;
    struct queue queue;
    struct list filled_node, open_node, barren_node;
    struct set_link *links; /* one per engine, unless except */
    bool except;            /* every engine but these */
    uint32_t n;
    uint32_t engines[]; /* sorted */
};

void queue_init(struct queue *q, struct task_set *set);
void queue_release(struct queue *q);
bool queue_empty(const struct queue *q);
/* Makes a later queue_add() of that priority safe from running out of memory. */
int queue_reserve(struct queue *q, int32_t priority) CV_CHECK;
struct task *queue_first(const struct queue *q);

/* For task_move() alone. */
void queue_add(struct sched *s, struct task *t, enum task_place place);
void queue_del(struct sched *s, struct task *t);

/* The set of these engines (any order, duplicates fine), with a reference; NULL: out of memory. */
struct task_set *set_get(struct sched *s, bool except, const uint32_t *engines, uint32_t n);
struct task_set *set_ref(struct task_set *set); /* NULL is fine */
void set_unref(struct sched *s, struct task_set *set);
bool set_has(const struct task_set *set, uint32_t engine); /* NULL has all */
bool set_alive(const struct sched *s,
               const struct task_set *set); /* names an engine that takes tasks */

/* The first in line that may be sent, or NULL: those of paused clients leave the queue meanwhile.
 */
struct task *queue_next(struct sched *s, struct queue *q);
/* The first in line of all tasks that may go to e. */
struct task *queue_best_for(struct sched *s, struct engine *e);
void queue_engine_joined(struct sched *s, struct engine *e);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The queues of balanced tasks and the sets of engines they may be restricted to. Called by the
 * scheduler's one thread. A set is interned by content, and linked to its engines only while it has
 * tasks, so an engine with room looks at as many queues as could feed it and no more. Failure: only
 * making sets and priorities can run out of memory, and is said. */
#include "sched/queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sched/event.h"
#include "sched/state.h"

#define LEVELS_KEPT 16 /* without tasks: programs may give each of theirs a priority of its own */

/* --- one queue --- */

static void level_init(struct queue_level *l, int32_t priority)
{
    l->node = (struct heap_node){0};
    list_init(&l->tasks);
    l->priority = priority;
}

void queue_init(struct queue *q, struct task_set *set)
{
    level_init(&q->normal, 0);
    q->levels = (struct hash){0};
    q->filled = (struct heap){0};
    list_init(&q->dirty_node);
    q->set = set;
}

void queue_release(struct queue *q)
{
    struct queue_level *l;
    for (size_t i = 0; (l = hash_next(&q->levels, &i));)
        free(l);
    hash_release(&q->levels);
    heap_release(&q->filled);
}

bool queue_empty(const struct queue *q)
{
    return !heap_top(&q->filled);
}

static uint64_t urgency(int32_t priority)
{
    return (uint64_t)(INT32_MAX - (int64_t)priority);
}

static struct queue_level *level_of(const struct queue *q, int32_t priority)
{
    if (priority == 0)
        return (struct queue_level *)&q->normal;
    return hash_get(&q->levels, 0, (uint32_t)priority);
}

int queue_reserve(struct queue *q, int32_t priority)
{
    int r = heap_reserve(&q->filled, (uint32_t)q->levels.count + 2);
    if (r < 0 || level_of(q, priority))
        return r;
    struct queue_level *l = malloc(sizeof *l);
    if (!l)
        return CV_ENOMEM;
    level_init(l, priority);
    r = hash_put(&q->levels, 0, (uint32_t)priority, l, NULL);
    if (r < 0)
        free(l);
    return r;
}

struct task *queue_first(const struct queue *q)
{
    struct heap_node *n = heap_top(&q->filled);
    return n ? list_entry(container_of(n, struct queue_level, node)->tasks.next, struct task, node)
             : NULL;
}

static struct queue *queue_of(struct sched *s, struct task *t)
{
    struct task_set *set = task_more(t)->set;
    return set ? &set->queue : &s->any;
}

static void set_filled(struct sched *s, struct task_set *set)
{
    list_add_tail(&s->filled, &set->filled_node);
    if (set->except) {
        list_add_tail(&s->open, &set->open_node);
        return;
    }
    for (uint32_t i = 0; i < set->n; i++) {
        struct engine *e = hash_get(&s->engines, 0, set->engines[i]);
        if (e)
            list_add_tail(&e->sets, &set->links[i].node);
    }
}

static void set_emptied(struct task_set *set)
{
    list_del(&set->filled_node);
    list_del(&set->open_node);
    for (uint32_t i = 0; !set->except && i < set->n; i++)
        list_del(&set->links[i].node);
}

void queue_add(struct sched *s, struct task *t, enum task_place place)
{
    struct queue *q = queue_of(s, t);
    bool was_empty = queue_empty(q);
    if (queue_reserve(q, t->priority) < 0) {
        s->oom = true; /* its turn may be wrong, but it is not lost */
        t->priority = 0;
    }
    struct queue_level *l = level_of(q, t->priority);
    if (!heap_in(&l->node) && heap_push(&q->filled, &l->node, urgency(l->priority)) < 0)
        s->oom = true;
    if (place == TASK_HEAD) {
        t->order = --s->order_head;
        list_add_head(&l->tasks, &t->node);
    } else {
        t->order = ++s->order_tail;
        list_add_tail(&l->tasks, &t->node);
    }
    if (was_empty && q->set)
        set_filled(s, q->set);
    if (list_empty(&q->dirty_node))
        list_add_tail(&s->dirty_sets, &q->dirty_node);
}

static void level_emptied(struct queue *q, struct queue_level *l)
{
    heap_del(&q->filled, &l->node);
    if (l == &q->normal || q->levels.count <= LEVELS_KEPT)
        return;
    hash_del(&q->levels, 0, (uint32_t)l->priority);
    free(l);
}

void queue_del(struct sched *s, struct task *t)
{
    struct queue *q = queue_of(s, t);
    struct queue_level *l = level_of(q, t->priority);
    list_del(&t->node);
    if (list_empty(&l->tasks))
        level_emptied(q, l);
    if (queue_empty(q)) {
        list_del(&q->dirty_node);
        if (q->set)
            set_emptied(q->set);
    }
}

/* --- sets --- */

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t set_hash(bool except, const uint32_t *v, uint32_t n)
{
    uint64_t h = except ? 0x9E3779B97F4A7C15u : 0xD1B54A32D192ED03u;
    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ v[i]) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 29;
    }
    return h;
}

static struct task_set *set_new(bool except, uint32_t n)
{
    struct task_set *set = malloc(sizeof *set + n * sizeof set->engines[0]);
    if (!set)
        return NULL;
    *set = (struct task_set){.refs = 1, .except = except, .n = n};
    if (!except) {
        set->links = malloc((n ? n : 1) * sizeof *set->links);
        if (!set->links) {
            free(set);
            return NULL;
        }
    }
    list_init(&set->filled_node);
    list_init(&set->open_node);
    list_init(&set->barren_node);
    for (uint32_t i = 0; !except && i < n; i++) {
        list_init(&set->links[i].node);
        set->links[i].set = set;
    }
    return set;
}

static void set_free(struct task_set *set)
{
    queue_release(&set->queue);
    free(set->links);
    free(set);
}

struct task_set *set_get(struct sched *s, bool except, const uint32_t *engines, uint32_t n)
{
    struct task_set *set = set_new(except, n);
    if (!set)
        return NULL;
    if (n) {
        memcpy(set->engines, engines, n * sizeof *engines);
        qsort(set->engines, n, sizeof *engines, compare_numbers);
    }
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++)
        if (m == 0 || set->engines[m - 1] != set->engines[i])
            set->engines[m++] = set->engines[i];
    set->n = m;
    set->hash = set_hash(except, set->engines, m);
    queue_init(&set->queue, set);
    struct task_set *first = hash_get(&s->sets, 0, set->hash);
    for (struct task_set *o = first; o; o = o->next)
        if (o->except == except && o->n == m &&
            !memcmp(o->engines, set->engines, m * sizeof *engines)) {
            set_free(set);
            return set_ref(o);
        }
    set->next = first;
    if (hash_put(&s->sets, 0, set->hash, set, NULL) < 0) {
        set_free(set);
        return NULL;
    }
    return set;
}

struct task_set *set_ref(struct task_set *set)
{
    if (set)
        set->refs++;
    return set;
}

void set_unref(struct sched *s, struct task_set *set)
{
    if (!set || --set->refs)
        return;
    assert(queue_empty(&set->queue));
    struct task_set *first = hash_get(&s->sets, 0, set->hash);
    if (first != set) {
        while (first->next != set)
            first = first->next;
        first->next = set->next;
    } else if (set->next) {
        int r = hash_put(&s->sets, 0, set->hash, set->next, NULL); /* replaces: can't fail */
        assert(r == CV_OK);
        (void)r;
    } else {
        hash_del(&s->sets, 0, set->hash);
    }
    set_free(set);
}

bool set_has(const struct task_set *set, uint32_t engine)
{
    if (!set)
        return true;
    bool named = set->n && bsearch(&engine, set->engines, set->n, sizeof engine, compare_numbers);
    return named != set->except;
}

bool set_alive(const struct sched *s, const struct task_set *set)
{
    if (!set)
        return true;
    uint32_t named = 0;
    for (uint32_t i = 0; i < set->n; i++) {
        const struct engine *e = hash_get(&s->engines, 0, set->engines[i]);
        named += e && engine_takes(e);
    }
    return set->except ? named < s->alive || s->alive == 0 : named > 0;
}

/* --- which task for this engine --- */

static struct task *first_of(struct task *a, struct task *b)
{
    if (!a || !b)
        return a ? a : b;
    if (a->priority != b->priority)
        return a->priority > b->priority ? a : b;
    return a->order < b->order ? a : b;
}

struct task *queue_next(struct sched *s, struct queue *q)
{
    struct task *t;
    while ((t = queue_first(q)) && t->client->paused)
        task_park(s, t);
    return t;
}

struct task *queue_best_for(struct sched *s, struct engine *e)
{
    struct task *t = queue_next(s, &s->any);
    list_each_safe(l, tmp, &e->sets) t =
        first_of(t, queue_next(s, &list_entry(l, struct set_link, node)->set->queue));
    list_each_safe(l, tmp, &s->open)
    {
        struct task_set *set = list_entry(l, struct task_set, open_node);
        if (set_has(set, e->number))
            t = first_of(t, queue_next(s, &set->queue));
    }
    return t;
}

void queue_engine_joined(struct sched *s, struct engine *e)
{
    list_each(l, &s->filled)
    {
        struct task_set *set = list_entry(l, struct task_set, filled_node);
        const uint32_t *at = set->except || !set->n ? NULL
                                                    : bsearch(&e->number, set->engines, set->n,
                                                              sizeof e->number, compare_numbers);
        if (at && list_empty(&set->links[at - set->engines].node))
            list_add_tail(&e->sets, &set->links[at - set->engines].node);
    }
}

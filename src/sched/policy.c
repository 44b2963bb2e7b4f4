/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The policies. Only engines with room are in the index, so a choice never looks at full ones:
 * leastload is O(1), lru O(log n), the random ones O(1). Called by the scheduler's one thread.
 * Failure: only policy_join() can run out of memory. */
#include "sched/policy.h"

#include <stdlib.h>
#include <string.h>

#include "sched/dispatch.h"

#define FEW 32  /* targets up to which they are looked at one by one */
#define DRAWS 8 /* engines that weighted looks at */

/* --- leastload: a list per load level; within a level the one idle longest first --- */

static void leastload_add(struct sched *s, struct engine *e)
{
    levels_add(&s->ready, &e->load_node, e->load_level);
}

static void leastload_del(struct sched *s, struct engine *e)
{
    levels_del(&s->ready, &e->load_node, e->load_level);
}

static struct engine *leastload_pick(struct sched *s, const struct task_set *set)
{
    for (uint32_t l = levels_next(&s->ready, 0); l < LEVELS;
         l = l + 1 < LEVELS ? levels_next(&s->ready, l + 1) : LEVELS)
        list_each(n, &s->ready.v[l])
        {
            struct engine *e = list_entry(n, struct engine, load_node);
            if (set_has(set, e->number))
                return e;
        }
    return NULL;
}

static bool leastload_prefer(struct sched *s, const struct engine *a, const struct engine *b)
{
    uint64_t x = engine_load(a), y = engine_load(b);
    return x != y ? x < y : a->used < b->used;
}

/* --- lru --- */

static void lru_add(struct sched *s, struct engine *e)
{
    if (heap_push(&s->lru, &e->lru, e->used) < 0)
        s->oom = true;
}

static void lru_del(struct sched *s, struct engine *e)
{
    heap_del(&s->lru, &e->lru);
}

static bool lru_prefer(struct sched *s, const struct engine *a, const struct engine *b)
{
    return a->used < b->used;
}

static struct engine *lru_pick(struct sched *s, const struct task_set *set)
{
    struct engine *best = NULL;
    if (!set)
        return heap_top(&s->lru) ? container_of(heap_top(&s->lru), struct engine, lru) : NULL;
    for (uint32_t i = 0; i < s->lru.n; i++) {
        struct engine *e = container_of(s->lru.v[i], struct engine, lru);
        if (set_has(set, e->number) && (!best || lru_prefer(s, e, best)))
            best = e;
    }
    return best;
}

/* --- an array, for those that pick by place --- */

static void array_add(struct sched *s, struct engine *e)
{
    s->pick[s->npick] = e;
    e->index = s->npick++;
}

static void array_del(struct sched *s, struct engine *e)
{
    struct engine *last = s->pick[--s->npick];
    s->pick[e->index] = last;
    last->index = e->index;
}

static uint64_t random_next(struct sched *s)
{
    s->rng ^= s->rng << 13;
    s->rng ^= s->rng >> 7;
    s->rng ^= s->rng << 17;
    return s->rng;
}

/* From a place on, the first that set has. */
static struct engine *array_from(struct sched *s, uint64_t place, const struct task_set *set)
{
    for (uint32_t i = 0; i < s->npick; i++) {
        struct engine *e = s->pick[(place + i) % s->npick];
        if (set_has(set, e->number))
            return e;
    }
    return NULL;
}

static struct engine *plainrandom_pick(struct sched *s, const struct task_set *set)
{
    return s->npick ? array_from(s, random_next(s) % s->npick, set) : NULL;
}

static bool plainrandom_prefer(struct sched *s, const struct engine *a, const struct engine *b)
{
    return random_next(s) & 1;
}

static struct engine *twobin_pick(struct sched *s, const struct task_set *set)
{
    struct engine *a = plainrandom_pick(s, set), *b = plainrandom_pick(s, set);
    return a && b && lru_prefer(s, b, a) ? b : a;
}

/* Of those drawn each has a chance that falls with its load. */
static bool weighted_prefer(struct sched *s, const struct engine *a, const struct engine *b)
{
    uint64_t x = engine_load(a) + 1, y = engine_load(b) + 1;
    return random_next(s) % (x + y) < y;
}

static struct engine *weighted_pick(struct sched *s, const struct task_set *set)
{
    struct engine *best = NULL;
    uint64_t total = 0;
    for (int i = 0; i < DRAWS; i++) {
        struct engine *e = plainrandom_pick(s, set);
        if (!e)
            return NULL;
        uint64_t weight = (1u << 20) / (engine_load(e) + 1) + 1;
        total += weight;
        if (random_next(s) % total < weight)
            best = e;
    }
    return best;
}

static const struct policy_ops policies[] = {
    {"leastload", leastload_add, leastload_del, leastload_pick, leastload_prefer},
    {"lru", lru_add, lru_del, lru_pick, lru_prefer},
    {"weighted", array_add, array_del, weighted_pick, weighted_prefer},
    {"twobin", array_add, array_del, twobin_pick, lru_prefer},
    {"plainrandom", array_add, array_del, plainrandom_pick, plainrandom_prefer},
    {"pure", lru_add, lru_del, lru_pick, lru_prefer}, /* in turn: which is what lru does */
};

const struct policy_ops *policy_find(const char *name)
{
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++)
        if (!strcmp(policies[i].name, name))
            return &policies[i];
    return NULL;
}

int policy_join(struct sched *s)
{
    uint32_t n = (uint32_t)s->engines.count + 1;
    int r = heap_reserve(&s->lru, n);
    if (r < 0 || n <= s->cappick)
        return r;
    uint32_t cap = n * 2;
    struct engine **v = realloc(s->pick, cap * sizeof(*v));
    if (!v)
        return CV_ENOMEM;
    s->pick = v;
    s->cappick = cap;
    return CV_OK;
}

static struct engine *pick_named(struct sched *s, const struct task_set *set)
{
    struct engine *best = NULL;
    for (uint32_t i = 0; i < set->n; i++) {
        struct engine *e = hash_get(&s->engines, 0, set->engines[i]);
        if (e && e->ready && (!best || s->policy->prefer(s, e, best)))
            best = e;
    }
    return best;
}

struct engine *policy_pick(struct sched *s, const struct task_set *set)
{
    for (;;) {
        bool named = set && !set->except && set->n <= FEW;
        struct engine *e = named ? pick_named(s, set) : s->policy->pick(s, set);
        if (!e || engine_has_room(s, e))
            return e;
        engine_touch(
            s, e); /* time has passed without a result: its room is gone, and it leaves the index */
    }
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Nodes sorted into a few hundred levels: a list per level and a bitmap of the levels that have
 * one, so that lowest and highest are found in O(1). Within a level first in is first out. */
#ifndef COVEY_SCHED_LEVELS_H
#define COVEY_SCHED_LEVELS_H

#include <stdint.h>
#include "base/list.h"

#define LEVELS 512 /* what is above counts as the last */

struct levels {
    struct list v[LEVELS];
    uint64_t bits[LEVELS / 64];
};

static inline void levels_init(struct levels *l)
{
    for (int i = 0; i < LEVELS; i++)
        list_init(&l->v[i]);
    for (int i = 0; i < LEVELS / 64; i++)
        l->bits[i] = 0;
}

static inline uint32_t levels_clamp(uint64_t level)
{
    return level < LEVELS ? (uint32_t)level : LEVELS - 1;
}

static inline void levels_add(struct levels *l, struct list *n, uint32_t level)
{
    list_add_tail(&l->v[level], n);
    l->bits[level / 64] |= 1ull << level % 64;
}

static inline void levels_del(struct levels *l, struct list *n, uint32_t level)
{
    list_del(n);
    if (list_empty(&l->v[level]))
        l->bits[level / 64] &= ~(1ull << level % 64);
}

/* The lowest level >= from that has a node, or LEVELS. */
static inline uint32_t levels_next(const struct levels *l, uint32_t from)
{
    for (uint32_t w = from / 64; w < LEVELS / 64; w++) {
        uint64_t b = l->bits[w];
        if (w == from / 64)
            b &= ~0ull << from % 64;
        if (b)
            return w * 64 + (uint32_t)__builtin_ctzll(b);
    }
    return LEVELS;
}

/* The highest level that has a node, or LEVELS. */
static inline uint32_t levels_top(const struct levels *l)
{
    for (uint32_t w = LEVELS / 64; w-- > 0;)
        if (l->bits[w])
            return w * 64 + 63 - (uint32_t)__builtin_clzll(l->bits[w]);
    return LEVELS;
}

#endif

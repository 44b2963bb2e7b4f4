/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Intrusive binary min-heap over u64 keys: timers and priorities. It owns its array, not the nodes.
 * Zeroed memory is a valid empty heap and a valid node that is in no heap. After heap_reserve(n) up
 * to n nodes can be pushed without failing. */
#ifndef COVEY_BASE_HEAP_H
#define COVEY_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

struct heap_node {
    uint64_t key;
    uint32_t pos; /* place in the array + 1; 0: in no heap */
};

struct heap {
    struct heap_node **v;
    uint32_t n, cap;
};

void heap_release(struct heap *h);
int heap_reserve(struct heap *h, uint32_t n) CV_CHECK;
int heap_push(struct heap *h, struct heap_node *n,
              uint64_t key) CV_CHECK;               /* n must be in no heap */
void heap_del(struct heap *h, struct heap_node *n); /* fine for a node that is in no heap */

static inline struct heap_node *heap_top(const struct heap *h)
{
    return h->n ? h->v[0] : NULL;
}

static inline bool heap_in(const struct heap_node *n)
{
    return n->pos != 0;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Intrusive binary min-heap. Any thread, no locks. Failure: only growing the array can fail, and
 * leaves the heap as it was. */
#include "base/heap.h"

#include <stdlib.h>

void heap_release(struct heap *h)
{
    free(h->v);
    *h = (struct heap){0};
}

int heap_reserve(struct heap *h, uint32_t n)
{
    if (n <= h->cap)
        return CV_OK;
    uint32_t cap = h->cap ? h->cap : 16;
    while (cap < n)
        cap = cap > UINT32_MAX / 2 ? UINT32_MAX : cap * 2;
    struct heap_node **v = realloc(h->v, (size_t)cap * sizeof *v);
    if (!v)
        return CV_ENOMEM;
    h->v = v;
    h->cap = cap;
    return CV_OK;
}

static void place(struct heap *h, uint32_t i, struct heap_node *n)
{
    h->v[i] = n;
    n->pos = i + 1;
}

static void sift_up(struct heap *h, uint32_t i, struct heap_node *n)
{
    while (i > 0) {
        uint32_t up = (i - 1) / 2;
        if (h->v[up]->key <= n->key)
            break;
        place(h, i, h->v[up]);
        i = up;
    }
    place(h, i, n);
}

static void sift_down(struct heap *h, uint32_t i, struct heap_node *n)
{
    for (;;) {
        uint64_t down = 2 * (uint64_t)i + 1;
        if (down >= h->n)
            break;
        if (down + 1 < h->n && h->v[down + 1]->key < h->v[down]->key)
            down++;
        if (n->key <= h->v[down]->key)
            break;
        place(h, i, h->v[down]);
        i = (uint32_t)down;
    }
    place(h, i, n);
}

int heap_push(struct heap *h, struct heap_node *n, uint64_t key)
{
    if (h->n == UINT32_MAX)
        return CV_ENOMEM;
    int r = heap_reserve(h, h->n + 1);
    if (r < 0)
        return r;
    n->key = key;
    sift_up(h, h->n++, n);
    return CV_OK;
}

void heap_del(struct heap *h, struct heap_node *n)
{
    if (!n->pos)
        return;
    uint32_t i = n->pos - 1;
    struct heap_node *last = h->v[--h->n];
    n->pos = 0;
    if (last == n)
        return;
    if (i > 0 && last->key < h->v[(i - 1) / 2]->key)
        sift_up(h, i, last);
    else
        sift_down(h, i, last);
}

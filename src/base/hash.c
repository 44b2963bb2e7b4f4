/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Open addressing with linear probing and deletion by shifting back (hash.h). A slot is free while
 * its value is NULL; at most 3/4 of the slots are taken. Any thread, one at a time. A failed growth
 * leaves the map as it was. */
#include "base/hash.h"

#include <stdlib.h>

#define FIRST_SLOTS 16

static uint64_t mix(uint64_t hi, uint64_t lo)
{
    uint64_t x = lo ^ (hi * 0x9E3779B97F4A7C15ull);
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93ull;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93ull;
    return x ^ (x >> 32);
}

void hash_release(struct hash *h)
{
    free(h->slots);
    *h = (struct hash){0};
}

/* The slot that has the key, or the free one where it belongs. Needs a table. */
static struct hash_slot *probe(const struct hash *h, uint64_t hi, uint64_t lo)
{
    size_t i = mix(hi, lo) & h->mask;
    while (h->slots[i].value && (h->slots[i].hi != hi || h->slots[i].lo != lo))
        i = (i + 1) & h->mask;
    return &h->slots[i];
}

void *hash_get(const struct hash *h, uint64_t hi, uint64_t lo)
{
    return h->slots ? probe(h, hi, lo)->value : NULL;
}

static int grow(struct hash *h)
{
    size_t n = h->slots ? (h->mask + 1) * 2 : FIRST_SLOTS;
    struct hash bigger = {
        .slots = calloc(n, sizeof *bigger.slots), .count = h->count, .mask = n - 1};
    if (!bigger.slots)
        return CV_ENOMEM;
    for (size_t i = 0; h->slots && i <= h->mask; i++)
        if (h->slots[i].value)
            *probe(&bigger, h->slots[i].hi, h->slots[i].lo) = h->slots[i];
    free(h->slots);
    *h = bigger;
    return CV_OK;
}

int hash_put(struct hash *h, uint64_t hi, uint64_t lo, void *value, void **ret_old)
{
    struct hash_slot *s = h->slots ? probe(h, hi, lo) : NULL;
    if (!s || (!s->value && h->count + 1 > (h->mask + 1) / 4 * 3)) {
        int rc = grow(h);
        if (rc)
            return rc;
        s = probe(h, hi, lo);
    }
    if (ret_old)
        *ret_old = s->value;
    if (!s->value)
        h->count++;
    *s = (struct hash_slot){.hi = hi, .lo = lo, .value = value};
    return CV_OK;
}

void *hash_del(struct hash *h, uint64_t hi, uint64_t lo)
{
    if (!h->slots)
        return NULL;
    struct hash_slot *s = probe(h, hi, lo);
    void *removed = s->value;
    if (!removed)
        return NULL;
    size_t hole = (size_t)(s - h->slots);
    for (size_t i = (hole + 1) & h->mask; h->slots[i].value; i = (i + 1) & h->mask) {
        size_t home = mix(h->slots[i].hi, h->slots[i].lo) & h->mask;
        /* It may move into the hole unless its home lies cyclically behind the hole. */
        if (((i - home) & h->mask) >= ((i - hole) & h->mask)) {
            h->slots[hole] = h->slots[i];
            hole = i;
        }
    }
    h->slots[hole].value = NULL;
    h->count--;
    return removed;
}

void *hash_next(const struct hash *h, size_t *i)
{
    while (h->slots && *i <= h->mask) {
        void *v = h->slots[(*i)++].value;
        if (v)
            return v;
    }
    return NULL;
}

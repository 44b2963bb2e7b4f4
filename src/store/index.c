/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See index.h. */
#include "store/index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void index_release(struct index *x)
{
    free(x->v);
    memset(x, 0, sizeof(*x));
}

size_t index_seek(const struct index *x, uint64_t seq)
{
    size_t lo = 0, hi = x->n;

    while (lo < hi) { /* the first that begins behind seq */
        size_t mid = lo + (hi - lo) / 2;
        if (x->v[mid].lo <= seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo && slot_hi(&x->v[lo - 1]) > seq ? lo - 1 : lo;
}

const struct index_slot *index_find(const struct index *x, uint64_t seq)
{
    size_t i = index_seek(x, seq);

    return i < x->n && x->v[i].lo <= seq && !slot_hole(&x->v[i]) ? &x->v[i] : NULL;
}

static void squeeze(struct index *x)
{
    size_t n = 0;

    for (size_t i = 0; i < x->n; i++)
        if (!slot_hole(&x->v[i]))
            x->v[n++] = x->v[i];
    x->n = n;
    x->holes = 0;
}

static int insert(struct index *x, struct index_slot new, uint64_t hi)
{
    if (x->holes > 32 && x->holes > x->n / 2)
        squeeze(x);
    size_t at = x->n && slot_hi(&x->v[x->n - 1]) <= new.lo ? x->n : index_seek(x, new.lo);
    for (size_t i = at; i < x->n && x->v[i].lo < hi; i++)
        if (!slot_hole(&x->v[i]))
            return CV_EEXIST;
    if (at < x->n && x->v[at].lo < hi) { /* holes lie there: an expired id comes again */
        squeeze(x);
        at = index_seek(x, new.lo);
    }
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 8;
        struct index_slot *v = realloc(x->v, cap * sizeof(*v));
        if (!v)
            return CV_ENOMEM;
        x->v = v;
        x->cap = cap;
    }
    memmove(x->v + at + 1, x->v + at, (x->n - at) * sizeof(*x->v));
    x->v[at] = new;
    x->n++;
    return CV_OK;
}

int index_insert(struct index *x, struct store_record *r)
{
    return insert(x, (struct index_slot){r->lo, (uintptr_t)r}, r->hi);
}

int index_insert_brief(struct index *x, struct log_entry *e)
{
    return insert(x, (struct index_slot){e->seq, (uintptr_t)e + 1}, e->seq + 1);
}

static struct index_slot *slot_of(struct index *x, uint64_t lo)
{
    size_t i = index_seek(x, lo);

    assert(i < x->n && x->v[i].lo == lo);
    return &x->v[i];
}

void index_remove(struct index *x, uint64_t lo)
{
    struct index_slot *s = slot_of(x, lo);

    s->what = (slot_hi(s) - s->lo) << 2 | 2;
    if (s == &x->v[x->n - 1])
        x->n--;
    else
        x->holes++;
}

void index_put_record(struct index *x, struct store_record *r)
{
    slot_of(x, r->lo)->what = (uintptr_t)r;
}

void index_put_brief(struct index *x, struct log_entry *e)
{
    slot_of(x, e->seq)->what = (uintptr_t)e + 1;
}

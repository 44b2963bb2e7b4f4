/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sets of ranges (ranges.h), kept as a sorted array; look-ups by bisection, additions at the end
 * (the common case) without moving anything. Any thread, one at a time. A failed call changes
 * nothing. */
#include "base/ranges.h"

#include <stdlib.h>
#include <string.h>

void ranges_release(struct ranges *r)
{
    free(r->v);
    *r = (struct ranges){0};
}

/* Index of the first range whose hi > x (or hi >= x when `touch`). */
static size_t first_after(const struct ranges *r, uint64_t x, bool touch)
{
    size_t lo = 0, hi = r->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (touch ? r->v[mid].hi < x : r->v[mid].hi <= x)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int ranges_reserve(struct ranges *r)
{
    if (r->n < r->cap)
        return CV_OK;
    size_t cap = r->cap ? r->cap * 2 : 8;
    struct range *v = reallocarray(r->v, cap, sizeof *v);
    if (!v)
        return CV_ENOMEM;
    r->v = v;
    r->cap = cap;
    return CV_OK;
}

void ranges_fit(struct ranges *r)
{
    if (!r->n) {
        ranges_release(r);
        return;
    }
    struct range *v = reallocarray(r->v, r->n, sizeof *v);
    if (!v)
        return;
    r->v = v;
    r->cap = r->n;
}

static int insert_at(struct ranges *r, size_t i, struct range x)
{
    int rc = ranges_reserve(r);
    if (rc)
        return rc;
    memmove(r->v + i + 1, r->v + i, (r->n - i) * sizeof *r->v);
    r->v[i] = x;
    r->n++;
    return CV_OK;
}

static void remove_many(struct ranges *r, size_t i, size_t end)
{
    if (end <= i)
        return;
    memmove(r->v + i, r->v + end, (r->n - end) * sizeof *r->v);
    r->n -= end - i;
}

int ranges_add(struct ranges *r, uint64_t lo, uint64_t hi)
{
    if (lo >= hi)
        return CV_OK;
    size_t i = first_after(r, lo, true);
    if (i == r->n || r->v[i].lo > hi)
        return insert_at(r, i, (struct range){lo, hi});
    size_t end = i;
    struct range u = {lo, hi};
    while (end < r->n && r->v[end].lo <= hi) {
        u.lo = r->v[end].lo < u.lo ? r->v[end].lo : u.lo;
        u.hi = r->v[end].hi > u.hi ? r->v[end].hi : u.hi;
        end++;
    }
    r->v[i] = u;
    remove_many(r, i + 1, end);
    return CV_OK;
}

int ranges_del(struct ranges *r, uint64_t lo, uint64_t hi)
{
    if (lo >= hi)
        return CV_OK;
    size_t i = first_after(r, lo, false);
    if (i == r->n || r->v[i].lo >= hi)
        return CV_OK;
    if (r->v[i].lo < lo && r->v[i].hi > hi) {
        int rc = insert_at(r, i, (struct range){r->v[i].lo, lo});
        if (rc)
            return rc;
        r->v[i + 1].lo = hi;
        return CV_OK;
    }
    if (r->v[i].lo < lo)
        r->v[i++].hi = lo;
    size_t end = i;
    while (end < r->n && r->v[end].hi <= hi)
        end++;
    if (end < r->n && r->v[end].lo < hi)
        r->v[end].lo = hi;
    remove_many(r, i, end);
    return CV_OK;
}

const struct range *ranges_from(const struct ranges *r, uint64_t x)
{
    size_t i = first_after(r, x, false);
    return i < r->n ? &r->v[i] : NULL;
}

bool ranges_has(const struct ranges *r, uint64_t x)
{
    size_t i = first_after(r, x, false);
    return i < r->n && r->v[i].lo <= x;
}

uint64_t ranges_count(const struct ranges *r)
{
    uint64_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += r->v[i].hi - r->v[i].lo;
    return n;
}

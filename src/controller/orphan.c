/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See orphan.h. Few engines have orphans, and few of them: lists are walked. Out of memory leaves
 * the list as it was. */
#include "controller/orphan.h"

#include <stdlib.h>

static int orphan_add(struct orphan **v, uint32_t *n, struct orphan o)
{
    struct orphan *more = o.lo < o.hi ? realloc(*v, (*n + 1) * sizeof(*more)) : NULL;

    if (o.lo >= o.hi)
        return CV_OK;
    if (!more)
        return CV_ENOMEM;
    *v = more;
    more[(*n)++] = o;
    return CV_OK;
}

static struct orphan orphan_of(const struct held_task *h, bool running)
{
    return (struct orphan){.session = h->session,
                           .lo = h->seq,
                           .hi = h->seq + h->count,
                           .attempt = h->attempt,
                           .running = running};
}

static void replace(struct engine *e, struct orphan *v, uint32_t n)
{
    free(e->orphans);
    e->orphans = v;
    e->norphans = n;
}

int orphans_note(struct engine *e)
{
    struct orphan *v = NULL;
    uint32_t n = 0;
    int r = orphan_add(&v, &n, orphan_of(&e->running, true));

    for (uint32_t i = 0; i < e->nunstarted && r == CV_OK; i++)
        r = orphan_add(&v, &n, orphan_of(&e->unstarted[i], false));
    if (r == CV_OK)
        replace(e, v, n);
    else
        free(v);
    return r;
}

/* What h and the orphan o have in common, added to v. */
static int add_common(struct orphan **v, uint32_t *n, const struct orphan *o,
                      const struct held_task *h, bool running)
{
    struct orphan x = orphan_of(h, running);

    if (x.session != o->session || x.attempt != o->attempt)
        return CV_OK;
    x.lo = x.lo > o->lo ? x.lo : o->lo;
    x.hi = x.hi < o->hi ? x.hi : o->hi;
    return orphan_add(v, n, x);
}

int orphans_keep(struct engine *e)
{
    struct orphan *v = NULL;
    uint32_t n = 0;
    int r = CV_OK;

    for (uint32_t i = 0; i < e->norphans && r == CV_OK; i++) {
        r = add_common(&v, &n, &e->orphans[i], &e->running, true);
        for (uint32_t k = 0; k < e->nunstarted && r == CV_OK; k++)
            r = add_common(&v, &n, &e->orphans[i], &e->unstarted[k], false);
    }
    if (r == CV_OK)
        replace(e, v, n);
    else
        free(v);
    return r;
}

bool orphan_find(const struct registry *r, uint64_t session, uint64_t lo, uint64_t hi,
                 struct engine **ret_engine, struct orphan *ret, uint64_t *ret_end)
{
    *ret_end = hi;
    list_each(l, &r->engines)
    {
        struct engine *e = list_entry(l, struct engine, node);
        for (uint32_t i = 0; i < e->norphans; i++) {
            const struct orphan *o = &e->orphans[i];
            if (o->session != session || o->hi <= lo || o->lo >= *ret_end)
                continue;
            if (o->lo <= lo) {
                *ret_engine = e;
                *ret = *o;
                *ret_end = o->hi < hi ? o->hi : hi;
                return true;
            }
            *ret_end = o->lo;
        }
    }
    return false;
}

bool orphans_overlap(const struct engine *e, const struct held_task *h)
{
    for (uint32_t i = 0; i < e->norphans; i++) {
        const struct orphan *o = &e->orphans[i];
        if (o->session == h->session && h->seq < o->hi && o->lo < h->seq + h->count)
            return true;
    }
    return false;
}

int orphans_drop(struct engine *e, uint64_t session, uint64_t lo, uint64_t hi)
{
    struct orphan *v = NULL;
    uint32_t n = 0;
    int r = CV_OK;

    if (!e->norphans)
        return CV_OK;
    for (uint32_t i = 0; i < e->norphans && r == CV_OK; i++) {
        struct orphan o = e->orphans[i], rest = o;
        if (o.session == session && o.lo < hi && lo < o.hi) {
            o.hi = o.lo > lo ? o.lo : lo < o.hi ? lo : o.hi;
            rest.lo = rest.hi < hi ? rest.hi : hi;
            r = orphan_add(&v, &n, rest);
        }
        if (r == CV_OK)
            r = orphan_add(&v, &n, o);
    }
    if (r == CV_OK)
        replace(e, v, n);
    else
        free(v);
    return r;
}

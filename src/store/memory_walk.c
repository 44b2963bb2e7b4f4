/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Walks over the records in memory, and purges, which are walks that drop. Each takes a slice of
 * SLICE_NS at a turn of the loop, so that a million records hold up nobody; it ends at the last
 * record that there was when it began. On the loop's thread. */
#include "base/clock.h"
#include "store/memory.h"

#define SLICE_NS (500000) /* of one turn of the loop */
#define LOOK_EVERY 64     /* items between two looks at the clock */

/* What comes after r: of its entry, or the next entry. */
static void step_over(struct memory *m, struct store_walk *w, const struct store_record *r)
{
    bool last = r->by_time.next == &r->entry->records;

    w->at_record = last ? NULL : list_entry(r->by_time.next, struct store_record, by_time);
    if (last)
        w->at = log_next(&m->log, r->entry);
    w->at_seq = 0;
}

static struct store_record *first_of(const struct log_entry *e)
{
    return list_entry(list_first((struct list *)&e->records), struct store_record, by_time);
}

void memory_walk_leave(struct memory *m, const struct store_record *r)
{
    list_each(l, &m->walks)
    {
        struct store_walk *w = list_entry(l, struct store_walk, node);
        if (w->at == r->entry && (w->at_record ? w->at_record : first_of(w->at)) == r)
            step_over(m, w, r);
    }
}

void memory_walk_fold(struct memory *m, const struct store_record *r)
{
    list_each(l, &m->walks)
    {
        struct store_walk *w = list_entry(l, struct store_walk, node);
        if (w->at_record == r)
            w->at_record = NULL;
    }
}

void memory_walk_split(struct memory *m, const struct store_record *r, struct store_record *rest)
{
    list_each(l, &m->walks)
    {
        struct store_walk *w = list_entry(l, struct store_walk, node);
        if (w->at_record == r && w->at_seq >= r->hi)
            w->at_record = rest;
    }
}

static bool only_step(struct memory *m, struct store_walk *w)
{
    struct store_id id = w->only[w->next_only++];
    struct store_record room;
    const struct store_record *r = memory_peek(m, id.session, id.seq, &room);

    if (r && !w->visit(w, r, id.seq, id.seq + 1))
        return false;
    return w->next_only < w->nonly;
}

static bool brief_step(struct memory *m, struct store_walk *w)
{
    struct store_record r;

    memory_read_brief(w->at, &r);
    w->at = log_next(&m->log, w->at);
    return r.id < w->goal && w->visit(w, &r, r.lo, r.hi) && w->at;
}

/* Some items of a record; false: those were the last. */
static bool step(struct memory *m, struct store_walk *w)
{
    if (w->only)
        return w->next_only < w->nonly && only_step(m, w);
    if (!w->at)
        return false;
    if (w->at->type == LOG_BRIEF)
        return brief_step(m, w);
    struct store_record *r = w->at_record ? w->at_record : first_of(w->at);
    if (r->id >= w->goal)
        return false;
    uint64_t lo = w->at_seq > r->lo ? w->at_seq : r->lo;
    uint64_t hi = r->hi - lo > LOOK_EVERY ? lo + LOOK_EVERY : r->hi;
    /* before visit(), which may drop it */
    if (hi < r->hi) {
        w->at_record = r;
        w->at_seq = hi;
    } else {
        step_over(m, w, r);
    }
    return w->visit(w, r, lo, hi) && w->at;
}

/* False: done. */
static bool slice(struct memory *m, struct store_walk *w, uint64_t until)
{
    int n = 0;

    while (step(m, w)) /* many items at a time, or one */
        if ((w->at_seq || ++n % LOOK_EVERY == 0) && clock_mono() >= until)
            return true;
    return false;
}

static void finish(struct store_walk *w, bool failed)
{
    list_del(&w->node);
    w->done(w, failed);
}

bool memory_walk_slices(struct memory *m)
{
    uint64_t until;

    if (list_empty(&m->walks))
        return false;
    until = clock_mono() + SLICE_NS;
    do {
        struct store_walk *w = list_entry(list_first(&m->walks), struct store_walk, node);
        if (slice(m, w, until))
            break;
        finish(w, false);
    } while (!list_empty(&m->walks) && clock_mono() < until);
    return !list_empty(&m->walks);
}

void memory_walks_fail(struct memory *m)
{
    struct list *l;

    while ((l = list_first(&m->walks)))
        finish(list_entry(l, struct store_walk, node), true);
}

/* A few ids are answered at once. */
void memory_walk(struct store *s, struct store_walk *w)
{
    struct memory *m = memory_of(s);

    w->at = log_first(&m->log);
    w->at_record = NULL;
    w->at_seq = 0;
    w->goal = m->next_id;
    w->next_only = 0;
    list_add_tail(&m->walks, &w->node);
    if (w->only && w->nonly <= LOOK_EVERY) {
        while (step(m, w))
            continue;
        finish(w, false);
    }
}

/* --- purge --- */

static bool is_chosen(const struct store_purge *p, const struct store_record *r)
{
    if (!p->only && !list_empty(&r->unwritten)) /* it has ended after the question */
        return false;
    for (size_t i = 0; i < p->nengines && !p->all; i++)
        if (p->engines[i] == r->result.engine)
            return true;
    return p->all || p->only;
}

static bool purge_visit(struct store_walk *w, const struct store_record *c, uint64_t lo,
                        uint64_t hi)
{
    struct store_purge *p = container_of(w, struct store_purge, walk);
    struct memory *m = p->memory;
    struct store_record *r = c->state == STORE_PENDING ? NULL : memory_record(m, c->session, c->lo);

    if (!r || !is_chosen(p, r) || (p->only && memory_cut(m, r, lo, hi, &r) != CV_OK))
        return true;
    p->purged += r->hi - r->lo;
    memory_drop(m, r, false);
    return true;
}

static void purge_done(struct store_walk *w, bool failed)
{
    struct store_purge *p = container_of(w, struct store_purge, walk);

    p->done(p, failed);
}

void memory_purge(struct store *s, struct store_purge *p)
{
    p->purged = 0;
    p->memory = memory_of(s);
    p->walk = (struct store_walk){
        .only = p->only, .nonly = p->nonly, .visit = purge_visit, .done = purge_done};
    memory_walk(s, &p->walk);
}

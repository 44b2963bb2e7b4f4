/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dependencies. Each live item that a task waits for has an entry in s->watches with a list of
 * edges; the edges of a task lie in one block that the task owns. When an item ends its edges are
 * counted and taken off; a task whose answer is known goes to s->resolved and is moved at the end
 * of the event.
 *
 * A task that waits for many has its items looked at, and later its edges taken off, in slices
 * (s->filling, s->dropping). What ends before it was looked at is counted when it ends.
 *
 * Called by the scheduler's one thread. Failure: deps_new() undoes what it did; where memory is
 * short in a later slice the task ends. */
#include "sched/dependency.h"

#include <stdlib.h>

#include "base/hash.h"
#include "sched/dispatch.h"
#include "sched/state.h"

#define DEP_ALL 1
#define DEP_SUCCESS 2
#define DEP_FAILURE 4

struct watch {
    struct list edges;
    struct list node; /* in s->told once the item has ended, and how */
    uint64_t session, seq;
    uint32_t engine;
    uint8_t status;
};

struct edge {
    struct list node; /* in watch->edges while the item lives */
    struct watch *watch;
    struct task_deps *deps;
    uint8_t kind; /* 0 after, 1 follow */
};

/* What a task waits for and was not looked at yet. */
struct fill {
    struct sched_id task;   /* the first of its SUBMIT */
    uint32_t n[2], at;      /* ranges of each kind; the one in work */
    uint64_t seq;           /* of that one, ids below are done */
    struct hash early;      /* ids that ended before their turn, and are counted */
    struct sched_range v[]; /* after's, then follow's: in order and apart */
};

struct task_deps {
    struct list node;  /* in s->filling, s->resolved or s->dropping */
    struct task *task; /* NULL: it has gone */
    struct fill *fill; /* NULL: all was looked at */
    uint8_t broken;    /* enum sched_status that it ends with; 0: none */
    struct dep_side {
        uint64_t total, good, bad;
        uint8_t flags;
    } side[2];
    uint32_t *where; /* follow: engines that good ones ran on */
    uint64_t nwhere;
    struct sched_id spoiler;
    uint64_t nedges;
    struct edge edges[];
};

/* Ids that count as one of a slice: a look at one costs far less than its end does. */
static uint32_t step_of(const struct sched *s)
{
    return slice_of(s) / 64 + 1;
}

static bool counts_as_good(uint8_t flags, uint8_t status)
{
    return flags & (status == SCHED_S_OK ? DEP_SUCCESS : DEP_FAILURE);
}

static enum deps_verdict side_verdict(const struct dep_side *d)
{
    bool all = d->flags & DEP_ALL;
    if (d->total == 0 || (all ? d->good == d->total : d->good > 0))
        return DEPS_MET;
    return (all ? d->bad > 0 : d->bad == d->total) ? DEPS_UNREACHABLE : DEPS_OPEN;
}

static enum deps_verdict deps_verdict(const struct task_deps *d)
{
    enum deps_verdict a = side_verdict(&d->side[0]), f = side_verdict(&d->side[1]);
    if (d->broken)
        return DEPS_INVALID;
    if (d->fill)
        return DEPS_OPEN;
    if (a == DEPS_UNREACHABLE || f == DEPS_UNREACHABLE)
        return DEPS_UNREACHABLE;
    return a == DEPS_MET && f == DEPS_MET ? DEPS_MET : DEPS_OPEN;
}

static void note_spoiler(struct task_deps *d, struct sched_id id)
{
    if (!d->spoiler.session)
        d->spoiler = id;
}

static void note_end(struct task_deps *d, uint8_t kind, struct sched_id id, uint8_t status,
                     uint32_t engine)
{
    struct dep_side *side = &d->side[kind];
    if (!counts_as_good(side->flags, status)) {
        side->bad++;
        note_spoiler(d, id);
        return;
    }
    side->good++;
    if (kind == 1)
        d->where[d->nwhere++] = engine;
}

static void edge_drop(struct sched *s, struct edge *e)
{
    if (!e->watch)
        return;
    list_del(&e->node);
    if (list_empty(&e->watch->edges)) {
        if (list_empty(&e->watch->node))
            hash_del(&s->watches, e->watch->session, e->watch->seq);
        list_del(&e->watch->node);
        free(e->watch);
    }
    e->watch = NULL;
}

struct sched_id deps_spoiler(const struct task *t)
{
    const struct task_deps *d = task_more(t)->deps;
    return d ? d->spoiler : (struct sched_id){0};
}

static void fill_free(struct task_deps *d)
{
    if (d->fill)
        hash_release(&d->fill->early);
    free(d->fill);
    d->fill = NULL;
}

/* Takes off at most n edges, and frees d with the last one. */
static void drop_some(struct sched *s, struct task_deps *d, uint64_t n)
{
    for (; n && d->nedges; n--)
        edge_drop(s, &d->edges[--d->nedges]);
    if (d->nedges)
        return;
    list_del(&d->node);
    free(d->where);
    free(d);
}

void deps_free(struct sched *s, struct task *t)
{
    struct task_deps *d = task_more(t)->deps;
    if (!d)
        return;
    t->more->deps = NULL;
    d->task = NULL;
    fill_free(d);
    list_del(&d->node);
    list_add_tail(&s->dropping, &d->node);
    drop_some(s, d, (uint64_t)slice_of(s) * step_of(s));
}

void deps_release(struct sched *s)
{
    struct list *l;
    while ((l = list_first(&s->dropping)))
        drop_some(s, list_entry(l, struct task_deps, node), UINT64_MAX);
}

static int edge_add(struct sched *s, struct task_deps *d, uint8_t kind, struct sched_id id)
{
    struct watch *w = hash_get(&s->watches, id.session, id.seq);
    if (!w) {
        w = malloc(sizeof *w);
        if (!w)
            return CV_ENOMEM;
        *w = (struct watch){.session = id.session, .seq = id.seq};
        list_init(&w->edges);
        list_init(&w->node);
        if (hash_put(&s->watches, id.session, id.seq, w, NULL) < 0) {
            free(w);
            return CV_ENOMEM;
        }
    }
    struct edge *e = &d->edges[d->nedges++];
    *e = (struct edge){.watch = w, .deps = d, .kind = kind};
    list_add_tail(&w->edges, &e->node);
    task_find(s, id)->flags |= TASK_WATCHED;
    return CV_OK;
}

/* One of d's ids. */
static int look_at(struct sched *s, struct task_deps *d, uint8_t kind, struct sched_id id)
{
    uint8_t status;
    uint32_t engine = SCHED_ENGINE_NONE;
    if (task_live(s, id))
        return edge_add(s, d, kind, id);
    if (s->o.outcome && s->o.outcome(s->o.outcome_arg, id, &status, &engine)) {
        note_end(d, kind, id, status, engine);
        return CV_OK;
    }
    note_spoiler(d, id);
    d->broken = SCHED_S_INVALID;
    return CV_OK;
}

/* Looks at n more of the ids that d waits for, or at those that are left. */
static int fill_some(struct sched *s, struct task_deps *d, uint64_t n)
{
    struct fill *f = d->fill;
    for (; f->at < f->n[0] + f->n[1] && !d->broken; f->at++, f->seq = 0) {
        const struct sched_range *x = &f->v[f->at];
        if (f->seq < x->lo)
            f->seq = x->lo;
        for (; f->seq < x->hi && !d->broken; f->seq++) {
            if (!n--)
                return CV_OK;
            if (hash_get(&f->early, x->session, f->seq))
                continue;
            int r = look_at(s, d, f->at >= f->n[0], (struct sched_id){x->session, f->seq});
            if (r < 0)
                return r;
        }
    }
    fill_free(d);
    return CV_OK;
}

/* The same later than in the event that brought d. By then its own ids are in the index, and there
 * may be tasks that wait for it: what came no sooner than it was not there for it. */
static void fill_later(struct sched *s, struct task_deps *d)
{
    for (uint32_t n = step_of(s); n && d->fill; n--) {
        const struct fill *f = d->fill;
        if (f->v[f->at].session == f->task.session && f->seq >= f->task.seq)
            d->broken = SCHED_S_INVALID;
        else if (fill_some(s, d, 1) < 0)
            d->broken = SCHED_S_REFUSED;
        if (d->broken)
            fill_free(d);
    }
    if (d->fill)
        return;
    list_del(&d->node);
    if (deps_verdict(d) != DEPS_OPEN)
        list_add_tail(&s->resolved, &d->node);
}

/* Is it one of those that f has not come to? */
static bool is_ahead(const struct fill *f, uint8_t kind, struct sched_id id)
{
    uint32_t lo = kind ? f->n[0] : 0, hi = lo + f->n[kind];
    if (lo < f->at)
        lo = f->at;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct sched_range *x = &f->v[mid];
        if (x->session < id.session || (x->session == id.session && x->hi <= id.seq))
            lo = mid + 1;
        else if (x->session > id.session || x->lo > id.seq)
            hi = mid;
        else
            return mid > f->at || id.seq >= f->seq;
    }
    return false;
}

/* Without memory to remember it the records will be asked. */
static void note_early(struct task_deps *d, struct sched_id id, uint8_t status, uint32_t engine)
{
    bool ahead[2] = {is_ahead(d->fill, 0, id), is_ahead(d->fill, 1, id)};
    if ((!ahead[0] && !ahead[1]) ||
        hash_put(&d->fill->early, id.session, id.seq, d->fill, NULL) < 0)
        return;
    for (uint8_t kind = 0; kind < 2; kind++)
        if (ahead[kind])
            note_end(d, kind, id, status, engine);
}

static int by_place(const void *a, const void *b)
{
    const struct sched_range *x = a, *y = b;
    if (x->session != y->session)
        return x->session < y->session ? -1 : 1;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Copies the ranges in order, each id once. *ret_total: at most UINT32_MAX, which no client's tasks
 * come near: then some were never there. */
static uint32_t merge(struct sched_range *to, const struct sched_range *v, uint32_t n,
                      uint64_t *ret_total)
{
    uint32_t k = 0, kept = 0;
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        if (v[i].lo < v[i].hi)
            to[kept++] = v[i];
    if (kept > 1)
        qsort(to, kept, sizeof *to, by_place);
    for (uint32_t i = 0; i < kept; i++) {
        if (k && to[k - 1].session == to[i].session && to[k - 1].hi >= to[i].lo) {
            if (to[k - 1].hi < to[i].hi)
                to[k - 1].hi = to[i].hi;
        } else {
            to[k++] = to[i];
        }
    }
    for (uint32_t i = 0; i < k; i++) {
        uint64_t more = to[i].hi - to[i].lo;
        total = more < UINT32_MAX - total ? total + more : UINT32_MAX;
    }
    *ret_total = total;
    return k;
}

static uint8_t flags_or_default(uint8_t flags)
{
    return flags & (DEP_SUCCESS | DEP_FAILURE) ? flags : (uint8_t)(flags | DEP_SUCCESS);
}

/* d with f's ids still to be looked at, and its two sides. */
static struct task_deps *deps_alloc(struct fill *f, const struct sched_event *ev,
                                    const uint64_t total[2])
{
    struct task_deps *d = calloc(1, sizeof *d + (total[0] + total[1]) * sizeof d->edges[0]);
    uint32_t *where = malloc((total[1] ? total[1] : 1) * sizeof *where);
    if (!d || !where) {
        free(d);
        free(where);
        return NULL;
    }
    list_init(&d->node);
    d->fill = f;
    d->where = where;
    d->side[0] =
        (struct dep_side){.total = total[0], .flags = flags_or_default(ev->submit.after_flags)};
    d->side[1] =
        (struct dep_side){.total = total[1], .flags = flags_or_default(ev->submit.follow_flags)};
    return d;
}

int deps_new(struct sched *s, struct task *t, const struct sched_event *ev,
             enum deps_verdict *verdict)
{
    uint64_t total[2];
    struct fill *f =
        malloc(sizeof *f + ((size_t)ev->submit.nafter + ev->submit.nfollow) * sizeof f->v[0]);
    if (!f)
        return CV_ENOMEM;
    *f = (struct fill){.task = ev->id};
    f->n[0] = merge(f->v, ev->submit.after, ev->submit.nafter, &total[0]);
    f->n[1] = merge(f->v + f->n[0], ev->submit.follow, ev->submit.nfollow, &total[1]);
    *verdict = total[0] + total[1] ? DEPS_INVALID : DEPS_MET;
    if (total[0] + total[1] == 0 || total[0] + total[1] >= UINT32_MAX) {
        free(f);
        return CV_OK;
    }
    struct task_more *m = task_need_more(t);
    struct task_deps *d = m ? deps_alloc(f, ev, total) : NULL;
    if (!d) {
        free(f);
        return CV_ENOMEM;
    }
    m->deps = d;
    d->task = t;
    int r = fill_some(s, d, (uint64_t)slice_of(s) * step_of(s));
    if (d->fill && r == CV_OK)
        list_add_tail(&s->filling, &d->node);
    *verdict = deps_verdict(d);
    return r;
}

void deps_ended(struct sched *s, uint64_t session, uint64_t lo, uint64_t hi, uint8_t status,
                uint32_t engine, bool watched)
{
    list_each(l, &s->filling)
    {
        for (uint64_t seq = lo; seq < hi; seq++)
            note_early(list_entry(l, struct task_deps, node), (struct sched_id){session, seq},
                       status, engine);
    }
    for (uint64_t seq = lo; watched && seq < hi; seq++) {
        struct watch *w = hash_del(&s->watches, session, seq);
        if (!w)
            continue;
        w->status = status;
        w->engine = engine;
        list_add_tail(&s->told, &w->node);
    }
}

/* One of those that wait for w hears of its end. */
static void tell_one(struct sched *s, struct watch *w)
{
    struct edge *e = list_entry(w->edges.next, struct edge, node);
    list_del(&e->node);
    e->watch = NULL;
    note_end(e->deps, e->kind, (struct sched_id){w->session, w->seq}, w->status, w->engine);
    if (deps_verdict(e->deps) != DEPS_OPEN && list_empty(&e->deps->node))
        list_add_tail(&s->resolved, &e->deps->node);
    if (!list_empty(&w->edges))
        return;
    list_del(&w->node);
    free(w);
}

/* The engines that follow allows, in d->where: where all ran, if that is one engine; or where any
 * ran. */
static uint32_t follow_engines(struct task_deps *d, const struct task_set *base)
{
    uint32_t n = 0;
    for (uint64_t i = 0; i < d->nwhere; i++) {
        if ((d->side[1].flags & DEP_ALL) && d->where[i] != d->where[0])
            return 0;
        if (d->where[i] != SCHED_ENGINE_NONE && set_has(base, d->where[i]))
            d->where[n++] = d->where[i];
        else if (d->side[1].flags & DEP_ALL)
            return 0;
    }
    return n;
}

/* The same for one engine. */
static bool follow_allows(const struct task_deps *d, uint32_t engine)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < d->nwhere; i++)
        n += d->where[i] == engine;
    return d->side[1].total == 0 || ((d->side[1].flags & DEP_ALL) ? n == d->nwhere : n > 0);
}

/* Narrows t's engines by what follow asks for. */
static int deps_narrow(struct sched *s, struct task *t)
{
    struct task_more *m = t->more;
    struct task_deps *d = m->deps;
    if (d->side[1].total == 0)
        return CV_OK;
    struct task_set *set = set_get(s, false, d->where, follow_engines(d, m->base));
    if (!set)
        return CV_ENOMEM;
    set_unref(s, m->base);
    set_unref(s, m->set);
    m->base = set;
    m->set = set_ref(set);
    return CV_OK;
}

bool deps_met(struct sched *s, struct task *t, const struct engine *direct)
{
    if (direct)
        return !task_more(t)->deps || follow_allows(t->more->deps, direct->number);
    if (task_more(t)->deps && deps_narrow(s, t) < 0)
        s->oom = true;
    return set_alive(s, task_more(t)->base);
}

const char *deps_nowhere(const struct task *t, const struct engine *direct)
{
    const struct task_deps *d = task_more(t)->deps;
    for (uint64_t i = 0; d && i < d->nwhere; i++)
        if (d->where[i] == SCHED_ENGINE_NONE)
            return "it is not known, or not any more, where a task ran that it follows";
    return direct ? "what it follows ran on another engine than the one it is for"
                  : "no engine is left that its targets and dependencies allow";
}

struct task_word deps_broken(const struct task *t)
{
    const struct task_deps *d = task_more(t)->deps;
    if (d && d->broken == SCHED_S_REFUSED)
        return task_word(SCHED_S_REFUSED, "the controller has no memory for all it depends on");
    return task_word(SCHED_S_INVALID, "it depends on a task that was never heard of");
}

static void settle_one(struct sched *s, struct task_deps *d)
{
    struct task *t = d->task;
    bool possible = false;
    struct task_word w =
        task_word(SCHED_S_IMPOSSIBLE, "a task that it depends on did not end as it asks for");
    if (d->broken) {
        w = deps_broken(t);
    } else if (deps_verdict(d) == DEPS_MET) {
        w.why = deps_nowhere(t, t->engine);
        possible = deps_met(s, t, t->engine);
    } else {
        w.about = deps_spoiler(t);
    }
    deps_free(s, t);
    if (possible)
        task_move(s, t, SCHED_T_QUEUED, t->engine, TASK_TAIL);
    else
        task_end_all(s, t, &w);
}

bool deps_due(const struct sched *s)
{
    return !list_empty(&s->resolved) || !list_empty(&s->told) || !list_empty(&s->filling) ||
           !list_empty(&s->dropping);
}

void deps_settle(struct sched *s)
{
    for (; s->budget && deps_due(s); s->budget--) {
        if (!list_empty(&s->resolved))
            settle_one(s, list_entry(s->resolved.next, struct task_deps, node));
        else if (!list_empty(&s->told))
            tell_one(s, list_entry(s->told.next, struct watch, node));
        else if (!list_empty(&s->filling))
            fill_later(s, list_entry(s->filling.next, struct task_deps, node));
        else
            drop_some(s, list_entry(s->dropping.next, struct task_deps, node), step_of(s));
    }
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dependencies. Each live item that a task waits for has an entry in s->watches with a list of
 * edges; the edges of a task lie in one block that the task owns. When an item ends its edges are
 * counted and taken off; a task whose answer is known goes to s->resolved and is moved at the end
 * of the event. Called by the scheduler's one thread. Failure: deps_new() undoes what it did. */
#include "sched/dependency.h"

#include <stdlib.h>

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

struct task_deps {
    struct list node; /* in s->resolved */
    struct task *task;
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

void deps_free(struct sched *s, struct task *t)
{
    struct task_deps *d = task_more(t)->deps;
    if (!d)
        return;
    for (uint64_t i = 0; i < d->nedges; i++)
        edge_drop(s, &d->edges[i]);
    list_del(&d->node);
    free(d->where);
    free(d);
    t->more->deps = NULL;
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

static int side_add(struct sched *s, struct task_deps *d, uint8_t kind, const struct sched_range *v,
                    uint32_t n, bool *invalid)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint64_t seq = v[i].lo; seq < v[i].hi; seq++) {
            struct sched_id id = {v[i].session, seq};
            uint8_t status;
            uint32_t engine = SCHED_ENGINE_NONE;
            if (task_live(s, id)) {
                int r = edge_add(s, d, kind, id);
                if (r < 0)
                    return r;
            } else if (s->o.outcome && s->o.outcome(s->o.outcome_arg, id, &status, &engine)) {
                note_end(d, kind, id, status, engine);
            } else {
                note_spoiler(d, id);
                *invalid = true;
                return CV_OK;
            }
        }
    return CV_OK;
}

/* At most UINT32_MAX, which no client's tasks come near: then some were never there. */
static uint64_t ranges_total(const struct sched_range *v, uint32_t n)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t more = v[i].hi > v[i].lo ? v[i].hi - v[i].lo : 0;
        total = more < UINT32_MAX - total ? total + more : UINT32_MAX;
    }
    return total;
}

static uint8_t flags_or_default(uint8_t flags)
{
    return flags & (DEP_SUCCESS | DEP_FAILURE) ? flags : (uint8_t)(flags | DEP_SUCCESS);
}

int deps_new(struct sched *s, struct task *t, const struct sched_event *ev,
             enum deps_verdict *verdict)
{
    uint64_t na = ranges_total(ev->submit.after, ev->submit.nafter),
             nf = ranges_total(ev->submit.follow, ev->submit.nfollow);
    *verdict = DEPS_MET;
    if (na + nf == 0)
        return CV_OK;
    if (na + nf >= UINT32_MAX) {
        *verdict = DEPS_INVALID;
        return CV_OK;
    }
    struct task_deps *d = calloc(1, sizeof *d + (na + nf) * sizeof d->edges[0]);
    struct task_more *m = d ? task_need_more(t) : NULL;
    if (!m) {
        free(d);
        return CV_ENOMEM;
    }
    m->deps = d;
    d->task = t;
    list_init(&d->node);
    d->side[0] = (struct dep_side){.total = na, .flags = flags_or_default(ev->submit.after_flags)};
    d->side[1] = (struct dep_side){.total = nf, .flags = flags_or_default(ev->submit.follow_flags)};
    d->where = malloc((nf ? nf : 1) * sizeof *d->where);
    if (!d->where)
        return CV_ENOMEM;
    bool invalid = false;
    int r = side_add(s, d, 0, ev->submit.after, ev->submit.nafter, &invalid);
    if (r == CV_OK && !invalid)
        r = side_add(s, d, 1, ev->submit.follow, ev->submit.nfollow, &invalid);
    *verdict = invalid ? DEPS_INVALID : deps_verdict(d);
    return r;
}

void deps_ended(struct sched *s, uint64_t session, uint64_t lo, uint64_t hi, uint8_t status,
                uint32_t engine)
{
    for (uint64_t seq = lo; seq < hi; seq++) {
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

static void settle_one(struct sched *s, struct task_deps *d)
{
    struct task *t = d->task;
    bool possible = false;
    struct task_word w =
        task_word(SCHED_S_IMPOSSIBLE, "a task that it depends on did not end as it asks for");
    if (deps_verdict(d) == DEPS_MET) {
        w.why = t->engine ? "what it follows ran on another engine than the one it is for"
                          : "no engine is left that its targets and dependencies allow";
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
    return !list_empty(&s->resolved) || !list_empty(&s->told);
}

void deps_settle(struct sched *s)
{
    for (; s->budget && deps_due(s); s->budget--) {
        if (!list_empty(&s->resolved))
            settle_one(s, list_entry(s->resolved.next, struct task_deps, node));
        else
            tell_one(s, list_entry(s->told.next, struct watch, node));
    }
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What queries read. Changes nothing. */
#include <stdlib.h>

#include "sched/event.h"
#include "sched/state.h"

bool sched_engine_info(const struct sched *s, uint32_t number, struct sched_engine_info *ret)
{
    const struct engine *e = hash_get(&s->engines, 0, number);
    if (!e)
        return false;
    *ret = (struct sched_engine_info){
        .number = e->number,
        .incarnation = e->incarnation,
        .state = e->state,
        .held_direct = (uint32_t)(e->held[1] + e->queued),
        .held_balanced = (uint32_t)e->held[0],
        .completed = e->completed,
        .away_since = e->state == SCHED_AWAY ? e->away_since : 0,
    };
    return true;
}

enum sched_task_state sched_task_state(const struct sched *s, struct sched_id id,
                                       uint32_t *ret_engine)
{
    const struct task *t = task_find(s, id);
    if (!t || task_item_done(t, id.seq))
        return SCHED_T_UNKNOWN;
    if (ret_engine)
        *ret_engine = t->engine ? t->engine->number : SCHED_ENGINE_NONE;
    return t->state;
}

bool sched_live(const struct sched *s, struct sched_id id, uint64_t count)
{
    struct task_walk w = task_walk(s, id, count);
    struct task *t;
    while ((t = task_walk_next(s, &w)))
        if (task_left_in(t, w.lo, w.hi))
            return true;
    return false;
}

bool sched_client_live(const struct sched *s, uint64_t session)
{
    const struct client *c = hash_get(&s->clients, 0, session);
    return c && c->live;
}

uint64_t sched_client_next(const struct sched *s, uint64_t session)
{
    const struct client *c = hash_get(&s->clients, 0, session);
    return c ? c->next : 0;
}

const char *sched_state_name(enum sched_task_state st)
{
    static const char *const names[] = {"unknown", "waiting", "queued",    "sent",    "running",
                                        "done",    "failed",  "cancelled", "expired", "lost"};
    return (size_t)st < sizeof names / sizeof *names ? names[st] : "?";
}

size_t sched_unassigned(const struct sched *s)
{
    return s->unassigned;
}

size_t sched_task_count(const struct sched *s)
{
    return s->records;
}

struct visit {
    void (*cb)(void *arg, struct sched_id id, uint32_t count, enum sched_task_state st,
               enum sched_mode mode);
    void *arg;
};

static void visit_list(const struct list *head, const struct visit *v)
{
    list_each(l, head)
    {
        const struct task *t = list_entry(l, struct task, node);
        for (uint64_t lo = t->seq, end; lo<task_end(t); lo = end> lo ? end : lo + 1) {
            for (end = lo; end < task_end(t) && !task_item_done(t, end);)
                end++;
            if (end > lo)
                v->cb(v->arg, (struct sched_id){task_session(t), lo}, (uint32_t)(end - lo),
                      t->state, t->mode);
        }
    }
}

void sched_each_held(const struct sched *s, uint32_t engine,
                     void (*cb)(void *arg, struct sched_id id, uint32_t count,
                                enum sched_task_state st, enum sched_mode mode),
                     void *arg)
{
    struct visit v = {cb, arg};
    const struct engine *e = hash_get(&s->engines, 0, engine);
    if (!e)
        return;
    visit_list(&e->running, &v);
    visit_list(&e->sent[0], &v);
    visit_list(&e->sent[1], &v);
}

/* --- all of them, some at a time --- */

/* Of one call: steps, each a look at few ids, and items that are told, so many at once. */
#define WALK_BUDGET 4000u
#define WALK_RUN 64u

int sched_walk_begin(const struct sched *s, struct sched_walk *ret)
{
    struct sched_walk w = {.sessions = calloc(s->clients.count + 1, sizeof *w.sessions)};
    const struct client *c;
    if (!w.sessions)
        return CV_ENOMEM;
    for (size_t i = 0; (c = hash_next(&s->clients, &i));)
        if (c->live)
            w.sessions[w.n++] = c->session;
    *ret = w;
    return CV_OK;
}

void sched_walk_release(struct sched_walk *w)
{
    free(w->sessions);
    *w = (struct sched_walk){0};
}

/* The next run of unfinished items from seq on, of at most WALK_RUN; *ret_hi is where to go on.
 * False: there is none before. */
static bool next_run(const struct task *t, uint64_t seq, uint64_t hi, uint64_t *ret_lo,
                     uint64_t *ret_hi)
{
    uint64_t stop = hi - seq > WALK_RUN ? seq + WALK_RUN : hi;
    while (seq < stop && task_item_done(t, seq))
        seq++;
    *ret_lo = seq;
    while (seq < stop && !task_item_done(t, seq))
        seq++;
    *ret_hi = seq;
    return *ret_lo < *ret_hi;
}

bool sched_walk_some(const struct sched *s, struct sched_walk *w,
                     void (*cb)(void *arg, struct sched_id id, uint32_t count, uint32_t engine,
                                enum sched_mode mode),
                     void *arg)
{
    for (uint64_t spent = 0; spent < WALK_BUDGET && w->at < w->n; spent++) {
        struct sched_id id = {w->sessions[w->at], w->seq};
        struct task_walk walk = task_walk(s, id, UINT64_MAX);
        struct task *t = task_walk_step(s, &walk);
        uint64_t lo, hi;
        w->seq = walk.seq;
        if (t) {
            bool there =
                task_on_engine(t) || (t->state == SCHED_T_QUEUED && t->engine && !t->parked);
            if (next_run(t, walk.lo, walk.hi, &lo, &hi))
                cb(arg, (struct sched_id){id.session, lo}, (uint32_t)(hi - lo),
                   there ? t->engine->number : SCHED_ENGINE_NONE, t->mode);
            spent += hi - walk.lo;
            w->seq = hi;
        } else if (walk.seq >= walk.end) {
            w->at++;
            w->seq = 0;
        }
    }
    return w->at < w->n;
}

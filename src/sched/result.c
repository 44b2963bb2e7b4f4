/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What engines say about tasks: STARTED, RESULT, GIVE_BACK. Called by the scheduler's one thread.
 * Whatever they say about tasks that ended, or about attempts that are over, changes nothing, but
 * for a good result of an earlier attempt: that ends the task. */
#include "sched/dispatch.h"
#include "sched/event.h"

void started_handle(struct sched *s, const struct sched_event *ev)
{
    struct task_walk w = task_walk(s, ev->id, ev->count ? ev->count : 1);
    struct task *t;
    while ((t = task_walk_next(s, &w)))
        if (task_is_at(t, ev) && t->state == SCHED_T_SENT)
            task_move(s, t, SCHED_T_RUNNING, t->engine, TASK_TAIL);
}

/* Slower is believed at once, faster by and by. */
static uint64_t pace_after(uint64_t old, uint64_t sample)
{
    if (!old)
        return sample;
    return sample > old ? old / 2 + sample / 2 : old - old / 8 + sample / 8;
}

static void engine_progress(struct sched *s, struct engine *e, const struct sched_event *ev)
{
    e->progress_ns = s->now;
    if (ev->result.run_ns && ev->count) {
        uint64_t sample = ev->result.run_ns / ev->count;
        e->ewma_ns = pace_after(e->ewma_ns, sample ? sample : 1);
    }
    engine_touch(s, e);
}

/* A result of an attempt that is not the one under way. */
static void result_late(struct sched *s, struct task *t, const struct sched_event *ev, uint64_t lo,
                        uint64_t hi, const struct task_word *w)
{
    if (ev->result.status != SCHED_S_OK)
        return; /* the attempt under way will say */
    if (task_on_engine(t) && engine_connected(t->engine) && task_left_in(t, lo, hi))
        task_act(s, SCHED_INTERRUPT, t, lo, hi);
    task_end_items(s, t, lo, hi, w);
}

static void result_unmet(struct sched *s, struct task *t, const struct sched_event *ev, uint64_t lo,
                         uint64_t hi)
{
    struct task_word w =
        task_word(SCHED_S_IMPOSSIBLE, "the engine does not meet what the task asks for");
    w.payload = ev->result.payload; /* what it said */
    if (t->mode != SCHED_BALANCED) {
        w.status = SCHED_S_UNMET; /* nobody else is asked */
        w.engine = ev->engine;
        w.incarnation = ev->incarnation;
        task_end_items(s, t, lo, hi, &w);
        return;
    }
    if (!task_left_in(t, lo, hi) || !(t = task_cut(s, t, lo, hi)))
        return;
    w.why = "no engine is left that meets what the task asks for";
    task_blame(s, t, ev->engine, true);
    task_return(s, t, &w);
}

/* The attempt under way ended. */
static void result_current(struct sched *s, struct task *t, const struct sched_event *ev,
                           uint64_t lo, uint64_t hi, const struct task_word *w)
{
    if (ev->result.status == SCHED_S_UNMET) {
        result_unmet(s, t, ev, lo, hi);
        return;
    }
    if (ev->result.status == SCHED_S_ERROR && task_more(t)->retries_error > 0 &&
        !(t->flags & (TASK_CANCEL | TASK_ABORT)) && task_left_in(t, lo, hi)) {
        t = task_cut(s, t, lo, hi);
        if (!t)
            return;
        t->more->retries_error--;
        if (t->mode == SCHED_BALANCED)
            task_blame(s, t, ev->engine, false);
        task_started_once(t);
        task_return(s, t, w);
        return;
    }
    t->engine->completed += task_left_in(t, lo, hi);
    if (!task_end_items(s, t, lo, hi, w) && t->state == SCHED_T_SENT)
        task_move(s, t, SCHED_T_RUNNING, t->engine, TASK_TAIL);
}

void result_handle(struct sched *s, const struct sched_event *ev)
{
    struct task_word word = {.status = ev->result.status,
                             .engine = ev->engine,
                             .incarnation = ev->incarnation,
                             .payload = ev->result.payload};
    struct engine *e = engine_find(s, ev->engine, ev->incarnation);
    struct task_walk w = task_walk(s, ev->id, ev->count);
    struct task *t;
    while ((t = task_walk_next(s, &w))) {
        if (task_is_at(t, ev))
            result_current(s, t, ev, w.lo, w.hi, &word);
        else
            result_late(s, t, ev, w.lo, w.hi, &word);
    }
    if (e && e->state != SCHED_DEAD)
        engine_progress(s, e, ev);
}

void give_back_handle(struct sched *s, const struct sched_event *ev)
{
    struct task_walk w = task_walk(s, ev->id, ev->count ? ev->count : 1);
    struct task *t;
    while ((t = task_walk_next(s, &w))) {
        if (!task_is_at(t, ev))
            continue;
        if (ev->count == 0) {
            task_flag(s, t, TASK_NO_TAKE, TASK_TAKING | TASK_ABORT);
            continue;
        }
        uint8_t abort = t->flags & TASK_ABORT;
        task_flag(s, t, 0, TASK_TAKING | TASK_ABORT); /* what it keeps, it runs */
        if (!task_left_in(t, w.lo, w.hi) || !(t = task_cut(s, t, w.lo, w.hi)))
            continue;
        task_flag(s, t, abort, 0);
        struct task_word late = task_late(false);
        if (t->mode == SCHED_BALANCED && task_more(t)->deadline <= s->now &&
            !(t->flags & (TASK_ABORT | TASK_CANCEL)))
            task_end_all(s, t, &late);
        else
            task_return(s, t, NULL);
    }
}

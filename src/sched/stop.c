/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What ends tasks before their time: CANCEL in its three kinds, timeouts, kills. Called by the
 * scheduler's one thread.
 *
 * What waits or is queued ends at once. What was sent: abort and a timeout take it back (it ends
 * when the engine gives it back, and goes on if it had started); cancel has the engine drop or
 * interrupt it, and whatever the engine then says ends it; kill does that and has the engine killed
 * if the task is still there some time later. Failure: none but memory for actions and splits. */
#include "sched/dispatch.h"
#include "sched/event.h"

#define TICK_AGAIN_NS 1000000000ull /* the engine was away when its time came */

static void abort_sent(struct sched *s, struct task *t, uint64_t lo, uint64_t hi)
{
    if (t->flags & (TASK_CANCEL | TASK_NO_TAKE) || (t->state == SCHED_T_RUNNING && t->count == 1))
        return;
    bool taking = t->flags & TASK_TAKING;
    t = task_cut(s, t, lo, hi);
    if (!t)
        return;
    task_flag(s, t, TASK_ABORT, 0);
    if (!taking && engine_connected(t->engine))
        task_take(s, t, t->seq, task_end(t));
}

static void cancel_sent(struct sched *s, struct task *t, uint64_t lo, uint64_t hi,
                        const struct sched_event *ev)
{
    t = task_cut(s, t, lo, hi);
    if (!t)
        return;
    bool again = t->flags & TASK_CANCEL;
    bool kill = ev->cancel.how == SCHED_CANCEL_KILL;
    task_flag(s, t, kill ? TASK_CANCEL | TASK_KILL : TASK_CANCEL, TASK_ABORT);
    if (!again && engine_connected(t->engine))
        task_interrupt(s, t);
    uint64_t after = ev->cancel.kill_after_ns, most = UINT64_MAX - 1 - s->now;
    if (kill)
        task_arm(s, t, s->now + (after < most ? after : most));
}

void cancel_handle(struct sched *s, const struct sched_event *ev)
{
    bool abort = ev->cancel.how == SCHED_CANCEL_ABORT;
    struct task_word w = abort ? task_word(SCHED_S_ABORTED, "aborted before it had started")
                               : task_word(SCHED_S_CANCELLED, "cancelled before it had started");
    struct task_walk walk = task_walk(s, ev->id, ev->count);
    struct task *t;
    while ((t = task_walk_next(s, &walk))) {
        if (!task_on_engine(t))
            task_end_items(s, t, walk.lo, walk.hi, &w);
        else if (!task_left_in(t, walk.lo, walk.hi))
            continue;
        else if (abort)
            abort_sent(s, t, walk.lo, walk.hi);
        else
            cancel_sent(s, t, walk.lo, walk.hi, ev);
    }
}

/* Its timer has done what it was for. */
static void task_timed_out(struct sched *s, struct task *t)
{
    if (t->more->deadline != UINT64_MAX)
        t->more->deadline = 0;
    task_arm(s, t, UINT64_MAX);
}

static void task_kill(struct sched *s, struct task *t)
{
    if (!engine_connected(t->engine)) {
        task_arm(s, t, s->now + TICK_AGAIN_NS);
        return;
    }
    task_flag(s, t, 0, TASK_KILL);
    task_timed_out(s, t);
    task_act(s, SCHED_KILL, t, t->seq, task_end(t));
}

/* The engine has other work before it; else it runs there, or is about to. */
static bool has_work_before(const struct engine *e, const struct task *t)
{
    if (!list_empty(&e->running))
        return true;
    for (int i = 0; i < 2; i++) {
        if (list_empty(&e->sent[i]))
            continue;
        const struct task *first = list_entry(e->sent[i].next, struct task, node);
        if (first != t && first->order < t->order)
            return true;
    }
    return false;
}

/* An engine holds it ahead: what it has not started ends when it gives it back. */
static void task_overdue(struct sched *s, struct task *t)
{
    const uint8_t no = TASK_TAKING | TASK_NO_TAKE | TASK_ABORT | TASK_CANCEL;
    if (!engine_connected(t->engine) || t->flags & TASK_UNSURE) {
        task_arm(s, t, s->now + TICK_AGAIN_NS);
        return;
    }
    task_timed_out(s, t);
    if (!(t->flags & no) && has_work_before(t->engine, t))
        task_take(s, t, t->seq, task_end(t));
}

void task_tick(struct sched *s)
{
    struct heap_node *n;
    for (; s->budget && (n = heap_top(&s->task_timers)) && n->key <= s->now; s->budget--) {
        struct task *t = container_of(n, struct task_more, timer)->task;
        struct task_word w = task_late(t->state == SCHED_T_WAITING);
        if (t->flags & TASK_KILL)
            task_kill(s, t);
        else if (task_on_engine(t))
            task_overdue(s, t);
        else
            task_end_all(s, t, &w);
    }
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Engines: joining, away and back, dead, draining.
 *
 *   joining ──► up ◄──► away        up, away ──► draining        any ──► dead ──► up (restarted)
 *
 * An away engine keeps its tasks for the grace time. When it is back it says what it holds; what it
 * does not hold stays with it, unsure, until the results that it sends again have been read
 * (ENGINE_SYNCED), and only then goes back to a queue: it never arrived, so this costs no retry.
 * Called by the scheduler's one thread. Failure: joining can run out of memory and then changes
 * nothing. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sched/dispatch.h"
#include "sched/event.h"
#include "sched/policy.h"

#define DEAD_KEPT 1024 /* dead engines that are remembered: years of them would fill the memory */
#define KILLS_MAX 3    /* a task that killed so many engines ends, whatever retries it has */

struct engine *engine_find(const struct sched *s, uint32_t number, uint32_t incarnation)
{
    struct engine *e = hash_get(&s->engines, 0, number);
    return e && e->incarnation == incarnation ? e : NULL;
}

bool engine_takes(const struct engine *e)
{
    return e->state != SCHED_DEAD && !e->draining;
}

bool engine_connected(const struct engine *e)
{
    return e->state == SCHED_UP || e->state == SCHED_DRAINING;
}

void engine_free(struct engine *e)
{
    free(e);
}

static struct engine *engine_new(uint32_t number)
{
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->number = number;
    e->state = SCHED_DEAD;
    struct list *lists[] = {&e->dirty_node, &e->sent[0],    &e->sent[1],   &e->running,
                            &e->waiting,    &e->pending,    &e->parked,    &e->sets,
                            &e->load_node,  &e->steal_node, &e->idle_node, &e->dead_node,
                            &e->losing_node};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    return e;
}

static void engine_set_state(struct sched *s, struct engine *e, enum sched_engine_state to)
{
    s->up += (to == SCHED_UP) - (e->state == SCHED_UP);
    s->alive -= engine_takes(e);
    e->state = (uint8_t)to;
    s->alive += engine_takes(e);
    heap_del(&s->engine_timers, &e->grace);
    engine_touch(s, e);
}

/* --- death --- */

/* Part [*lo, *hi) of t is what the engine ran. */
static bool task_ran(const struct task *t, const struct sched_event *ev, uint64_t *lo, uint64_t *hi)
{
    *lo = t->seq;
    *hi = task_end(t);
    if (!ev || !ev->dead.known || t->flags & TASK_UNSURE)
        return true;
    const struct sched_held *r = &ev->dead.running;
    if (r->count == 0 || r->id.session != task_session(t) || r->attempt != t->attempt)
        return false;
    if (r->id.seq > *lo)
        *lo = r->id.seq;
    if (r->id.seq + r->count < *hi)
        *hi = r->id.seq + r->count;
    return *lo < *hi && task_left_in(t, *lo, *hi);
}

/* It ran when its engine died: charged, and back to the queue while the budget lasts. */
static void task_charge(struct sched *s, struct task *t, const struct sched_event *ev,
                        struct task_word *w)
{
    bool free_of_charge = ev && ev->dead.free_of_charge;
    if (t->flags & TASK_CANCEL) {
        struct task_word c = task_word(SCHED_S_CANCELLED, "cancelled; its engine died meanwhile");
        task_end_all(s, t, &c);
        return;
    }
    task_flag(s, t, 0, TASK_ABORT);
    if (t->mode != SCHED_BALANCED || (free_of_charge && (t->flags & TASK_ONCE))) {
        task_end_all(s, t, w);
        return;
    }
    if (!free_of_charge) {
        struct task_more *x = task_need_more(t);
        if (!x)
            s->oom = true;
        if (x && x->nkilled < KILLS_MAX)
            x->killed[x->nkilled++] = t->engine->number;
        if (!x || x->retries_lost == 0 || x->nkilled == KILLS_MAX) {
            if (x && x->nkilled == KILLS_MAX && x->retries_lost)
                w->why = "three engines died running this task";
            task_end_all(s, t, w);
            return;
        }
        x->retries_lost--;
    }
    task_started_once(t);
    task_return(s, t, w);
}

static void task_lose(struct sched *s, struct task *t, const struct sched_event *ev,
                      const struct task_word *base)
{
    uint64_t lo, hi;
    struct task_word w = *base;
    if (task_ran(t, ev, &lo, &hi)) {
        if (lo > t->seq || hi < task_end(t)) {
            task_cut(s, t, lo, hi); /* and again, piece by piece */
            if (!s->oom)
                return;
        }
        w.why = ev && ev->dead.known && !(t->flags & TASK_UNSURE)
                    ? "its engine died running it"
                    : "its engine was lost, and may have been running it";
        task_charge(s, t, ev, &w);
    } else if (t->mode == SCHED_BALANCED) {
        w.why = "its engine died before it had started, and no other is left that may run it";
        task_return(s, t, &w);
    } else if (t->flags & (TASK_CANCEL | TASK_ABORT)) {
        task_return(s, t, NULL); /* ends as asked for */
    } else {
        w.why = "its engine died before it had started";
        task_end_all(s, t, &w);
    }
}

/* Parts of one range were sent in one go, and run from its front. */
static bool sent_before(const struct task *a, const struct task *b)
{
    return a->order != b->order ? a->order < b->order : a->seq < b->seq;
}

static struct task *oldest_sure(struct engine *e, const struct sched_event *ev)
{
    struct list *held[] = {&e->sent[0], &e->sent[1], &e->running};
    struct task *oldest = NULL;
    for (int i = 0; i < 3; i++)
        list_each(l, held[i])
        {
            uint64_t lo, hi;
            struct task *t = list_entry(l, struct task, node);
            if ((!oldest || sent_before(t, oldest)) && !task_ran(t, ev, &lo, &hi))
                oldest = t;
        }
    return oldest;
}

/* Marks as unsure what may have run beside the one that was running: the oldest items for which no
 * result came, and what was unsure anyway. Without such items nothing is unsure. */
static void mark_unreported(struct sched *s, struct engine *e, const struct sched_event *ev)
{
    uint32_t n = ev->dead.unreported;
    struct list *held[] = {&e->sent[0], &e->sent[1], &e->running};
    for (int i = 0; i < 3; i++)
        list_each(l, held[i])
        {
            struct task *t = list_entry(l, struct task, node);
            /* What was to be given back or dropped may be, and younger ones may have run instead.
             */
            bool may_be_gone = t->flags & (TASK_TAKING | TASK_ABORT | TASK_CANCEL);
            if (n == 0)
                task_flag(s, t, 0, TASK_UNSURE);
            else if (may_be_gone)
                task_flag(s, t, TASK_UNSURE, 0);
        }
    const struct sched_held *r = &ev->dead.running;
    struct task_walk w = task_walk(s, r->id, n ? r->count : 0);
    struct task *t;
    uint64_t lo, end;
    while ((t = task_walk_next(s, &w))) /* what of its range came before is not what ran */
        if (t->engine == e && task_ran(t, ev, &lo, &end))
            task_cut(s, t, lo, end);
    while (n > 0 && (t = oldest_sure(e, ev))) {
        uint64_t hi = t->seq;
        for (; n > 0 && hi < task_end(t); hi++)
            n -= !task_item_done(t, hi);
        t = task_cut(s, t, t->seq, hi);
        if (!t)
            return;
        task_flag(s, t, TASK_UNSURE, 0);
    }
}

/* Nobody finds it by its number any more. Sets of queued tasks may still name it. */
static void engine_forget(struct sched *s, struct engine *e)
{
    struct list *l;
    while ((l = list_first(&e->sets)))
        list_del(l);
    list_del(&e->dirty_node);
    list_del(&e->dead_node);
    s->ndead--;
    if (hash_get(&s->engines, 0, e->number) == e)
        hash_del(&s->engines, 0, e->number);
    e->forgotten = true;
    if (list_empty(&e->losing_node))
        engine_free(e);
}

static bool has_unsent(const struct engine *e)
{
    return !list_empty(&e->parked) || !list_empty(&e->waiting) || !list_empty(&e->pending);
}

/* Ends what it had not been sent, a slice of it. cause: ENGINE_DEAD's, while that is handled. */
static void lose_unsent(struct sched *s, struct engine *e, void *cause)
{
    struct task_word w = task_word(SCHED_S_ENGINE_DIED, "its engine died before it had started");
    w.engine = e->number;
    w.incarnation = e->incarnation;
    w.cause = cause;
    struct list *unsent[] = {&e->parked, &e->waiting, &e->pending};
    for (int i = 0; i < 3; i++)
        for (; s->budget && !list_empty(unsent[i]); s->budget--)
            task_end_all(s, list_entry(unsent[i]->next, struct task, node), &w);
    list_del(&e->losing_node);
    if (has_unsent(e))
        list_add_head(&s->losing, &e->losing_node);
    else if (e->forgotten)
        engine_free(e);
}

void engines_lose_some(struct sched *s)
{
    while (s->budget && !list_empty(&s->losing))
        lose_unsent(s, list_entry(s->losing.next, struct engine, losing_node), NULL);
}

/* ev NULL: the grace time is over, nothing is known. */
static void engine_lose(struct sched *s, struct engine *e, const struct sched_event *ev)
{
    struct task_word w = task_word(SCHED_S_ENGINE_DIED, NULL);
    w.engine = e->number;
    w.incarnation = e->incarnation;
    w.cause = ev ? ev->dead.cause : NULL;
    engine_set_state(s, e, SCHED_DEAD);
    if (ev && ev->dead.known)
        mark_unreported(s, e, ev);
    /* Youngest first: each goes to the head of its queue. */
    struct list *held[] = {&e->sent[1], &e->sent[0], &e->running};
    for (int i = 0; i < 3; i++)
        while (!list_empty(held[i]))
            task_lose(s, list_entry(held[i]->prev, struct task, node), ev, &w);
    lose_unsent(s, e, w.cause);
    queues_recheck(s, e);
    e->ewma_ns = 0;
    engine_touch(s, e);
    list_add_tail(&s->dead, &e->dead_node);
    if (++s->ndead > DEAD_KEPT)
        engine_forget(s, list_entry(s->dead.next, struct engine, dead_node));
}

void engine_dead(struct sched *s, const struct sched_event *ev)
{
    struct engine *e = engine_find(s, ev->engine, ev->incarnation);
    if (e && e->state != SCHED_DEAD)
        engine_lose(s, e, ev);
}

void engine_tick(struct sched *s, const struct sched_event *ev)
{
    struct heap_node *n;
    while ((n = heap_top(&s->engine_timers)) && n->key <= s->now) {
        struct engine *e = container_of(n, struct engine, grace);
        if (ev->type == SCHED_ENGINE_BACK && e->number == ev->engine &&
            e->incarnation == ev->incarnation) {
            heap_del(&s->engine_timers, n);
            continue;
        }
        struct sched_action *a = sched_push(s);
        if (a)
            *a = (struct sched_action){
                .type = SCHED_ENGINE_GONE, .engine = e->number, .incarnation = e->incarnation};
        engine_lose(s, e, NULL);
    }
}

/* --- life --- */

int engine_join(struct sched *s, const struct sched_event *ev, struct err *err)
{
    struct engine *e = hash_get(&s->engines, 0, ev->engine);
    if (ev->engine == SCHED_ENGINE_NONE)
        return err_set(err, CV_EINVAL, "an engine without a number");
    if (e && e->state != SCHED_DEAD && e->incarnation == ev->incarnation)
        return err_set(err, CV_EINVAL, "engine %u is here already", ev->engine);
    if (policy_join(s) < 0 || heap_reserve(&s->engine_timers, (uint32_t)s->engines.count + 1) < 0)
        return CV_ENOMEM;
    struct engine *fresh = !e || has_unsent(e) ? engine_new(ev->engine) : NULL;
    if (!fresh && (!e || has_unsent(e)))
        return CV_ENOMEM;
    if (!e && hash_put(&s->engines, 0, fresh->number, fresh, NULL) < 0) {
        engine_free(fresh);
        return CV_ENOMEM;
    }
    if (e && e->state != SCHED_DEAD)
        engine_lose(s, e, NULL); /* its successor is here: it is gone */
    if (e && has_unsent(e)) {
        int r = hash_put(&s->engines, 0, fresh->number, fresh, NULL); /* replaces: can't fail */
        assert(r == CV_OK);
        (void)r;
        engine_forget(s, e);
        e = NULL;
    }
    if (!e)
        e = fresh;
    else if (fresh)
        engine_free(fresh);
    s->ndead -= !list_empty(&e->dead_node);
    list_del(&e->dead_node);
    list_del(&e->losing_node); /* others have ended what was left of its last life */
    e->incarnation = ev->incarnation;
    e->completed = 0;
    e->draining = false;
    e->progress_ns = s->now;
    queue_engine_joined(s, e);
    engine_set_state(s, e, SCHED_UP);
    if (s->alive == 1)
        queues_recheck_open(s);
    return CV_OK;
}

void engine_away(struct sched *s, const struct sched_event *ev)
{
    struct engine *e = engine_find(s, ev->engine, ev->incarnation);
    if (!e || !engine_connected(e))
        return;
    engine_set_state(s, e, SCHED_AWAY);
    e->away_since = s->now;
    if (heap_push(&s->engine_timers, &e->grace, s->now + s->o.away_grace_ns) < 0)
        s->oom = true;
}

static void take_all(struct sched *s, struct engine *e)
{
    const uint8_t no = TASK_TAKING | TASK_NO_TAKE | TASK_CANCEL | TASK_UNSURE;
    list_each(l, &e->sent[0])
    {
        struct task *t = list_entry(l, struct task, node);
        if (!(t->flags & no))
            task_take(s, t, t->seq, task_end(t));
    }
    list_each(l, &e->running)
    {
        struct task *t = list_entry(l, struct task, node);
        if (t->mode == SCHED_BALANCED && t->left > 1 && !(t->flags & no))
            task_take(s, t, t->seq, task_end(t));
    }
}

void engine_drain(struct sched *s, const struct sched_event *ev)
{
    struct engine *e = engine_find(s, ev->engine, ev->incarnation);
    if (!e || e->state == SCHED_DEAD)
        return;
    s->alive -= engine_takes(e);
    e->draining = true;
    if (e->state == SCHED_UP) {
        engine_set_state(s, e, SCHED_DRAINING);
        take_all(s, e);
    }
    queues_recheck(s, e);
}

/* It says that it holds these: those that are still its own are sure, the others it must not run.
 */
static void engine_holds(struct sched *s, struct engine *e, const struct sched_held *h,
                         bool running)
{
    struct sched_event at = {
        .engine = e->number, .incarnation = e->incarnation, .attempt = h->attempt};
    struct task_walk w = task_walk(s, h->id, h->count);
    uint64_t sure = 0;
    struct task *t;
    while ((t = task_walk_next(s, &w))) {
        uint32_t left = task_left_in(t, w.lo, w.hi);
        if (!task_is_at(t, &at) || !left)
            continue;
        sure += w.hi - w.lo;
        t = task_cut(s, t, w.lo, w.hi);
        if (!t)
            return;
        task_flag(s, t, 0, TASK_UNSURE);
        if (running && t->state == SCHED_T_SENT)
            task_move(s, t, SCHED_T_RUNNING, e, TASK_TAIL);
        if (t->flags & TASK_CANCEL)
            task_interrupt(s, t);
        else if (t->flags & TASK_ABORT)
            task_take(s, t, t->seq, task_end(t));
    }
    struct sched_action *a = sure == 0 && h->count ? sched_push(s) : NULL;
    if (a)
        *a = (struct sched_action){.type = SCHED_INTERRUPT,
                                   .id = h->id,
                                   .count = h->count,
                                   .attempt = h->attempt,
                                   .engine = e->number,
                                   .incarnation = e->incarnation};
}

int engine_back(struct sched *s, const struct sched_event *ev, struct err *err)
{
    struct engine *e = engine_find(s, ev->engine, ev->incarnation);
    if (!e || e->state == SCHED_DEAD)
        return err_set(err, CV_EINVAL, "engine %u of incarnation %u is dead", ev->engine,
                       ev->incarnation);
    struct list *held[] = {&e->sent[0], &e->sent[1], &e->running};
    for (int i = 0; i < 3; i++)
        list_each(l, held[i])
            task_flag(s, list_entry(l, struct task, node), TASK_UNSURE, TASK_TAKING | TASK_NO_TAKE);
    e->progress_ns = s->now;
    engine_set_state(s, e, e->draining ? SCHED_DRAINING : SCHED_UP);
    if (ev->back.running.count)
        engine_holds(s, e, &ev->back.running, true);
    for (uint32_t i = 0; i < ev->back.nunstarted; i++)
        engine_holds(s, e, &ev->back.unstarted[i], false);
    if (e->draining)
        take_all(s, e);
    return CV_OK;
}

void engine_synced(struct sched *s, const struct sched_event *ev)
{
    struct engine *e = engine_find(s, ev->engine, ev->incarnation);
    if (!e || !engine_connected(e))
        return;
    struct list *held[] = {&e->sent[1], &e->sent[0], &e->running};
    for (int i = 0; i < 3; i++)
        for (struct list *l = held[i]->prev, *tmp = l->prev; l != held[i]; l = tmp, tmp = l->prev) {
            struct task *t = list_entry(l, struct task, node);
            if (t->flags & TASK_UNSURE)
                task_return(s, t, NULL);
        }
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Task records: pool, and the moves between states. Called by the scheduler's one thread. The pool
 * hands out records from slabs that are given back when they are empty. Failure: out of memory sets
 * s->oom where it can't be said. */
#include "sched/event.h"
#include "sched/task.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sched/dependency.h"
#include "sched/dispatch.h"
#include "sched/state.h"

#define SLAB_SIZE 65536u

struct slab {
    struct list node;  /* in s->slabs while it has free records */
    struct task *free; /* linked by node.next */
    uint32_t used, fresh;
    struct task v[];
};

#define SLAB_TASKS ((SLAB_SIZE - sizeof(struct slab)) / sizeof(struct task))

struct task *task_alloc(struct sched *s)
{
    struct slab *b;
    struct list *l = list_first(&s->slabs);
    if (l) {
        b = list_entry(l, struct slab, node);
    } else {
        b = aligned_alloc(SLAB_SIZE, SLAB_SIZE);
        if (!b)
            return NULL;
        b->free = NULL;
        b->used = b->fresh = 0;
        list_add_head(&s->slabs, &b->node);
    }
    struct task *t = b->free;
    if (t)
        b->free = (struct task *)t->node.next;
    else
        t = &b->v[b->fresh++];
    b->used++;
    if (!b->free && b->fresh == SLAB_TASKS)
        list_del(&b->node);
    memset(t, 0, sizeof *t);
    list_init(&t->node);
    return t;
}

struct task_more *task_need_more(struct task *t)
{
    if (t->more)
        return t->more;
    struct task_more *m = malloc(sizeof *m);
    if (!m)
        return NULL;
    *m = (struct task_more){.task = t, .deadline = UINT64_MAX};
    return t->more = m;
}

static void more_free(struct sched *s, struct task_more *m)
{
    if (!m)
        return;
    heap_del(&s->task_timers, &m->timer);
    set_unref(s, m->base);
    set_unref(s, m->set);
    free(m->black);
    free(m);
}

void task_free(struct sched *s, struct task *t)
{
    struct slab *b = (struct slab *)((uintptr_t)t & ~(uintptr_t)(SLAB_SIZE - 1));
    if (t->payload)
        s->payload_ops.unref(t->payload);
    if (t->count > 64)
        free(t->done.words);
    deps_free(s, t);
    more_free(s, t->more);
    bool was_full = !b->free && b->fresh == SLAB_TASKS;
    t->node.next = (struct list *)b->free;
    b->free = t;
    if (was_full)
        list_add_head(&s->slabs, &b->node);
    if (--b->used == 0 && (s->slabs.next != &b->node || s->slabs.prev != &b->node)) {
        list_del(&b->node);
        free(b);
    }
}

void task_pool_release(struct sched *s)
{
    list_each_safe(l, tmp, &s->slabs) free(list_entry(l, struct slab, node));
    list_init(&s->slabs);
}

uint64_t task_session(const struct task *t)
{
    return t->client->session;
}

uint32_t task_left_in(const struct task *t, uint64_t lo, uint64_t hi)
{
    uint32_t n = 0;
    for (uint64_t seq = lo > t->seq ? lo : t->seq; seq < hi && seq < task_end(t); seq++)
        n += !task_item_done(t, seq);
    return n;
}

bool task_live(const struct sched *s, struct sched_id id)
{
    struct task *t = task_find(s, id);
    return t && !task_item_done(t, id.seq);
}

/* --- counters --- */

uint64_t task_stealable(const struct task *t)
{
    const uint8_t no = TASK_TAKING | TASK_NO_TAKE | TASK_ABORT | TASK_CANCEL | TASK_UNSURE;
    if (t->mode != SCHED_BALANCED || t->flags & no)
        return 0;
    return t->state == SCHED_T_SENT ? t->left : t->left - 1;
}

/* Adds (sign 1) or takes away (-1) what t means to the counters of where it is. */
static void task_count(struct sched *s, struct task *t, int sign)
{
    uint64_t n = sign * (uint64_t)t->left;
    switch (t->state) {
    case SCHED_T_WAITING:
        s->unassigned += n;
        break;
    case SCHED_T_QUEUED:
        if (t->mode == SCHED_BALANCED || t->parked)
            s->unassigned += n;
        else
            t->engine->queued += n;
        break;
    case SCHED_T_SENT:
    case SCHED_T_RUNNING:
        t->engine->held[mode_class(t->mode)] += n;
        if (t->left)
            t->engine->stealable += sign * task_stealable(t);
        break;
    default:
        return;
    }
    if (sign > 0 && t->engine)
        engine_touch(s, t->engine);
}

void task_flag(struct sched *s, struct task *t, uint8_t set, uint8_t clear)
{
    task_count(s, t, -1);
    t->flags = (uint8_t)((t->flags & ~clear) | set);
    task_count(s, t, 1);
}

/* --- states --- */

#define TO(st) (1u << (st))
#define TO_END (TO(SCHED_T_FAILED) | TO(SCHED_T_CANCELLED) | TO(SCHED_T_EXPIRED) | TO(SCHED_T_LOST))

/* Which states may follow which. queued → done: the late result of an earlier attempt. */
static const uint32_t allowed_moves[] = {
    [SCHED_T_UNKNOWN] =
        TO(SCHED_T_WAITING) | TO(SCHED_T_QUEUED) | TO(SCHED_T_FAILED) | TO(SCHED_T_LOST),
    [SCHED_T_WAITING] = TO(SCHED_T_QUEUED) | TO_END,
    [SCHED_T_QUEUED] = TO(SCHED_T_QUEUED) | TO(SCHED_T_SENT) | TO(SCHED_T_DONE) | TO_END,
    [SCHED_T_SENT] = TO(SCHED_T_RUNNING) | TO(SCHED_T_QUEUED) | TO(SCHED_T_DONE) | TO_END,
    [SCHED_T_RUNNING] = TO(SCHED_T_QUEUED) | TO(SCHED_T_DONE) | TO_END,
};

static enum sched_task_state state_of_status(uint8_t status)
{
    switch (status) {
    case SCHED_S_OK:
        return SCHED_T_DONE;
    case SCHED_S_ABORTED:
    case SCHED_S_CANCELLED:
        return SCHED_T_CANCELLED;
    case SCHED_S_TIMEOUT:
        return SCHED_T_EXPIRED;
    case SCHED_S_ENGINE_DIED:
    case SCHED_S_LOST:
        return SCHED_T_LOST;
    default:
        return SCHED_T_FAILED;
    }
}

static void task_unlink(struct sched *s, struct task *t)
{
    task_count(s, t, -1);
    struct engine *was = t->engine;
    if (t->state == SCHED_T_QUEUED && t->mode == SCHED_BALANCED && !t->parked)
        queue_del(s, t);
    else
        list_del(&t->node);
    t->parked = 0;
    t->engine = NULL;
    if (was)
        engine_touch(s, was);
}

static void put(struct list *head, struct list *n, enum task_place place)
{
    if (place == TASK_HEAD)
        list_add_head(head, n);
    else
        list_add_tail(head, n);
}

void task_move(struct sched *s, struct task *t, enum sched_task_state to, struct engine *engine,
               enum task_place place)
{
    assert(t->state < sizeof allowed_moves / sizeof *allowed_moves &&
           allowed_moves[t->state] & TO(to));
    task_unlink(s, t);
    t->state = (uint8_t)to;
    t->engine = engine;
    switch (to) {
    case SCHED_T_WAITING:
        put(engine ? &engine->pending : &s->waiting, &t->node, place);
        break;
    case SCHED_T_QUEUED:
        t->flags &= (uint8_t)~(TASK_TAKING | TASK_NO_TAKE | TASK_UNSURE);
        if (t->mode == SCHED_BALANCED)
            queue_add(s, t, place);
        else
            put(&engine->waiting, &t->node, place);
        break;
    case SCHED_T_SENT:
        put(&engine->sent[mode_class(t->mode)], &t->node, place);
        break;
    case SCHED_T_RUNNING:
        put(&engine->running, &t->node, place);
        break;
    default:
        list_add_tail(&s->ended, &t->node);
        deps_free(s, t);
        task_index_del(s, t);
        task_arm(s, t, UINT64_MAX);
        if (!--t->client->live)
            client_idle(s, t->client);
        s->records--;
        return;
    }
    if (!(t->flags & TASK_KILL))
        task_arm(s, t, task_is_timed(t) ? task_more(t)->deadline : UINT64_MAX);
    task_count(s, t, 1);
}

void task_requeue_in(struct sched *s, struct task *t, struct task_set *set)
{
    task_unlink(s, t);
    t->more->set = set; /* it has: only what failed somewhere changes queues */
    queue_add(s, t, TASK_HEAD);
    task_count(s, t, 1);
}

void task_park(struct sched *s, struct task *t)
{
    struct engine *e = t->engine;
    task_unlink(s, t);
    t->parked = 1;
    t->engine = e;
    list_add_tail(e ? &e->parked : &t->client->parked, &t->node);
    task_count(s, t, 1);
}

void task_unpark(struct sched *s, struct task *t)
{
    struct engine *e = t->engine;
    task_unlink(s, t);
    t->engine = e;
    if (e)
        list_add_head(&e->waiting, &t->node);
    else
        queue_add(s, t, TASK_HEAD);
    task_count(s, t, 1);
}

void task_arm(struct sched *s, struct task *t, uint64_t at)
{
    struct task_more *m = at == UINT64_MAX ? t->more : task_need_more(t);
    if (m)
        heap_del(&s->task_timers, &m->timer);
    if (at != UINT64_MAX && (!m || heap_push(&s->task_timers, &m->timer, at) < 0))
        s->oom = true;
}

/* --- parts of ranges --- */

/* The done bits of [lo, hi) into out; *left: how many are not done. Returns CV_ENOMEM or CV_OK. */
static int bits_copy(const struct task *t, uint64_t lo, uint64_t hi, uint64_t *bits,
                     uint64_t **words, uint32_t *left)
{
    uint64_t n = hi - lo, *v = bits;
    *words = NULL;
    if (n > 64) {
        v = *words = calloc((n + 63) / 64, sizeof *v);
        if (!v)
            return CV_ENOMEM;
    }
    *bits = 0;
    *left = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (task_item_done(t, lo + i))
            v[i / 64] |= 1ull << i % 64;
        else
            ++*left;
    }
    return CV_OK;
}

static int more_copy(const struct task *t, struct task *c)
{
    if (!t->more)
        return CV_OK;
    struct task_black *black = NULL;
    if (t->more->nblack && !(black = malloc(t->more->nblack * sizeof *black)))
        return CV_ENOMEM;
    struct task_more *m = task_need_more(c);
    if (!m) {
        free(black);
        return CV_ENOMEM;
    }
    *m = *t->more;
    m->task = c;
    m->timer = (struct heap_node){0};
    m->black = black;
    m->capblack = m->nblack;
    if (black)
        memcpy(black, t->more->black, m->nblack * sizeof *black);
    set_ref(m->base);
    set_ref(m->set);
    return CV_OK;
}

/* A record of t's part [lo, hi), beside it in its list if that has unfinished items. */
static int task_clone(struct sched *s, struct task *t, uint64_t lo, uint64_t hi, struct task **ret)
{
    uint64_t bits, *words;
    uint32_t left;
    *ret = NULL;
    if (lo >= hi)
        return CV_OK;
    if (bits_copy(t, lo, hi, &bits, &words, &left) < 0)
        return CV_ENOMEM;
    if (!left) {
        free(words);
        return CV_OK;
    }
    struct task *c = task_alloc(s);
    if (!c) {
        free(words);
        return CV_ENOMEM;
    }
    *c = *t;
    list_init(&c->node);
    c->more = NULL;
    c->seq = lo;
    c->offset = t->offset + (uint32_t)(lo - t->seq);
    c->count = (uint32_t)(hi - lo);
    c->left = left;
    if (c->count > 64)
        c->done.words = words;
    else
        c->done.bits = bits;
    if (c->payload)
        s->payload_ops.ref(c->payload);
    if (more_copy(t, c) < 0) {
        task_free(s, c);
        return CV_ENOMEM;
    }
    *ret = c;
    return CV_OK;
}

static void task_shrink(struct task *t, uint64_t lo, uint64_t hi, uint64_t bits, uint64_t *words,
                        uint32_t left)
{
    if (t->count > 64)
        free(t->done.words);
    t->offset += (uint32_t)(lo - t->seq);
    t->seq = lo;
    t->count = (uint32_t)(hi - lo);
    t->left = left;
    if (t->count > 64)
        t->done.words = words;
    else
        t->done.bits = bits;
}

static void adopt(struct sched *s, struct task *t, struct task *c, bool before)
{
    if (!c)
        return;
    if (before)
        list_add_tail(&t->node, &c->node);
    else
        list_add_head(&t->node, &c->node);
    c->client->live++;
    s->records++;
    if (task_index_add(s, c) < 0)
        s->oom = true;
    if (t->more && heap_in(&t->more->timer))
        task_arm(s, c, t->more->timer.key);
    task_count(s, c, 1);
}

struct task *task_cut(struct sched *s, struct task *t, uint64_t lo, uint64_t hi)
{
    assert(task_on_engine(t) && lo < hi);
    if (lo < t->seq)
        lo = t->seq;
    if (hi > task_end(t))
        hi = task_end(t);
    if (lo == t->seq && hi == task_end(t))
        return t;
    struct task *a = NULL, *b = NULL;
    uint64_t bits, *words = NULL;
    uint32_t left;
    if (bits_copy(t, lo, hi, &bits, &words, &left) < 0 || task_clone(s, t, t->seq, lo, &a) < 0 ||
        task_clone(s, t, hi, task_end(t), &b) < 0) {
        if (a)
            task_free(s, a);
        free(words);
        s->oom = true;
        return NULL;
    }
    assert(left);
    task_count(s, t, -1);
    task_index_del(s, t);
    task_shrink(t, lo, hi, bits, words, left);
    if (task_index_add(s, t) < 0)
        s->oom = true;
    task_count(s, t, 1);
    adopt(s, t, a, true);
    adopt(s, t, b, false);
    return t;
}

/* --- actions and ends --- */

struct sched_action *task_act(struct sched *s, enum sched_action_type type, struct task *t,
                              uint64_t lo, uint64_t hi)
{
    struct sched_action *a = sched_push(s);
    if (!a)
        return NULL;
    *a = (struct sched_action){
        .type = type,
        .id = {task_session(t), lo},
        .count = (uint32_t)(hi - lo),
        .attempt = t->attempt,
        .engine = t->engine ? t->engine->number : SCHED_ENGINE_NONE,
        .incarnation = t->engine ? t->engine->incarnation : 0,
        .kind = t->kind,
        .flags = t->wire_flags,
        .offset = t->offset + (uint32_t)(lo - t->seq),
        .note = task_more(t)->note,
    };
    return a;
}

static void deliver(struct sched *s, struct task *t, uint64_t lo, uint64_t hi,
                    const struct task_word *w)
{
    struct sched_action *a = task_act(s, SCHED_DELIVER, t, lo, hi);
    if (!a)
        return;
    a->engine = w->engine;
    a->incarnation = w->incarnation;
    a->status = w->status;
    a->payload = w->payload;
    a->cause = w->cause;
    a->why = w->why;
    a->about = w->about;
    if (t->more && w->status == SCHED_S_ENGINE_DIED) {
        memcpy(a->killed, t->more->killed, sizeof a->killed);
        a->nkilled = (uint8_t)t->more->nkilled;
    }
}

static void mark_done(struct task *t, uint64_t seq)
{
    uint64_t i = seq - t->seq;
    if (t->count <= 64)
        t->done.bits |= 1ull << i;
    else
        t->done.words[i / 64] |= 1ull << i % 64;
    t->left--;
}

bool task_end_items(struct sched *s, struct task *t, uint64_t lo, uint64_t hi,
                    const struct task_word *w)
{
    if (lo < t->seq)
        lo = t->seq;
    if (hi > task_end(t))
        hi = task_end(t);
    task_count(s, t, -1);
    while (lo < hi) {
        uint64_t end = lo;
        for (; end < hi && !task_item_done(t, end); end++)
            mark_done(t, end);
        if (end > lo) {
            deliver(s, t, lo, end, w);
            if (t->flags & TASK_WATCHED || !list_empty(&s->filling))
                deps_ended(s, task_session(t), lo, end, w->status, w->engine,
                           t->flags & TASK_WATCHED);
        }
        lo = end > lo ? end : lo + 1;
    }
    task_count(s, t, 1);
    if (t->left)
        return false;
    task_move(s, t, state_of_status(w->status), NULL, TASK_TAIL);
    return true;
}

bool task_end_all(struct sched *s, struct task *t, const struct task_word *w)
{
    return task_end_items(s, t, t->seq, task_end(t), w);
}

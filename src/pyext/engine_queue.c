/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What an engine holds unstarted, and what it runs: queueing, giving back, cancelling, beginning.
 * All with the core's mutex held, by the I/O thread and the main thread alike, which is what makes
 * a cancel hit either the queue or exactly the item that runs. Out of memory when splitting ranges
 * keeps the item: it then runs. */
#include "pyext/engine.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "pyext/waiter.h"

#define EARLY_MAX (sizeof((struct engine_core *)0)->early / sizeof(struct header))

void etask_free(struct etask *t)
{
    msg_free(t->msg);
    ranges_release(&t->gone);
    free(t);
}

void engine_ready_update(struct engine_core *c)
{
    bool ready = !list_empty(&c->queue) || c->comm_head || c->bye;
    if (ready == c->ready)
        return;
    c->ready = ready;
    if (c->fd_asked && ready)
        event_set(c->ready_fd);
    else if (c->fd_asked)
        event_clear(c->ready_fd);
    if (c->waiting && ready) {
        c->waiting = false;
        io_yield(&c->io); /* a short task's result is then sent by who made it */
    }
}

void engine_ask_fd(struct engine_core *c, bool ask)
{
    if (c->fd_asked == ask)
        return;
    c->fd_asked = ask;
    if (!ask)
        event_clear(c->ready_fd);
    else if (c->ready)
        event_set(c->ready_fd);
}

static uint64_t end_of(const struct etask *t)
{
    return t->h.seq + t->h.count;
}

/* Items of t in [lo, hi) that have not begun leave it; each sub-range is reported. */
static bool remove_items(struct engine_core *c, struct etask *t, uint64_t lo, uint64_t hi,
                         const struct header *why,
                         void (*report)(struct engine_core *c, const struct etask *t,
                                        const struct header *why, uint64_t lo, uint64_t hi))
{
    bool any = false;
    if (lo < t->begun)
        lo = t->begun;
    if (hi > end_of(t))
        hi = end_of(t);
    while (lo < hi) {
        uint64_t end = lo;
        while (end < hi && !ranges_has(&t->gone, end))
            end++;
        if (end > lo && ranges_add(&t->gone, lo, end) == CV_OK) {
            report(c, t, why, lo, end);
            any = true;
        }
        lo = end > lo ? end : lo + 1;
    }
    return any;
}

static bool finished(const struct etask *t)
{
    for (uint64_t seq = t->begun; seq < end_of(t); seq++) {
        if (!ranges_has(&t->gone, seq))
            return false;
    }
    return true;
}

static bool concerns(const struct etask *t, const struct header *h, uint64_t lo, uint64_t hi)
{
    return t->h.session == h->session && (!h->attempt || t->h.attempt == h->attempt) &&
           t->h.seq < hi && lo < end_of(t);
}

static bool remove_from(struct engine_core *c, struct list *tasks, const struct header *h,
                        void (*report)(struct engine_core *c, const struct etask *t,
                                       const struct header *why, uint64_t lo, uint64_t hi))
{
    uint64_t lo = h->seq, hi = h->seq + (h->count ? h->count : 1);
    bool any = false;
    list_each_safe(n, tmp, tasks)
    {
        struct etask *t = list_entry(n, struct etask, node);
        if (!concerns(t, h, lo, hi))
            continue;
        any |= remove_items(c, t, lo, hi, h, report);
        if (tasks == &c->queue && finished(t)) {
            list_del(&t->node);
            etask_free(t);
        }
    }
    return any;
}

static void give_back(struct engine_core *c, const struct etask *t, const struct header *why,
                      uint64_t lo, uint64_t hi)
{
    struct header h = {.type = MSG_GIVE_BACK,
                       .session = why->session,
                       .seq = lo,
                       .count = (uint32_t)(hi - lo),
                       .attempt = t ? t->h.attempt : why->attempt,
                       .engine = c->number,
                       .incarnation = c->incarnation};
    int r = engine_send(c, &h, NULL);
    (void)r; /* out of memory: the controller asks again after its next reconnect */
}

void engine_take_back(struct engine_core *c, const struct header *take)
{
    bool any = remove_from(c, &c->queue, take, give_back);
    any |= remove_from(c, &c->open, take, give_back);
    if (!any)
        give_back(c, NULL, take, take->seq, take->seq);
    engine_ready_update(c);
}

static void refuse(struct engine_core *c, const struct etask *t, const struct header *why,
                   uint64_t lo, uint64_t hi)
{
    engine_refuse(c, &t->h, lo, hi, why->flags & MSG_F_ABORT);
}

/* The begun items: the one that runs gets SIGINT; others are as good as finished. */
static bool interrupt(struct engine_core *c, const struct header *h)
{
    uint64_t lo = h->seq, hi = h->seq + (h->count ? h->count : 1);
    if (!c->nbegun || c->session != h->session || (h->attempt && h->attempt != c->attempt))
        return false;
    if (lo > c->last_seq || hi <= c->begun[0].seq)
        return false;
    if (c->running && c->last_seq >= lo && c->last_seq < hi && !(h->flags & MSG_F_ABORT)) {
        c->wanted = true;
        c->wanted_session = c->session;
        c->wanted_seq = c->last_seq;
        pthread_kill(c->main_thread, SIGINT);
    }
    return true;
}

void engine_cancel(struct engine_core *c, const struct header *cancel)
{
    bool any = remove_from(c, &c->queue, cancel, refuse);
    any |= remove_from(c, &c->open, cancel, refuse);
    any |= interrupt(c, cancel);
    if (!any)
        c->early[c->nearly++ % EARLY_MAX] = *cancel;
    engine_ready_update(c);
}

int engine_enqueue(struct engine_core *c, struct msg *m)
{
    struct etask *t = calloc(1, sizeof *t);
    if (!t) {
        msg_free(m);
        return CV_ENOMEM;
    }
    t->msg = m;
    t->h = m->h;
    if (t->h.count == 0)
        t->h.count = m->h.count = 1;
    t->begun = t->h.seq;
    for (uint32_t i = 0; i < EARLY_MAX && i < c->nearly; i++) {
        struct header *h = &c->early[i];
        uint64_t hi = h->seq + (h->count ? h->count : 1);
        if (h->type == MSG_CANCEL && concerns(t, h, h->seq, hi))
            remove_items(c, t, h->seq, hi, h, refuse);
    }
    if (finished(t)) {
        etask_free(t);
        return CV_OK;
    }
    list_add_tail(&c->queue, &t->node);
    engine_ready_update(c);
    return CV_OK;
}

struct msg *engine_dequeue(struct engine_core *c)
{
    struct list *n = list_first(&c->queue);
    if (!n)
        return NULL;
    struct etask *t = list_entry(n, struct etask, node);
    struct msg *m = t->msg;
    t->msg = NULL;
    list_del(n);
    list_add_tail(&c->open, n);
    engine_ready_update(c);
    return m;
}

bool engine_may_begin(struct engine_core *c, uint64_t session, uint64_t seq, uint16_t attempt)
{
    list_each_safe(n, tmp, &c->open)
    {
        struct etask *t = list_entry(n, struct etask, node);
        if (t->h.session != session || t->h.attempt != attempt || seq < t->h.seq ||
            seq >= end_of(t))
            continue;
        bool gone = seq < t->begun || ranges_has(&t->gone, seq);
        if (seq >= t->begun)
            t->begun = seq + 1;
        if (t->begun == end_of(t)) {
            list_del(&t->node);
            etask_free(t);
        }
        return !gone;
    }
    return false;
}

int engine_begun(struct engine_core *c, uint64_t session, uint64_t seq, uint16_t attempt)
{
    if (c->nbegun == c->begun_cap) {
        uint32_t cap = c->begun_cap ? c->begun_cap * 2 : 16;
        struct begun *bigger = realloc(c->begun, cap * sizeof *bigger);
        if (!bigger)
            return CV_ENOMEM;
        c->begun = bigger;
        c->begun_cap = cap;
    }
    uint64_t mono = clock_mono();
    if (c->nbegun == 0)
        c->wall_ahead = clock_wall() - mono;
    uint64_t now = mono + c->wall_ahead;
    c->begun[c->nbegun++] = (struct begun){seq, now};
    c->session = session;
    c->attempt = attempt;
    c->last_seq = seq;
    c->has_last = true;
    c->begun_mono = mono;
    c->wanted = false;
    struct statuspage *p = c->page;
    atomic_store_explicit(&p->session, session, memory_order_relaxed);
    atomic_store_explicit(&p->seq, seq, memory_order_relaxed);
    atomic_store_explicit(&p->attempt, attempt, memory_order_relaxed);
    atomic_store_explicit(&p->started, now, memory_order_relaxed);
    atomic_store_explicit(&p->state, 2, memory_order_release);
    /* those before it are done, and should we die their results may be here still */
    atomic_fetch_add_explicit(&p->tasks_done, c->nbegun - 1 - c->ncounted, memory_order_relaxed);
    c->ncounted = c->nbegun - 1;
    c->running = true;
    return CV_OK;
}

void engine_queue_release(struct engine_core *c)
{
    struct list *lists[] = {&c->queue, &c->open};
    for (int i = 0; i < 2; i++) {
        list_each_safe(n, tmp, lists[i]) etask_free(list_entry(n, struct etask, node));
    }
    while (c->comm_head) {
        struct msg *m = c->comm_head;
        c->comm_head = m->next;
        msg_free(m);
    }
    msg_free(c->bye);
    free(c->begun);
}

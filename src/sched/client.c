/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Clients, as far as the scheduler needs them: which ids they used, and what becomes of their tasks
 * while they are gone. Called by the scheduler's one thread. */
#include <stdlib.h>

#include "sched/dispatch.h"
#include "sched/event.h"

struct client *client_get(struct sched *s, uint64_t session)
{
    struct client *c = hash_get(&s->clients, 0, session);
    if (c)
        return c;
    c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->session = session;
    list_init(&c->parked);
    if (hash_put(&s->clients, 0, session, c, NULL) < 0) {
        free(c);
        return NULL;
    }
    return c;
}

int client_use(struct client *c, uint64_t lo, uint64_t hi)
{
    const struct range *last = c->places.n ? &c->places.v[c->places.n - 1] : NULL;
    if (last && last->lo <= lo && hi <= last->hi)
        return CV_OK;
    return ranges_add(&c->places, lo / CLIENT_BLOCK * CLIENT_BLOCK,
                      (hi + CLIENT_BLOCK - 1) / CLIENT_BLOCK * CLIENT_BLOCK);
}

void client_free(struct client *c)
{
    ranges_release(&c->places);
    free(c);
}

static void client_forget(struct sched *s, struct client *c)
{
    heap_del(&s->client_timers, &c->grace);
    hash_del(&s->clients, 0, c->session);
    client_free(c);
}

void client_gone(struct sched *s, const struct sched_event *ev)
{
    struct client *c = hash_get(&s->clients, 0, ev->id.session);
    if (!c || c->gone)
        return;
    c->gone = true;
    if (!c->live)
        client_idle(s, c);
    else if (s->o.client_grace_ns &&
             heap_push(&s->client_timers, &c->grace, s->now + s->o.client_grace_ns) < 0)
        s->oom = true;
}

void client_idle(struct sched *s, struct client *c)
{
    if (!c->gone || c->paused)
        return;
    heap_del(&s->client_timers, &c->grace);
    int r = heap_push(&s->client_timers, &c->grace, s->now + 1); /* ended records name it */
    (void)r; /* out of memory: it is kept, which harms nobody */
}

/* What had its turn meanwhile goes back to the head of its queue, the youngest first. */
static void unpark(struct sched *s, struct client *c)
{
    struct engine *e;
    for (size_t i = 0; (e = hash_next(&s->engines, &i));)
        for (struct list *l = e->parked.prev, *tmp = l->prev; l != &e->parked;
             l = tmp, tmp = l->prev) {
            struct task *t = list_entry(l, struct task, node);
            if (t->client == c)
                task_unpark(s, t);
        }
    while (!list_empty(&c->parked)) {
        struct task *t = list_entry(c->parked.prev, struct task, node);
        if (set_alive(s, task_more(t)->set))
            task_unpark(s, t);
        else
            task_return(s, t, NULL);
    }
}

void client_pause(struct sched *s, const struct sched_event *ev)
{
    bool pause = ev->type == SCHED_CLIENT_PAUSE;
    struct client *c =
        pause ? client_get(s, ev->id.session) : hash_get(&s->clients, 0, ev->id.session);
    if (!c) {
        s->oom |= pause;
        return;
    }
    c->paused = pause;
    if (!c->paused)
        unpark(s, c);
    if (!c->live)
        client_idle(s, c);
}

static void again(struct sched *s, uint64_t session, uint64_t lo, uint64_t hi)
{
    while (lo < hi) {
        uint32_t n = hi - lo < UINT32_MAX ? (uint32_t)(hi - lo) : UINT32_MAX;
        struct sched_action *a = sched_push(s);
        if (!a)
            return;
        *a = (struct sched_action){
            .type = SCHED_AGAIN, .id = {session, lo}, .count = n, .engine = SCHED_ENGINE_NONE};
        lo += n;
    }
}

/* [lo, hi) of session without the items that are live. */
static void again_range(struct sched *s, uint64_t session, uint64_t lo, uint64_t hi)
{
    struct task_walk w = task_walk(s, (struct sched_id){session, lo}, hi - lo);
    struct task *t;
    uint64_t from = lo; /* not live from here on, as far as looked at */
    while ((t = task_walk_next(s, &w)))
        for (uint64_t seq = w.lo; seq < w.hi; seq++)
            if (!task_item_done(t, seq)) {
                again(s, session, from, seq);
                from = seq + 1;
            }
    again(s, session, from, hi);
}

void client_back(struct sched *s, const struct sched_event *ev)
{
    struct client *c = hash_get(&s->clients, 0, ev->id.session);
    if (c) {
        c->gone = false;
        c->swept = 0;
        heap_del(&s->client_timers, &c->grace);
    }
    for (uint32_t i = 0; i < ev->client.nwaiting; i++) {
        const struct sched_range *r = &ev->client.waiting[i];
        if (r->lo < r->hi)
            again_range(s, r->session, r->lo, r->hi);
    }
}

/* Ends what it has that no engine holds, a slice at a time. False: there is more. */
static bool client_sweep(struct sched *s, struct client *c)
{
    struct task_word w = task_word(SCHED_S_ABORTED, "its client was gone for too long");
    struct task_walk walk = task_walk(s, (struct sched_id){c->session, c->swept}, UINT64_MAX);
    struct task *t;
    while (c->live && s->budget && (t = task_walk_next(s, &walk))) {
        s->budget--;
        if (!task_on_engine(t))
            task_end_all(s, t, &w);
    }
    c->swept = walk.seq;
    if (c->live && walk.seq < walk.end)
        return false;
    c->swept = 0;
    return true;
}

void client_tick(struct sched *s)
{
    struct heap_node *n;
    while (s->budget && (n = heap_top(&s->client_timers)) && n->key <= s->now) {
        struct client *c = container_of(n, struct client, grace);
        if (!client_sweep(s, c))
            return;
        if (c->live == 0 && !c->paused)
            client_forget(s, c);
        else
            heap_del(&s->client_timers, n);
    }
}

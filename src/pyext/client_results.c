/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A client's results table: which ids are pending, what became of the others, who waits for
 * them, and which messages are kept to be sent again. Called with the core's mutex held by Python
 * threads and the I/O thread alike. Memory that may call release hooks is not freed here but put on
 * a garbage chain that the caller frees after unlocking; waiters that became due are chained
 * likewise and woken then. */
#include "pyext/client.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/jsontext.h"
#include "pyext/waiter.h"

#define OUT_DEFERRED                                                                               \
    2 /* messages that may wait for a leader: who submits one mostly waits for it */
#define FOREIGN_RANGE_MAX (1u << 20) /* ids of another session that one message may finish */

static void throw_away(struct msg *m, struct msg **garbage)
{
    if (!m)
        return;
    m->next = *garbage;
    *garbage = m;
}

void garbage_free(struct msg *garbage)
{
    while (garbage) {
        struct msg *next = garbage->next;
        msg_free(garbage);
        garbage = next;
    }
}

void waiters_wake(struct core *c, struct waiter *due)
{
    while (due) {
        struct waiter *next = due->due_next;
        /* first: whoever finds it still chained leaves the waking to the look below */
        atomic_store(&due->due, false);
        bool leads = atomic_load(&due->leads);
        if (!leads)
            event_set(due->fd);
        else if (!pthread_equal(due->thread, pthread_self()))
            io_wake(&c->io, true); /* its turn ends, and it looks */
        due = next;
    }
}

struct slot *core_slot(struct core *c, uint64_t session, uint64_t seq)
{
    return hash_get(&c->slots, session, seq);
}

static uint64_t slot_seq(const struct slot *sl)
{
    return sl->sub->lo + (uint64_t)(sl - sl->sub->slots);
}

int submit_new(struct submit **ret, uint32_t count)
{
    struct submit *s = calloc(1, sizeof *s + count * sizeof(struct slot));
    if (!s)
        return CV_ENOMEM;
    s->count = s->live = s->pending = count;
    s->out.sub = s;
    list_init(&s->node);
    list_init(&s->kept_node);
    for (uint32_t i = 0; i < count; i++) {
        s->slots[i].sub = s;
        list_init(&s->slots[i].waiters);
    }
    *ret = s;
    return CV_OK;
}

int core_enter(struct core *c, struct submit *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        if (hash_put(&c->slots, s->session, s->lo + i, &s->slots[i], NULL)) {
            while (i > 0)
                hash_del(&c->slots, s->session, s->lo + --i);
            return CV_ENOMEM;
        }
    }
    list_add_tail(&c->submits, &s->node);
    return CV_OK;
}

/* Submitters that wait go on when an eighth is free, so that they don't wake for each result. */
static bool has_room(const struct room *r)
{
    return r->tasks <= r->max_tasks - r->max_tasks / 8 &&
           r->bytes <= r->max_bytes - r->max_bytes / 8;
}

void core_room_take(struct core *c, struct submit *s)
{
    s->counted = true;
    s->bytes = s->msg->h.body_len;
    c->room.tasks += s->count;
    c->room.bytes += s->bytes;
}

/* One more of s has ended, or is not wanted any more. */
static void room_give(struct core *c, struct submit *s)
{
    struct room *r = &c->room;
    if (!s->counted)
        return;
    r->tasks--;
    if (s->pending == 0)
        r->bytes -= s->bytes;
    if (r->wanted && has_room(r)) {
        r->wanted = false;
        event_set(r->fd);
    }
}

void core_queue(struct core *c, struct out *o)
{
    bool was_empty = !c->out_head;
    o->next = NULL;
    *c->out_tail = o;
    c->out_tail = &o->next;
    c->nout++;
    if (was_empty || c->nout == OUT_DEFERRED + 1)
        io_wake(&c->io, c->nout > OUT_DEFERRED);
}

void core_event(struct core *c, struct msg *m)
{
    bool was_empty = !c->ev_head;
    c->ev_bytes += m->h.body_len;
    m->next = NULL;
    *c->ev_tail = m;
    c->ev_tail = &m->next;
    if (was_empty)
        event_set(c->ev_fd);
}

static void notify(struct slot *sl, struct waiter **due)
{
    while (!list_empty(&sl->waiters)) {
        struct wait_link *wl = list_entry(list_first(&sl->waiters), struct wait_link, node);
        struct waiter *w = wl->waiter;
        list_del(&wl->node);
        if (w->left > 0 && --w->left == 0 && !atomic_exchange(&w->due, true)) {
            w->due_next = *due;
            *due = w;
        }
    }
}

/* What keeping it costs: a function that many tasks share is the heads' (heads.h). */
static uint64_t kept_bytes(const struct submit *s)
{
    return s->msg->payload ? payload_own_bytes(s->msg->payload) : 0;
}

void core_unkeep(struct core *c, struct submit *s)
{
    if (list_empty(&s->kept_node))
        return;
    list_del(&s->kept_node);
    c->kept_bytes -= kept_bytes(s);
}

static void drop_kept(struct core *c, struct submit *s, struct msg **garbage)
{
    if (!s->msg || s->queued)
        return;
    core_unkeep(c, s);
    throw_away(s->msg, garbage);
    s->msg = NULL;
}

static void finish_slot(struct core *c, struct slot *sl, struct result *r, struct waiter **due,
                        struct msg **garbage)
{
    struct submit *s = sl->sub;
    r->refs++;
    sl->res = r;
    s->pending--;
    room_give(c, s);
    if (s->pending == 0)
        drop_kept(c, s, garbage);
    if (sl->watch) {
        sl->watch->h.status = r->msg->h.status;
        sl->watch->h.engine = r->msg->h.engine;
        core_event(c, sl->watch);
        sl->watch = NULL;
    }
    notify(sl, due);
}

void core_finish(struct core *c, uint64_t session, uint64_t lo, uint32_t n, struct result *r,
                 struct waiter **due, struct msg **garbage)
{
    uint64_t hi = lo + n;
    if (session != c->session && n > FOREIGN_RANGE_MAX)
        hi = lo + FOREIGN_RANGE_MAX;
    if (session == c->session && hi > c->next_seq)
        hi = c->next_seq; /* ids that never were: whatever a peer says, this loop is bounded */
    for (uint64_t seq = lo; seq < hi; seq++) {
        struct slot *sl = core_slot(c, session, seq);
        if (sl && !sl->res)
            finish_slot(c, sl, r, due, garbage);
    }
}

int result_lost(struct result **ret, const char *why)
{
    struct header h = {.type = MSG_RESULT, .status = RESULT_LOST, .engine = WIRE_ENGINE_NONE};
    struct payload *p = NULL;
    struct result *r = calloc(1, sizeof *r);
    json_t *j =
        json_pack("{s:s, s:s, s:n, s:n}", "ename", "LostTask", "evalue", why, "engine", "cause");
    char *text = j ? jsontext(j, JSON_COMPACT) : NULL;
    json_decref(j);
    int code = CV_ENOMEM;
    if (!r || !text)
        goto out;
    code = payload_new_copy(&p, text, __builtin_strlen(text));
    if (code)
        goto out;
    code = msg_new(&r->msg, &h, NULL, 0, p);
    if (code)
        goto out;
    r->received = clock_wall();
    *ret = r;
    r = NULL;
out:
    free(text);
    free(r);
    return code;
}

void core_lose(struct core *c, struct submit *s, const char *why, struct waiter **due,
               struct msg **garbage)
{
    struct result *r;
    if (result_lost(&r, why))
        return;
    r->refs = 1;
    r->msg->h.session = s->session;
    r->msg->h.seq = s->lo;
    r->msg->h.count = s->count;
    for (uint32_t i = 0; i < s->count; i++) {
        struct slot *sl = &s->slots[i];
        if (sl->sub && !sl->res)
            finish_slot(c, sl, r, due, garbage);
    }
    result_unref(c, r, garbage);
}

void core_lose_all(struct core *c, const char *why, struct waiter **due, struct msg **garbage)
{
    list_each_safe(n, tmp, &c->submits)
    {
        struct submit *s = list_entry(n, struct submit, node);
        if (s->pending)
            core_lose(c, s, why, due, garbage);
    }
}

void result_unref(struct core *c, struct result *r, struct msg **garbage)
{
    if (!r || --r->refs)
        return;
    throw_away(r->msg, garbage);
    free(r);
}

void core_remove(struct core *c, struct slot *sl, struct result **ret, struct waiter **due,
                 struct msg **garbage)
{
    struct submit *s = sl->sub;
    hash_del(&c->slots, s->session, slot_seq(sl));
    notify(sl, due);
    throw_away(sl->watch, garbage);
    *ret = sl->res;
    if (!sl->res) {
        s->pending--;
        room_give(c, s);
        if (s->pending == 0)
            drop_kept(c, s, garbage);
    }
    *sl = (struct slot){0}; /* sub == NULL: removed */
    if (--s->live)
        return;
    list_del(&s->node);
    list_init(&s->node);
    if (!s->queued) /* else the I/O thread frees it when it has sent it */
        free(s);
}

/* A link that has not sent it yet holds its payload, too: letting go of it would free nothing. */
static bool is_unsent(const struct submit *s)
{
    const struct payload *p = s->msg->payload, *own = p ? payload_own(p) : NULL;
    return p && (atomic_load(&p->refs) > 1 || (own && atomic_load(&own->refs) > 1));
}

void core_trim(struct core *c, struct msg **garbage)
{
    c->over = false;
    while (c->kept_bytes > c->keep_max && !list_empty(&c->kept)) {
        struct submit *oldest = list_entry(list_first(&c->kept), struct submit, kept_node);
        c->over = is_unsent(oldest);
        if (c->over)
            return;
        drop_kept(c, oldest, garbage);
    }
}

void core_keep(struct core *c, struct submit *s, struct msg **garbage)
{
    s->queued = false;
    if (s->pending == 0) {
        drop_kept(c, s, garbage);
        if (s->live == 0)
            free(s);
        return;
    }
    if (!s->msg || s->foreign)
        return; /* foreign: dropped when the link has sent it */
    list_add_tail(&c->kept, &s->kept_node);
    c->kept_bytes += kept_bytes(s);
    core_trim(c, garbage);
}

struct waiter *waiter_get(struct core *c)
{
    struct waiter *w = c->idle_waiters;
    if (w) {
        c->idle_waiters = w->next;
    } else {
        w = calloc(1, sizeof *w);
        if (!w)
            return NULL;
        w->fd = -1;
    }
    if (w->fd < 0)
        w->fd = event_new();
    return w;
}

void waiter_put(struct core *c, struct waiter *w)
{
    w->left = 0;
    w->next = c->idle_waiters;
    c->idle_waiters = w;
}

void core_results_release(struct core *c)
{
    struct waiter *due = NULL;
    struct msg *garbage = NULL;
    struct result *r;
    struct slot *sl;
    for (size_t i = 0; (sl = hash_next(&c->slots, &i));)
        list_init(&sl->waiters);
    list_each_safe(n, tmp, &c->submits)
    {
        struct submit *s = list_entry(n, struct submit, node);
        uint32_t count = s->count;
        for (uint32_t i = 0; i < count && s->live; i++) {
            if (!s->slots[i].sub)
                continue;
            bool last = s->live == 1;
            core_remove(c, &s->slots[i], &r, &due, &garbage);
            result_unref(c, r, &garbage);
            if (last)
                break; /* freed */
        }
    }
    hash_release(&c->slots);
    garbage_free(garbage);
    while (c->idle_waiters) {
        struct waiter *w = c->idle_waiters;
        c->idle_waiters = w->next;
        if (w->fd >= 0)
            close(w->fd);
        free(w);
    }
    garbage_free(c->ev_head);
    msg_free(c->welcome);
}

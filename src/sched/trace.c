/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See trace.h. One walk over an item's fields serves both directions. */
#include "sched/trace.h"

#include <stdlib.h>
#include <string.h>

#define ARRAY_MAX (1u << 24) /* entries of one array that a reader believes */

struct walk {
    struct trace *t;
    const uint8_t *p, *end; /* reading; p NULL: writing */
    int code;
};

static void put(struct walk *w, const void *data, size_t n)
{
    if (buf_add(&w->t->out, data, n) != CV_OK)
        w->t->oom = true;
}

static void bytes(struct walk *w, void *data, size_t n)
{
    if (!w->p) {
        put(w, data, n);
    } else if ((size_t)(w->end - w->p) < n) {
        w->code = CV_EOF;
        memset(data, 0, n);
    } else {
        memcpy(data, w->p, n);
        w->p += n;
    }
}

static void number(struct walk *w, uint64_t *v)
{
    uint8_t b[10];
    if (!w->p) {
        size_t n = 0;
        uint64_t x = *v;
        for (; x >= 0x80; x >>= 7)
            b[n++] = (uint8_t)(x | 0x80);
        b[n++] = (uint8_t)x;
        put(w, b, n);
        return;
    }
    *v = 0;
    for (unsigned shift = 0; shift < 64 && w->code == CV_OK; shift += 7) {
        bytes(w, b, 1);
        *v |= (uint64_t)(b[0] & 0x7f) << shift;
        if (!(b[0] & 0x80))
            return;
    }
}

/* A field of any integer type. */
#define FIELD(w, f)                                                                                \
    do {                                                                                           \
        uint64_t field_ = (uint64_t)(f);                                                           \
        number((w), &field_);                                                                      \
        (f) = (typeof(f))field_;                                                                   \
    } while (0)

static void session(struct walk *w, uint64_t *s)
{
    struct trace *t = w->t;
    uint64_t n = 0;
    if (!w->p) {
        n = (uint64_t)(uintptr_t)hash_get(&t->numbers, 0, *s);
        number(w, &n);
        if (n)
            return;
        bytes(w, s, sizeof *s);
        if (hash_put(&t->numbers, 0, *s, (void *)(uintptr_t)++t->n, NULL) != CV_OK)
            t->oom = true;
        return;
    }
    number(w, &n);
    if (n > t->n)
        w->code = CV_EPROTO;
    else if (n)
        *s = t->sessions[n - 1];
    if (n || w->code != CV_OK)
        return;
    bytes(w, s, sizeof *s);
    uint64_t *more = realloc(t->sessions, (t->n + 1) * sizeof *more);
    if (!more) {
        w->code = CV_ENOMEM;
        return;
    }
    t->sessions = more;
    more[t->n++] = *s;
}

static void pointer(struct walk *w, void **p)
{
    uint8_t there = *p != NULL;
    bytes(w, &there, 1);
    if (w->p)
        *p = there ? w->t : NULL; /* a stand-in */
}

/* n entries of size bytes each; reading makes the array. */
static void *array(struct walk *w, const void *v, uint32_t *n, size_t size)
{
    FIELD(w, *n);
    if (!w->p)
        return (void *)v;
    if (*n > ARRAY_MAX || w->code != CV_OK) {
        *n = 0;
        if (w->code == CV_OK)
            w->code = CV_EPROTO;
        return NULL;
    }
    void *made = calloc(*n + 1, size);
    if (!made)
        w->code = CV_ENOMEM;
    return made;
}

static const struct sched_range *ranges(struct walk *w, const struct sched_range *v, uint32_t *n)
{
    struct sched_range *r = array(w, v, n, sizeof *r);
    for (uint32_t i = 0; r && i < *n; i++) {
        struct sched_range x = r[i]; /* a writer's are not its own */
        session(w, &x.session);
        FIELD(w, x.lo);
        FIELD(w, x.hi);
        if (w->p)
            r[i] = x;
    }
    return r;
}

static void submit(struct walk *w, struct sched_event *ev)
{
    bool named = ev->submit.targets != NULL;
    FIELD(w, ev->submit.mode);
    FIELD(w, ev->submit.kind);
    FIELD(w, ev->submit.flags);
    FIELD(w, named);
    if (named) {
        uint32_t *v = array(w, ev->submit.targets, &ev->submit.ntargets, sizeof *v);
        for (uint32_t i = 0; v && i < ev->submit.ntargets; i++) {
            uint32_t x = v[i];
            FIELD(w, x);
            if (w->p)
                v[i] = x;
        }
        ev->submit.targets = v;
    }
    bytes(w, &ev->submit.timeout, sizeof ev->submit.timeout);
    FIELD(w, ev->submit.retries);
    uint32_t priority = (uint32_t)ev->submit.priority;
    FIELD(w, priority);
    ev->submit.priority = (int32_t)priority;
    pointer(w, &ev->submit.payload);
    pointer(w, &ev->submit.note);
    ev->submit.after = ranges(w, ev->submit.after, &ev->submit.nafter);
    ev->submit.follow = ranges(w, ev->submit.follow, &ev->submit.nfollow);
    FIELD(w, ev->submit.after_flags);
    FIELD(w, ev->submit.follow_flags);
    FIELD(w, ev->submit.offset);
    FIELD(w, ev->submit.held.engine);
    FIELD(w, ev->submit.held.incarnation);
    FIELD(w, ev->submit.held.attempt);
    FIELD(w, ev->submit.held.running);
}

static void held(struct walk *w, struct sched_held *h)
{
    session(w, &h->id.session);
    FIELD(w, h->id.seq);
    FIELD(w, h->count);
    FIELD(w, h->attempt);
}

static void back(struct walk *w, struct sched_event *ev)
{
    held(w, &ev->back.running);
    struct sched_held *v = array(w, ev->back.unstarted, &ev->back.nunstarted, sizeof *v);
    for (uint32_t i = 0; v && i < ev->back.nunstarted; i++) {
        struct sched_held x = v[i];
        held(w, &x);
        if (w->p)
            v[i] = x;
    }
    ev->back.unstarted = v;
}

static void event(struct walk *w, struct sched_event *ev)
{
    session(w, &ev->id.session);
    FIELD(w, ev->id.seq);
    FIELD(w, ev->count);
    FIELD(w, ev->attempt);
    FIELD(w, ev->engine);
    FIELD(w, ev->incarnation);
    switch (ev->type) {
    case SCHED_SUBMIT:
        submit(w, ev);
        break;
    case SCHED_RESULT:
        FIELD(w, ev->result.status);
        FIELD(w, ev->result.run_ns);
        pointer(w, &ev->result.payload);
        break;
    case SCHED_ENGINE_BACK:
        back(w, ev);
        break;
    case SCHED_ENGINE_DEAD:
        FIELD(w, ev->dead.known);
        held(w, &ev->dead.running);
        FIELD(w, ev->dead.unreported);
        FIELD(w, ev->dead.free_of_charge);
        pointer(w, &ev->dead.cause);
        break;
    case SCHED_CLIENT_BACK:
        ev->client.waiting = ranges(w, ev->client.waiting, &ev->client.nwaiting);
        break;
    case SCHED_CANCEL:
        FIELD(w, ev->cancel.how);
        FIELD(w, ev->cancel.kill_after_ns);
        break;
    default:
        break;
    }
}

static void options(struct walk *w, struct trace_item *i)
{
    bytes(w, i->policy_name, sizeof i->policy_name);
    FIELD(w, i->options.hwm);
    FIELD(w, i->options.away_grace_ns);
    FIELD(w, i->options.client_grace_ns);
    FIELD(w, i->options.seed);
    i->policy_name[sizeof i->policy_name - 1] = 0;
    i->options.policy = i->policy_name;
}

/* The first number of an item: its kind, and for an EVENT its type. */
static void item(struct walk *w, struct trace_item *i)
{
    uint64_t head = (uint64_t)i->kind | (uint64_t)i->event.type << 2, gap = i->now - w->t->now;
    number(w, &head);
    i->kind = head & 3;
    switch (i->kind) {
    case TRACE_BEGIN:
        options(w, i);
        break;
    case TRACE_EVENT:
        i->event.type = (enum sched_event_type)(head >> 2);
        number(w, &gap);
        w->t->now += gap;
        i->now = w->t->now;
        event(w, &i->event);
        break;
    case TRACE_OUTCOME:
        session(w, &i->outcome.id.session);
        FIELD(w, i->outcome.id.seq);
        FIELD(w, i->outcome.known);
        FIELD(w, i->outcome.status);
        FIELD(w, i->outcome.engine);
        break;
    case TRACE_END:
        i->code = -i->code;
        FIELD(w, i->code);
        i->code = -i->code;
        FIELD(w, i->nactions);
        bytes(w, &i->digest, sizeof i->digest);
        break;
    }
}

/* --- writing --- */

static void write_item(struct trace *t, struct trace_item *i)
{
    struct walk w = {.t = t};
    item(&w, i);
}

void trace_begin(struct trace *t, const struct sched_options *o)
{
    struct trace_item i = {.kind = TRACE_BEGIN, .options = *o};
    struct walk w = {.t = t};
    strncpy(i.policy_name, o->policy ? o->policy : "leastload", sizeof i.policy_name - 1);
    put(&w, TRACE_MAGIC, strlen(TRACE_MAGIC));
    write_item(t, &i);
}

void trace_event(struct trace *t, uint64_t now, const struct sched_event *ev)
{
    struct trace_item i = {.kind = TRACE_EVENT, .event = *ev, .now = now > t->now ? now : t->now};
    write_item(t, &i);
}

void trace_outcome(struct trace *t, const struct trace_outcome *o)
{
    struct trace_item i = {.kind = TRACE_OUTCOME, .outcome = *o};
    write_item(t, &i);
}

void trace_end(struct trace *t, int code, const struct sched_action *v, size_t n)
{
    struct trace_item i = {
        .kind = TRACE_END, .code = code, .nactions = (uint32_t)n, .digest = trace_digest(v, n)};
    write_item(t, &i);
}

void trace_release(struct trace *t)
{
    buf_release(&t->out);
    hash_release(&t->numbers);
    free(t->sessions);
    *t = (struct trace){0};
}

/* --- reading --- */

int trace_next(struct trace *t, const uint8_t **p, const uint8_t *end, struct trace_item *ret)
{
    struct walk w = {.t = t, .p = *p, .end = end};
    *ret = (struct trace_item){0};
    item(&w, ret);
    if (w.code == CV_OK)
        *p = w.p;
    else
        trace_item_release(ret);
    return w.code;
}

void trace_item_release(struct trace_item *i)
{
    if (i->kind != TRACE_EVENT)
        return;
    if (i->event.type == SCHED_SUBMIT) {
        free((void *)i->event.submit.targets);
        free((void *)i->event.submit.after);
        free((void *)i->event.submit.follow);
    } else if (i->event.type == SCHED_ENGINE_BACK) {
        free((void *)i->event.back.unstarted);
    } else if (i->event.type == SCHED_CLIENT_BACK) {
        free((void *)i->event.client.waiting);
    }
    i->kind = TRACE_END;
}

static uint32_t mix(uint32_t h, uint64_t v)
{
    v = (v ^ h) * 0xFF51AFD7ED558CCDu;
    return (uint32_t)(v >> 32 ^ v);
}

uint32_t trace_digest(const struct sched_action *v, size_t n)
{
    uint32_t h = 0;
    for (size_t i = 0; i < n; i++) {
        const struct sched_action *a = &v[i];
        h = mix(h, (uint64_t)a->type << 32 | (uint64_t)a->kind << 8 | a->status);
        h = mix(h, a->id.session);
        h = mix(h, a->id.seq);
        h = mix(h, (uint64_t)a->count << 16 | a->attempt);
        h = mix(h, (uint64_t)a->engine << 32 | a->incarnation);
        h = mix(h, (uint64_t)a->offset << 16 | a->flags);
    }
    return h;
}

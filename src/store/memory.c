/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Records in memory. Owns the records, their strings and output, and a reference of each payload.
 * One list holds all records by submission; each record that has ended is also in the list of its
 * state, oldest first, from which eviction takes. Out of memory while a record is split leaves it
 * whole and pending. */
#include "store/memory.h"

#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "store/index.h"

struct session {
    uint64_t id;
    struct index index;
    struct ranges expired;
    uint64_t records;
};

struct memory {
    struct store store;
    struct store_limits limits;
    struct store_payload_ops payload;
    struct hash sessions;
    struct list by_time;
    struct list states[STORE_DELIVERED + 1];
    uint64_t counts[STORE_DELIVERED + 1];
    uint64_t bytes; /* of ended and delivered records */
};

static struct memory *memory_of(const struct store *s)
{
    return (struct memory *)s;
}

static uint64_t record_bytes(const struct store_record *r)
{
    return r->task_bytes + r->result.bytes + r->output[STORE_STDOUT].len +
           r->output[STORE_STDERR].len;
}

static void record_move(struct memory *m, struct store_record *r, enum store_state to)
{
    if (r->state == STORE_PENDING && to != STORE_PENDING)
        m->bytes += record_bytes(r);
    m->counts[r->state]--;
    list_del(&r->by_state);
    r->state = to;
    m->counts[to]++;
    list_add_tail(&m->states[to], &r->by_state);
}

static void record_free(struct memory *m, struct store_record *r)
{
    m->payload.unref(r->task);
    m->payload.unref(r->result.payload);
    for (int i = 0; i < STORE_STREAMS; i++)
        buf_release(&r->output[i]);
    free(r->label);
    free(r);
}

static void session_drop_if_empty(struct memory *m, struct session *x)
{
    if (x->records)
        return;
    hash_del(&m->sessions, 0, x->id);
    index_release(&x->index);
    ranges_release(&x->expired);
    free(x);
}

/* Out of memory here means that the ids will be called unknown instead of expired. */
static void expired_add(struct session *x, const struct store_record *r)
{
    int code = ranges_add(&x->expired, r->lo, r->hi);

    (void)code;
}

/* Takes a record out of everything and frees it. */
static void record_drop(struct memory *m, struct store_record *r, bool expired)
{
    struct session *x = hash_get(&m->sessions, 0, r->session);

    if (r->state != STORE_PENDING)
        m->bytes -= record_bytes(r);
    m->counts[r->state]--;
    list_del(&r->by_state);
    list_del(&r->by_time);
    index_remove(&x->index, r);
    if (expired)
        expired_add(x, r);
    record_free(m, r);
    x->records--;
    session_drop_if_empty(m, x);
}

static void evict(struct memory *m)
{
    for (int state = STORE_DELIVERED; state >= STORE_ENDED; state--) {
        struct list *l;
        while ((m->bytes > m->limits.bytes ||
                m->counts[STORE_ENDED] + m->counts[STORE_DELIVERED] > m->limits.records) &&
               (l = list_first(&m->states[state])))
            record_drop(m, list_entry(l, struct store_record, by_state), true);
    }
}

static struct session *session_get(struct memory *m, uint64_t id)
{
    struct session *x = hash_get(&m->sessions, 0, id);

    if (x)
        return x;
    x = calloc(1, sizeof(*x));
    if (!x)
        return NULL;
    x->id = id;
    if (hash_put(&m->sessions, 0, id, x, NULL) != CV_OK) {
        free(x);
        return NULL;
    }
    return x;
}

static int memory_submit(struct store *s, const struct store_task *t)
{
    struct memory *m = memory_of(s);
    struct session *x = session_get(m, t->session);
    struct store_record *r = calloc(1, sizeof(*r));
    int ret = CV_ENOMEM;

    if (!x || !r)
        goto out;
    *r = (struct store_record){.session = t->session,
                               .lo = t->seq,
                               .hi = t->seq + t->count,
                               .kind = t->kind,
                               .mode = t->mode,
                               .flags = t->flags,
                               .submitted = t->submitted};
    if (t->label && !(r->label = strdup(t->label)))
        goto out;
    ret = index_insert(&x->index, r);
    if (ret != CV_OK)
        goto out;
    if (t->payload) {
        m->payload.ref(t->payload);
        r->task = t->payload;
        r->task_bytes = t->bytes;
    }
    list_add_tail(&m->by_time, &r->by_time);
    list_add_tail(&m->states[STORE_PENDING], &r->by_state);
    m->counts[STORE_PENDING]++;
    x->records++;
    return CV_OK;
out:
    if (r)
        free(r->label);
    free(r);
    if (x)
        session_drop_if_empty(m, x);
    return ret;
}

/* Cuts r at seq: r keeps [lo, seq), the new record behind it gets the rest. */
static int record_split(struct memory *m, struct session *x, struct store_record *r, uint64_t seq,
                        struct store_record **ret)
{
    struct store_record *b = calloc(1, sizeof(*b));
    uint64_t hi = r->hi;

    if (!b)
        return CV_ENOMEM;
    *b = (struct store_record){.session = r->session,
                               .lo = seq,
                               .hi = hi,
                               .state = r->state,
                               .kind = r->kind,
                               .mode = r->mode,
                               .flags = r->flags,
                               .submitted = r->submitted,
                               .task = r->task};
    if (r->label && !(b->label = strdup(r->label))) {
        free(b);
        return CV_ENOMEM;
    }
    r->hi = seq;
    index_update(&x->index, r->lo, r);
    int code = index_insert(&x->index, b);
    if (code != CV_OK) {
        r->hi = hi;
        index_update(&x->index, r->lo, r);
        free(b->label);
        free(b);
        return code;
    }
    if (b->task)
        m->payload.ref(b->task); /* its bytes are counted once, with r */
    list_add_head(&r->by_time, &b->by_time);
    list_add_head(&r->by_state, &b->by_state);
    m->counts[b->state]++;
    x->records++;
    *ret = b;
    return CV_OK;
}

static int memory_end(struct store *s, uint64_t session, uint64_t seq, uint32_t count,
                      const struct store_result *res)
{
    struct memory *m = memory_of(s);
    struct session *x = hash_get(&m->sessions, 0, session);
    const uint64_t start = seq, end = seq + count;
    bool counted = false; /* a payload that several records share counts once */

    if (!x)
        return CV_OK;
    while (seq < end) {
        size_t i = index_seek(&x->index, seq);
        if (i == x->index.n || x->index.v[i].lo >= end)
            break;
        struct index_slot slot = x->index.v[i];
        struct store_record *r = slot.record, *rest;
        seq = slot.hi;
        if (!r || r->state != STORE_PENDING)
            continue;
        if (r->lo < start) {
            int code = record_split(m, x, r, start, &rest);
            if (code != CV_OK)
                return code;
            r = rest;
        }
        if (r->hi > end) {
            int code = record_split(m, x, r, end, &rest);
            if (code != CV_OK)
                return code;
        }
        r->result = *res;
        if (counted)
            r->result.bytes = 0;
        counted = true;
        if (res->payload)
            m->payload.ref(res->payload);
        record_move(m, r, STORE_ENDED);
    }
    evict(m);
    return CV_OK;
}

static void memory_output(struct store *s, uint64_t session, uint64_t seq, enum store_stream which,
                          const void *data, size_t n)
{
    struct memory *m = memory_of(s);
    struct session *x = hash_get(&m->sessions, 0, session);
    struct store_record *r = x ? index_find(&x->index, seq) : NULL;

    if (!r)
        return;
    struct buf *b = &r->output[which];
    size_t room = b->len < STORE_OUTPUT_MAX ? STORE_OUTPUT_MAX - b->len : 0;
    if (n > room) {
        n = room;
        r->output_cut = true;
    }
    if (!n)
        return;
    if (buf_add(b, data, n) != CV_OK) {
        r->output_cut = true;
        return;
    }
    if (r->state != STORE_PENDING)
        m->bytes += n;
    evict(m);
}

/* The client of an ended record has its result. */
static void give_back(struct memory *m, struct store_record *r)
{
    void *p = r->result.payload;

    if (!p || !m->payload.lent || !m->payload.lent(p))
        return;
    m->bytes -= r->result.bytes;
    r->result.bytes = 0;
    r->result.payload = NULL;
    r->result.gone = true;
    m->payload.unref(p);
}

static void memory_delivered(struct store *s, uint64_t session, uint64_t seq, uint32_t count)
{
    struct memory *m = memory_of(s);
    struct session *x = hash_get(&m->sessions, 0, session);

    if (!x)
        return;
    for (size_t i = index_seek(&x->index, seq); i < x->index.n && x->index.v[i].lo < seq + count;
         i++) {
        struct store_record *r = x->index.v[i].record;
        if (r && r->state == STORE_ENDED) {
            give_back(m, r);
            record_move(m, r, STORE_DELIVERED);
        }
    }
}

/* Where the run of ids that begins at seq and is not covered by a record ends; *ret_expired: is it
 * in expired? */
static uint64_t gap_end(const struct session *x, uint64_t seq, bool *ret_expired)
{
    uint64_t end = UINT64_MAX;

    *ret_expired = false;
    for (size_t i = index_seek(&x->index, seq); i < x->index.n; i++)
        if (x->index.v[i].record) {
            end = x->index.v[i].lo;
            break;
        }
    for (size_t i = 0; i < x->expired.n; i++) {
        struct range r = x->expired.v[i];
        if (r.hi <= seq)
            continue;
        *ret_expired = r.lo <= seq;
        uint64_t edge = *ret_expired ? r.hi : r.lo;
        return edge < end ? edge : end;
    }
    return end;
}

static enum store_find memory_find(struct store *s, uint64_t session, uint64_t seq,
                                   const struct store_record **ret, uint64_t *ret_end)
{
    struct session *x = hash_get(&memory_of(s)->sessions, 0, session);
    struct store_record *r = x ? index_find(&x->index, seq) : NULL;
    bool expired = false;
    uint64_t end = r ? r->hi : x ? gap_end(x, seq, &expired) : UINT64_MAX;

    if (ret_end)
        *ret_end = end;
    if (r)
        *ret = r;
    return r ? STORE_FOUND : expired ? STORE_EXPIRED : STORE_UNKNOWN;
}

static void memory_each(struct store *s, store_cb cb, void *arg)
{
    struct memory *m = memory_of(s);

    list_each(l, &m->by_time) if (!cb(arg, list_entry(l, struct store_record, by_time))) return;
}

static uint64_t memory_purge(struct store *s, store_cb match, void *arg)
{
    struct memory *m = memory_of(s);
    uint64_t n = 0;

    for (int state = STORE_ENDED; state <= STORE_DELIVERED; state++)
        list_each_safe(l, tmp, &m->states[state])
        {
            struct store_record *r = list_entry(l, struct store_record, by_state);
            if (match(arg, r)) {
                n += r->hi - r->lo;
                record_drop(m, r, false);
            }
        }
    return n;
}

static void memory_stats(const struct store *s, struct store_stats *ret)
{
    const struct memory *m = memory_of(s);

    *ret = (struct store_stats){m->bytes, m->counts[STORE_PENDING], m->counts[STORE_ENDED],
                                m->counts[STORE_DELIVERED]};
}

static void memory_free(struct store *s)
{
    struct memory *m = memory_of(s);

    list_each_safe(l, tmp, &m->by_time)
        record_drop(m, list_entry(l, struct store_record, by_time), false);
    hash_release(&m->sessions);
    free(m);
}

static const struct store_ops memory_ops = {
    .name = "memory",
    .queryable = true,
    .submit = memory_submit,
    .end = memory_end,
    .output = memory_output,
    .delivered = memory_delivered,
    .find = memory_find,
    .each = memory_each,
    .purge = memory_purge,
    .stats = memory_stats,
    .free = memory_free,
};

int memory_store_new(struct store **ret, const struct store_limits *l,
                     const struct store_payload_ops *p)
{
    struct memory *m = calloc(1, sizeof(*m));

    if (!m)
        return CV_ENOMEM;
    m->store.ops = &memory_ops;
    m->limits = *l;
    if (!m->limits.bytes)
        m->limits.bytes = 1ull << 30;
    if (!m->limits.records)
        m->limits.records = 100000;
    m->payload = *p;
    list_init(&m->by_time);
    for (int i = 0; i <= STORE_DELIVERED; i++)
        list_init(&m->states[i]);
    *ret = &m->store;
    return CV_OK;
}

/* "none": the same, without a memory of what was delivered. */

static void none_delivered(struct store *s, uint64_t session, uint64_t seq, uint32_t count)
{
    struct memory *m = memory_of(s);
    struct list *l;

    memory_delivered(s, session, seq, count);
    while ((l = list_first(&m->states[STORE_DELIVERED])))
        record_drop(m, list_entry(l, struct store_record, by_state), true);
}

static const struct store_ops none_ops = {
    .name = "none",
    .queryable = false,
    .submit = memory_submit,
    .end = memory_end,
    .output = memory_output,
    .delivered = none_delivered,
    .find = memory_find,
    .each = memory_each,
    .purge = memory_purge,
    .stats = memory_stats,
    .free = memory_free,
};

int none_store_new(struct store **ret, const struct store_limits *l,
                   const struct store_payload_ops *p)
{
    int r = memory_store_new(ret, l, p);

    if (r == CV_OK)
        (*ret)->ops = &none_ops;
    return r;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Records in memory. Owns the records, their strings and output, and a reference of each payload.
 * A log holds all records by submission (log.h); each record that has ended is also in the list of
 * its state, oldest first, from which eviction takes. Out of memory while a record is split leaves
 * it whole and pending. On the loop's thread. */
#include "store/memory.h"

#include <stdlib.h>
#include <string.h>

/* What a record costs beside its payloads and output: itself, its place in the index, malloc. */
#define RECORD_COST (sizeof(struct store_record) + 64)

static uint64_t output_bytes(const struct store_record *r)
{
    return r->output ? r->output->stream[STORE_STDOUT].len + r->output->stream[STORE_STDERR].len
                     : 0;
}

uint64_t memory_record_bytes(const struct store_record *r)
{
    return RECORD_COST + r->task_bytes + r->route_len + r->result.bytes + output_bytes(r);
}

void memory_mark(struct memory *m, struct store_record *r)
{
    if (!m->journal || !list_empty(&r->unwritten))
        return;
    list_add_tail(&m->unwritten, &r->unwritten);
    r->tick = ++m->tick;
    r->since = m->now;
    m->nunwritten++;
}

void memory_unmark(struct memory *m, struct store_record *r)
{
    if (list_empty(&r->unwritten))
        return;
    list_del(&r->unwritten);
    m->nunwritten--;
}

static void record_move(struct memory *m, struct store_record *r, enum store_state to)
{
    if (r->state == STORE_PENDING && to != STORE_PENDING)
        m->bytes += memory_record_bytes(r);
    m->counts[r->state]--;
    list_del(&r->by_state);
    r->state = (uint8_t)to;
    m->counts[to]++;
    list_add_tail(&m->states[to], &r->by_state);
}

static void record_free(struct memory *m, struct store_record *r)
{
    m->payload.unref(r->task);
    m->payload.unref(r->result.payload);
    memory_uuid_unref(m, r->result.engine_uuid);
    for (int i = 0; r->output && i < STORE_STREAMS; i++)
        buf_release(&r->output->stream[i]);
    free(r->output);
    free(r->label);
    free(r->route);
    free(r);
}

/* --- records come and go --- */

/* Takes a record out of everything and frees it. */
void memory_drop(struct memory *m, struct store_record *r, bool expired)
{
    struct session *x = hash_get(&m->sessions, 0, r->session);

    if (r->state != STORE_PENDING)
        m->bytes -= memory_record_bytes(r);
    memory_pass_on_task(m, r);
    memory_pass_on_result(m, r);
    m->counts[r->state]--;
    if (!list_empty(&m->walks))
        memory_walk_leave(m, r);
    list_del(&r->by_state);
    list_del(&r->by_time);
    if (list_empty(&r->entry->records))
        log_clear(r->entry);
    memory_unmark(m, r);
    index_remove(&x->index, r->lo);
    if (!expired && ranges_add(&x->purged, r->lo, r->hi) != CV_OK)
        expired = true; /* out of memory here means that the ids will be called so */
    if (expired)
        memory_session_lost(x, r);
    record_free(m, r);
    x->records--;
    memory_session_rest(m, x);
}

/* Beyond the limit of bytes the oldest goes; beyond the limit of records it goes when the file has
 * it. */
static bool must_go(const struct memory *m, const struct store_record *r)
{
    uint64_t n = m->counts[STORE_ENDED] + m->counts[STORE_DELIVERED];

    return m->bytes > m->limits.bytes || (n > m->limits.records && list_empty(&r->unwritten));
}

static void evict(struct memory *m)
{
    struct list *l;

    for (int state = STORE_DELIVERED; state >= STORE_ENDED; state--)
        while ((l = list_first(&m->states[state]))) {
            struct store_record *r = list_entry(l, struct store_record, by_state);
            if (!must_go(m, r))
                break;
            m->lost += !list_empty(&r->unwritten);
            memory_drop(m, r, true);
        }
}

int memory_copy_texts(struct store_record *r, const char *label, const void *route, uint32_t n)
{
    if (label && !(r->label = strdup(label)))
        return CV_ENOMEM;
    if (n && !(r->route = malloc(n)))
        return CV_ENOMEM;
    if (n)
        memcpy(r->route, route, n);
    r->route_len = n;
    return CV_OK;
}

/* --- submission --- */

static bool is_brief(const struct memory *m, const struct store_task *t)
{
    return !m->journal && t->count == 1 && t->origin == t->seq && !t->label && !t->route_len &&
           t->bytes <= UINT32_MAX && t->kind < 16 && t->mode < 4;
}

static int submit_brief(struct memory *m, struct session *x, const struct store_task *t)
{
    struct log_entry *e = log_add(&m->log, m->next_id);

    if (!e)
        return CV_ENOMEM;
    e->seq = t->seq;
    e->submitted = t->submitted;
    e->session = x;
    e->task = t->payload;
    e->bytes = t->payload ? (uint32_t)t->bytes : 0;
    e->target = t->target;
    e->flags = t->flags;
    e->kind = t->kind;
    e->mode = t->mode;
    int r = index_insert_brief(&x->index, e);
    if (r == CV_OK)
        log_fill(e, LOG_BRIEF);
    else
        log_clear(e);
    return r;
}

static int submit_record(struct memory *m, struct session *x, const struct store_task *t)
{
    struct store_record *r = malloc(sizeof(*r));
    struct log_entry *e = r ? log_add(&m->log, m->next_id) : NULL;
    int ret = CV_ENOMEM;

    if (!e)
        goto out;
    *r = (struct store_record){.session = t->session,
                               .lo = t->seq,
                               .hi = t->seq + t->count,
                               .entry = e,
                               .id = m->next_id,
                               .origin = t->origin,
                               .target = t->target,
                               .kind = t->kind,
                               .mode = t->mode,
                               .flags = t->flags,
                               .submitted = t->submitted,
                               .task = t->payload,
                               .task_bytes = t->payload ? t->bytes : 0,
                               .in_memory = true};
    memory_record_init(r);
    ret = memory_copy_texts(r, t->label, t->route, t->route_len);
    if (ret == CV_OK)
        ret = index_insert(&x->index, r);
    if (ret != CV_OK) {
        free(r->label);
        free(r->route);
        log_clear(e);
        goto out;
    }
    log_fill(e, LOG_RECORDS);
    list_init(&e->records);
    list_add_tail(&e->records, &r->by_time);
    list_add_tail(&m->states[STORE_PENDING], &r->by_state);
    memory_mark(m, r);
    return CV_OK;
out:
    free(r);
    return ret;
}

/* There is room for it. */
static int note_used(struct session *x, uint64_t lo, uint64_t hi)
{
    int r = ranges_add(&x->used, lo, hi);

    return r == CV_OK ? ranges_del(&x->purged, lo, hi) : r;
}

int memory_submit(struct store *s, const struct store_task *t)
{
    struct memory *m = memory_of(s);

    if (!t->count || t->seq + t->count < t->seq)
        return CV_EINVAL;
    struct session *x = memory_session_get(m, t->session);
    if (!x)
        return CV_ENOMEM;
    int r = ranges_reserve(&x->used);
    if (r == CV_OK && x->purged.n)
        r = ranges_reserve(&x->purged);
    if (r == CV_OK)
        r = is_brief(m, t) ? submit_brief(m, x, t) : submit_record(m, x, t);
    if (r == CV_OK)
        r = note_used(x, t->seq, t->seq + t->count);
    if (r != CV_OK) {
        memory_session_rest(m, x);
        return r;
    }
    m->payload.ref(t->payload);
    m->next_id += t->count;
    m->counts[STORE_PENDING]++;
    memory_session_took(m, x);
    return CV_OK;
}

int memory_end(struct store *s, uint64_t session, uint64_t seq, uint32_t count,
               const struct store_result *res)
{
    struct memory *m = memory_of(s);
    struct session *x = hash_get(&m->sessions, 0, session);
    const uint64_t start = seq, end = seq + count;
    struct store_result own = *res;
    int code = CV_OK;

    if (!x)
        return CV_OK;
    own.engine_uuid = memory_uuid_keep(m, res);
    while (seq < end) {
        size_t i = index_seek(&x->index, seq);
        if (i == x->index.n || x->index.v[i].lo >= end)
            break;
        struct index_slot slot = x->index.v[i];
        struct store_record *r = slot_record(&slot);
        seq = slot_hi(&slot);
        if (slot_hole(&slot) || (r && r->state != STORE_PENDING))
            continue;
        if (!r && !(r = memory_unfold(m, slot_brief(&slot)))) {
            code = CV_ENOMEM;
            break;
        }
        code = memory_cut(m, r, r->lo < start ? start : r->lo, r->hi > end ? end : r->hi, &r);
        if (code != CV_OK)
            break;
        r->result = own;
        own.bytes = 0; /* a payload that several records share counts once */
        m->payload.ref(own.payload);
        memory_uuid_ref(own.engine_uuid);
        record_move(m, r, STORE_ENDED);
        memory_mark(m, r);
    }
    memory_uuid_unref(m, own.engine_uuid);
    if (code == CV_OK)
        evict(m);
    return code;
}

void memory_output(struct store *s, uint64_t session, uint64_t seq, enum store_stream which,
                   const void *data, size_t n)
{
    struct memory *m = memory_of(s);
    struct store_record *r = memory_record(m, session, seq);

    /* what one of many prints is its own */
    if (!r || (r->hi > r->lo + 1 && memory_cut(m, r, seq, seq + 1, &r) != CV_OK))
        return;
    if (!r->output && !(r->output = calloc(1, sizeof(*r->output))))
        return;
    struct buf *b = &r->output->stream[which];
    size_t room = b->len < STORE_OUTPUT_MAX ? STORE_OUTPUT_MAX - b->len : 0;
    if (n > room) {
        n = room;
        r->output->cut = true;
    }
    if (!n)
        return;
    if (buf_add(b, data, n) != CV_OK) {
        r->output->cut = true;
        return;
    }
    if (r->state == STORE_PENDING)
        return;
    m->bytes += n;
    memory_mark(m, r);
    evict(m);
}

void memory_give_back(struct memory *m, struct store_record *r)
{
    void *p = r->result.payload;

    if (!p || !m->payload.lent || !m->payload.lent(p))
        return;
    m->bytes -= r->result.bytes;
    memory_pass_on_result(m, r);
    r->result.bytes = 0;
    r->result.payload = NULL;
    r->result.gone = true;
    m->payload.unref(p);
}

void memory_delivered(struct store *s, uint64_t session, uint64_t seq, uint32_t count)
{
    struct memory *m = memory_of(s);
    struct session *x = hash_get(&m->sessions, 0, session);

    if (!x)
        return;
    for (size_t i = index_seek(&x->index, seq); i < x->index.n && x->index.v[i].lo < seq + count;
         i++) {
        struct store_record *r = slot_record(&x->index.v[i]);
        if (r && r->state == STORE_ENDED) {
            if (list_empty(&r->unwritten)) /* else when it is handed over */
                memory_give_back(m, r);
            record_move(m, r, STORE_DELIVERED);
        }
    }
}

void memory_resubmitted(struct store *s, struct store_id id, struct store_id again)
{
    struct memory *m = memory_of(s);
    struct store_record *r = memory_record(m, id.session, id.seq);

    if (!r || (r->hi > r->lo + 1 && memory_cut(m, r, id.seq, id.seq + 1, &r) != CV_OK))
        return;
    r->again = again;
    memory_mark(m, r);
}

void memory_skipped(struct store *s, uint64_t session, uint64_t seq)
{
    struct session *x = hash_get(&memory_of(s)->sessions, 0, session);
    const struct range *last = x && x->used.n ? &x->used.v[x->used.n - 1] : NULL;
    int r = last && last->hi == seq ? ranges_add(&x->used, seq, seq + 1) : CV_OK;

    (void)r; /* it only grows the last one */
}

/* Where the run of ids that begins at seq and is not covered by a record ends; *ret_expired: have
 * they expired? */
static uint64_t gap_end(const struct session *x, uint64_t seq, bool *ret_expired)
{
    const struct range *used = ranges_from(&x->used, seq), *gone = ranges_from(&x->purged, seq);
    bool purged = gone && gone->lo <= seq;
    uint64_t end = purged ? gone->hi : gone ? gone->lo : UINT64_MAX;

    *ret_expired = used && used->lo <= seq && !purged;
    if (used && !purged) {
        uint64_t edge = *ret_expired ? used->hi : used->lo;
        end = edge < end ? edge : end;
    }
    for (size_t i = index_seek(&x->index, seq); i < x->index.n && x->index.v[i].lo < end; i++)
        if (!slot_hole(&x->index.v[i]))
            end = x->index.v[i].lo;
    return end;
}

enum store_find memory_find(struct store *s, uint64_t session, uint64_t seq,
                            const struct store_record **ret, uint64_t *ret_end)
{
    struct memory *m = memory_of(s);
    struct session *x = hash_get(&m->sessions, 0, session);
    const struct store_record *r = memory_peek(m, session, seq, &m->found);
    bool expired = false;
    uint64_t end = r ? r->hi : x ? gap_end(x, seq, &expired) : UINT64_MAX;

    if (ret_end)
        *ret_end = end;
    if (r)
        *ret = r;
    return r ? STORE_FOUND : expired ? STORE_EXPIRED : STORE_UNKNOWN;
}

void memory_stats(const struct store *s, struct store_stats *ret)
{
    const struct memory *m = memory_of(s);

    *ret = (struct store_stats){.bytes = m->bytes,
                                .pending = m->counts[STORE_PENDING],
                                .ended = m->counts[STORE_ENDED],
                                .delivered = m->counts[STORE_DELIVERED],
                                .unwritten = m->nunwritten,
                                .lost = m->lost};
}

static uint64_t memory_turn(struct store *s, uint64_t now)
{
    memory_of(s)->now = now;
    return memory_walk_slices(memory_of(s)) ? 0 : UINT64_MAX;
}

static const char *no_trouble(const struct store *s)
{
    return NULL;
}

static void entry_free(struct memory *m, struct log_entry *e)
{
    if (e->type == LOG_RECORDS) {
        memory_drop(m, list_entry(list_first(&e->records), struct store_record, by_time), false);
        return;
    }
    struct session *x = e->session;
    m->payload.unref(e->task);
    log_clear(e);
    x->records--;
    memory_session_rest(m, x);
}

void memory_free(struct store *s)
{
    struct memory *m = memory_of(s);
    struct log_entry *e;
    struct list *l;

    memory_walks_fail(m);
    while ((e = log_first(&m->log)))
        entry_free(m, e);
    log_release(&m->log);
    while ((l = list_first(&m->idle)))
        memory_session_free(m, list_entry(l, struct session, idle));
    hash_release(&m->uuids);
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
    .expired = memory_expired,
    .walk = memory_walk,
    .purge = memory_purge,
    .skipped = memory_skipped,
    .resubmitted = memory_resubmitted,
    .turn = memory_turn,
    .trouble = no_trouble,
    .stats = memory_stats,
    .free = memory_free,
};

int memory_new(struct memory **ret, size_t size, const struct store_ops *ops,
               const struct store_config *c)
{
    struct memory *m = calloc(1, size);

    if (!m)
        return CV_ENOMEM;
    m->store.ops = ops;
    m->limits = c->limits;
    if (!m->limits.bytes)
        m->limits.bytes = 1ull << 30;
    if (!m->limits.records)
        m->limits.records = 100000;
    m->payload = c->payload;
    m->next_id = 1;
    log_init(&m->log);
    list_init(&m->idle);
    list_init(&m->walks);
    list_init(&m->unwritten);
    for (int i = 0; i <= STORE_DELIVERED; i++)
        list_init(&m->states[i]);
    *ret = m;
    return CV_OK;
}

int memory_store_new(struct store **ret, const struct store_config *c, struct err *e)
{
    struct memory *m;
    int r = memory_new(&m, sizeof(*m), &memory_ops, c);

    if (r != CV_OK)
        return err_set(e, r, "out of memory for the task records");
    *ret = &m->store;
    return r;
}

/* "none": the same, without a memory of what was delivered. */

static void none_delivered(struct store *s, uint64_t session, uint64_t seq, uint32_t count)
{
    struct memory *m = memory_of(s);
    struct list *l;

    memory_delivered(s, session, seq, count);
    while ((l = list_first(&m->states[STORE_DELIVERED])))
        memory_drop(m, list_entry(l, struct store_record, by_state), true);
}

static const struct store_ops none_ops = {
    .name = "none",
    .queryable = false,
    .submit = memory_submit,
    .end = memory_end,
    .output = memory_output,
    .delivered = none_delivered,
    .find = memory_find,
    .expired = memory_expired,
    .walk = memory_walk,
    .purge = memory_purge,
    .skipped = memory_skipped,
    .resubmitted = memory_resubmitted,
    .turn = memory_turn,
    .trouble = no_trouble,
    .stats = memory_stats,
    .free = memory_free,
};

int none_store_new(struct store **ret, const struct store_config *c, struct err *e)
{
    int r = memory_store_new(ret, c, e);

    if (r == CV_OK)
        (*ret)->ops = &none_ops;
    return r;
}

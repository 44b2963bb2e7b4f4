/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Records in memory (memory.c) that cover a part of a range: a record is cut where a part of it
 * ends in another way, and its parts share payloads. Owns nothing. Out of memory while a record is
 * cut leaves it whole. On the loop's thread. */
#include "store/memory.h"

#include <stdlib.h>

/* A payload that records share is charged to one of them, and to another when that one leaves. */

static void charge(struct memory *m, struct store_record *r, uint64_t *bytes, uint64_t more)
{
    *bytes += more;
    if (r->state != STORE_PENDING)
        m->bytes += more;
}

/* Another record with r's result, which parts of one TASK may share; NULL: there is none. */
static struct store_record *result_sharer(const struct store_record *r)
{
    const struct list *head = &r->entry->records;
    const struct store_result *res = &r->result;
    struct store_record *x;

    for (struct list *l = r->by_time.next; l != head; l = l->next) {
        x = list_entry(l, struct store_record, by_time);
        if (x->lo >= res->seq + res->count)
            break;
        if (x->result.payload == res->payload)
            return x;
    }
    for (struct list *l = r->by_time.prev; l != head; l = l->prev) {
        x = list_entry(l, struct store_record, by_time);
        if (x->hi <= res->seq)
            break;
        if (x->result.payload == res->payload)
            return x;
    }
    return NULL;
}

void memory_pass_on_result(struct memory *m, const struct store_record *r)
{
    struct store_record *heir = r->result.bytes ? result_sharer(r) : NULL;

    if (heir)
        charge(m, heir, &heir->result.bytes, r->result.bytes);
}

/* All records of an entry have the same call. */
void memory_pass_on_task(struct memory *m, const struct store_record *r)
{
    const struct list *head = &r->entry->records;
    struct list *l = r->by_time.next != head ? r->by_time.next : r->by_time.prev;

    if (l == head || !r->task_bytes)
        return;
    struct store_record *heir = list_entry(l, struct store_record, by_time);
    charge(m, heir, &heir->task_bytes, r->task_bytes);
}

/* Cuts r at seq: r keeps [lo, seq), the new record behind it gets the rest. Output stays with r. */
static int record_split(struct memory *m, struct session *x, struct store_record *r, uint64_t seq,
                        struct store_record **ret)
{
    struct store_record *b = malloc(sizeof(*b));
    uint64_t hi = r->hi;

    if (!b)
        return CV_ENOMEM;
    *b = *r;
    b->lo = seq;
    b->id = r->id + (seq - r->lo);
    b->label = NULL;
    b->route = NULL;
    b->output = NULL;
    b->written = false;
    b->task_bytes = b->result.bytes = 0; /* what is shared is counted once, with r */
    memory_record_init(b);
    int code = memory_copy_texts(b, r->label, r->route, r->route_len);
    if (code == CV_OK) {
        r->hi = seq;
        code = index_insert(&x->index, b);
    }
    if (code != CV_OK) {
        r->hi = hi;
        free(b->label);
        free(b->route);
        free(b);
        return code;
    }
    m->payload.ref(b->task);
    m->payload.ref(b->result.payload);
    memory_uuid_ref(b->result.engine_uuid);
    list_add_head(&r->by_time, &b->by_time);
    list_add_head(&r->by_state, &b->by_state);
    m->counts[b->state]++;
    if (!list_empty(&m->walks))
        memory_walk_split(m, r, b);
    if (b->state != STORE_PENDING)
        m->bytes += memory_record_bytes(b);
    memory_session_took(m, x);
    memory_mark(m, r);
    memory_mark(m, b);
    *ret = b;
    return CV_OK;
}

int memory_cut(struct memory *m, struct store_record *r, uint64_t lo, uint64_t hi,
               struct store_record **ret)
{
    struct session *x = hash_get(&m->sessions, 0, r->session);
    struct store_record *rest;
    int code = CV_OK;

    if (r->lo < lo) {
        code = record_split(m, x, r, lo, &rest);
        if (code != CV_OK)
            return code;
        r = rest;
    }
    if (r->hi > hi)
        code = record_split(m, x, r, hi, &rest);
    if (code == CV_OK)
        *ret = r;
    return code;
}

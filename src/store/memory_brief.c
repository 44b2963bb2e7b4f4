/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Pending records in brief (log.h), and their way to a record and back. On the loop's thread.
 * Failure: out of memory leaves a brief as it is. */
#include <stdlib.h>
#include "store/memory.h"

void memory_read_brief(const struct log_entry *e, struct store_record *ret)
{
    *ret = (struct store_record){.session = e->session->id,
                                 .lo = e->seq,
                                 .hi = e->seq + 1,
                                 .id = log_id(e),
                                 .origin = e->seq,
                                 .target = e->target,
                                 .kind = e->kind,
                                 .mode = e->mode,
                                 .flags = e->flags,
                                 .submitted = e->submitted,
                                 .task = e->task,
                                 .task_bytes = e->bytes,
                                 .written = e->written,
                                 .in_memory = true};
    memory_record_init(ret);
}

struct store_record *memory_unfold(struct memory *m, struct log_entry *e)
{
    struct store_record *r = malloc(sizeof(*r));

    if (!r)
        return NULL;
    memory_read_brief(e, r);
    r->entry = e;
    log_fill(e, LOG_RECORDS);
    list_init(&e->records);
    list_init(&r->by_time);
    list_add_tail(&e->records, &r->by_time);
    list_add_tail(&m->states[STORE_PENDING], &r->by_state);
    index_put_record(&e->session->index, r);
    return r;
}

void memory_fold(struct memory *m, struct store_record *r)
{
    struct session *x = hash_get(&m->sessions, 0, r->session);
    struct log_entry *e = r->entry;
    bool alone = e->records.next == &r->by_time && e->records.prev == &r->by_time;

    if (r->state != STORE_PENDING || !alone || r->hi != r->lo + 1 || r->origin != r->lo ||
        r->id != log_id(e) || r->label || r->route_len || r->output || r->again.seq ||
        r->task_bytes > UINT32_MAX || r->kind >= 16 || r->mode >= 4 || !list_empty(&r->unwritten))
        return;
    memory_walk_fold(m, r);
    list_del(&r->by_state);
    log_fill(e, LOG_BRIEF);
    e->seq = r->lo;
    e->submitted = r->submitted;
    e->session = x;
    e->task = r->task;
    e->bytes = (uint32_t)r->task_bytes;
    e->target = r->target;
    e->flags = r->flags;
    e->kind = r->kind;
    e->mode = r->mode;
    e->written = r->written;
    index_put_brief(&x->index, e);
    free(r);
}

const struct store_record *memory_peek(const struct memory *m, uint64_t session, uint64_t seq,
                                       struct store_record *room)
{
    const struct session *x = hash_get(&m->sessions, 0, session);
    const struct index_slot *slot = x ? index_find(&x->index, seq) : NULL;

    if (!slot || !slot_brief(slot))
        return slot ? slot_record(slot) : NULL;
    memory_read_brief(slot_brief(slot), room);
    return room;
}

struct store_record *memory_record(struct memory *m, uint64_t session, uint64_t seq)
{
    const struct session *x = hash_get(&m->sessions, 0, session);
    const struct index_slot *slot = x ? index_find(&x->index, seq) : NULL;

    if (!slot)
        return NULL;
    return slot_brief(slot) ? memory_unfold(m, slot_brief(slot)) : slot_record(slot);
}

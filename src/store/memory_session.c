/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The sessions of the records in memory (memory.c): each has the index of its records and what
 * expired of them and how that ended, and stays for a while when all its records are gone. Owned by
 * the memory. Out of memory is told to who asks for a new one. On the loop's thread. */
#include "store/memory.h"

#include <stdlib.h>

#define IDLE_SESSIONS 10000 /* of so many sessions without records it is known what expired */
#define FAILED_MOST 4096    /* ranges of a session's expired ids that did not end well, */
#define FAILED_IDLE 256     /* and of one without records, as there may be so many */

void memory_session_free(struct memory *m, struct session *x)
{
    hash_del(&m->sessions, 0, x->id);
    if (!list_empty(&x->idle)) {
        list_del(&x->idle);
        m->nidle--;
    }
    index_release(&x->index);
    ranges_release(&x->used);
    ranges_release(&x->purged);
    ranges_release(&x->failed);
    free(x);
}

static bool has_expired(const struct session *x)
{
    return x->used.n && (!x->purged.n || ranges_count(&x->used) > ranges_count(&x->purged));
}

/* Forgets the oldest of what did not end well. */
static void forget_failed(struct session *x, uint64_t from)
{
    if (from > x->failed_from)
        x->failed_from = from;
    int code = ranges_del(&x->failed, 0, x->failed_from);
    (void)code; /* it splits none */
}

/* One without records is kept for a while if it says what expired. */
void memory_session_rest(struct memory *m, struct session *x)
{
    if (x->records)
        return;
    if (!has_expired(x)) {
        memory_session_free(m, x);
        return;
    }
    index_release(&x->index);
    if (x->failed.n > FAILED_IDLE) {
        forget_failed(x, x->failed.v[x->failed.n - FAILED_IDLE / 2].lo);
        ranges_fit(&x->failed);
    }
    if (list_empty(&x->idle)) {
        list_add_tail(&m->idle, &x->idle);
        m->nidle++;
    }
    if (m->nidle > IDLE_SESSIONS)
        memory_session_free(m, list_entry(list_first(&m->idle), struct session, idle));
}

struct session *memory_session_get(struct memory *m, uint64_t id)
{
    struct session *x = hash_get(&m->sessions, 0, id);

    if (x)
        return x;
    x = calloc(1, sizeof(*x));
    if (!x)
        return NULL;
    x->id = id;
    list_init(&x->idle);
    if (hash_put(&m->sessions, 0, id, x, NULL) != CV_OK) {
        free(x);
        return NULL;
    }
    return x;
}

void memory_session_took(struct memory *m, struct session *x)
{
    x->records++;
    if (list_empty(&x->idle))
        return;
    list_del(&x->idle);
    m->nidle--;
}

/* Tasks may still wait for it to end well. Most do: so those that did not are listed, and where
 * there are too many, or no memory, it is not known any more of the older ones. */
void memory_session_lost(struct session *x, const struct store_record *r)
{
    int code = r->result.status ? ranges_add(&x->failed, r->lo, r->hi)
                                : ranges_del(&x->failed, r->lo, r->hi); /* an id that came again */

    if (code == CV_OK && x->failed.n <= FAILED_MOST)
        return;
    forget_failed(x, code == CV_OK ? x->failed.v[x->failed.n / 2].lo : r->hi);
}

bool memory_expired(const struct store *s, uint64_t session, uint64_t seq, bool *ret_well)
{
    const struct session *x = hash_get(&memory_of(s)->sessions, 0, session);

    if (!x || seq < x->failed_from)
        return false;
    *ret_well = !ranges_has(&x->failed, seq);
    return true;
}

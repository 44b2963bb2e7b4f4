/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The sessions of the records in memory (memory.c): each has the index of its records and what
 * expired of them, and stays for a while when all its records are gone. Owned by the memory. Out of
 * memory is told to who asks for a new one. On the loop's thread. */
#include "store/memory.h"

#include <stdlib.h>

#define IDLE_SESSIONS 10000 /* of so many sessions without records it is known what expired */

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
    free(x);
}

static bool has_expired(const struct session *x)
{
    return x->used.n && (!x->purged.n || ranges_count(&x->used) > ranges_count(&x->purged));
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

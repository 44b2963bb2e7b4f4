/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A payload: the buffers of one message, immutable once built, shared by reference count (atomic:
 * threads may hold references). Hops pass references and never look inside. */
#ifndef COVEY_WIRE_PAYLOAD_H
#define COVEY_WIRE_PAYLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "wire/region.h"
#include "wire/spares.h"

struct slice {
    uint8_t *data; /* NULL: empty, not filled yet, or in a region that is not mapped here */
    uint64_t len;
    struct region *region; /* what data lies in, or NULL; the payload holds a reference */
};

/* The bytes, mapped to be read if need be. NULL: empty, or out of memory. Any thread. */
static inline const uint8_t *slice_bytes(const struct slice *s)
{
    return s->data || !s->region ? s->data : region_data(s->region);
}

struct payload {
    atomic_uint refs;
    atomic_uint tables; /* references that are held only in case it is sent again */
    uint32_t nbufs;
    bool more;      /* a struct payload_more lies behind the slices; small ones need none */
    uint64_t total; /* bytes of all buffers */
    struct slice bufs[];
};

struct payload_more {
    void (*release)(struct payload *p); /* frees what the slices point to; may be NULL */
    void *owner;                        /* for release() */
    /* The first buffers are those of `head`, the others those of `own` (NULL: there are none). A
     * link sends a head once and names it from then on (net/blob.c). head NULL: nothing of it is
     * known to come again. */
    struct payload *head, *own;
};

static inline struct payload_more *payload_more(const struct payload *p)
{
    return p->more ? (struct payload_more *)(p->bufs + p->nbufs) : NULL;
}

static inline void *payload_owner(const struct payload *p)
{
    return p->more ? payload_more(p)->owner : NULL;
}

static inline struct payload *payload_head(const struct payload *p)
{
    return p->more ? payload_more(p)->head : NULL;
}

static inline struct payload *payload_own(const struct payload *p)
{
    return p->more ? payload_more(p)->own : NULL;
}

/* One allocation holds the payload and its bytes (buffers 16-byte aligned): for small ones. */
int payload_new_inline(struct payload **ret, uint32_t nbufs, const uint64_t *lens) CV_CHECK;
/* Each buffer of 256 KiB and more in its own mapping (MADV_HUGEPAGE from 2 MiB), the others inline.
 */
int payload_new_large(struct payload **ret, uint32_t nbufs, const uint64_t *lens) CV_CHECK;
/* Like payload_new_large(), but buffers whose region is not NULL lie there (takes references). */
int payload_new_regions(struct payload **ret, uint32_t nbufs, const uint64_t *lens,
                        struct region *const *regions) CV_CHECK;
/* Like payload_new_large(), for what is about to be received: each buffer of 256 KiB and more is to
 * get its memory by one of the two that follow, before the payload is shared. */
int payload_new_empty(struct payload **ret, uint32_t nbufs, const uint64_t *lens) CV_CHECK;
/* Lengths alone: of what is read and thrown away. */
int payload_new_bare(struct payload **ret, uint32_t nbufs, const uint64_t *lens) CV_CHECK;
/* An empty one: its maps come from there, and go back there (references spares). */
void payload_reuse(struct payload *p, struct spares *spares);
int payload_map(struct payload *p, uint32_t buf) CV_CHECK; /* memory of its own; twice is fine */
void payload_put(struct payload *p, uint32_t buf, struct region *r_take);
/* Slices that someone else owns (references of regions are taken); release(p) is called once, on
 * the thread that drops the last reference. */
int payload_new_foreign(struct payload **ret, uint32_t nbufs, const struct slice *bufs,
                        void (*release)(struct payload *p), void *owner) CV_CHECK;
/* The buffers of head (referenced), then those of own_take (NULL: none), which is kept on success.
 */
int payload_new_joined(struct payload **ret, struct payload *head,
                       struct payload *own_take) CV_CHECK;
/* Bytes that are this payload's alone. */
uint64_t payload_own_bytes(const struct payload *p);
/* One inline buffer with a copy of data. */
int payload_new_copy(struct payload **ret, const void *data, size_t n) CV_CHECK;
bool payload_has_regions(const struct payload *p); /* NULL: no */
struct payload *payload_ref(struct payload *p);    /* NULL is fine and stays NULL */
void payload_unref(struct payload *p);             /* NULL is fine */

#endif

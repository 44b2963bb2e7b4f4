/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Payloads (payload.h). References are counted atomically: any thread may take and drop them; the
 * thread that drops the last one frees. Lengths come from headers that passed header_decode(). */
#include "wire/payload.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGN 16u
#define MAP_MIN REGION_MIN
#define HUGE_MIN (2u << 20)
#define PAGE 4096u

static uint64_t aligned(uint64_t n)
{
    return (n + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
}

/* Space for the struct, the slices, struct payload_more, and `bytes` behind them. */
static struct payload *allocate(uint32_t nbufs, bool more, uint64_t bytes, uint8_t **ret_data)
{
    uint64_t head = aligned(sizeof(struct payload) + (uint64_t)nbufs * sizeof(struct slice) +
                            (more ? sizeof(struct payload_more) : 0));
    if (bytes > SIZE_MAX - head)
        return NULL;
    struct payload *p = malloc(head + bytes);
    if (!p)
        return NULL;
    *p = (struct payload){.nbufs = nbufs, .more = more};
    if (more)
        *payload_more(p) = (struct payload_more){0};
    atomic_init(&p->refs, 1);
    atomic_init(&p->tables, 0);
    *ret_data = (uint8_t *)p + head;
    return p;
}

/* Sum of what stays inline (buffers below `map_min`), false on overflow. */
static bool inline_bytes(uint32_t nbufs, const uint64_t *lens, uint64_t map_min, uint64_t *ret)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < nbufs; i++) {
        if (lens[i] >= map_min)
            continue;
        sum = aligned(sum);
        if (sum > UINT64_MAX - 2 * ALIGN || lens[i] > UINT64_MAX - 2 * ALIGN - sum)
            return false;
        sum += lens[i];
    }
    *ret = sum;
    return true;
}

int payload_new_inline(struct payload **ret, uint32_t nbufs, const uint64_t *lens)
{
    uint64_t bytes;
    uint8_t *data;
    if (!inline_bytes(nbufs, lens, UINT64_MAX, &bytes))
        return CV_ENOMEM;
    struct payload *p = allocate(nbufs, false, bytes, &data);
    if (!p)
        return CV_ENOMEM;
    for (uint32_t i = 0; i < nbufs; i++) {
        p->bufs[i] = (struct slice){.data = data, .len = lens[i]};
        data += aligned(lens[i]);
        p->total += lens[i];
    }
    *ret = p;
    return CV_OK;
}

static uint64_t whole_pages(uint64_t n)
{
    return (n + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

/* A buffer has its memory in the payload's allocation, in a map of its own, or in a region. */
static void release_maps(struct payload *p)
{
    struct spares *spares = payload_owner(p);
    for (uint32_t i = 0; i < p->nbufs; i++) {
        const struct slice *s = &p->bufs[i];
        if (s->len < MAP_MIN || !s->data || s->region)
            continue;
        if (!spares || !spares_put(spares, s->data, whole_pages(s->len)))
            munmap(s->data, s->len);
    }
    spares_unref(spares);
}

static uint8_t *map_buffer(uint64_t len, struct spares *spares)
{
    void *m = spares ? spares_take(spares, whole_pages(len)) : NULL;
    if (m)
        return m;
    m = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        return NULL;
    if (len >= HUGE_MIN)
        madvise(m, len, MADV_HUGEPAGE);
    return m;
}

int payload_new_empty(struct payload **ret, uint32_t nbufs, const uint64_t *lens)
{
    uint64_t bytes;
    uint8_t *data;
    if (!inline_bytes(nbufs, lens, MAP_MIN, &bytes))
        return CV_ENOMEM;
    struct payload *p = allocate(nbufs, true, bytes, &data);
    if (!p)
        return CV_ENOMEM;
    payload_more(p)->release = release_maps;
    for (uint32_t i = 0; i < nbufs; i++) {
        p->bufs[i] = (struct slice){.len = lens[i]};
        p->total += lens[i];
        if (lens[i] < MAP_MIN) {
            p->bufs[i].data = data;
            data += aligned(lens[i]);
        }
    }
    *ret = p;
    return CV_OK;
}

int payload_new_bare(struct payload **ret, uint32_t nbufs, const uint64_t *lens)
{
    uint8_t *data;
    struct payload *p = allocate(nbufs, false, 0, &data);
    if (!p)
        return CV_ENOMEM;
    for (uint32_t i = 0; i < nbufs; i++) {
        p->bufs[i] = (struct slice){.len = lens[i]};
        p->total += lens[i];
    }
    *ret = p;
    return CV_OK;
}

void payload_reuse(struct payload *p, struct spares *spares)
{
    struct payload_more *m = payload_more(p);
    assert(m->release == release_maps && !m->owner);
    m->owner = spares_ref(spares);
}

int payload_map(struct payload *p, uint32_t buf)
{
    struct slice *s = &p->bufs[buf];
    if (!s->data)
        s->data = map_buffer(s->len, payload_owner(p));
    return s->data ? CV_OK : CV_ENOMEM;
}

void payload_put(struct payload *p, uint32_t buf, struct region *r_take)
{
    assert(r_take->len == p->bufs[buf].len && !p->bufs[buf].data);
    p->bufs[buf].region = r_take;
    p->bufs[buf].data = r_take->data;
}

int payload_new_regions(struct payload **ret, uint32_t nbufs, const uint64_t *lens,
                        struct region *const *regions)
{
    struct payload *p;
    int r = payload_new_empty(&p, nbufs, lens);
    if (r)
        return r;
    for (uint32_t i = 0; i < nbufs && !r; i++) {
        if (regions && regions[i])
            payload_put(p, i, region_ref(regions[i]));
        else if (lens[i] >= MAP_MIN)
            r = payload_map(p, i);
    }
    if (r)
        payload_unref(p);
    else
        *ret = p;
    return r;
}

int payload_new_large(struct payload **ret, uint32_t nbufs, const uint64_t *lens)
{
    return payload_new_regions(ret, nbufs, lens, NULL);
}

int payload_new_foreign(struct payload **ret, uint32_t nbufs, const struct slice *bufs,
                        void (*release)(struct payload *p), void *owner)
{
    uint8_t *data;
    struct payload *p = allocate(nbufs, true, 0, &data);
    if (!p)
        return CV_ENOMEM;
    for (uint32_t i = 0; i < nbufs; i++) {
        p->bufs[i] = bufs[i];
        region_ref(bufs[i].region);
        p->total += bufs[i].len;
    }
    payload_more(p)->release = release;
    payload_more(p)->owner = owner;
    *ret = p;
    return CV_OK;
}

int payload_new_joined(struct payload **ret, struct payload *head, struct payload *own_take)
{
    uint8_t *data;
    uint32_t more = own_take ? own_take->nbufs : 0;
    struct payload *p = allocate(head->nbufs + more, true, 0, &data);
    if (!p)
        return CV_ENOMEM;
    memcpy(p->bufs, head->bufs, head->nbufs * sizeof *p->bufs);
    if (more)
        memcpy(p->bufs + head->nbufs, own_take->bufs, more * sizeof *p->bufs);
    for (uint32_t i = 0; i < p->nbufs; i++)
        region_ref(p->bufs[i].region);
    p->total = head->total + (own_take ? own_take->total : 0);
    payload_more(p)->head = payload_ref(head);
    payload_more(p)->own = own_take;
    *ret = p;
    return CV_OK;
}

uint64_t payload_own_bytes(const struct payload *p)
{
    const struct payload *head = payload_head(p);
    return head ? p->total - head->total : p->total;
}

int payload_new_copy(struct payload **ret, const void *data, size_t n)
{
    uint64_t len = n;
    struct payload *p;
    int rc = payload_new_inline(&p, 1, &len);
    if (rc)
        return rc;
    if (n)
        memcpy(p->bufs[0].data, data, n);
    *ret = p;
    return CV_OK;
}

bool payload_has_regions(const struct payload *p)
{
    for (uint32_t i = 0; p && i < p->nbufs; i++)
        if (p->bufs[i].region)
            return true;
    return false;
}

struct payload *payload_ref(struct payload *p)
{
    if (p)
        atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void payload_unref(struct payload *p)
{
    if (!p)
        return;
    unsigned before = atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    for (uint32_t i = 0; i < p->nbufs; i++)
        region_unref(p->bufs[i].region); /* before release(): the slices may be its owner's */
    const struct payload_more *m = payload_more(p);
    if (m) {
        if (m->release)
            m->release(p);
        payload_unref(m->head);
        payload_unref(m->own);
    }
    free(p);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The stderr ring of the status page (statuspage.h). One writer (the engine's I/O thread); read by
 * the host when the writer is dead. The page is shared memory: what it says is bounded here, never
 * trusted. */
#include "wire/statuspage.h"

#include <string.h>

void statuspage_ring_add(struct statuspage *p, const void *data, uint64_t n)
{
    const uint8_t *from = data;
    uint64_t pos = atomic_load_explicit(&p->ring_pos, memory_order_relaxed);
    uint64_t end = pos + n;
    if (n > STATUSPAGE_RING) {
        from += n - STATUSPAGE_RING;
        pos = end - STATUSPAGE_RING;
        n = STATUSPAGE_RING;
    }
    uint64_t at = pos % STATUSPAGE_RING;
    uint64_t first = STATUSPAGE_RING - at < n ? STATUSPAGE_RING - at : n;
    memcpy(p->ring + at, from, first);
    memcpy(p->ring, from + first, n - first);
    atomic_store_explicit(&p->ring_pos, end, memory_order_release);
}

uint32_t statuspage_ring_tail(const struct statuspage *p, void *out, uint32_t n)
{
    uint64_t end = atomic_load_explicit(&p->ring_pos, memory_order_acquire);
    uint64_t have = end < STATUSPAGE_RING ? end : STATUSPAGE_RING;
    uint32_t k = n < have ? n : (uint32_t)have;
    uint64_t at = (end - k) % STATUSPAGE_RING;
    uint64_t first = STATUSPAGE_RING - at < k ? STATUSPAGE_RING - at : k;
    memcpy(out, p->ring + at, first);
    memcpy((uint8_t *)out + first, p->ring, k - first);
    return k;
}

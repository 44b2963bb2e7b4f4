/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reference counts of regions (region.h). The memory and the descriptor are their maker's. */
#include "wire/region.h"

#include <assert.h>
#include <stddef.h>
#include <sys/mman.h>

struct region *region_ref(struct region *r)
{
    if (r)
        atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void region_unref(struct region *r)
{
    if (!r)
        return;
    unsigned before = atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1)
        r->release(r);
}

const uint8_t *region_data(struct region *r)
{
    uint8_t *data = __atomic_load_n(&r->data, __ATOMIC_ACQUIRE);
    if (data)
        return data;
    void *m = mmap(NULL, r->len, PROT_READ, MAP_SHARED, r->fd, 0);
    if (m == MAP_FAILED)
        return NULL;
    if (__atomic_compare_exchange_n(&r->data, &data, m, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return m;
    munmap(m, r->len); /* another thread was first */
    return data;
}

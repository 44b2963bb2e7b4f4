/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A sender's memfds: regions to be filled with one buffer each and sent as descriptors. What nobody
 * holds any more is kept mapped for the next one, because touching memory for the first time costs
 * ten times as much as copying. Any thread; owns what it made, also after pool_free() until the
 * last reference goes. */
#ifndef COVEY_NET_POOL_H
#define COVEY_NET_POOL_H

#include "base/error.h"
#include "wire/region.h"

struct pool;

struct pool_stats {
    uint64_t bytes, idle_bytes;
    uint32_t n, idle;
    uint64_t made, reused, dropped;
};

/* At most so many bytes together, used and idle; UINT64_MAX: a quarter of the memory that this
 * process may use (memory_limit()). */
int pool_new(struct pool **ret, uint64_t bytes) CV_CHECK;
void pool_free(struct pool *p); /* NULL is fine */
/* A region of len bytes to be written to at ->data before it is shared. NULL: none is to be had
 * (limits, no memfds here, out of memory): other ways must do. */
struct region *pool_get(struct pool *p, uint64_t len);
/* Closes what has been idle for a while. Whether there is something left to trim later. */
bool pool_trim(struct pool *p);
void pool_stats(struct pool *p, struct pool_stats *ret);

#endif

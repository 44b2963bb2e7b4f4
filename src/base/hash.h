/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Open-addressing hash map from a 128-bit key (two u64; a task id is {session, seq}; plain u64
 * keys use hi = 0) to a non-NULL pointer. Owns its table, not the values. Deletion shifts back,
 * so there are no tombstones. Zeroed memory is a valid empty map. */
#ifndef COVEY_BASE_HASH_H
#define COVEY_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

struct hash_slot {
    uint64_t hi, lo;
    void *value;
};

struct hash {
    struct hash_slot *slots;
    size_t count, mask; /* mask + 1 slots */
};

void hash_release(struct hash *h);
void *hash_get(const struct hash *h, uint64_t hi, uint64_t lo);
/* Inserts or replaces; CV_ENOMEM only. ret_old (may be NULL) receives the replaced value or NULL.
 */
int hash_put(struct hash *h, uint64_t hi, uint64_t lo, void *value, void **ret_old) CV_CHECK;
void *hash_del(struct hash *h, uint64_t hi, uint64_t lo); /* the removed value or NULL */
/* Iteration: `for (size_t i = 0; (v = hash_next(h, &i)); )`. No insertion or deletion meanwhile. */
void *hash_next(const struct hash *h, size_t *i);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The ids of one session and the records that cover them: an array sorted by id. Clients count
 * their ids up, so an insertion is an append but for splits; removed records leave a hole that is
 * squeezed out when half of the array is holes. Owns the array, not the records. */
#ifndef COVEY_STORE_INDEX_H
#define COVEY_STORE_INDEX_H

#include "base/ranges.h"
#include "store/store.h"

struct index_slot {
    uint64_t lo, hi;
    struct store_record *record; /* NULL: a hole */
};

struct index {
    struct index_slot *v;
    size_t n, cap, holes;
};

void index_release(struct index *x);
/* The first slot whose hi is above seq (it may begin behind seq), or n. */
size_t index_seek(const struct index *x, uint64_t seq);
struct store_record *index_find(const struct index *x, uint64_t seq);
/* CV_EEXIST when a record covers one of its ids. */
int index_insert(struct index *x, struct store_record *r) CV_CHECK;
void index_remove(struct index *x, const struct store_record *r);
/* The bounds of the record at its slot have shrunk to [lo, hi) of the record. */
void index_update(struct index *x, uint64_t old_lo, struct store_record *r);

#endif

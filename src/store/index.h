/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The ids of one session and the records that cover them: an array sorted by id. Clients count
 * their ids up, so an insertion is an append but for splits; removed records leave a hole that is
 * squeezed out when half of the array is holes. A brief (log.h) of one id is entered as such. Owns
 * the array, not the records. */
#ifndef COVEY_STORE_INDEX_H
#define COVEY_STORE_INDEX_H

#include "base/ranges.h"
#include "store/log.h"
#include "store/store.h"

struct index_slot {
    uint64_t lo;
    uint64_t what; /* a record's address, a brief's + 1, or a hole's length * 4 + 2 */
};

struct index {
    struct index_slot *v;
    size_t n, cap, holes;
};

void index_release(struct index *x);
/* The first slot that ends above seq (it may begin behind seq), or n. */
size_t index_seek(const struct index *x, uint64_t seq);
const struct index_slot *index_find(const struct index *x, uint64_t seq); /* NULL: none */
/* One of them is NULL. */
static inline struct store_record *slot_record(const struct index_slot *s)
{
    return s->what & 3 ? NULL : (struct store_record *)(uintptr_t)s->what;
}
static inline struct log_entry *slot_brief(const struct index_slot *s)
{
    return s->what & 1 ? (struct log_entry *)(uintptr_t)(s->what - 1) : NULL;
}
static inline bool slot_hole(const struct index_slot *s)
{
    return s->what & 2;
}
static inline uint64_t slot_hi(const struct index_slot *s)
{
    return slot_hole(s) ? s->lo + (s->what >> 2) : slot_brief(s) ? s->lo + 1 : slot_record(s)->hi;
}
/* CV_EEXIST when a record covers one of its ids. */
int index_insert(struct index *x, struct store_record *r) CV_CHECK;
int index_insert_brief(struct index *x, struct log_entry *e) CV_CHECK;
/* What begins there, while its end is still known. */
void index_remove(struct index *x, uint64_t lo);
/* In place of the brief or the record of one id. */
void index_put_record(struct index *x, struct store_record *r);
void index_put_brief(struct index *x, struct log_entry *e);

#endif

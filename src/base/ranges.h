/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A sorted set of half-open ranges [lo, hi) of u64, merged when they touch. Lists of ids travel
 * and are kept as these. Zeroed memory is a valid empty set. */
#ifndef COVEY_BASE_RANGES_H
#define COVEY_BASE_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

struct range {
    uint64_t lo, hi;
};

struct ranges {
    struct range *v;
    size_t n, cap;
};

void ranges_release(struct ranges *r);
int ranges_reserve(struct ranges *r) CV_CHECK; /* the next change can't fail */
void ranges_fit(struct ranges *r);             /* gives memory back, if it can */
int ranges_add(struct ranges *r, uint64_t lo, uint64_t hi) CV_CHECK;
int ranges_del(struct ranges *r, uint64_t lo, uint64_t hi) CV_CHECK; /* may split one: CV_ENOMEM */
bool ranges_has(const struct ranges *r, uint64_t x);
/* The range that holds x, or else the next one behind it; NULL: none. Valid until a change. */
const struct range *ranges_from(const struct ranges *r, uint64_t x);
uint64_t ranges_count(const struct ranges *r);

#endif

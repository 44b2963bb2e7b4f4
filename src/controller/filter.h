/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The query language about records: {"key": value} or {"key": {"$op": value, …}}, all of which must
 * hold; "$and" and "$or" take lists of such. Operators: $eq $ne $lt $lte $gt $gte $in $nin $glob
 * $mod $exists. Times are texts in ISO 8601 and compare as times; a comparison with a value that is
 * null or of another kind does not hold. A filter does not change and may be used on any thread. */
#ifndef COVEY_CONTROLLER_FILTER_H
#define COVEY_CONTROLLER_FILTER_H

#include <jansson.h>
#include "controller/record.h"

struct filter;

/* CV_EINVAL with a sentence. where: an object, or NULL for all records. */
int filter_new(struct filter **ret, const json_t *where, struct err *e) CV_CHECK;
void filter_free(struct filter *f); /* NULL is fine */
bool filter_matches(const struct filter *f, const struct store_record *r, uint64_t seq);
/* False: items of one record match alike. */
bool filter_by_item(const struct filter *f);
/* Which parts of records it looks at: of enum store_part. */
unsigned filter_parts(const struct filter *f);
/* If it can only match tasks that it names: their ids, sorted (malloc'ed), else NULL. */
struct store_id *filter_ids(const struct filter *f, size_t *ret_n);
/* What it says of all that it can match. Texts stay the filter's. */
void filter_bounds(const struct filter *f, struct store_bounds *ret);

#endif

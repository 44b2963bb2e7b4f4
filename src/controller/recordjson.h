/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Records as JSON, as clients get them. No state, on any thread. */
#ifndef COVEY_CONTROLLER_RECORDJSON_H
#define COVEY_CONTROLLER_RECORDJSON_H

#include <jansson.h>
#include "base/buf.h"
#include "controller/record.h"

/* Appends the record of item seq as a JSON object, with these fields, FIELD_MSG_ID first. */
int record_json(struct buf *b, const struct store_record *r, uint64_t seq,
                const enum record_field *fields, size_t n) CV_CHECK;
/* How it was submitted: label, and of its route retries, priority, timeout, python, and at most so
 * many targets or none; what was not asked for is not in it. NULL: out of memory. */
json_t *record_route(const struct store_record *r, uint32_t most_targets);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The fields of a record as queries see them. The names are ipyparallel's, and some
 * of our own; docs/records.md lists them. No state, on any thread. */
#ifndef COVEY_CONTROLLER_RECORD_H
#define COVEY_CONTROLLER_RECORD_H

#include "store/store.h"

enum record_field {
    FIELD_MSG_ID,
    FIELD_CLIENT_UUID,
    FIELD_LABEL,
    FIELD_QUEUE,
    FIELD_MODE,
    FIELD_KIND,
    FIELD_STATE,
    FIELD_STATUS,
    FIELD_ENGINE,
    FIELD_ENGINE_UUID,
    FIELD_ATTEMPT,
    FIELD_SUBMITTED,
    FIELD_STARTED,
    FIELD_COMPLETED,
    FIELD_RECEIVED,
    FIELD_RESUBMITTED,
    FIELD_FIRST,
    FIELD_COUNT,
    FIELD_OUTPUT_CUT,
    FIELD_STDOUT,
    FIELD_STDERR,
    FIELD_SOURCE,
    FIELD_EXECUTE_INPUT,
    FIELD_EXECUTE_RESULT,
    FIELD_ERROR,
    FIELD_HEADER,
    FIELD_METADATA,
    FIELD_CONTENT,
    FIELD_RESULT_HEADER,
    FIELD_RESULT_METADATA,
    FIELD_RESULT_CONTENT,
    FIELD_BUFFERS, /* from here on only when they are named */
    FIELD_RESULT_BUFFERS,
    FIELD_END
};

enum value_kind { VALUE_NULL, VALUE_INT, VALUE_BOOL, VALUE_TIME, VALUE_TEXT, VALUE_OTHER };

struct value {
    enum value_kind kind;
    int64_t i; /* VALUE_TIME: microseconds since 1970 */
    const char *text;
    size_t len;
    char own[48];
};

enum record_field record_field_of(const char *name); /* FIELD_END: there is none */
const char *record_field_name(enum record_field f);
void record_value(const struct store_record *r, uint64_t seq, enum record_field f,
                  struct value *ret);
/* Which of the record's parts a field needs: of enum store_part. */
unsigned record_parts(enum record_field f);
/* The value of a cell's last expression: the second buffer of its result; NULL: it has none. */
const struct slice *record_cell_value(const struct store_record *r);
/* Microseconds of an ISO 8601 text with date and time; without a zone it is UTC. */
bool record_parse_time(const char *text, int64_t *ret);

#endif

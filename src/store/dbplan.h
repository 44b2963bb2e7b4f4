/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which rows a walk with bounds has to look at. Each bound is asked from its index, one after the
 * other, until one gives few enough; so a question costs what its narrowest bound gives, however
 * many records there are, and what has no narrow one is found by looking at all rows. */
#ifndef COVEY_STORE_DBPLAN_H
#define COVEY_STORE_DBPLAN_H

#include "store/dbpriv.h"

#define DBPLAN_MOST 200000u /* rows; looking at all is better than at so many by their ids */

#define DBPLAN_COMPLETED                                                                           \
    "SELECT id FROM records INDEXED BY records_by_completed WHERE completed BETWEEN ?1 AND ?2"
#define DBPLAN_SUBMITTED                                                                           \
    "SELECT id FROM records INDEXED BY records_by_submitted WHERE submitted BETWEEN ?1 AND ?2"
#define DBPLAN_ENGINE                                                                              \
    "SELECT id FROM records INDEXED BY records_by_engine WHERE engine_uuid = ?3 AND completed "    \
    "BETWEEN ?1 AND ?2"
#define DBPLAN_FAILED "SELECT id FROM records INDEXED BY records_failed WHERE status > 0"
#define DBPLAN_PENDING "SELECT id FROM records INDEXED BY records_pending WHERE status IS NULL"
/* a task of an earlier controller ended without a time */
#define DBPLAN_NO_TIME                                                                             \
    "SELECT id FROM records INDEXED BY records_by_completed WHERE completed IS NULL UNION ALL "    \
    "SELECT id FROM records INDEXED BY records_by_completed WHERE completed = 0"

struct dbplan {
    int64_t *ids; /* ascending; own */
    size_t n, cap;
    bool all; /* look at all rows */
};

/* Fills *ret, which the caller releases, whatever is returned. */
int dbplan_make(struct dbplan *ret, struct dbfile *f, const struct store_bounds *b,
                struct err *e) CV_CHECK;
void dbplan_release(struct dbplan *p);
/* A time of a span as the file has it. */
int64_t dbplan_clamp(uint64_t ns);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * QUERY and SIGNAL: what clients ask, off the hot path, in JSON. */
#ifndef COVEY_CONTROLLER_QUERY_H
#define COVEY_CONTROLLER_QUERY_H

#include <jansson.h>
#include "controller/route.h"

void query_handle(struct controller *c, const struct origin *o, struct msg *m);
void query_signal(struct controller *c, const struct origin *o, struct msg *m);
/* The body of a client's WELCOME. */
json_t *query_welcome(struct controller *c);

/* dbquery.c: records and what is asked about them */
json_t *dbquery_record(struct controller *c, const struct store_record *r, uint64_t seq);
void dbquery_handle(struct controller *c, const struct origin *o, const struct header *h,
                    const json_t *args);
void dbquery_history(struct controller *c, const struct origin *o, const struct header *h);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * QUERY and SIGNAL: what clients ask, off the hot path, in JSON. */
#ifndef COVEY_CONTROLLER_QUERY_H
#define COVEY_CONTROLLER_QUERY_H

#include <jansson.h>
#include "controller/route.h"

void query_handle(struct controller *c, const struct origin *o, struct msg *m);
void query_signal(struct controller *c, const struct origin *o, struct msg *m);
/* The body of a client's WELCOME. NULL: out of memory. */
struct payload *query_welcome(struct controller *c);

/* dbquery.c: questions about records. The answer may come in a later turn. */
void dbquery_handle(struct controller *c, const struct origin *o, const struct header *h,
                    const json_t *args);
void dbquery_history(struct controller *c, const struct origin *o, const struct header *h);
void dbquery_result(struct controller *c, const struct origin *o, const struct header *h,
                    const json_t *args);
void dbquery_result_status(struct controller *c, const struct origin *o, const struct header *h,
                           const json_t *args);
void dbquery_call(struct controller *c, const struct origin *o, const struct header *h,
                  const json_t *args);
void dbquery_purge(struct controller *c, const struct origin *o, const struct header *h,
                   const json_t *args);
void dbquery_resubmitted(struct controller *c, const struct origin *o, const struct header *h,
                         const json_t *args);
/* Answers with ok_take, into which goes what each engine has completed: {"N": {"completed": [id]}}.
 */
void dbquery_completed(struct controller *c, const struct origin *o, const struct header *h,
                       json_t *ok_take);

#endif

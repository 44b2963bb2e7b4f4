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
void dbquery_resubmitted(struct controller *c, const struct origin *o, const struct header *h,
                         const json_t *args);
/* dbpurge.c: drops records. The answer may come in a later turn. */
void dbpurge_handle(struct controller *c, const struct origin *o, const struct header *h,
                    const json_t *args);
/* The link of a client that is connected, or NULL: where an answer goes that took some time. */
struct link *query_link(const struct controller *c, uint64_t session);

/* queues.c: queue_status of these engines with the ids of all tasks. */
void queues_ask(struct controller *c, const struct origin *o, const struct header *h,
                struct engine *const *engines, uint32_t n);
/* A part of what is to be answered; true: there is more to do. */
bool queues_turn(struct controller *c);
void queues_release(struct controller *c);

#endif

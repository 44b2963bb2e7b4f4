/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What happens, told to whoever follows: EVENT messages to the clients, and JSON lines on the
 * descriptor COVEY_EVENTS_FD to the process that started this one. */
#ifndef COVEY_CONTROLLER_EVENTS_H
#define COVEY_CONTROLLER_EVENTS_H

#include <jansson.h>
#include "base/buf.h"
#include "net/loop.h"

struct controller;
struct engine;
struct events;

/* The lines' writer. Never blocks: up to 1 MiB waits for a slow reader, lines beyond that are lost.
 * ret is NULL when COVEY_EVENTS_FD is not set. */
int events_new(struct events **ret, struct loop *l, struct err *e) CV_CHECK;
/* A descriptor of its own for what is said back there; -1: nobody can. */
int events_answers(const struct events *x);
void events_free(struct events *x); /* writes what it can; NULL is fine */
/* One line. Takes j. x may be NULL. */
void events_line(struct events *x, json_t *j_take);

/* ENGINE of protocol.md. */
int event_engine_text(struct buf *b, const struct engine *e) CV_CHECK;
/* To all clients; engine: the header's (WIRE_ENGINE_NONE: none). Takes j. */
void event_clients(struct controller *c, uint32_t engine, json_t *j_take);
/* "engine_joined", "engine_restarted" */
void event_engine(struct controller *c, const char *name, const struct engine *e);
void event_engine_away(struct controller *c, const struct engine *e, const char *why);
void event_engine_back(struct controller *c, const struct engine *e);
/* cause: CAUSE as JSON text. */
void event_engine_died(struct controller *c, const struct engine *e, const char *cause);
void event_notice(struct controller *c, const char *fmt, ...) CV_PRINTF(2, 3);

#endif

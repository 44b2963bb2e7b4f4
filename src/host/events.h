/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Events for whoever started us: one JSON object a line to the descriptor that COVEY_EVENTS_FD
 * names (docs/internals.md). Nothing happens where there is none, or when its reader is gone. */
#ifndef COVEY_HOST_EVENTS_H
#define COVEY_HOST_EVENTS_H

#include <jansson.h>

/* The descriptor, made close-on-exec, or -1. The variable is removed: children have no such
 * descriptor. */
int events_open(void);
/* Writes one line. Takes event, which may be NULL (out of memory: nothing is written). */
void events_write(int fd, json_t *event_take);

#endif

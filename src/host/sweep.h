/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What engines left behind: their children become the host's (a subreaper) when an engine ends.
 * Those that still are in an engine's session are killed when the host ends; who made a session of
 * its own (a daemon that somebody started on purpose) is left alone. No loop. */
#ifndef COVEY_HOST_SWEEP_H
#define COVEY_HOST_SWEEP_H

#include <sys/types.h>
#include "base/error.h"

struct sweep;

int sweep_new(struct sweep **ret) CV_CHECK;
/* An engine or zygote: its session is its pid. Out of memory: its children won't be swept. */
void sweep_add(struct sweep *s, pid_t leader);
/* Kills and reaps all children of ours in such sessions, and theirs, until there are none (at most
 * 2 s). */
void sweep_run(struct sweep *s);
void sweep_free(struct sweep *s); /* NULL is fine */

#endif

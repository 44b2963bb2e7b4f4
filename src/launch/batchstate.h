/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a batch system's status command says about a job. Pure. */
#ifndef COVEY_LAUNCH_BATCHSTATE_H
#define COVEY_LAUNCH_BATCHSTATE_H

#include <stdbool.h>
#include <stddef.h>

/* The state of a job in an answer about several: lines that begin with an id (an array's job has a
 * line for each part: one that goes on counts). bare: lines without an id are about this job, the
 * only one that was asked for. False: there is no line about it. */
bool batch_state(const char *text, const char *id, bool bare, char *out, size_t cap);
/* Is it one of the states that jobs end in? Slurm's and LSF's; the others forget a job. */
bool batch_is_end(const char *state);
/* The command has failed with these words: because it knows none of the jobs? Otherwise it is the
 * batch system's own trouble and says nothing about them. */
bool batch_unknown(const char *text);

#endif

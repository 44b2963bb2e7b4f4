/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The agent of a batch job: `ipcluster batch-job`, started by the supervisor (docs/internals.md,
 * "Agents"). Submits a script, says the job's id, hands on signals, says once a minute that a look
 * at the job is due (not while its engines are connected; the supervisor lets one agent ask for
 * all), and deletes it at the end: when asked to, by SIGTERM, or when the supervisor is gone.
 * Blocks; a process of its own. */
#ifndef COVEY_LAUNCH_BATCHJOB_H
#define COVEY_LAUNCH_BATCHJOB_H

/* Requests on standard input, events on standard output, words for people on standard error.
 * Returns the process's exit code: 0 when the job was deleted, 1 when it failed or has ended. */
int batchjob_run(void);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One engine as one Python process, without a zygote: the default of `ipengine`, and the only way
 * under a process manager (mpiexec, srun), where the engine must be what the manager sees. */
#ifndef COVEY_HOST_SINGLE_H
#define COVEY_HOST_SINGLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>
#include "base/error.h"

/* Were we started by a process manager? ret_rank: our rank, -1 when it names none. Reads the
 * environment. */
bool single_process_manager(long *ret_rank);
/* Is it mpiexec, so that one rank's end is the end of all? Reads the environment. */
bool single_is_mpiexec(void);
/* Starts PYTHON -m MODULE --single with `params` and the slot's five descriptors (slot.h), which
 * stay open here. keep: the process manager's session, descriptors and standard input stay. */
int single_start(const char *python, const char *module, json_t *params, const int fds[5],
                 bool keep, pid_t *ret_pid, struct err *e) CV_CHECK;

#endif

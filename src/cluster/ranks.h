/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Ranks that mpiexec has started here. mpiexec itself, told to end, waits a second or two whatever
 * happens; told themselves they end at once, and mpiexec with them. */
#ifndef COVEY_CLUSTER_RANKS_H
#define COVEY_CLUSTER_RANKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* SIGTERM to the n processes called `program` below the process `under`. False: not all of them are
 * there (other machines have them, or they are about to start), and none was told. */
bool ranks_end(pid_t under, const char *program, uint32_t n);

#endif

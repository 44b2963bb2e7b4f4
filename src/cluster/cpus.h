/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How many cpus this process may use: the least of what affinity, cgroups and a batch system allow.
 */
#ifndef COVEY_CLUSTER_CPUS_H
#define COVEY_CLUSTER_CPUS_H

#include <stddef.h>
#include <stdint.h>

struct cpus {
    uint32_t n;   /* at least 1 */
    char why[80]; /* "affinity", "cgroup quota", "SLURM_CPUS_PER_TASK": what decided */
};

void cpus_available(struct cpus *ret);
/* The cgroup cpu quota, in whole cpus (rounded up), of the text of /proc/self/cgroup with the
 * hierarchies below `root`; limits of the folders above count too. 0: none. */
uint32_t cpus_cgroup_quota(const char *cgroup_text, const char *root);

#endif

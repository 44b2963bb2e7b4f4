/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the kernel's control groups allow this process. No state, any thread. */
#ifndef COVEY_BASE_CGROUP_H
#define COVEY_BASE_CGROUP_H

#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

/* The memory cgroup's folder of /proc/self/cgroup text below `root` ("/sys/fs/cgroup"); version 1
 * or 2. malloc'ed into ret_path. CV_ENOENT when the text names none. */
int cgroup_memory_path(const char *text, size_t n, const char *root, int version,
                       char **ret_path) CV_CHECK;
/* The lowest limit, in bytes, of the memory cgroup `folder` and those above it up to `root`;
 * UINT64_MAX when none of them has one. */
uint64_t cgroup_memory_limit(const char *root, const char *folder, int version);
/* How many bytes of memory this process may use at most: the machine's, or what its cgroups allow.
 */
uint64_t memory_limit(void);

#endif

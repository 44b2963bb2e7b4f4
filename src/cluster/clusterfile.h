/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Cluster files, security/cluster-ID.json: what runs, and where its supervisor listens
 * (docs/internals.md). A file whose processes are gone is stale and counts as nothing. */
#ifndef COVEY_CLUSTER_CLUSTERFILE_H
#define COVEY_CLUSTER_CLUSTERFILE_H

#include <stdbool.h>
#include <jansson.h>
#include "base/error.h"

/* malloc'ed path; NULL when out of memory. */
char *clusterfile_path(const char *profile_dir, const char *cluster_id);
/* CV_ENOENT when missing, CV_EINVAL when it can't be understood. */
int clusterfile_read(const char *path, json_t **ret, struct err *e) CV_CHECK;
int clusterfile_write(const char *path, const json_t *o, struct err *e) CV_CHECK;
/* Do its supervisor, its controller or any of its engine sets still run? */
bool clusterfile_running(const json_t *o);
bool clusterfile_supervised(const json_t *o); /* its supervisor does */
/* Nothing of it is left to find or to stop: all of it were processes of this machine, which have
 * ended. Jobs of a batch system may outlive them, and another machine's can't be seen from here. */
bool clusterfile_over(const json_t *o);
/* The other machine on which it was started (a shared home), where its processes can't be seen from
 * here: the name, of o; NULL: it was this one. */
const char *clusterfile_elsewhere(const json_t *o);
/* It is a file of ipyparallel's own programs. */
bool clusterfile_foreign(const json_t *o);
/* Such a one, whose controller runs on this machine. */
bool clusterfile_others(const json_t *o);
/* Calls cb for each cluster file of a profile, by name; unreadable ones are skipped. o is borrowed.
 */
int clusterfile_each(const char *profile_dir, int (*cb)(void *arg, const char *path, json_t *o),
                     void *arg) CV_CHECK;

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A controller that somebody started by hand for this profile and cluster id, and that runs on this
 * machine: `ipcluster start` gives it engines instead of starting a second one, which would take
 * its files away from it. Blocking reads of a few small files; owns nothing. */
#ifndef COVEY_CLUSTER_ADOPT_H
#define COVEY_CLUSTER_ADOPT_H

#include <sys/types.h>
#include <jansson.h>

/* The pid of such a controller and, as its event "listening" would say it, where its files are; 0:
 * there is none. One that a supervisor started does not count: it ends with that. */
pid_t adopt_find(const char *profile_dir, const char *cluster_id, json_t **ret_listening);

#endif

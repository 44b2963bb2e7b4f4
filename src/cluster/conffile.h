/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The config files of ipcluster: ipcluster_config.json is merged here, ipcluster_config.py by
 * Python, which is only started if that file has more than blanks and comments. */
#ifndef COVEY_CLUSTER_CONFFILE_H
#define COVEY_CLUSTER_CONFFILE_H

#include "base/config.h"

/* extra: the file of --config, or NULL. COVEY_CONFIG (a path) in the environment replaces them all.
 */
int conffile_load(struct config *c, const char *profile_dir, const char *extra, const char *python,
                  struct err *e) CV_CHECK;

#endif

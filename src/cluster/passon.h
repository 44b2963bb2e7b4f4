/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What ipcluster passes on to the programs that it starts: arguments of the config
 * (Cluster.controller_args, engine_args), words behind "--", and settings of the command line that
 * are meant for the controller's or the engines' classes. */
#ifndef COVEY_CLUSTER_PASSON_H
#define COVEY_CLUSTER_PASSON_H

#include "cluster/settings.h"

/* Fills controller_args and engine_args. cli: what the command line alone said. */
int passon_args(struct settings *s, const struct config *cli, struct err *e) CV_CHECK;

#endif

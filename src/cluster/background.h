/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `ipcluster engines --daemonize`: a host in the background, waited for until its engines are
 * there. */
#ifndef COVEY_CLUSTER_BACKGROUND_H
#define COVEY_CLUSTER_BACKGROUND_H

#include "cluster/settings.h"

/* Starts what the plan says and returns when all engines have registered, with the exit code. What
 * fails, or is not there in time (Cluster.engine_timeout), is ended again and told. Launchers whose
 * engines nobody hears of (MPI, batch systems, Python classes) are only started. */
int background_engines(const struct settings *s, const struct launch_plan *plan);

/* A pipe with an agent's request, close-on-exec; -1 where the plan has none. Nobody closes its
 * write end: a signal is the agent's end. CV_ESYS and errno: it can't be made, or does not fit. */
int background_request(const struct launch_plan *plan, int ret[2]) CV_CHECK;

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An engine's place on its host: 0, 1, 2 … What depends on it: {i} in IPEngine.environment, and the
 * GPUs of gpus_per_engine. Pure but for the environment variables that it reads. */
#ifndef COVEY_HOST_PLACE_H
#define COVEY_HOST_PLACE_H

#include <jansson.h>
#include "host/options.h"

/* The variables of each of o->n engines: an array of objects {NAME: text}. Hosts of one engine
 * each (mpiexec, srun, a wrapper) differ by what says their place on the machine. */
int place_environments(json_t **ret, const struct options *o, struct err *e) CV_CHECK;

#endif

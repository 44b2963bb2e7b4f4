/* SPDX-License-Identifier: BSD-3-Clause
 *
 * PARAMS: what the host tells an engine at its start (docs/internals.md), as far as all engines of
 * the host have it in common. Pure but for the machine's identity. */
#ifndef COVEY_HOST_PARAMS_H
#define COVEY_HOST_PARAMS_H

#include <stdbool.h>
#include <jansson.h>
#include "host/options.h"
#include "wire/connfile.h"

/* What is known before a controller is found. */
int params_new(json_t **ret, const struct options *o, uint64_t host_session,
               bool process_manager) CV_CHECK;
/* Adds what the connection file says. */
int params_complete(json_t *params, const struct connfile *f) CV_CHECK;

#endif

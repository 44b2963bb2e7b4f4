/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The supervisor: starts a controller and sets of engines, counts who is there, and stays until it
 * is told to stop or the controller ends. One loop on the main thread.
 *
 *   STARTING ──► RUNNING ──► STOPPING ──► gone
 *      └────────────────────────┘ */
#ifndef COVEY_CLUSTER_SUPERVISOR_H
#define COVEY_CLUSTER_SUPERVISOR_H

#include "cluster/settings.h"

struct supervisor_hooks {
    /* All engines are there; called once. cluster_file is borrowed. */
    void (*ready)(void *arg, const char *cluster_file);
    void *arg;
};

/* Runs to the end and returns the exit code. */
int supervisor_run(const struct settings *s, const struct supervisor_hooks *hooks);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The host as a whole: what joins uplink, engines and relay, and what signals and the controller's
 * orders do. Lives on the main thread, which runs its loop. */
#ifndef COVEY_HOST_HOST_H
#define COVEY_HOST_HOST_H

#include "base/log.h"
#include "host/options.h"

/* Runs until everything has ended; returns the exit code. A signal that ended the one engine of a
 * process manager's host is in *ret_signal (else 0): the program dies of it, too. */
int host_run(const struct options *o, struct log *log, int events_fd, int *ret_signal);

#endif

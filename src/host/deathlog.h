/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What people at this host read of an engine's end (death.h has the words). */
#ifndef COVEY_HOST_DEATHLOG_H
#define COVEY_HOST_DEATHLOG_H

#include "base/log.h"
#include "host/death.h"

/* The sentence to the log, and all of stderr to ours where nobody else will show it. stopping: the
 * engines were told to end. */
void death_log(struct log *log, const struct death *d, bool stopping);

#endif

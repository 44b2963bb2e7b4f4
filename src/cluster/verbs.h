/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The verbs of ipcluster: each runs to its end and returns the exit code. */
#ifndef COVEY_CLUSTER_VERBS_H
#define COVEY_CLUSTER_VERBS_H

#include "cluster/settings.h"

enum exit_code {
    EXIT_FINE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_ALREADY_STARTED = 10,
    EXIT_ALREADY_STOPPED = 11,
};

int verb_start(const struct settings *s);
int verb_stop(const struct settings *s);
int verb_engines(const struct settings *s);
int verb_list(const struct settings *s);
int verb_clean(const struct settings *s);

/* Stops what a cluster file names and waits for its end: by its supervisor, or, where that is gone,
 * process by process; then the file is removed. */
int cluster_stop(const struct settings *s, const char *path, const json_t *o,
                 struct err *e) CV_CHECK;

/* What a cluster without processes has left elsewhere, such as a job in a queue, is ended; fails
 * when it may still be there. Takes seconds where a batch system does not answer. */
int cluster_undo(const json_t *o, struct err *e) CV_CHECK;

/* The command `words` so many times, with the number for {i}; the exit code. */
int each_run(const char *count, char **words);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A controller or a host that runs: its job, its output (to a log file; the last of it kept for
 * error messages) and its events. On the loop's thread. */
#ifndef COVEY_CLUSTER_CHILD_H
#define COVEY_CLUSTER_CHILD_H

#include <jansson.h>
#include <uv.h>
#include "launch/launch.h"
#include "proc/reap.h"

struct child;

struct child_callbacks {
    void (*event)(void *arg, struct child *c, json_t *event); /* borrowed */
    /* After the last of its output and events; the child may be freed here. */
    void (*ended)(void *arg, struct child *c, const struct reaped *r);
    void *arg;
};

/* Starts what the request says. log_path: where its output goes (a file that stays empty, or whose
 * child ends as it should, is removed with the child). On failure nothing is left. */
int child_start(struct child **ret, uv_loop_t *loop, struct reaper *reaper,
                const struct launch_ops *ops, const struct launch_request *request,
                const char *log_path, const struct child_callbacks *cb, struct err *e) CV_CHECK;
/* Ends nothing: the process goes on if it still runs. NULL is fine. */
void child_free(struct child *c);
int child_stop(struct child *c, bool force, struct err *e) CV_CHECK;
int child_signal(struct child *c, int signum, struct err *e) CV_CHECK;
/* A command for an agent (docs/internals.md, "Agents"); others take none. */
void child_tell(struct child *c, json_t *command_take);
/* A word to a controller: to a local one by its events' socket, to one by ssh by its agent; others
 * take none. */
void child_say(struct child *c, json_t *word_take);
const struct launch_job *child_job(const struct child *c);
json_t *child_describe(const struct child *c); /* new reference; NULL when out of memory */
/* The last `lines` lines of its output, malloc'ed; "" when it said nothing; NULL when out of
 * memory. */
char *child_tail(const struct child *c, unsigned lines);
/* "exited with code 3", "was killed by SIGSEGV"; malloc'ed. */
char *child_end_text(const struct reaped *r);

#endif

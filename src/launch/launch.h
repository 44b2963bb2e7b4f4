/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Launchers: how a controller, or a set of engines, is started, watched and stopped where it runs.
 * One const table per back end; a job is what a back end needs to find again what it started. The
 * supervisor decides when; a launcher only knows how. All calls are made on the supervisor's main
 * thread (a death signal fires when the thread that started a process ends). */
#ifndef COVEY_LAUNCH_LAUNCH_H
#define COVEY_LAUNCH_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>
#include "base/error.h"

enum launch_what { LAUNCH_CONTROLLER, LAUNCH_ENGINES };

/* What is wanted; everything is borrowed. Texts may be NULL where nothing is said. */
struct launch_request {
    enum launch_what what;
    const char *program_dir; /* where ipcontroller and ipengine are */
    const char *profile_dir;
    const char *cluster_id; /* "": none */
    const char *work_dir;
    const char *python;
    const char *cluster_file; /* COVEY_CLUSTER_FILE: who dies last removes it */
    const char *const *args;  /* further arguments, NULL-terminated */
    const char *const *env;   /* the environment that the child will inherit, to see what is set */
    uint32_t n;               /* engines */
    uint32_t
        threads; /* each engine's share of cpus for OMP_NUM_THREADS and the like; 0: leave them */
};

/* What will be run. Owned; launch_plan_release() frees. */
struct launch_plan {
    char **argv;
    char **env; /* changes: "NAME=VALUE" sets, "NAME" removes */
    char *cwd;  /* NULL: unchanged */
};

/* Something that was started. */
struct launch_job {
    pid_t pid;
    uint64_t pid_start; /* tells a reused pid */
};

struct launch_ops {
    const char *name; /* "local": what --engines= and --controller= say */
    const char *cls;  /* "Local": what cluster files say */
    /* Pure: no I/O, looks at nothing but the request. */
    int (*prepare)(const struct launch_request *r, struct launch_plan *ret, struct err *e);
    /* Starts it; returns when it runs or can't. output_fd: for its standard output and error;
     * events_fd: for its events (-1: none). Both stay open here. */
    int (*start)(const struct launch_plan *p, int output_fd, int events_fd, struct launch_job *ret,
                 struct err *e);
    /* Is it still there? Doesn't block. */
    bool (*poll)(const struct launch_job *j);
    /* Sends it a signal; what is gone is fine. */
    int (*signal)(const struct launch_job *j, int signum, struct err *e);
    /* Asks it to end (force: makes it end). Doesn't wait. */
    int (*stop)(const struct launch_job *j, bool force, struct err *e);
    /* To JSON for the cluster file (new reference, NULL when out of memory) and back. */
    json_t *(*describe)(const struct launch_job *j);
    int (*restore)(const json_t *o, struct launch_job *ret, struct err *e);
};

extern const struct launch_ops launch_local;

/* The back end of a name: "local", "Local", "LocalEngineSetLauncher", with any module path before
 * it; NULL and "" are local. CV_EINVAL names those that this version has. */
int launch_find(const char *name, const struct launch_ops **ret, struct err *e) CV_CHECK;
void launch_plan_release(struct launch_plan *p);

#endif

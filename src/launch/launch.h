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
#include "base/config.h"
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
    const struct config *config; /* the launchers' traits; NULL: none is set */
    const char *events_file; /* a controller's events where no descriptor reaches it; NULL: none */
    const char *launcher;    /* what the user said: a Python class's name */
    const char *engine_set;  /* COVEY_ENGINE_SET: which start of engines this is; NULL: none */
    const char *name;        /* names its files: "ipengine-ID-PID-SET" */
    bool supervised;         /* there is a supervisor, which answers an agent */
    uint32_t n;              /* engines */
    uint32_t
        threads; /* each engine's share of cpus for OMP_NUM_THREADS and the like; 0: leave them */
};

/* What will be run. Owned; launch_plan_release() frees. */
struct launch_plan {
    char **argv;
    char **env;  /* changes: "NAME=VALUE" sets, "NAME" removes */
    char *cwd;   /* NULL: unchanged */
    char *input; /* an agent's first line of input; NULL: it reads nothing */
};

/* Descriptors for what is started; they stay open here. -1: none. */
struct launch_io {
    int input;  /* an agent reads its request and commands here */
    int output; /* standard output and error */
    int events; /* events, as JSON lines; an agent's standard output */
};

/* Something that was started. */
struct launch_job {
    pid_t pid;
    uint64_t pid_start; /* tells a reused pid */
    char id[64];        /* a batch system's name for it; "": none */
    char undo[256];     /* shell line that ends it when its agent is gone; "": none */
};

enum launch_flag {
    /* What runs here is an agent: its standard output is events, and its input the request and then
     * commands, all JSON lines (docs/internals.md). It acts for something that runs elsewhere. */
    LAUNCH_AGENT = 1,
    LAUNCH_EVENTS_FILE = 2, /* no descriptor reaches a controller: its events come by a file */
    LAUNCH_RANKS = 8,       /* it starts them here if it can; they are told themselves to end */
    LAUNCH_ELSEWHERE = 4,   /* on other machines, which can't reach a loopback address */
};

struct launch_ops {
    const char *name;           /* "local": what --engines= and --controller= say */
    const char *cls;            /* "Local": what cluster files say */
    const char *const *aliases; /* further names; NULL: none */
    int flags;                  /* enum launch_flag */
    /* Classes whose traits count, by enum launch_what; the most specific first. */
    const char *const *classes[2];
    /* Pure: no I/O, looks at nothing but the request. (batch_template_file is read here.) */
    int (*prepare)(const struct launch_ops *ops, const struct launch_request *r,
                   struct launch_plan *ret, struct err *e);
    /* Starts it; returns when it runs or can't. */
    int (*start)(const struct launch_plan *p, const struct launch_io *io, struct launch_job *ret,
                 struct err *e);
    /* Is it still there? Doesn't block. */
    bool (*poll)(const struct launch_job *j);
    /* Sends it a signal; what is gone is fine. Agents get theirs as commands instead. */
    int (*signal)(const struct launch_job *j, int signum, struct err *e);
    /* Asks it to end (force: makes it end). Doesn't wait, but for a batch system that is asked to
     * delete a job, for some seconds; fails when that may still be there. */
    int (*stop)(const struct launch_job *j, bool force, struct err *e);
    /* To JSON for the cluster file (new reference, NULL when out of memory) and back. */
    json_t *(*describe)(const struct launch_ops *ops, const struct launch_job *j);
    int (*restore)(const json_t *o, struct launch_job *ret, struct err *e);
};

extern const struct launch_ops launch_local, launch_mpi, launch_python, launch_ssh, launch_sshproxy;
extern const struct launch_ops launch_slurm, launch_pbs, launch_sge, launch_lsf, launch_htcondor,
    launch_batch;

/* The back end of a name: "local", "Local", "LocalEngineSetLauncher", with any module path of stock
 * before it, in any case; NULL and "" are local. What is none of ours is a Python class
 * (launch_python), whose name is looked up when it is started. CV_EINVAL: there will be none. */
int launch_find(const char *name, const struct launch_ops **ret, struct err *e) CV_CHECK;
/* A trait of a back end (borrowed): the most specific class that has it wins. NULL: not set. */
json_t *launch_trait(const struct launch_ops *ops, enum launch_what what, const struct config *c,
                     const char *trait);
/* How many engines SSHEngineSetLauncher.engines has places for. */
uint32_t launch_ssh_count(const struct config *c);
void launch_plan_release(struct launch_plan *p);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What /proc and the cgroup files say about processes, and signals to groups of them. No state,
 * any thread. The parsers take text, so that tests give them files of other machines. */
#ifndef COVEY_PROC_PROCINFO_H
#define COVEY_PROC_PROCINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"

struct procinfo {
    pid_t pid, ppid, pgid, sid;
    char state;     /* 'R', 'S', 'Z' ... */
    char name[16];  /* of its program, cut to 15 characters */
    uint64_t start; /* field 22 of /proc/PID/stat: tells a reused pid */
};

/* CV_ENOENT when there is no such process. */
int procinfo_get(pid_t pid, struct procinfo *ret, struct err *e) CV_CHECK;
int procinfo_parse(const char *stat, size_t n, struct procinfo *ret) CV_CHECK;
/* The process `pid` that started at `start` exists and is not a zombie. start 0: any. */
bool process_alive(pid_t pid, uint64_t start);
/* Calls cb for each child of `parent` (direct ones, zombies too). */
int process_children(pid_t parent, void (*cb)(void *arg, const struct procinfo *p), void *arg,
                     struct err *e) CV_CHECK;

/* kill() for a whole group; a group that is gone is fine. Never signals this process's own group.
 */
int pgroup_kill(pid_t pgid, int signum, struct err *e) CV_CHECK;

/* How often the kernel has killed a process of our cgroup for lack of memory: "oom_kill N" of
 * memory.events (v2) or memory.oom_control (v1). CV_ENOENT when there is no such file here. */
int cgroup_oom_kills(uint64_t *ret, struct err *e) CV_CHECK;
int oom_kills_parse(const char *text, size_t n, uint64_t *ret) CV_CHECK;

#endif

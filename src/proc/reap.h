/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reaping children: SIGCHLD on a loop, then waitpid for all of them, each one's end told to its
 * callback. One reaper a program, used on its loop's thread. Children that nobody asked about (a
 * subreaper inherits orphans) are reaped silently and remembered for a while: the pid of a process
 * that somebody else forked for us may become known only after its end. */
#ifndef COVEY_PROC_REAP_H
#define COVEY_PROC_REAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>
#include "base/error.h"

struct reaper;

struct reaped {
    pid_t pid;
    bool known;        /* false: it ended, nobody knows how (signal and code are 0) */
    int signal;        /* that killed it, or 0 */
    int code;          /* exit code where signal == 0 */
    uint64_t peak_rss; /* bytes; of it or of the largest child that it waited for */
};

/* Called once, from the loop, never from inside reaper_add(). May add and remove others. */
typedef void (*reaped_cb)(void *arg, const struct reaped *r);

int reaper_new(struct reaper **ret, uv_loop_t *loop, struct err *e) CV_CHECK;
/* Closes its handles; the memory goes at the loop's next turn. NULL is fine. */
void reaper_free(struct reaper *r);
/* A child that this program has just started: call before the loop runs again. */
int reaper_add(struct reaper *r, pid_t pid, reaped_cb cb, void *arg) CV_CHECK;
/* A process that becomes, is, or was (it may have ended) our child by another's fork. */
int reaper_adopt(struct reaper *r, pid_t pid, reaped_cb cb, void *arg) CV_CHECK;
/* Forgets the callback; the process is reaped all the same. Unknown pids are fine. */
void reaper_remove(struct reaper *r, pid_t pid);

/* "SIGSEGV" for 11; "signal 77" for what has no name. Static or thread-local memory. */
const char *signal_name(int signum);

#endif

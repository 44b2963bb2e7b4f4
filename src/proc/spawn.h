/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Starting child processes. One call forks, prepares and execs; it returns when the exec has
 * happened or failed, so "no such program" is an error of the call and not a child that dies later.
 * May be called from a loop's thread (it blocks for the exec alone) and in a program with threads:
 * between fork and exec the child only makes system calls. Owns nothing that outlives the call.
 *
 * A death signal (PDEATHSIG) fires when the calling *thread* ends: call from the main thread, or
 * from the one that the child belongs to. */
#ifndef COVEY_PROC_SPAWN_H
#define COVEY_PROC_SPAWN_H

#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"

enum spawn_flag {
    SPAWN_SESSION = 1,  /* setsid(): own session and process group, no controlling terminal */
    SPAWN_GROUP = 2,    /* own process group in this session */
    SPAWN_KEEP_FDS = 4, /* descriptors from 3 up that are not close-on-exec stay open too */
    SPAWN_THREADED = 8, /* vfork(): for a process with other people's threads and fork handlers */
};

/* Descriptor `fd` of this process becomes `as` in the child. Sources stay open here. */
struct spawn_fd {
    int fd, as;
};

#define SPAWN_NULL (-1)    /* stdin_fd and the like: /dev/null */
#define SPAWN_INHERIT (-2) /* what this process has */

struct spawn {
    const char *const *argv; /* argv[0] without '/' is searched in PATH */
    const char *const
        *env;        /* changes: "NAME=VALUE" sets, "NAME" removes; ends with NULL; may be NULL */
    const char *cwd; /* NULL: unchanged */
    const struct spawn_fd *fds;
    uint32_t nfds;
    int stdin_fd, stdout_fd, stderr_fd; /* a descriptor, SPAWN_NULL or SPAWN_INHERIT */
    int death_signal; /* sent to the child when the calling thread ends; 0: none */
    int flags;        /* enum spawn_flag */
};

/* Starts the child. On failure no child is left; e says what failed ("can't start 'x': No such file
 * or directory") and the code is CV_ENOENT, CV_EACCES, CV_ENOMEM or CV_ESYS. Signals that this
 * program blocks or ignores (SIGPIPE, SIGXFSZ) are as by default in the child. */
int process_spawn(const struct spawn *s, pid_t *ret_pid, struct err *e) CV_CHECK;

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One running `ssh -W`: started, ended and asked for its last words. */
#ifndef COVEY_SSH_CHILD_H
#define COVEY_SSH_CHILD_H

#include <stdbool.h>
#include <sys/types.h>
#include "base/error.h"

struct ssh_child {
    pid_t pid; /* 0: none */
    int pidfd;
    int said;    /* memfd: its standard error */
    int askpass; /* memfds of the program that gives the password, and of the password; -1: none */
    int secret;
};

/* Starts argv; ret_fd is the other end of its standard streams, a non-blocking socket. On failure
 * nothing is left. */
int ssh_child_start(struct ssh_child *c, char *const *argv, const char *password, int *ret_fd,
                    struct err *e) CV_CHECK;
/* Waits up to ms for its end; whether it has ended. */
bool ssh_child_ended(const struct ssh_child *c, int ms);
/* How it ended ("was killed by SIGKILL"), if that is known and not as it should; else "". */
void ssh_child_how(const struct ssh_child *c, char *out, size_t cap);
/* What it wrote to standard error, the last cap bytes of it; the length. */
size_t ssh_child_said(const struct ssh_child *c, char *out, size_t cap);
/* Ends and reaps it; what it has still to send gets up to patience_ms. Fine for zeroed memory. */
void ssh_child_end(struct ssh_child *c, int patience_ms);

#endif

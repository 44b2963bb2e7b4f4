/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What ssh is told and what it says, as texts. Pure. */
#ifndef COVEY_SSH_WORDS_H
#define COVEY_SSH_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

/* [user@]host[:port] in its parts, malloc'ed; an IPv6 address with a port stands in brackets.
 * ret_port is NULL where none is given. CV_EINVAL: not such a text (or one that ssh would take for
 * an option). */
int ssh_server_split(const char *server, char **ret_place, char **ret_port, struct err *e) CV_CHECK;
/* The command line for a connection to host:port as the server sees it: NULL-terminated, all
 * malloc'ed; NULL when out of memory. ask: a password is there to be asked for. */
char **ssh_argv(const char *place, const char *port, const char *key, bool ask, const char *target);
void ssh_argv_free(char **argv);
/* Where it went wrong. */
enum ssh_failure {
    SSH_NO_CONTROLLER, /* the server is there, and nobody answers at the target */
    SSH_REFUSED,       /* it does not let us in, or forward: trying again is no use */
    SSH_NO_SERVER,     /* anything else on the way to the server */
};

/* One sentence of what ssh said before it ended, and what helps. said: its standard error, n bytes;
 * how: how it ended, or "". The result fits into cap. */
enum ssh_failure ssh_explain(const char *server, const char *target, const char *said, size_t n,
                             const char *how, char *out, size_t cap);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the controller was asked to do: command line, config files, environment, in this order of
 * precedence, resolved into plain values. Owns its strings. */
#ifndef COVEY_CONTROLLER_OPTIONS_H
#define COVEY_CONTROLLER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/config.h"

struct options {
    struct config
        *config; /* the whole tree; strings below are borrowed from it unless said otherwise */
    char *profile_dir;      /* own */
    const char *cluster_id; /* "" : none */
    const char *ip;         /* "127.0.0.1", "*", an address */
    const char *location;   /* "": this machine's name */
    const char *ssh, *enginessh;
    const char *unix_path; /* "": the abstract socket */
    const char *work_dir;
    const char *python;
    const char *scheme;
    const char *sched_log; /* "": none */
    const char *store;     /* "memory", "sqlite", "none" */
    char *db_file;         /* own; of "sqlite" */
    const char *db_table;
    double db_retry; /* seconds */
    bool no_unix, reuse, log_to_file, show_config, init;
    uint16_t port; /* 0: the kernel's choice */
    uint32_t hwm;  /* 0: adaptive */
    int log_level;
    uint64_t record_limit, size_limit;
    uint64_t sched_log_limit;
    double away_grace, client_grace; /* seconds */
    double settle;             /* seconds that engines of before have to come back (--reuse) */
    uint64_t ping_ns, dead_ns; /* silence on TCP until PING, and until a link counts as lost */
    uint64_t
        client_buffer; /* bytes a client may have to read before its tasks' output is left out */
};

/* What becomes of the program after options_parse(). */
enum options_next {
    OPTIONS_RUN,
    OPTIONS_DONE /* --help, --version */,
    OPTIONS_USAGE /* exit 2 */,
    OPTIONS_FAILED /* exit 1 */
};

/* Notices (ignored and deprecated options) go to `notices`, one line each. On USAGE and FAILED e
 * says why. */
enum options_next options_parse(struct options *ret, int argc, char **argv, FILE *notices,
                                struct err *e) CV_CHECK;
void options_release(struct options *o);
/* Writes ipcontroller_config.py with every option as a comment; leaves an existing one alone. */
int options_write_template(const struct options *o, char **ret_path, struct err *e) CV_CHECK;

#endif

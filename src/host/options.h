/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the host was asked to do: command line over config files over environment, resolved into
 * plain values. Owns its strings. */
#ifndef COVEY_HOST_OPTIONS_H
#define COVEY_HOST_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <jansson.h>
#include "base/config.h"

struct options {
    struct config
        *config; /* the whole tree; strings below are borrowed from it unless said otherwise */
    char *profile_dir;            /* own; absolute */
    char *file;                   /* own; path of the connection file */
    const char *info;             /* the connection file's text (IPP_CONNECTION_INFO), or NULL */
    char *work_dir;               /* own; absolute, or NULL */
    const char *cluster_id;       /* "": none */
    const char *location;         /* "": as the file says */
    const char *ssh_server;       /* "": as the file says */
    const char *ssh_key;          /* "": as ssh is configured */
    const char *python;           /* interpreter of the engines */
    const char *module;           /* run with -m: covey.engine */
    const char *command, *script; /* -c and -s; NULL: none */
    const char *mpi_init;         /* code for --mpi, or NULL */
    uint32_t n;
    uint32_t number; /* asked for; WIRE_ENGINE_NONE: any */
    bool no_unix, restart, log_to_file, show_config, init;
    int log_level;
    const json_t *environment; /* {NAME: text with {i}}, borrowed; NULL: none */
    uint32_t gpus;             /* for each engine; 0: left alone */
    double timeout;            /* seconds to wait for a controller */
    double grace;              /* seconds to wait for one that is away */
    double controller_grace;   /* seconds to wait for one whose process has ended */
    double stop_grace;         /* seconds from an engine's SIGTERM to its SIGKILL */
};

/* What becomes of the program after options_parse(). */
enum options_next {
    OPTIONS_RUN,
    OPTIONS_DONE /* --help, --version */,
    OPTIONS_USAGE /* exit 2 */,
    OPTIONS_FAILED /* exit 1 */
};

/* Reads everything; Python runs only if a config file has an active line. Notices (ignored options)
 * go to `notices`, one line each. On USAGE and FAILED e says why. */
enum options_next options_parse(struct options *ret, int argc, char **argv, FILE *notices,
                                struct err *e) CV_CHECK;
void options_release(struct options *o);
/* Writes ipengine_config.py with every setting as a comment; leaves an existing one alone. */
int options_write_template(const struct options *o, char **ret_path, struct err *e) CV_CHECK;

#endif

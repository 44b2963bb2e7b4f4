/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What ipcluster was asked to do: command line over config files over defaults, as plain values.
 * Strings without a note are borrowed from `config` or argv. */
#ifndef COVEY_CLUSTER_SETTINGS_H
#define COVEY_CLUSTER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/config.h"
#include "base/error.h"
#include "base/log.h"
#include "launch/launch.h"

enum verb { VERB_START, VERB_STOP, VERB_ENGINES, VERB_LIST, VERB_CLEAN, VERB_END };

struct settings {
    enum verb verb;
    struct config *config;
    struct log *log;
    char *ipython_dir, *profile_dir; /* own, absolute */
    char *program_dir;               /* own */
    bool profile_named;              /* --profile or --profile-dir was given */
    const char *cluster_id;          /* "": none */
    const char *python, *work_dir;
    const struct launch_ops *controller, *engines;
    const char *controller_launcher, *engine_launcher; /* as they were named; NULL: local */
    char **controller_args, **engine_args;             /* own, NULL-terminated */
    char **words;                                      /* own array: what follows the options */
    uint32_t n;                                        /* engines */
    char *why_n;      /* own: "4 cpus (cgroup quota)", NULL when n was given */
    uint32_t threads; /* for each engine; 0: left alone */
    bool daemonize, all, force, json, reuse, show_config, init;
    double engine_timeout; /* seconds until all engines must be there */
    long parent_pid;       /* 0: none */
    int events_fd;         /* -1: none */
    int log_level;
};

enum settings_next {
    SETTINGS_RUN,
    SETTINGS_DONE /* --help */,
    SETTINGS_USAGE /* exit 2 */,
    SETTINGS_FAILED /* exit 1 */
};

/* argv[0] is the program's name; the verb is no longer in it. */
enum settings_next settings_parse(struct settings *ret, enum verb verb, int argc, char **argv,
                                  struct err *e) CV_CHECK;
void settings_release(struct settings *s);
/* Writes ipcluster_config.py with every setting as a comment; leaves an existing one alone. */
int settings_write_template(const struct settings *s, char **ret_path, struct err *e) CV_CHECK;
const char *settings_verb_name(enum verb v);
const char *settings_verb_help(enum verb v);

#endif

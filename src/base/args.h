/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Command lines from one table. A row is an alias (--name=VALUE, --name VALUE, -n VALUE) or a flag
 * (--name, also --name=true|false) that sets Class.trait of a config. --Class.trait=value works for
 * any class; '-' and '_' in option names are the same; empty arguments are ignored; "--" ends.
 * --help prints the table with examples, --help-all the schema's settings too (--help-all=json:
 * both for programs; --help-all=config: a config file of comments), --version the version:
 * args_parse then returns 1 and the caller exits 0. An unknown option is CV_EINVAL with the nearest
 * known name in the text (exit 2).
 */
#ifndef COVEY_BASE_ARGS_H
#define COVEY_BASE_ARGS_H

#include <stdio.h>
#include "base/config.h"
#include "base/error.h"
#include "base/schema.h"

enum arg_kind { ARG_VALUE, ARG_FLAG, ARG_IGNORED_VALUE, ARG_IGNORED_FLAG };

struct arg {
    const char *name;   /* "profile-dir", without dashes */
    char shortname;     /* 'n' or 0 */
    enum arg_kind kind; /* ignored: accepted, `help` is printed once as the reason */
    const char *cls, *trait;
    const char *value;   /* for ARG_FLAG: what it sets ("true", "10", ...) */
    const char *metavar; /* "PATH", "N" */
    const char *help;    /* one line; NULL: that of the setting, with its default */
};

struct args_spec {
    const char *program;         /* "ipcluster start" */
    const char *description;     /* printed by --help before the options */
    const char *examples;        /* printed after */
    const struct arg *rows;      /* ends with name == NULL */
    const struct arg *more;      /* further rows, or NULL */
    const struct schema *schema; /* the settings; NULL: none */
};

/* Parses argv[1..]; positional words and what follows "--" are left in ret_rest (borrowed pointers,
 * malloc'ed NULL-terminated array). Notices about ignored options go to `notices`. */
int args_parse(const struct args_spec *spec, int argc, char **argv, struct config *c,
               char ***ret_rest, FILE *notices, struct err *e) CV_CHECK;
void args_help(const struct args_spec *spec, FILE *out);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Every option and setting of the programs, as const tables: the one place where they are written
 * down. The programs parse by them, --help, the documents (tools/options_doc.py) and the config
 * templates are printed from them. A setting that is added here and read nowhere is a mistake. */
#ifndef COVEY_CATALOG_CATALOG_H
#define COVEY_CATALOG_CATALOG_H

#include "base/args.h"
#include "base/schema.h"

extern const struct args_spec catalog_controller, catalog_engine;
/* ipcluster's verbs, in the order of catalog_verbs. */
extern const struct args_spec catalog_start, catalog_stop, catalog_engines, catalog_list,
    catalog_clean;

extern const struct setting_table settings_controller, settings_engine, settings_shell,
    settings_cluster, settings_launchers;
extern const struct renamed settings_renamed[];

/* A line for each environment variable of former times that is set and has no effect. */
void catalog_check_environment(FILE *notices);

/* Reasons that several rows give. */
#define WHY_NO_HEARTBEAT "there is no heartbeat to tune: a lost link is noticed at once"
#define WHY_NO_SESSION "connections are always authenticated and, between machines, encrypted"
#define WHY_NO_ZMQ "there is no ZMQ: links are TLS between machines, a Unix socket on one"
#define WHY_ONE_PORT "there is one port: --port"

#endif

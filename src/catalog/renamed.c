/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Names of former times, from all the eras of which there are config files: accepted, with one line
 * that says today's. */
#include "catalog/catalog.h"

#include <stdlib.h>

const struct renamed settings_renamed[] = {
    {"HubFactory", "regport", "IPController", "port"},
    {"HubFactory", NULL, "IPController", NULL},
    {"IPControllerApp", NULL, "IPController", NULL},
    {"IPController", "regport", "IPController", "port"},
    {"EngineFactory", NULL, "IPEngine", NULL},
    {"IPEngineApp", NULL, "IPEngine", NULL},
    {"IPEngine", "wait_for_url_file", "IPEngine", "timeout"},
    {"MPI", "use", "IPEngine", "use_mpi"},
    {"MPI", "init_script", "IPEngine", "init_mpi"},
    {"IPClusterApp", NULL, "IPCluster", NULL},
    {"IPClusterEngines", "n", "Cluster", NULL},
    {"IPClusterEngines", "delay", "Cluster", NULL},
    {"IPClusterEngines", "controller_ip", "Cluster", NULL},
    {"IPClusterEngines", "controller_location", "Cluster", NULL},
    {"IPClusterEngines", "engine_launcher_class", "Cluster", NULL},
    {"IPClusterEngines", "engine_launcher", "Cluster", "engine_launcher_class"},
    {"IPClusterEngines", "controller_launcher_class", "Cluster", NULL},
    {"IPClusterEngines", "controller_launcher", "Cluster", "controller_launcher_class"},
    {"IPClusterStart", "n", "Cluster", NULL},
    {"IPClusterStart", "delay", "Cluster", NULL},
    {"IPClusterStart", "controller_ip", "Cluster", NULL},
    {"IPClusterStart", "controller_location", "Cluster", NULL},
    {"IPClusterStart", "engine_launcher_class", "Cluster", NULL},
    {"IPClusterStart", "engine_launcher", "Cluster", "engine_launcher_class"},
    {"IPClusterStart", "controller_launcher_class", "Cluster", NULL},
    {"IPClusterStart", "controller_launcher", "Cluster", "controller_launcher_class"},
    {"Cluster", "engine_launcher", "Cluster", "engine_launcher_class"},
    {"Cluster", "controller_launcher", "Cluster", "controller_launcher_class"},
    {"MPIExecLauncher", NULL, "MPILauncher", NULL},
    {"MPIExecControllerLauncher", NULL, "MPIControllerLauncher", NULL},
    {"MPIExecEngineSetLauncher", NULL, "MPIEngineSetLauncher", NULL},
    {NULL},
};

void catalog_check_environment(FILE *notices)
{
    static const char *const names[] = {"IPP_SESSION_KEY", "IPP_ENABLE_CURVE",
                                        "IPP_CURVE_SECRETKEY", "IPP_CURVE_PUBLICKEY",
                                        "IPP_CURVE_SERVERKEY"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (getenv(names[i]))
            fprintf(notices, "%s has no effect here: %s\n", names[i], WHY_NO_SESSION);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The options of ipcluster's verbs, and its settings. */
#include "catalog/catalog.h"

static const struct setting settings[] = {
    {"Cluster", "n", "int", "None",
     "engines to start (default: the cpus that this process may use)"},
    {"Cluster", "engine_launcher_class", "text", "'local'",
     "how engines are started: local, ssh, sshproxy, mpi, slurm, pbs, sge, lsf, htcondor, batch, "
     "or "
     "a Python class"},
    {"Cluster", "controller_launcher_class", "text", "'local'",
     "how the controller is started: local, ssh, mpi, slurm, pbs, sge, lsf, htcondor, batch, or a "
     "Python class"},
    {"Cluster", "controller_ip", "text", "''",
     "the controller listens here; '*' for all (default: 127.0.0.1)"},
    {"Cluster", "controller_location", "text", "''", "the controller's name for other machines"},
    {"Cluster", "controller_args", "list", "[]", "further arguments of the controller"},
    {"Cluster", "engine_timeout", "float", "60", "seconds until all engines must be there"},
    {"Cluster", "gpus_per_engine", "int", "0",
     "give each engine so many GPUs of its own (CUDA_VISIBLE_DEVICES); 0: leave them"},
    {"IPCluster", "threads", "text", NULL,
     "OMP_NUM_THREADS and the like for each engine, or 'inherit' (default: cpus / engines)"},
    {"IPCluster", "cluster_id", "text", "''", "name of the cluster, for several in a profile"},
    {"IPCluster", "work_dir", "text", NULL, "the engines' folder (default: this one)"},
    {"IPCluster", "log_level", "text", "'INFO'", "DEBUG, INFO, WARN, ERROR, CRITICAL"},
    {"IPClusterEngines", "daemonize", "bool", "False", "leave it running in the background"},
    {"IPClusterStart", "daemonize", "bool", "False", "the same, for `start` alone"},
    {"IPClusterStop", "all_cluster_ids", "bool", "False", "stop all clusters of the profile"},
    {"IPClusterList", "output_format", "text", "'text'", "how clusters are shown: text or json"},
    {"IPClusterClean", "force", "bool", "False",
     "stop clusters that run, and remove their files too"},
    {"IPClusterClean", "all_profiles", "bool", "False", "clean all profiles"},
    /* of the command line alone */
    {"IPCluster", "parent_pid", "int", NULL, "stop when this process ends", .line = true},
    {"IPCluster", "events_fd", "int", NULL, "write events to this descriptor, as JSON lines",
     .line = true},
    {"IPCluster", "profile", "text", "'default'", "the profile", .line = true},
    {"IPCluster", "ipython_dir", "text", NULL,
     "folder of the profiles (default: $IPYTHONDIR or ~/.ipython)", .line = true},
    {"IPCluster", "extra_config_file", "text", NULL, "one more config file", .line = true},
    {"ProfileDir", "location", "text", NULL, "the profile's folder", .line = true},
    {"IPCluster", "python", "text", "'python3'", "the interpreter", .line = true},
    {"IPCluster", "init", "bool", "False",
     "write a config file of comments into the profile and exit", .line = true},
    {"IPCluster", "show_config", "bool", "False", "print the config as JSON and exit",
     .line = true},
    /* read by the Python class alone */
    {"Cluster", "load_profile", "bool", "True", "Cluster(...) reads the profile's files",
     .line = true},
    {"Cluster", "shutdown_atexit", "bool", "True", "a Cluster stops with its Python", .line = true},
    /* without effect */
    {"Cluster", "delay", "float", .none = "engines wait for the controller, not for a time"},
    {"Cluster", "send_engines_connection_env", "bool",
     .none = "engines find the controller by its file"},
    {"IPClusterEngines", "early_shutdown", "int",
     .none = "an engine that ends before all are ready fails the start"},
    {"IPClusterStop", "signal", "int", .none = "a stop is SIGTERM and, after 5 seconds, SIGKILL"},
    {"IPCluster", "auto_create", "bool", .none = "`start` makes the profile's folder"},
    {"IPCluster", "log_url", "text", .none = "logs go to standard error and PROFILE/log/"},
    {"IPCluster", "log_to_file", "bool", .none = "the children's logs are in PROFILE/log/"},
    {"IPCluster", "clean_logs", "bool", .none = "`ipcluster clean` removes logs"},
    {"IPCluster", "log_format", "text", .none = "log lines have one format"},
    {"IPCluster", "log_datefmt", "text", .none = "log lines have one format"},
    {"IPCluster", "logging_config", "dict", .none = "log lines have one format"},
    {NULL},
};

static const char *const further[] = {
    "IPClusterStart",         "IPClusterStop",  "IPClusterEngines",
    "IPClusterList",          "IPClusterClean", "BaseParallelApplication",
    "BaseIPythonApplication", "Application",    NULL};

const struct setting_table settings_cluster = {settings, further};

static const struct schema schema = {
    .app = "ipcluster",
    .own = {&settings_cluster, &settings_launchers},
    .others = {&settings_controller, &settings_engine, &settings_shell},
    .renamed = settings_renamed,
};

static const struct arg common[] = {
    {"profile", 0, ARG_VALUE, "IPCluster", "profile", NULL, "NAME"},
    {"profile-dir", 0, ARG_VALUE, "ProfileDir", "location", NULL, "PATH"},
    {"ipython-dir", 0, ARG_VALUE, "IPCluster", "ipython_dir", NULL, "PATH"},
    {"cluster-id", 0, ARG_VALUE, "IPCluster", "cluster_id", NULL, "ID"},
    {"config", 0, ARG_VALUE, "IPCluster", "extra_config_file", NULL, "FILE"},
    {"python", 0, ARG_VALUE, "IPCluster", "python", NULL, "PATH"},
    {"log-level", 0, ARG_VALUE, "IPCluster", "log_level", NULL, "LEVEL"},
    {"debug", 0, ARG_FLAG, "IPCluster", "log_level", "10", NULL, "log much (--log-level=DEBUG)"},
    {"quiet", 0, ARG_FLAG, "IPCluster", "log_level", "50", NULL, "log only what is critical"},
    {"init", 0, ARG_FLAG, "IPCluster", "init", "true", NULL,
     "write an ipcluster_config.py of comments into the profile and exit"},
    {"show-config", 0, ARG_FLAG, "IPCluster", "show_config", "true", NULL,
     "print the config as JSON and exit"},
    {"show-config-json", 0, ARG_FLAG, "IPCluster", "show_config", "true", NULL, "the same"},
    {"log-url", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "URL",
     "logs go to standard error and PROFILE/log/"},
    {"log-to-file", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL,
     "the children's logs are in PROFILE/log/"},
    {"clean-logs", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL, "`ipcluster clean` removes logs"},
    {NULL},
};

#define ENGINE_ROWS                                                                                \
    {"n", 'n', ARG_VALUE, "Cluster", "n", NULL, "N"},                                              \
        {"n", 'N', ARG_VALUE, "Cluster", "n", NULL, "N"},                                          \
        {"engines", 0, ARG_VALUE, "Cluster", "engine_launcher_class", NULL, "KIND"},               \
        {"threads", 0, ARG_VALUE, "IPCluster", "threads", NULL, "N|inherit"},                      \
        {"gpus-per-engine", 0, ARG_VALUE, "Cluster", "gpus_per_engine", NULL, "N"},                \
        {"work-dir", 0, ARG_VALUE, "IPCluster", "work_dir", NULL, "PATH"},                         \
        {"restart", 0,      ARG_FLAG, "IPEngine",                                                  \
         "restart", "true", NULL,     "start engines that died again"}

static const struct arg start_rows[] = {
    ENGINE_ROWS,
    {"daemonize", 0, ARG_FLAG, "IPClusterStart", "daemonize", "true", NULL,
     "leave it running in the background"},
    {"controller", 0, ARG_VALUE, "Cluster", "controller_launcher_class", NULL, "KIND"},
    {"ip", 0, ARG_VALUE, "Cluster", "controller_ip", NULL, "ADDR"},
    {"location", 0, ARG_VALUE, "Cluster", "controller_location", NULL, "HOST"},
    {"engine-timeout", 0, ARG_VALUE, "Cluster", "engine_timeout", NULL, "SECONDS"},
    {"parent-pid", 0, ARG_VALUE, "IPCluster", "parent_pid", NULL, "PID"},
    {"events-fd", 0, ARG_VALUE, "IPCluster", "events_fd", NULL, "N"},
    {"reuse", 0, ARG_FLAG, "IPController", "reuse_files", "true", NULL,
     "keep key and ports of the connection files"},
    {"delay", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "SEC",
     "engines wait for the controller, not for a time"},
    {NULL},
};

static const struct arg engines_rows[] = {
    ENGINE_ROWS,
    {"daemonize", 0, ARG_FLAG, "IPClusterEngines", "daemonize", "true", NULL,
     "leave them running in the background, when all are there"},
    {"engine-timeout", 0, ARG_VALUE, "Cluster", "engine_timeout", NULL, "SECONDS"},
    {NULL},
};

static const struct arg stop_rows[] = {
    {"all", 0, ARG_FLAG, "IPClusterStop", "all_cluster_ids", "true", NULL,
     "all clusters of the profile"},
    {"signal", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "N",
     "a stop is SIGTERM and, after 5 seconds, SIGKILL"},
    {NULL},
};

static const struct arg list_rows[] = {
    {"output", 'o', ARG_VALUE, "IPClusterList", "output_format", NULL, "text|json"},
    {"o", 0, ARG_VALUE, "IPClusterList", "output_format", NULL, "text|json", "the same"},
    {NULL},
};

static const struct arg clean_rows[] = {
    {"force", 0, ARG_FLAG, "IPClusterClean", "force", "true", NULL,
     "stop clusters that run, and remove their files too"},
    {"all", 0, ARG_FLAG, "IPClusterClean", "all_profiles", "true", NULL, "all profiles"},
    {NULL},
};

const struct args_spec catalog_start = {
    .program = "ipcluster start",
    .description =
        "Starts a controller and engines, and stays until they are stopped.\n"
        "Ctrl-C, SIGTERM, `ipcluster stop` and the controller's end stop them. What follows -- is "
        "given to the controller.",
    .examples =
        "  ipcluster start                            as many engines as there are cpus\n"
        "  ipcluster start -n 8 --profile=sim         eight engines, files in the profile `sim`\n"
        "  ipcluster start -n 4 --daemonize           leave it running; `ipcluster stop` ends it\n"
        "  ipcluster start -n 0 --ip='*'              a controller for engines on other machines\n"
        "  ipcluster start -n 4 -- --scheme=lru       an option for the controller",
    .rows = start_rows,
    .more = common,
    .schema = &schema,
};
const struct args_spec catalog_stop = {
    .program = "ipcluster stop",
    .description = "Stops a cluster. Further words are ids of clusters.",
    .examples = "  ipcluster stop\n  ipcluster stop --profile=sim\n"
                "  ipcluster stop one two     clusters by their ids\n  ipcluster stop --all",
    .rows = stop_rows,
    .more = common,
    .schema = &schema,
};
const struct args_spec catalog_engines = {
    .program = "ipcluster engines",
    .description = "Starts more engines for the profile's controller. Ctrl-C interrupts what "
                   "they run, SIGTERM ends them.",
    .examples = "  ipcluster engines -n 4\n  ipcluster engines -n 4 --daemonize",
    .rows = engines_rows,
    .more = common,
    .schema = &schema,
};
const struct args_spec catalog_list = {
    .program = "ipcluster list",
    .description = "Lists the clusters of all profiles, or of the one that is named.",
    .examples = "  ipcluster list\n  ipcluster list -o json",
    .rows = list_rows,
    .more = common,
    .schema = &schema,
};
const struct args_spec catalog_clean = {
    .program = "ipcluster clean",
    .description = "Removes logs and what stopped clusters left behind.",
    .examples = "  ipcluster clean\n  ipcluster clean --all\n  ipcluster clean --force",
    .rows = clean_rows,
    .more = common,
    .schema = &schema,
};

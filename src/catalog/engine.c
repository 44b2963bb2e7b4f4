/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipengine's options and settings, and those of the engines' shells. */
#include "catalog/catalog.h"

static const struct setting settings[] = {
    {"IPEngine", "n", "int", "1", "engines to start here"},
    {"IPEngine", "url_file", "text", "''",
     "the connection file (default: security/ipcontroller[-ID]-engine.json in the profile)"},
    {"IPEngine", "url_file_name", "text", "''", "name of that file in the folder security"},
    {"IPEngine", "cluster_id", "text", "''",
     "part of the connection file's name, for several clusters in a profile"},
    {"IPEngine", "location", "text", "''",
     "the controller's name or address as seen from here (default: as the connection file says)"},
    {"IPEngine", "no_unix", "bool", "False",
     "reach the controller by TCP alone, even on the same machine"},
    {"IPEngine", "restart", "bool", "False", "start engines that died again, under their numbers"},
    {"IPEngine", "timeout", "float", "60",
     "wait so many seconds for a connection file, a controller and word from it"},
    {"IPEngine", "grace", "float", "300",
     "keep the engines for so many seconds while the controller can't be reached"},
    {"IPEngine", "controller_grace", "float", "10",
     "the same when the controller's process on this machine has ended without a word; one that is "
     "started again with --reuse finds them as they were"},
    {"IPEngine", "stop_grace", "float", "5",
     "kill engines that have not ended so many seconds after they were told to"},
    {"IPEngine", "startup_command", "text", "''", "code that each engine runs at its start"},
    {"IPEngine", "startup_script", "text", "''", "file that each engine runs at its start"},
    {"IPEngine", "id", "int", "None",
     "number to ask for; n engines ask for it and those that follow (default: the next free one)"},
    {"IPEngine", "environment", "dict", "{}",
     "variables of the engines; {i} in a value is the engine's place on its host: 0, 1 ..."},
    {"IPEngine", "gpus_per_engine", "int", "0",
     "give each engine so many GPUs of its own (CUDA_VISIBLE_DEVICES); 0: leave them"},
    {"IPEngine", "use_mpi", "bool", "False",
     "the number is the MPI rank, and engines run init_mpi (needs mpi4py)"},
    {"IPEngine", "init_mpi", "text", NULL,
     "what engines run with use_mpi (default: it defines MPI, mpi_rank and mpi_size)"},
    {"IPEngine", "work_dir", "text", NULL, "the engines' working folder (default: this one)"},
    {"IPEngine", "log_level", "text", "'INFO'", "DEBUG, INFO, WARN, ERROR, CRITICAL"},
    {"IPEngine", "log_to_file", "bool", "False", "log to PROFILE/log/ipengine-ID-PID.log"},
    {"IPEngine", "engine_module", "text", "'covey.engine'", "Python module that is an engine"},
    {"IPEngine", "sshserver", "text", "''",
     "reach the controller through this ssh server, [user@]host[:port] (default: as the connection "
     "file says)"},
    {"IPEngine", "sshkey", "text", "''",
     "private key for that server (default: as ssh is configured)"},
    /* of the command line alone */
    {"IPEngine", "profile", "text", "'default'", "the profile", .line = true},
    {"IPEngine", "ipython_dir", "text", NULL,
     "folder of the profiles (default: $IPYTHONDIR or ~/.ipython)", .line = true},
    {"IPEngine", "extra_config_file", "text", NULL, "one more config file", .line = true},
    {"ProfileDir", "location", "text", NULL, "the profile's folder", .line = true},
    {"IPEngine", "python", "text", "'python3'", "the engines' interpreter", .line = true},
    {"IPEngine", "init", "bool", "False",
     "write a config file of comments into the profile and exit", .line = true},
    {"IPEngine", "show_config", "bool", "False", "print the config as JSON and exit", .line = true},
    /* without effect */
    {"IPEngine", "registration_url", "text",
     .none = "the connection file says where the controller is"},
    {"IPEngine", "enable_nanny", "bool", .none = "the host watches its engines in any case"},
    {"IPEngine", "max_heartbeat_misses", "int", .none = WHY_NO_HEARTBEAT},
    {"IPEngine", "mpi_registration_delay", "float", .none = "all ranks of a machine share a link"},
    {"IPEngine", "curve_serverkey", "text", .none = WHY_NO_SESSION},
    {"IPEngine", "curve_secretkey", "text", .none = WHY_NO_SESSION},
    {"IPEngine", "curve_publickey", "text", .none = WHY_NO_SESSION},
    {"IPEngine", "paramiko", "bool", .none = "ssh is the machine's own program"},
    {"IPEngine", "out_stream_factory", "text", .none = "output is captured by the host"},
    {"IPEngine", "display_hook_factory", "text", .none = "output is captured by the host"},
    {"IPEngine", "auto_create", "bool", .none = "no profile is made by ipengine"},
    {"IPEngine", "log_url", "text", .none = "logs go to standard error or to a file"},
    {"IPEngine", "clean_logs", "bool", .none = "`ipcluster clean` removes logs"},
    {"IPEngine", "log_format", "text", .none = "log lines have one format"},
    {"IPEngine", "log_datefmt", "text", .none = "log lines have one format"},
    {"IPEngine", "logging_config", "dict", .none = "log lines have one format"},
    {"Session", "key", "text", .none = WHY_NO_SESSION},
    {"Session", "keyfile", "text", .none = WHY_NO_SESSION},
    {"Session", "session", "text", .none = WHY_NO_SESSION},
    {"Session", "username", "text", .none = WHY_NO_SESSION},
    {"Session", "packer", "text", .none = WHY_NO_SESSION},
    {"Session", "unpacker", "text", .none = WHY_NO_SESSION},
    {NULL},
};

static const char *const further[] = {"BaseParallelApplication", "BaseIPythonApplication",
                                      "Application", NULL};

const struct setting_table settings_engine = {settings, further};

/* IPython's own, of which these are the ones in use; the shell takes what it knows. */
static const struct setting shell[] = {
    {"InteractiveShellApp", "exec_lines", "list", "[]", "lines that engines run at their start"},
    {"InteractiveShellApp", "exec_files", "list", "[]", "files that engines run at their start"},
    {"InteractiveShellApp", "extensions", "list", "[]", "IPython extensions that engines load"},
    {NULL},
};

const struct setting_table settings_shell = {shell, NULL, .open = true};

static const struct schema schema = {
    .app = "ipengine", .own = {&settings_engine, &settings_shell}, .renamed = settings_renamed};

static const struct arg rows[] = {
    {"n", 'n', ARG_VALUE, "IPEngine", "n", NULL, "N"},
    {"n", 'N', ARG_VALUE, "IPEngine", "n", NULL, "N"},
    {"profile", 0, ARG_VALUE, "IPEngine", "profile", NULL, "NAME"},
    {"profile-dir", 0, ARG_VALUE, "ProfileDir", "location", NULL, "PATH"},
    {"ipython-dir", 0, ARG_VALUE, "IPEngine", "ipython_dir", NULL, "PATH"},
    {"cluster-id", 0, ARG_VALUE, "IPEngine", "cluster_id", NULL, "ID"},
    {"file", 0, ARG_VALUE, "IPEngine", "url_file", NULL, "PATH"},
    {"location", 0, ARG_VALUE, "IPEngine", "location", NULL, "HOST"},
    {"no-unix", 0, ARG_FLAG, "IPEngine", "no_unix", "true", NULL,
     "reach the controller by TCP alone, even on the same machine"},
    {"restart", 0, ARG_FLAG, "IPEngine", "restart", "true", NULL,
     "start engines that died again, under their numbers"},
    {"timeout", 0, ARG_VALUE, "IPEngine", "timeout", NULL, "SECONDS"},
    {"grace", 0, ARG_VALUE, "IPEngine", "grace", NULL, "SECONDS"},
    {"controller-grace", 0, ARG_VALUE, "IPEngine", "controller_grace", NULL, "SECONDS"},
    {"stop-grace", 0, ARG_VALUE, "IPEngine", "stop_grace", NULL, "SECONDS"},
    {"c", 'c', ARG_VALUE, "IPEngine", "startup_command", NULL, "CODE"},
    {"s", 's', ARG_VALUE, "IPEngine", "startup_script", NULL, "FILE"},
    {"id", 0, ARG_VALUE, "IPEngine", "id", NULL, "N"},
    {"gpus-per-engine", 0, ARG_VALUE, "IPEngine", "gpus_per_engine", NULL, "N"},
    {"mpi", 0, ARG_FLAG, "IPEngine", "use_mpi", "true", NULL,
     "the number is the MPI rank, and engines define MPI, mpi_rank and mpi_size (needs mpi4py)"},
    {"config", 0, ARG_VALUE, "IPEngine", "extra_config_file", NULL, "FILE"},
    {"work-dir", 0, ARG_VALUE, "IPEngine", "work_dir", NULL, "PATH"},
    {"log-level", 0, ARG_VALUE, "IPEngine", "log_level", NULL, "LEVEL"},
    {"debug", 0, ARG_FLAG, "IPEngine", "log_level", "10", NULL, "log much (--log-level=DEBUG)"},
    {"quiet", 0, ARG_FLAG, "IPEngine", "log_level", "50", NULL, "log only what is critical"},
    {"log-to-file", 0, ARG_FLAG, "IPEngine", "log_to_file", "true", NULL,
     "log to PROFILE/log/ipengine-ID-PID.log"},
    {"python", 0, ARG_VALUE, "IPEngine", "python", NULL, "PATH"},
    {"engine-module", 0, ARG_VALUE, "IPEngine", "engine_module", NULL, "NAME"},
    {"init", 0, ARG_FLAG, "IPEngine", "init", "true", NULL,
     "write an ipengine_config.py of comments into the profile and exit"},
    {"show-config", 0, ARG_FLAG, "IPEngine", "show_config", "true", NULL,
     "print the config as JSON and exit"},
    {"show-config-json", 0, ARG_FLAG, "IPEngine", "show_config", "true", NULL, "the same"},
    {"ssh", 0, ARG_VALUE, "IPEngine", "sshserver", NULL, "[USER@]HOST[:PORT]"},
    {"sshkey", 0, ARG_VALUE, "IPEngine", "sshkey", NULL, "FILE"},
    {"url", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "URL",
     "the connection file says where the controller is"},
    {"secure", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL, WHY_NO_SESSION},
    {"no-secure", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL, WHY_NO_SESSION},
    {"ident", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "TEXT", WHY_NO_SESSION},
    {"user", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "TEXT", WHY_NO_SESSION},
    {"keyfile", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "PATH", WHY_NO_SESSION},
    {"log-url", 0, ARG_IGNORED_VALUE, NULL, NULL, NULL, "URL",
     "logs go to standard error or to a file"},
    {"clean-logs", 0, ARG_IGNORED_FLAG, NULL, NULL, NULL, NULL, "`ipcluster clean` removes logs"},
    {NULL},
};

const struct args_spec catalog_engine = {
    .program = "ipengine",
    .description = "Starts and watches engines on this machine. It finds the controller by the "
                   "connection file of the\n"
                   "profile and waits for that file if it is not there yet.\n\n"
                   "SIGTERM stops the engines and then this program. Ctrl-C (SIGINT) interrupts "
                   "what the engines run;\n"
                   "when none of them runs anything, a second Ctrl-C within 5 seconds stops all.\n"
                   "Under mpiexec or srun, with one engine, both go to that engine, and its exit "
                   "code is this program's.",
    .examples =
        "  ipengine                                one engine for the default profile\n"
        "  ipengine -n 4 --profile=sim             four engines\n"
        "  ipengine --file=/shared/ipcontroller-engine.json --location=node7\n"
        "  srun ipengine                           one engine for each task of a Slurm job\n",
    .rows = rows,
    .schema = &schema,
};

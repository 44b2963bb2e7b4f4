/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipcluster engines: one more host for a controller that is there. In the foreground this process
 * becomes the host, so its signals and exit code are what the user gets; with --daemonize the host
 * is left in a session of its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "cluster/verbs.h"
#include "proc/spawn.h"

extern char **environ;

/* The variables of the plan, for this process or the child that it becomes. */
static void set_environment(char *const *env)
{
    for (; *env; env++) {
        char *copy = strchr(*env, '=') ? strdup(*env) : NULL;
        if (copy)
            putenv(copy);
    }
}

static int become(const struct settings *s, const struct launch_plan *plan)
{
    set_environment(plan->env);
    execv(plan->argv[0], plan->argv);
    log_critical(s->log, "can't run %s: %s", plan->argv[0], strerror(errno));
    return EXIT_FAILED;
}

static int leave_running(const struct settings *s, const struct launch_plan *plan)
{
    struct err e;
    pid_t pid;
    const char *id = s->cluster_id;
    char *path =
        str_printf("%s/log/ipengine%s%s-%d.log", s->profile_dir, *id ? "-" : "", id, (int)getpid());
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0) {
        log_critical(s->log, "can't open the log file %s: %s", path ? path : "", strerror(errno));
        free(path);
        return EXIT_FAILED;
    }
    const struct spawn child = {
        .argv = (const char *const *)plan->argv,
        .env = (const char *const *)plan->env,
        .stdin_fd = SPAWN_NULL,
        .stdout_fd = fd,
        .stderr_fd = fd,
        .flags = SPAWN_SESSION,
    };
    int rc = process_spawn(&child, &pid, &e);
    if (rc)
        log_critical(s->log, "%s", e.text);
    else
        log_info(s->log, "Engines are starting: process %d, log file %s", (int)pid, path);
    close(fd);
    free(path);
    return rc ? EXIT_FAILED : EXIT_FINE;
}

int verb_engines(const struct settings *s)
{
    struct launch_plan plan;
    struct err e;
    const struct launch_request request = {
        .what = LAUNCH_ENGINES,
        .program_dir = s->program_dir,
        .profile_dir = s->profile_dir,
        .cluster_id = s->cluster_id,
        .work_dir = s->work_dir,
        .python = s->python,
        .args = (const char *const *)s->engine_args,
        .env = (const char *const *)environ,
        .n = s->n,
        .threads = s->threads,
    };
    if (!s->n) {
        log_critical(s->log, "-n must be at least 1");
        return EXIT_USAGE;
    }
    if (s->engines->prepare(&request, &plan, &e)) {
        log_critical(s->log, "%s", e.text);
        return EXIT_FAILED;
    }
    log_info(s->log, "Starting %u engine%s%s%s%s", s->n, s->n == 1 ? "" : "s", s->why_n ? " (" : "",
             s->why_n ? s->why_n : "", s->why_n ? ")" : "");
    int code = s->daemonize ? leave_running(s, &plan) : become(s, &plan);
    launch_plan_release(&plan);
    return code;
}

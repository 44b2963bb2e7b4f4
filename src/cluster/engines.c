/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipcluster engines: one more host for a controller that is there. In the foreground this process
 * becomes the host, so its signals and exit code are what the user gets; with --daemonize
 * (background.h) it is left in a session of its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cluster/background.h"
#include "cluster/verbs.h"

extern char **environ;

/* The variables of the plan, for this process or the child that it becomes. */
static void set_environment(char *const *env)
{
    for (; *env; env++) {
        char *copy = strchr(*env, '=') ? strdup(*env) : NULL;
        if (copy)
            putenv(copy);
        else
            unsetenv(*env);
    }
}

static int become(const struct settings *s, const struct launch_plan *plan)
{
    int input[2], null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    set_environment(plan->env);
    if (background_request(plan, input)) {
        log_critical(s->log, "can't tell the launcher what to do: %s", strerror(errno));
        return EXIT_FAILED;
    }
    if (plan->input) { /* its events are for a supervisor */
        fcntl(input[1], F_SETFD, 0);
        dup2(input[0], STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
    }
    execvp(plan->argv[0], plan->argv);
    log_critical(s->log, "can't run %s: %s", plan->argv[0], strerror(errno));
    return EXIT_FAILED;
}

int verb_engines(const struct settings *s)
{
    struct launch_plan plan;
    struct err e;
    char name[120];
    snprintf(name, sizeof name, "ipengine%s%.60s-%d-0", *s->cluster_id ? "-" : "", s->cluster_id,
             (int)getpid());
    const struct launch_request request = {
        .what = LAUNCH_ENGINES,
        .program_dir = s->program_dir,
        .profile_dir = s->profile_dir,
        .cluster_id = s->cluster_id,
        .work_dir = s->work_dir,
        .python = s->python,
        .args = (const char *const *)s->engine_args,
        .env = (const char *const *)environ,
        .config = s->config,
        .launcher = s->engine_launcher,
        .name = name,
        .n = s->n,
        .threads = s->threads,
    };
    if (!s->n) {
        log_critical(s->log, "-n must be at least 1, not 0");
        return EXIT_USAGE;
    }
    unsetenv("COVEY_ENGINE_SET"); /* of engines that we run in: these are not of their set */
    if (s->engines->prepare(s->engines, &request, &plan, &e)) {
        log_critical(s->log, "%s", e.text);
        return EXIT_FAILED;
    }
    log_info(s->log, "Starting %u engine%s%s%s%s", s->n, s->n == 1 ? "" : "s", s->why_n ? " (" : "",
             s->why_n ? s->why_n : "", s->why_n ? ")" : "");
    int code = s->daemonize ? background_engines(s, &plan) : become(s, &plan);
    launch_plan_release(&plan);
    return code;
}

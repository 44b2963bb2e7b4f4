/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `ipcluster each N COMMAND…`: the command N times, with 0, 1, 2 … for {i} in its words. What a
 * launcher runs when engine_cmd has {i}: a wrapper for each engine. Blocks in a process of its own;
 * SIGTERM and SIGINT go to all children, and they get SIGTERM if this process is killed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "base/file.h"
#include "cluster/verbs.h"
#include "proc/spawn.h"

#define EACH_MAX 4096

static int start_one(char **words, unsigned i, pid_t *ret, struct err *e)
{
    size_t n = 0;
    char place[32];
    while (words[n])
        n++;
    char **argv = calloc(n + 1, sizeof *argv);
    int rc = argv ? CV_OK : err_set(e, CV_ENOMEM, "out of memory");
    for (size_t k = 0; k < n && !rc; k++)
        if (!(argv[k] = str_place(words[k], i)))
            rc = err_set(e, CV_ENOMEM, "out of memory");
    snprintf(place, sizeof place, "COVEY_PLACE=%u", i);
    const char *const env[] = {place, NULL};
    const struct spawn s = {
        .argv = (const char *const *)argv,
        .env = env,
        .stdin_fd = SPAWN_NULL,
        .stdout_fd = SPAWN_INHERIT,
        .stderr_fd = SPAWN_INHERIT,
        .death_signal = SIGTERM,
    };
    rc = rc ? rc : process_spawn(&s, ret, e);
    for (size_t k = 0; k < n && argv; k++)
        free(argv[k]);
    free(argv);
    return rc;
}

static void signal_all(const pid_t *pids, unsigned n, int signum)
{
    for (unsigned i = 0; i < n; i++)
        if (pids[i] > 0)
            kill(pids[i], signum);
}

/* Takes the children that have ended; returns how many live. The first failure is the code. */
static unsigned reap(pid_t *pids, unsigned n, int *code)
{
    unsigned alive = 0;
    for (unsigned i = 0; i < n; i++) {
        int status;
        if (pids[i] > 0 && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
            int one = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            *code = *code ? *code : one;
            pids[i] = 0;
        }
        alive += pids[i] > 0;
    }
    return alive;
}

int each_run(const char *count, char **words)
{
    static const int wanted[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    char *end;
    long n = count ? strtol(count, &end, 10) : 0;
    pid_t pids[EACH_MAX] = {0};
    sigset_t set;
    struct err e;
    int code = EXIT_FINE, signum = 0;
    if (!count || *end || n < 1 || n > EACH_MAX || !words[0])
        return EXIT_USAGE;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (long i = 0; i < n && !code; i++)
        if (start_one(words, (unsigned)i, &pids[i], &e)) {
            fprintf(stderr, "engine_cmd: %s\n", e.text);
            signal_all(pids, (unsigned)n, SIGTERM);
            code = EXIT_FAILED;
        }
    while (reap(pids, (unsigned)n, &code))
        if (sigwait(&set, &signum) == 0 && signum != SIGCHLD)
            signal_all(pids, (unsigned)n, signum);
    return code;
}

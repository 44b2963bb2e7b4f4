/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See single.h. The engine's standard output and error are its capture pipes from the start, so
 * that what an interpreter says that can't even import is heard, too. */
#include "host/single.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/jsontext.h"
#include "proc/spawn.h"

#define FIRST_FD 16 /* above what process managers hand over in practice: they count up from 3 */

bool single_process_manager(long *ret_rank)
{
    static const char *const ranks[] = {"PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK",
                                        "SLURM_PROCID"};
    bool found = getenv("PMI_FD") != NULL;
    *ret_rank = -1;
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0] && *ret_rank < 0; i++) {
        const char *text = getenv(ranks[i]);
        char *end;
        if (!text || !*text)
            continue;
        found = true;
        long rank = strtol(text, &end, 10);
        if (!*end && rank >= 0 && rank < INT32_MAX)
            *ret_rank = rank;
    }
    return found;
}

/* srun hands over a rank of MPI's too, but leaves the others alone. */
bool single_is_mpiexec(void)
{
    return getenv("OMPI_COMM_WORLD_RANK") || (getenv("PMI_RANK") && !getenv("SLURM_PROCID"));
}

/* Ours are all closed by an exec. */
static bool is_inherited(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    return flags >= 0 && !(flags & FD_CLOEXEC);
}

/* The first of six numbers that nothing here uses, so that no inherited descriptor is overwritten.
 */
static int free_numbers(const int fds[5])
{
    int first = FIRST_FD;
    for (int i = 0; i < 5; i++)
        if (fds[i] >= first)
            first = fds[i] + 1;
    for (int fd = first; fd < first + 6; fd++)
        if (is_inherited(fd))
            first = fd + 1;
    return first;
}

int single_start(const char *python, const char *module, json_t *params, const int fds[5],
                 bool keep, pid_t *ret_pid, struct err *e)
{
    const char *argv[] = {python, "-m", module, "--single", NULL};
    struct spawn_fd places[6];
    int at = keep ? free_numbers(fds) : 3, rc = CV_ENOMEM;
    for (int i = 0; i < 5; i++)
        places[i] = (struct spawn_fd){fds[i], at + i};
    places[5] = (struct spawn_fd){STDERR_FILENO, at + 5}; /* for what it says outside of tasks */
    bool has_log = fcntl(STDERR_FILENO, F_GETFD) >= 0;
    json_t *own = json_copy(params);
    json_t *pipes =
        own ? json_pack("{s:i,s:[ii],s:[ii],s:i}", "status_fd", at, "stdout_fd", at + 1, at + 2,
                        "stderr_fd", at + 3, at + 4, "log_fd", has_log ? at + 5 : -1)
            : NULL;
    char *dump = pipes && json_object_update(own, pipes) == 0 ? jsontext(own, JSON_COMPACT) : NULL;
    char *var = dump ? str_printf("COVEY_ENGINE_PARAMS=%s", dump) : NULL;
    if (!var) {
        err_set(e, rc, "out of memory");
        goto cleanup;
    }
    const char *env[] = {var, "COVEY_ZYGOTE_FD", NULL};
    const struct spawn s = {
        .argv = argv,
        .env = env,
        .fds = places,
        .nfds = has_log ? 6 : 5,
        .stdin_fd = SPAWN_NULL,
        .stdout_fd = fds[2],
        .stderr_fd = fds[4],
        .death_signal = SIGKILL,
        .flags = keep ? SPAWN_KEEP_FDS : SPAWN_SESSION,
    };
    rc = process_spawn(&s, ret_pid, e);
cleanup:
    free(var);
    free(dump);
    json_decref(pipes);
    json_decref(own);
    return rc;
}

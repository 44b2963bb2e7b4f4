/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipcluster start: refuses if this cluster runs already, then supervises, in the foreground or in a
 * child that stays (--daemonize). A lock in the profile's pid/ makes two starts at the same time
 * one; it ends with the supervisor however that ends. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "cluster/clusterfile.h"
#include "cluster/profile.h"
#include "cluster/supervisor.h"
#include "cluster/verbs.h"

/* CV_EEXIST: someone has it. */
static int take_lock(const struct settings *s, int *ret_fd, struct err *e)
{
    const char *id = s->cluster_id;
    char *path = str_printf("%s/pid/ipcluster%s%s.lock", s->profile_dir, *id ? "-" : "", id);
    if (!path)
        return err_set(e, CV_ENOMEM, "out of memory");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), rc = CV_OK;
    if (fd < 0)
        rc = err_sys(e, "can't open %s", path);
    else if (flock(fd, LOCK_EX | LOCK_NB))
        rc = errno == EWOULDBLOCK ? CV_EEXIST : err_sys(e, "can't lock %s", path);
    free(path);
    if (rc && fd >= 0)
        close(fd);
    if (!rc)
        *ret_fd = fd;
    return rc;
}

/* Does a cluster of this id run? A stale file is as good as none. */
static bool runs_already(const struct settings *s, const char *path)
{
    json_t *o;
    if (clusterfile_read(path, &o, NULL))
        return false;
    bool runs = clusterfile_running(o);
    json_decref(o);
    if (!runs)
        log_info(s->log, "The cluster of %s has ended without saying so; its file is replaced",
                 path);
    return runs;
}

static int already(const struct settings *s, const char *path)
{
    log_critical(s->log,
                 "Cluster is already running with profile %s%s%s (%s). `ipcluster stop` ends it.",
                 profile_name(s->profile_dir), *s->cluster_id ? ", id " : "", s->cluster_id, path);
    return EXIT_ALREADY_STARTED;
}

/* ---- in the background ---- */

struct background {
    const struct settings *s;
    int report; /* a byte is written when all is ready */
};

/* From now on nobody reads what we say: it goes to a log file. */
static void detach_output(const struct settings *s)
{
    const char *id = s->cluster_id;
    char *path = str_printf("%s/log/ipcluster%s%s-%d.log", s->profile_dir, *id ? "-" : "", id,
                            (int)getpid());
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        close(fd);
    }
    free(path);
}

static void background_ready(void *arg, const char *cluster_file)
{
    struct background *b = arg;
    log_info(b->s->log, "Leaving cluster running: %s", cluster_file);
    detach_output(b->s);
    ssize_t ignored = write(b->report, "r", 1);
    (void)ignored;
    close(b->report);
}

static int run_background(const struct settings *s, int report)
{
    struct background b = {.s = s, .report = report};
    const struct supervisor_hooks hooks = {.ready = background_ready, .arg = &b};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    setsid();
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        close(null);
    }
    return supervisor_run(s, &hooks);
}

static void ignore_signal(int signum)
{
}

/* Waits for the byte, or for the child's end; a signal that would end us ends the child first. */
static int wait_ready(pid_t child, int report)
{
    char byte;
    int status;
    const struct sigaction act = {.sa_handler =
                                      ignore_signal}; /* without SA_RESTART: read() returns */
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    for (;;) {
        ssize_t n = read(report, &byte, 1);
        if (n > 0)
            return EXIT_FINE;
        if (n == 0)
            break;
        kill(child, SIGTERM);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return EXIT_FAILED;
    return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILED;
}

static int daemonize(const struct settings *s)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC)) {
        log_critical(s->log, "can't make a pipe: %s", strerror(errno));
        return EXIT_FAILED;
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        return run_background(s, fds[1]);
    }
    close(fds[1]);
    if (child > 0)
        return wait_ready(child, fds[0]);
    log_critical(s->log, "can't fork: %s", strerror(errno));
    return EXIT_FAILED;
}

int verb_start(const struct settings *s)
{
    const struct supervisor_hooks none = {0};
    struct err e;
    int lock = -1, code = EXIT_FAILED;
    char *path = clusterfile_path(s->profile_dir, s->cluster_id);
    int rc = path ? profile_create(s->profile_dir, &e) : err_set(&e, CV_ENOMEM, "out of memory");
    rc = rc ? rc : take_lock(s, &lock, &e);
    if (rc == CV_EEXIST || (!rc && runs_already(s, path)))
        code = already(s, path);
    else if (rc)
        log_critical(s->log, "%s", e.text);
    else
        code = s->daemonize ? daemonize(s) : supervisor_run(s, &none);
    if (lock >= 0)
        close(lock);
    free(path);
    return code;
}

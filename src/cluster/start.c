/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ipcluster start: refuses if this cluster runs already, then supervises, in the foreground or in a
 * child that stays (--daemonize). A lock, an abstract socket, makes two starts at the same time
 * one; it ends with the supervisor however that ends. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "cluster/clusterfile.h"
#include "cluster/profile.h"
#include "cluster/supervisor.h"
#include "cluster/verbs.h"

/* The name of a cluster's lock: an abstract socket, so that nothing stays behind, whoever is
 * killed. */
static socklen_t lock_address(const char *cluster_file, struct sockaddr_un *ret)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *p = cluster_file; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 0x100000001b3u;
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(ret->sun_path + 1, sizeof ret->sun_path - 1, "covey-start-%u-%016llx",
                     geteuid(), (unsigned long long)hash);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

/* CV_EEXIST: someone has it. It is kept until the descriptor is closed. */
static int take_lock(const char *cluster_file, int *ret_fd, struct err *e)
{
    struct sockaddr_un a;
    socklen_t n = lock_address(cluster_file, &a);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc = CV_OK;
    if (fd < 0)
        return err_sys(e, "can't make a socket");
    if (bind(fd, (struct sockaddr *)&a, n))
        rc = errno == EADDRINUSE ? CV_EEXIST : err_sys(e, "can't lock %s", cluster_file);
    if (rc)
        close(fd);
    else
        *ret_fd = fd;
    return rc;
}

/* Does a cluster of this id run? A stale file is as good as none. */
static bool runs_already(const struct settings *s, const char *path)
{
    json_t *o;
    if (clusterfile_read(path, &o, NULL))
        return false;
    bool runs = clusterfile_running(o) || clusterfile_others(o);
    if (clusterfile_others(o))
        log_warn(s->log,
                 "ipyparallel's own programs run a cluster of this profile: end it with their "
                 "`ipcluster stop`, or take another --profile or --cluster-id");
    if (!runs && clusterfile_elsewhere(o)) {
        log_warn(s->log,
                 "the cluster of %s was started on %s and can't be seen from here: its file is "
                 "replaced (should it still run, stop it there)",
                 path, clusterfile_elsewhere(o));
    } else if (!runs) {
        struct err e;
        if (cluster_undo(o, &e))
            log_warn(s->log, "%s", e.text);
        log_info(s->log, "The cluster of %s has ended without saying so; its file is replaced",
                 path);
    }
    json_decref(o);
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
    char *log;  /* own: where it writes from then on */
};

/* From now on nobody reads what we say: it goes to a log file. */
static void detach_output(struct background *b)
{
    const char *id = b->s->cluster_id;
    b->log = str_printf("%s/log/ipcluster%s%s-%d.log", b->s->profile_dir, *id ? "-" : "", id,
                        (int)getpid());
    int fd = b->log ? open(b->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        close(fd);
    }
}

static void background_ready(void *arg, const char *cluster_file)
{
    struct background *b = arg;
    log_info(b->s->log, "Leaving cluster running: %s", cluster_file);
    detach_output(b);
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
    int code = supervisor_run(s, &hooks);
    if (!code && b.log)
        unlink(b.log); /* like its children's: what is left behind should mean something */
    free(b.log);
    return code;
}

static void ignore_signal(int signum)
{
}

/* Waits for the byte, or for the child's end; a signal that would end us ends the child first. */
static int wait_ready(const struct settings *s, pid_t child, int report)
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
        bool signalled = errno == EINTR;
        if (!signalled)
            log_critical(s->log, "can't hear from the cluster that starts, so it is stopped: %s",
                         strerror(errno));
        kill(child, SIGTERM);
        if (!signalled)
            break;
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
        return wait_ready(s, child, fds[0]);
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
    rc = rc ? rc : take_lock(path, &lock, &e);
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

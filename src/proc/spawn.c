/* SPDX-License-Identifier: BSD-3-Clause
 *
 * fork and exec (see spawn.h). Everything that allocates happens before the fork. The child reports
 * the step that failed and errno through a close-on-exec pipe; end of file there means that the
 * exec has happened. */
#include "proc/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum step { STEP_EXEC, STEP_CWD, STEP_FDS, STEP_SESSION };

struct failure {
    int step, number;
};

/* What the child needs, laid out before the fork. */
struct plan {
    const struct spawn *s;
    char **env;
    struct spawn_fd *fds; /* the three standard ones (fd -1: none) and the caller's */
    uint32_t nfds;
    int report; /* write end of the failure pipe */
    pid_t parent;
};

static bool same_name(const char *entry, const char *change)
{
    size_t n = strcspn(change, "=");
    return strncmp(entry, change, n) == 0 && entry[n] == '=';
}

/* The changed environment: borrowed strings in a malloc'ed array. */
static char **env_merge(const char *const *changes)
{
    size_t have = 0, more = 0, n = 0;
    while (environ && environ[have])
        have++;
    while (changes && changes[more])
        more++;
    char **env = malloc((have + more + 1) * sizeof *env);
    if (!env)
        return NULL;
    for (size_t i = 0; i < have; i++) {
        bool replaced = false;
        for (size_t j = 0; j < more && !replaced; j++)
            replaced = same_name(environ[i], changes[j]);
        if (!replaced)
            env[n++] = environ[i];
    }
    for (size_t j = 0; j < more; j++) {
        bool last = strchr(changes[j], '=') != NULL;
        for (size_t k = j + 1; k < more && last; k++)
            last = !same_name(changes[j], changes[k]);
        if (last)
            env[n++] = (char *)changes[j];
    }
    env[n] = NULL;
    return env;
}

_Noreturn static void child_fail(const struct plan *p, int step)
{
    struct failure f = {step, errno};
    ssize_t written = write(p->report, &f, sizeof f);
    (void)written;
    _exit(127);
}

static void child_close_above_2(void)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) == 0)
        return;
#endif
    struct rlimit r;
    rlim_t end = getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < 65536 ? r.rlim_cur : 65536;
    for (int fd = 3; fd < (int)end; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0)
            fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    }
}

/* Sources move above all targets first, so that no dup2 overwrites one that is still needed. */
static void child_place_fds(struct plan *p)
{
    int top = 2;
    for (uint32_t i = 0; i < p->nfds; i++)
        if (p->fds[i].as > top)
            top = p->fds[i].as;
    if (p->report <= top) {
        int moved = fcntl(p->report, F_DUPFD_CLOEXEC, top + 1);
        if (moved < 0)
            child_fail(p, STEP_FDS);
        p->report = moved;
    }
    for (uint32_t i = 0; i < p->nfds; i++) {
        struct spawn_fd *f = &p->fds[i];
        if (f->fd == SPAWN_INHERIT)
            continue;
        int moved = f->fd == SPAWN_NULL ? open("/dev/null", O_RDWR | O_CLOEXEC) : f->fd;
        if (moved >= 0 && moved <= top)
            moved = fcntl(moved, F_DUPFD_CLOEXEC, top + 1);
        if (moved < 0)
            child_fail(p, STEP_FDS);
        f->fd = moved;
    }
    if (!(p->s->flags & SPAWN_KEEP_FDS))
        child_close_above_2();
    for (uint32_t i = 0; i < p->nfds; i++)
        if (p->fds[i].fd != SPAWN_INHERIT && dup2(p->fds[i].fd, p->fds[i].as) < 0)
            child_fail(p, STEP_FDS);
}

_Noreturn static void child_run(struct plan *p)
{
    const struct spawn *s = p->s;
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (s->death_signal) {
        prctl(PR_SET_PDEATHSIG, s->death_signal, 0, 0, 0);
        if (getppid() != p->parent)
            _exit(127);
    }
    if ((s->flags & SPAWN_SESSION) ? setsid() < 0 : (s->flags & SPAWN_GROUP) && setpgid(0, 0) < 0)
        child_fail(p, STEP_SESSION);
    child_place_fds(p);
    if (s->cwd && chdir(s->cwd) < 0)
        child_fail(p, STEP_CWD);
    execvpe(s->argv[0], (char *const *)s->argv, p->env);
    child_fail(p, STEP_EXEC);
}

static int plan_fds(struct plan *p)
{
    const struct spawn *s = p->s;
    p->nfds = s->nfds + 3;
    p->fds = malloc(p->nfds * sizeof *p->fds);
    if (!p->fds)
        return CV_ENOMEM;
    p->fds[0] = (struct spawn_fd){s->stdin_fd, 0};
    p->fds[1] = (struct spawn_fd){s->stdout_fd, 1};
    p->fds[2] = (struct spawn_fd){s->stderr_fd, 2};
    for (uint32_t i = 0; i < s->nfds; i++)
        p->fds[i + 3] = s->fds[i];
    return CV_OK;
}

static int failure_text(const struct spawn *s, const struct failure *f, struct err *e)
{
    errno = f->number;
    switch (f->step) {
    case STEP_CWD:
        return err_sys(e, "can't start '%s': folder '%s'", s->argv[0], s->cwd);
    case STEP_FDS:
        return err_sys(e, "can't start '%s': its descriptors", s->argv[0]);
    case STEP_SESSION:
        return err_sys(e, "can't start '%s': its own session", s->argv[0]);
    default:
        return err_sys(e, "can't start '%s'", s->argv[0]);
    }
}

/* Waits until the child has exec'ed or failed; a child that failed is reaped here. */
static int await_exec(const struct spawn *s, pid_t pid, int fd, struct err *e)
{
    struct failure f;
    ssize_t n;
    do
        n = read(fd, &f, sizeof f);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return CV_OK;
    if (n != sizeof f) /* it may run */
        kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (n != sizeof f)
        return err_set(e, CV_ESYS, "can't start '%s': no word from the child", s->argv[0]);
    return failure_text(s, &f, e);
}

/* No handler of ours may run in a child, as it would swallow the signal that is to end it (and a
 * child of vfork() shares our memory until it execs); and no signal may find them before they are
 * gone. */
static void child_drop_handlers(void)
{
    struct sigaction act;
    for (int i = 1; i < NSIG; i++)
        if (!sigaction(i, NULL, &act) && act.sa_handler != SIG_IGN && act.sa_handler != SIG_DFL)
            signal(i, SIG_DFL);
}

/* fork(), or vfork() with SPAWN_THREADED; returns in the parent alone. */
static pid_t start_child(struct plan *p)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = p->s->flags & SPAWN_THREADED ? vfork() : fork();
    if (pid == 0) {
        child_drop_handlers();
        child_run(p);
    }
    int code = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = code;
    return pid;
}

int process_spawn(const struct spawn *s, pid_t *ret_pid, struct err *e)
{
    struct plan p = {.s = s, .report = -1, .parent = getpid()};
    int pipefd[2] = {-1, -1};
    int rc = CV_ENOMEM;
    p.env = env_merge(s->env);
    if (!p.env || plan_fds(&p) != CV_OK) {
        err_set(e, rc, "can't start '%s': out of memory", s->argv[0]);
        goto cleanup;
    }
    if (pipe2(pipefd, O_CLOEXEC) < 0) {
        rc = err_sys(e, "can't start '%s'", s->argv[0]);
        goto cleanup;
    }
    p.report = pipefd[1];
    pid_t pid = start_child(&p);
    if (pid < 0) {
        rc = err_sys(e, "can't start '%s'", s->argv[0]);
        goto cleanup;
    }
    close(pipefd[1]);
    pipefd[1] = -1;
    rc = await_exec(s, pid, pipefd[0], e);
    if (rc == CV_OK)
        *ret_pid = pid;
cleanup:
    if (pipefd[0] >= 0)
        close(pipefd[0]);
    if (pipefd[1] >= 0)
        close(pipefd[1]);
    free(p.fds);
    free(p.env);
    return rc;
}

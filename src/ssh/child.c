/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See child.h. The child is found by its pidfd, since a reaper of the whole process may collect its
 * exit status before us. The password stands in a memfd that only this user can open, through
 * /proc/PID/fd; ssh gets a program that prints it (SSH_ASKPASS), which is a memfd too. */
#include "ssh/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "proc/reap.h"
#include "proc/spawn.h"

#define TERM_MS 300 /* from SIGTERM to SIGKILL */

static void close_fd(int *fd)
{
    if (*fd > 0)
        close(*fd);
    *fd = -1;
}

static int memfd_with(const char *name, const char *text)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    size_t n = strlen(text);
    if (fd >= 0 && write(fd, text, n) != (ssize_t)n)
        close_fd(&fd);
    return fd;
}

/* ssh also asks whether to trust a host: that question gets no answer. */
static int make_askpass(struct ssh_child *c, const char *password, struct err *e)
{
    char script[256];
    c->secret = memfd_with("covey-ssh-secret", password);
    snprintf(script, sizeof script,
             "#!/bin/sh\ncase \"$1\" in *assword*|*assphrase*) exec cat /proc/%d/fd/%d;; esac\n"
             "exit 1\n",
             (int)getpid(), c->secret);
    c->askpass = c->secret < 0 ? -1 : memfd_with("covey-askpass", script);
    if (c->askpass < 0 || fchmod(c->askpass, 0700))
        return err_sys(e, "can't hand a password to ssh");
    return CV_OK;
}

static void release(struct ssh_child *c)
{
    close_fd(&c->pidfd);
    close_fd(&c->said);
    close_fd(&c->askpass);
    close_fd(&c->secret);
    c->pid = 0;
}

static int start(struct ssh_child *c, char *const *argv, const char *password, int theirs,
                 struct err *e)
{
    char askpass[64] = "SSH_ASKPASS";
    const char *const env[] = {askpass, password ? "SSH_ASKPASS_REQUIRE=force" : askpass, NULL};
    const struct spawn s = {.argv = (const char *const *)argv,
                            .env = env,
                            .stdin_fd = theirs,
                            .stdout_fd = theirs,
                            .stderr_fd = c->said,
                            .death_signal = SIGTERM,
                            .flags = SPAWN_SESSION | SPAWN_THREADED};
    int rc = password ? make_askpass(c, password, e) : CV_OK;
    if (rc == CV_OK && password)
        snprintf(askpass, sizeof askpass, "SSH_ASKPASS=/proc/%d/fd/%d", (int)getpid(), c->askpass);
    rc = rc ? rc : process_spawn(&s, &c->pid, e);
    if (rc)
        return rc;
    c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
    if (c->pidfd >= 0)
        return CV_OK;
    rc = err_sys(e, "can't watch ssh");
    kill(c->pid, SIGKILL);
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return rc;
}

int ssh_child_start(struct ssh_child *c, char *const *argv, const char *password, int *ret_fd,
                    struct err *e)
{
    int fds[2];
    *c = (struct ssh_child){.pidfd = -1, .said = -1, .askpass = -1, .secret = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return err_sys(e, "can't make a socket for ssh");
    fcntl(fds[0], F_SETFL, O_NONBLOCK); /* ours alone */
    c->said = memfd_create("covey-ssh-said", MFD_CLOEXEC);
    int rc = c->said < 0 ? err_sys(e, "can't make a file for ssh's words")
                         : start(c, argv, password, fds[1], e);
    close(fds[1]);
    if (rc) {
        close(fds[0]);
        release(c);
        return rc;
    }
    *ret_fd = fds[0];
    return CV_OK;
}

bool ssh_child_ended(const struct ssh_child *c, int ms)
{
    struct pollfd p = {.fd = c->pidfd, .events = POLLIN};
    int n;
    do
        n = poll(&p, 1, ms);
    while (n < 0 && errno == EINTR);
    return n > 0;
}

void ssh_child_how(const struct ssh_child *c, char *out, size_t cap)
{
    siginfo_t info = {0};
    *out = 0;
    if (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid)
        return;
    if (info.si_code != CLD_EXITED)
        snprintf(out, cap, "it was killed by %s", signal_name(info.si_status));
    else if (info.si_status)
        snprintf(out, cap, "it ended with exit code %d", info.si_status);
}

size_t ssh_child_said(const struct ssh_child *c, char *out, size_t cap)
{
    struct stat st;
    if (fstat(c->said, &st))
        return 0;
    off_t at = st.st_size > (off_t)cap ? st.st_size - (off_t)cap : 0;
    ssize_t n = pread(c->said, out, cap, at);
    return n > 0 ? (size_t)n : 0;
}

void ssh_child_end(struct ssh_child *c, int patience_ms)
{
    if (!c->pid)
        return;
    if (!ssh_child_ended(c, patience_ms)) {
        kill(-c->pid, SIGTERM); /* with what ProxyCommand started */
        if (!ssh_child_ended(c, TERM_MS))
            kill(-c->pid, SIGKILL);
    }
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
        ; /* ECHILD: somebody has reaped it */
    release(c);
}

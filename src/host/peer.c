/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See peer.h. */
#include "host/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include "proc/procinfo.h"

void peer_remember(struct peer *p, int fd)
{
    struct ucred cred;
    struct procinfo info;
    socklen_t n = sizeof cred;
    memset(p, 0, sizeof *p);
    socklen_t size = sizeof p->address;
    if (getpeername(fd, (struct sockaddr *)&p->address, &size) < 0)
        p->address.ss_family = AF_UNSPEC;
    if (p->address.ss_family == AF_UNIX &&
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0 && cred.pid > 0 &&
        procinfo_get(cred.pid, &info, NULL) == CV_OK) {
        p->pid = cred.pid;
        p->start = info.start;
    }
}

void peer_unix_endpoint(int fd, char *out, size_t cap)
{
    struct sockaddr_un a = {0};
    socklen_t n = sizeof a;
    out[0] = 0;
    if (getpeername(fd, (struct sockaddr *)&a, &n) < 0 || a.sun_family != AF_UNIX ||
        n <= offsetof(struct sockaddr_un, sun_path))
        return;
    int len = (int)(n - offsetof(struct sockaddr_un, sun_path));
    if (a.sun_path[0] == 0)
        snprintf(out, cap, "unix:@%.*s", len - 1, a.sun_path + 1);
    else
        snprintf(out, cap, "unix:%.*s", len, a.sun_path);
}

static bool is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24) == 127;
    return a->ss_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

/* Nobody listens there: a loopback connection attempt is answered at once. */
static bool is_refused(const struct sockaddr_storage *a)
{
    int code = 0, fd = socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t n = sizeof code;
    if (fd < 0)
        return false;
    socklen_t size =
        a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (connect(fd, (const struct sockaddr *)a, size) < 0)
        code = errno;
    struct pollfd p = {fd, POLLOUT, 0};
    if (code == EINPROGRESS &&
        (poll(&p, 1, 0) != 1 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &n) < 0))
        code = 0;
    close(fd);
    return code == ECONNREFUSED;
}

bool peer_gone(const struct peer *p, const struct connfile *f, const char *own_name, char *why,
               size_t cap)
{
    if (p->pid && !process_alive(p->pid, p->start)) {
        snprintf(why, cap, "the controller (pid %d) has ended", (int)p->pid);
        return true;
    }
    /* a loopback port may also be a tunnel to elsewhere, which a cut closes too */
    bool here = f->location && strcmp(f->location, own_name) == 0;
    if (here && is_loopback(&p->address) && is_refused(&p->address)) {
        snprintf(why, cap, "the controller has ended: nobody listens on its port any more");
        return true;
    }
    return false;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listening sockets. Runs on the loop's thread; owns its descriptor and, for a path, the socket
 * file. A turn accepts at most ACCEPT_MAX connections (ACCEPT_LANE in a lane, whose other jobs may
 * be those that have come), so that a storm of them does not starve the links. Out of descriptors
 * or memory it rests for 100 ms; the backlog keeps who knocks. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/address_priv.h"
#include "net/listener.h"

#define ACCEPT_MAX 64
#define ACCEPT_LANE 1
#define BACKLOG 4096
#define REST (100 * NS_PER_MS)
#define DEFER_SECONDS 5

struct listener {
    int fd;
    struct watch *watch;
    struct timer *rest;
    struct lane *lane;
    struct loop_job job; /* in the lane, when somebody knocks */
    bool paused, resting;
    listener_cb cb;
    void *arg;
    void (*on_trouble)(void *arg, const char *why);
    bool troubled; /* told; not again before an accept has succeeded */
    bool *freed;   /* set by listener_free() for the callback's caller, or NULL */
    uint16_t port;
    char *path; /* of the socket file, or NULL */
};

static void peer_name(const struct sockaddr_storage *sa, char *out, size_t n)
{
    char ip[INET6_ADDRSTRLEN] = "?";
    if (sa->ss_family == AF_INET) {
        const struct sockaddr_in *a = (const struct sockaddr_in *)sa;
        inet_ntop(AF_INET, &a->sin_addr, ip, sizeof ip);
        snprintf(out, n, "%s:%d", ip, ntohs(a->sin_port));
    } else if (sa->ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)sa;
        if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr)) {
            inet_ntop(AF_INET, a->sin6_addr.s6_addr + 12, ip, sizeof ip);
            snprintf(out, n, "%s:%d", ip, ntohs(a->sin6_port));
        } else {
            inet_ntop(AF_INET6, &a->sin6_addr, ip, sizeof ip);
            snprintf(out, n, "[%s]:%d", ip, ntohs(a->sin6_port));
        }
    } else {
        snprintf(out, n, "unix");
    }
}

static void rest(struct listener *l)
{
    int code = errno;
    l->resting = true;
    watch_set(l->watch, 0);
    timer_start(l->rest, REST, 0);
    if (!l->troubled && l->on_trouble) {
        char why[160];
        snprintf(why, sizeof why, "connections wait: accepting one failed: %s", strerror(code));
        l->troubled = true;
        l->on_trouble(l->arg, why);
    }
}

static void on_rested(void *arg)
{
    struct listener *l = arg;
    l->resting = false;
    if (!l->paused)
        watch_set(l->watch, UV_READABLE);
}

static void hand_over(struct listener *l, int fd, const struct sockaddr_storage *sa)
{
    char peer[INET6_ADDRSTRLEN + 16];
    long uid = -1;
    struct ucred cred;
    socklen_t n = sizeof cred;
    peer_name(sa, peer, sizeof peer);
    if (sa->ss_family == AF_UNIX) {
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0) {
            close(fd); /* nobody can say who this is */
            return;
        }
        uid = (long)cred.uid;
    }
    l->cb(l->arg, fd, uid, peer);
}

enum accepted { ACCEPTED_ALL, ACCEPTED_SOME, ACCEPTED_FREED };

static enum accepted accept_some(struct listener *l, int max)
{
    for (int i = 0; i < max && !l->paused; i++) {
        struct sockaddr_storage sa = {.ss_family = AF_UNIX};
        socklen_t n = sizeof sa;
        int fd = accept4(l->fd, (struct sockaddr *)&sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                rest(l);
            else if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO)
                continue;
            return ACCEPTED_ALL;
        }
        l->troubled = false;
        bool freed = false;
        l->freed = &freed;
        hand_over(l, fd, &sa);
        if (freed)
            return ACCEPTED_FREED;
        l->freed = NULL;
    }
    return ACCEPTED_SOME;
}

static void on_readable(void *arg, int events)
{
    struct listener *l = arg;
    if (l->lane) {
        watch_set(l->watch, 0);
        lane_add(l->lane, &l->job);
    } else {
        accept_some(l, ACCEPT_MAX);
    }
}

static void on_job(struct loop_job *j)
{
    struct listener *l = container_of(j, struct listener, job);
    enum accepted done = accept_some(l, ACCEPT_LANE);
    if (done == ACCEPTED_FREED || l->paused || l->resting)
        return;
    if (done == ACCEPTED_SOME)
        lane_add(l->lane, &l->job);
    else
        watch_set(l->watch, UV_READABLE);
}

static int listener_start(struct listener **ret, struct loop *loop, int fd_take, listener_cb cb,
                          void *arg, struct err *e)
{
    struct listener *l = calloc(1, sizeof *l);
    int r = CV_ENOMEM;
    if (!l)
        goto fail;
    *l = (struct listener){.fd = fd_take, .cb = cb, .arg = arg};
    loop_job_init(&l->job, on_job);
    if (listen(fd_take, BACKLOG) < 0) {
        r = err_sys(e, "listening failed");
        goto fail;
    }
    r = timer_new(&l->rest, loop, on_rested, l);
    if (r == CV_OK)
        r = watch_new(&l->watch, loop, fd_take, UV_READABLE, on_readable, l);
    if (r < 0) {
        err_set(e, r, "the loop can't watch a listening socket");
        goto fail;
    }
    *ret = l;
    return CV_OK;
fail:
    if (l)
        timer_free(l->rest);
    free(l);
    close(fd_take);
    if (r == CV_ENOMEM)
        err_set(e, r, "out of memory");
    return r;
}

/* True when `path` is a socket of ours that nobody listens at. */
static bool is_stale(const char *path, const struct sockaddr_un *sa, socklen_t len)
{
    struct stat st;
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool stale = connect(fd, (const struct sockaddr *)sa, len) < 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

static int unix_bind(int fd, const char *name, struct err *e)
{
    struct sockaddr_un sa;
    socklen_t len;
    if (address_unix(name, &sa, &len) < 0)
        return err_set(e, CV_EINVAL, "\"%s\" is empty or too long for a Unix socket", name);
    if (name[0] != '@' && fchmod(fd, 0600) < 0)
        return err_sys(e, "%s", name);
    if (bind(fd, (struct sockaddr *)&sa, len) == 0)
        return CV_OK;
    if (errno == EADDRINUSE && name[0] != '@' && is_stale(name, &sa, len) && unlink(name) == 0 &&
        bind(fd, (struct sockaddr *)&sa, len) == 0)
        return CV_OK;
    if (errno == EADDRINUSE)
        return err_set(e, CV_EEXIST, "the socket %s is in use", name);
    return err_sys(e, "can't listen at the socket %s", name);
}

int listener_new_unix(struct listener **ret, struct loop *l, const char *name, listener_cb cb,
                      void *arg, struct err *e)
{
    char *path = NULL;
    struct listener *made;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(e, "can't make a Unix socket");
    int r = unix_bind(fd, name, e);
    if (r < 0) {
        close(fd);
        return r;
    }
    if (name[0] != '@' && !(path = strdup(name))) {
        close(fd);
        unlink(name);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    r = listener_start(&made, l, fd, cb, arg, e);
    if (r < 0) {
        if (path)
            unlink(path);
        free(path);
        return r;
    }
    made->path = path;
    *ret = made;
    return CV_OK;
}

static int tcp_bind(int family, const void *sa, socklen_t len, const char *ip, uint16_t port,
                    int *ret, struct err *e)
{
    int one = 1, zero = 0, defer = DEFER_SECONDS;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(e, "can't make a TCP socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* our peers speak first: who is silent is the kernel's guest for so long, not ours */
    setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer, sizeof defer);
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, sa, len) == 0) {
        *ret = fd;
        return CV_OK;
    }
    int code = errno;
    close(fd);
    errno = code;
    if (code == EADDRINUSE)
        return err_set(e, CV_EEXIST, "port %d is in use", port);
    if (code == EADDRNOTAVAIL)
        return err_set(e, CV_EINVAL, "%s is not an address of this machine", ip);
    if (code == EACCES)
        return err_set(e, CV_EACCES, "port %d needs privileges", port);
    return err_sys(e, "can't listen at %s, port %d", ip, port);
}

static int tcp_open(const char *ip, uint16_t port, int *ret, struct err *e)
{
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 a6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_ANY_INIT};
    if (strcmp(ip, "*") == 0) { /* both families where there is IPv6 */
        int r = tcp_bind(AF_INET6, &a6, sizeof a6, ip, port, ret, e);
        return r == CV_OK || r == CV_EEXIST || r == CV_EACCES
                   ? r
                   : tcp_bind(AF_INET, &a4, sizeof a4, ip, port, ret, e);
    }
    if (inet_pton(AF_INET, strcmp(ip, "localhost") ? ip : "127.0.0.1", &a4.sin_addr) == 1)
        return tcp_bind(AF_INET, &a4, sizeof a4, ip, port, ret, e);
    if (inet_pton(AF_INET6, ip, &a6.sin6_addr) == 1)
        return tcp_bind(AF_INET6, &a6, sizeof a6, ip, port, ret, e);
    return err_set(e, CV_EINVAL, "\"%s\" is not an IP address (\"*\" stands for all)", ip);
}

int listener_new_tcp(struct listener **ret, struct loop *l, const char *ip, uint16_t port,
                     listener_cb cb, void *arg, struct err *e)
{
    struct sockaddr_storage sa;
    socklen_t n = sizeof sa;
    struct listener *made;
    int fd;
    int r = tcp_open(ip, port, &fd, e);
    if (r < 0)
        return r;
    r = listener_start(&made, l, fd, cb, arg, e);
    if (r < 0)
        return r;
    if (getsockname(fd, (struct sockaddr *)&sa, &n) == 0)
        made->port = ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                                    : ((struct sockaddr_in *)&sa)->sin_port);
    *ret = made;
    return CV_OK;
}

uint16_t listener_port(const struct listener *l)
{
    return l->port;
}

void listener_on_trouble(struct listener *l, void (*cb)(void *arg, const char *why))
{
    l->on_trouble = cb;
}

void listener_set_lane(struct listener *l, struct lane *lane)
{
    l->lane = lane;
}

void listener_pause(struct listener *l)
{
    if (l->paused)
        return;
    l->paused = true;
    loop_job_cancel(&l->job);
    watch_set(l->watch, 0);
}

void listener_resume(struct listener *l)
{
    if (!l->paused)
        return;
    l->paused = false;
    if (!l->resting)
        watch_set(l->watch, UV_READABLE);
}

void listener_free(struct listener *l)
{
    if (!l)
        return;
    if (l->freed)
        *l->freed = true;
    loop_job_cancel(&l->job);
    watch_free(l->watch);
    timer_free(l->rest);
    close(l->fd);
    if (l->path)
        unlink(l->path);
    free(l->path);
    free(l);
}

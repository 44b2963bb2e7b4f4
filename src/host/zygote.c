/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See zygote.h. A request is `waiting` until the zygote is ready, then `asked` until it is
 * answered. A zygote that ends fails what was asked of it, and what waits if it never got ready;
 * else the waiting ones go to the next zygote. */
#include "host/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/file.h"
#include "base/list.h"
#include "proc/capture.h"
#include "proc/spawn.h"

#define PACKET_MAX (1u << 20)
#define STDERR_TAIL 4096u
#define UNREAD_MAX 32768 /* of a pipe of 64 KiB: the rest is for the host's own lines */
#define PACKET_TRIES 3   /* to read it, when memory is short; one in a turn of the loop */

struct request {
    struct list node;
    uint32_t slot;
    int fds[ZYGOTE_FDS];
    char *text;
};

struct zygote {
    struct zygote_config c;
    pid_t pid; /* 0: none */
    int channel;
    bool ready, was_ready; /* takes requests now; did so at some time */
    int tries;             /* at the packet that comes next */
    struct watch *watch;
    struct capture *err;
    struct list waiting, asked;
};

static void request_free(struct request *r)
{
    list_del(&r->node);
    for (int i = 0; i < ZYGOTE_FDS; i++)
        if (r->fds[i] >= 0)
            close(r->fds[i]);
    free(r->text);
    free(r);
}

int zygote_new(struct zygote **ret, const struct zygote_config *c)
{
    struct zygote *z = calloc(1, sizeof *z);
    if (!z)
        return CV_ENOMEM;
    z->c = *c;
    z->channel = -1;
    list_init(&z->waiting);
    list_init(&z->asked);
    *ret = z;
    return CV_OK;
}

pid_t zygote_pid(const struct zygote *z)
{
    return z->pid;
}

static void channel_close(struct zygote *z)
{
    watch_free(z->watch);
    z->watch = NULL;
    if (z->channel >= 0)
        close(z->channel);
    z->channel = -1;
    z->ready = false;
}

void zygote_free(struct zygote *z)
{
    if (!z)
        return;
    channel_close(z);
    if (z->pid) {
        reaper_remove(z->c.reaper, z->pid);
        kill(z->pid, SIGKILL);
    }
    capture_free(z->err);
    list_each_safe(n, tmp, &z->waiting) request_free(list_entry(n, struct request, node));
    list_each_safe(n, tmp, &z->asked) request_free(list_entry(n, struct request, node));
    free(z);
}

/* What the zygote says, or an engine outside of tasks, is for people; a pipe that nobody reads does
 * not hold up the host. */
static void on_stderr(void *arg, const void *data, size_t n)
{
    const char *at = data;
    struct stat st;
    bool piped = fstat(STDERR_FILENO, &st) == 0 && S_ISFIFO(st.st_mode);
    while (n) {
        struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
        int unread = 0;
        if (poll(&p, 1, 0) != 1 || p.revents != POLLOUT ||
            (piped && ioctl(STDERR_FILENO, FIONREAD, &unread) == 0 && unread > UNREAD_MAX))
            return;
        ssize_t done = write(STDERR_FILENO, at, n < PIPE_BUF ? n : PIPE_BUF);
        if (done <= 0)
            return;
        at += done;
        n -= (size_t)done;
    }
}

static int request_send(struct zygote *z, const struct request *r)
{
    struct iovec iov = {r->text, strlen(r->text)};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof r->fds)];
    } control = {0};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof control.space};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof r->fds);
    memcpy(CMSG_DATA(c), r->fds, sizeof r->fds);
    ssize_t n;
    do
        n = sendmsg(z->channel, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return CV_OK;
    return errno == EAGAIN || errno == ETOOMANYREFS ? CV_EAGAIN : CV_ECLOSED;
}

/* Hands over what waits; when the channel is full, the rest follows when it is writable. */
static void requests_flush(struct zygote *z)
{
    while (z->ready && !list_empty(&z->waiting)) {
        struct request *r = list_entry(list_first(&z->waiting), struct request, node);
        int rc = request_send(z, r);
        if (rc == CV_EAGAIN) {
            watch_set(z->watch, UV_READABLE | UV_WRITABLE);
            return;
        }
        if (rc != CV_OK)
            return; /* its end is told by the reaper */
        list_del(&r->node);
        list_add_tail(&z->asked, &r->node);
        for (int i = 0; i < ZYGOTE_FDS; i++) {
            close(r->fds[i]);
            r->fds[i] = -1;
        }
    }
    if (z->watch)
        watch_set(z->watch, UV_READABLE);
}

static struct request *request_find(struct zygote *z, uint32_t slot)
{
    list_each(n, &z->asked)
    {
        struct request *r = list_entry(n, struct request, node);
        if (r->slot == slot)
            return r;
    }
    return NULL;
}

static void handle_packet(struct zygote *z, const json_t *p)
{
    json_t *slot = json_object_get(p, "slot"), *pid = json_object_get(p, "pid"),
           *threads = json_object_get(p, "threads");
    if (json_is_true(json_object_get(p, "ready"))) {
        z->ready = z->was_ready = true;
        log_debug(z->c.log, "the zygote (pid %d) is warm", z->pid);
        if (json_integer_value(threads) != 1)
            log_warn(z->c.log, "the zygote has %lld threads; engines forked from it may hang",
                     json_integer_value(threads));
        requests_flush(z);
        return;
    }
    struct request *r =
        json_is_integer(slot) ? request_find(z, (uint32_t)json_integer_value(slot)) : NULL;
    if (!r)
        return;
    const char *why = json_string_value(json_object_get(p, "error"));
    uint32_t number = r->slot;
    request_free(r);
    if (json_integer_value(pid) > 0)
        z->c.answered(z->c.arg, number, (pid_t)json_integer_value(pid), NULL);
    else
        z->c.answered(z->c.arg, number, 0, why ? why : "the zygote could not fork");
}

/* False: it is tried again. A zygote whose word can't be read is of no use: its end answers all
 * that it was asked. */
static bool take_packet(struct zygote *z, const char *packet, size_t n)
{
    json_t *p = json_loadb(packet, n, 0, NULL);
    char sink;
    if (!p && ++z->tries < PACKET_TRIES)
        return false;
    z->tries = 0;
    if (recv(z->channel, &sink, 1, MSG_DONTWAIT) < 0) /* it was only looked at */
        log_debug(z->c.log, "a packet of the zygote has gone");
    if (p) {
        handle_packet(z, p);
    } else {
        log_error(z->c.log, "the zygote's answer can't be read: it is ended");
        kill(z->pid, SIGKILL);
    }
    json_decref(p);
    return true;
}

static void on_channel(void *arg, int events)
{
    struct zygote *z = arg;
    char packet[4096];
    if (events & UV_WRITABLE)
        requests_flush(z);
    while (z->channel >= 0) {
        ssize_t n = recv(z->channel, packet, sizeof packet, MSG_DONTWAIT | MSG_PEEK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            channel_close(z); /* the reaper tells the rest */
            return;
        }
        if (!take_packet(z, packet, (size_t)n))
            return;
    }
}

static void list_move_all(struct list *from, struct list *to)
{
    while (!list_empty(from)) {
        struct list *n = list_first(from);
        list_del(n);
        list_add_tail(to, n);
    }
}

/* Answers all requests of a list that nobody else holds; the callback may ask anew. */
static void requests_fail(struct zygote *z, struct list *failed, const char *why)
{
    while (!list_empty(failed)) {
        struct request *r = list_entry(list_first(failed), struct request, node);
        uint32_t slot = r->slot;
        request_free(r);
        z->c.answered(z->c.arg, slot, 0, why);
    }
}

static int last_words(struct zygote *z, const struct reaped *end, struct buf *out)
{
    int rc = end->signal ? buf_addf(out, "the zygote was killed by %s\n", signal_name(end->signal))
                         : buf_addf(out, "the zygote ended with exit code %d\n", end->code);
    return rc == CV_OK ? capture_tail(z->err, out) : rc;
}

static void on_end(void *arg, const struct reaped *end)
{
    struct zygote *z = arg;
    struct buf why = {0};
    struct list failed;
    struct err e;
    list_init(&failed);
    on_channel(z, UV_READABLE); /* answers that it gave before */
    bool was_ready = z->was_ready;
    channel_close(z);
    z->pid = 0;
    capture_drain(z->err);
    const char *text = last_words(z, end, &why) == CV_OK ? buf_cstr(&why) : NULL;
    capture_free(z->err);
    z->err = NULL;
    log_at(z->c.log, was_ready ? LOG_WARN_ : LOG_ERROR_, "the zygote (pid %d) has ended", end->pid);
    list_move_all(&z->asked, &failed);
    if (!was_ready || (!list_empty(&z->waiting) && zygote_start(z, &e) != CV_OK))
        list_move_all(&z->waiting, &failed);
    requests_fail(z, &failed, text ? text : "the zygote has ended");
    buf_release(&why);
}

static int launch(struct zygote *z, int theirs, int err_w, struct err *e)
{
    const char *argv[] = {z->c.python, "-m", z->c.module, "--zygote", NULL};
    const char *env[] = {"COVEY_ZYGOTE_FD=3", "COVEY_ENGINE_PARAMS", NULL};
    const struct spawn_fd fd = {theirs, 3};
    const struct spawn s = {
        .argv = argv,
        .env = env,
        .fds = &fd,
        .nfds = 1,
        .stdin_fd = SPAWN_NULL,
        .stdout_fd = err_w,
        .stderr_fd = err_w,
        .death_signal = SIGKILL,
        .flags = SPAWN_SESSION,
    };
    return process_spawn(&s, &z->pid, e);
}

int zygote_start(struct zygote *z, struct err *e)
{
    int pair[2] = {-1, -1}, err[2] = {-1, -1}, size = PACKET_MAX, rc;
    if (z->pid)
        return CV_OK;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        rc = err_sys(e, "can't make the zygote's channel");
        goto cleanup;
    }
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if ((rc = capture_pipe(err, e)) != CV_OK || (rc = launch(z, pair[1], err[1], e)) != CV_OK)
        goto cleanup;
    z->channel = pair[0];
    z->was_ready = false;
    pair[0] = -1;
    rc = reaper_add(z->c.reaper, z->pid, on_end, z);
    if (rc == CV_OK) {
        rc = capture_new(&z->err, loop_uv(z->c.loop), err[0], STDERR_TAIL, on_stderr, z);
        err[0] = -1;
    }
    if (rc == CV_OK)
        rc = watch_new(&z->watch, z->c.loop, z->channel, UV_READABLE, on_channel, z);
    if (rc != CV_OK) {
        err_set(e, rc, "can't watch the zygote");
        reaper_remove(z->c.reaper, z->pid);
        kill(z->pid, SIGKILL);
        z->pid = 0;
        channel_close(z);
        capture_free(z->err);
        z->err = NULL;
    }
cleanup:
    for (int i = 0; i < 2; i++) {
        if (pair[i] >= 0)
            close(pair[i]);
        if (err[i] >= 0)
            close(err[i]);
    }
    return rc;
}

/* What fits into a packet: the kernel may grant a smaller buffer than was asked for. */
static int check_size(const struct zygote *z, size_t n, struct err *e)
{
    int granted = PACKET_MAX;
    socklen_t size = sizeof granted;
    getsockopt(z->channel, SOL_SOCKET, SO_SNDBUF, &granted, &size);
    size_t most = granted < (int)PACKET_MAX ? (size_t)granted / 2 : PACKET_MAX;
    if (n <= most)
        return CV_OK;
    return err_set(e, CV_ELIMIT,
                   "the settings have %zu bytes, and an engine can be handed %zu: take out of the "
                   "config what engines need not know",
                   n, most);
}

int zygote_fork(struct zygote *z, uint32_t slot, const char *request,
                const int fds_take[ZYGOTE_FDS], struct err *e)
{
    struct request *r = calloc(1, sizeof *r);
    char *text = strdup(request);
    if (!r || !text) {
        for (int i = 0; i < ZYGOTE_FDS; i++)
            close(fds_take[i]);
        free(r);
        free(text);
        return err_set(e, CV_ENOMEM, "out of memory");
    }
    r->slot = slot;
    r->text = text;
    memcpy(r->fds, fds_take, sizeof r->fds);
    list_add_tail(&z->waiting, &r->node);
    int rc = zygote_start(z, e);
    rc = rc ? rc : check_size(z, strlen(text), e);
    if (rc != CV_OK) {
        request_free(r);
        return rc;
    }
    requests_flush(z);
    return CV_OK;
}

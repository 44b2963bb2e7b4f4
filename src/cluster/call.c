/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The client half of the control socket (control.h): blocking, for the verbs that ask a supervisor.
 */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "cluster/control.h"
#include "cluster/ctladdr.h"

#define ANSWER_MAX (4u << 20)

int ctladdr_parse(const char *text, struct sockaddr_un *ret, socklen_t *ret_len, struct err *e)
{
    size_t n = strlen(text);
    if (n < 2 || text[0] != '@' || n > sizeof ret->sun_path)
        return err_set(e, CV_EINVAL, "\"%.60s\" is no control socket", text);
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret->sun_path + 1, text + 1, n - 1);
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    return CV_OK;
}

/* Who was stopped meanwhile (Ctrl-Z) goes on. */
static int connect_until(int fd, const char *address, const struct sockaddr_un *a, socklen_t n,
                         uint64_t deadline, struct err *e)
{
    for (;;) {
        uint64_t now = clock_mono(), us = now < deadline ? (deadline - now) / 1000 : 0;
        const struct timeval most = {.tv_sec = (time_t)(us / 1000000),
                                     .tv_usec = (suseconds_t)(us % 1000000)};
        if (us && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most))
            return err_sys(e, "can't bound how long connecting may take");
        if (us && !connect(fd, (const struct sockaddr *)a, n))
            return CV_OK;
        if (!us || errno == EAGAIN)
            return err_set(e, CV_ETIMEOUT, "who listens at %s takes no connections", address);
        if (errno != EINTR)
            return err_set(e, CV_ENOENT, "nobody listens at %s: %s", address, strerror(errno));
    }
}

/* Who listens may be someone else who took the name: only our user, or root, is spoken to. One that
 * is stopped takes no connection when many wait already: connecting and sending have `timeout`. */
static int connect_to(const char *address, double timeout, int *ret, struct err *e)
{
    struct sockaddr_un a;
    socklen_t n;
    struct ucred cred;
    socklen_t ncred = sizeof cred;
    int rc = ctladdr_parse(address, &a, &n, e);
    if (rc)
        return rc;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(e, "can't make a socket");
    rc =
        connect_until(fd, address, &a, n, clock_mono() + (uint64_t)(timeout * (double)NS_PER_S), e);
    if (!rc && (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &ncred) ||
                (cred.uid != geteuid() && cred.uid != 0)))
        rc = err_set(e, CV_EAUTH, "%s belongs to another user", address);
    if (rc) {
        close(fd);
        return rc;
    }
    *ret = fd;
    return CV_OK;
}

static int send_command(int fd, const json_t *command, struct err *e)
{
    char *text = jsontext(command, JSON_COMPACT), *line = text ? str_printf("%s\n", text) : NULL;
    int rc = line ? CV_OK : err_set(e, CV_ENOMEM, "out of memory");
    for (size_t at = 0; !rc && at < strlen(line);) {
        ssize_t n = send(fd, line + at, strlen(line + at), MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            rc = err_sys(e, "can't send the command");
        at += n > 0 ? (size_t)n : 0;
    }
    free(line);
    free(text);
    return rc;
}

static int read_answer(int fd, uint64_t deadline, struct buf *in, struct err *e)
{
    for (;;) {
        uint64_t now = clock_mono();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= deadline)
            return err_set(e, CV_ETIMEOUT, "no answer in time");
        if (poll(&p, 1, (int)((deadline - now) / NS_PER_MS) + 1) <= 0)
            continue;
        if (in->len > ANSWER_MAX || buf_reserve(in, 4096))
            return err_set(e, CV_ELIMIT, "the answer is too large");
        ssize_t n = read(fd, in->data + in->len, in->cap - in->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, CV_EOF, "the connection was closed without an answer");
        in->len += (size_t)n;
        if (memchr(in->data, '\n', in->len))
            return CV_OK;
    }
}

int control_call(const char *address, const json_t *command, double timeout, json_t **ret,
                 struct err *e)
{
    struct buf in = {0};
    int fd = -1, rc = connect_to(address, timeout, &fd, e);
    if (rc)
        return rc;
    rc = send_command(fd, command, e);
    rc = rc ? rc : read_answer(fd, clock_mono() + (uint64_t)(timeout * (double)NS_PER_S), &in, e);
    json_t *o =
        rc ? NULL
           : json_loadb((const char *)in.data, strcspn((const char *)in.data, "\n"), 0, NULL);
    if (!rc && !json_is_object(o)) {
        json_decref(o);
        rc = err_set(e, CV_EPROTO, "the answer is not JSON");
    }
    close(fd);
    buf_release(&in);
    if (!rc)
        *ret = o;
    return rc;
}

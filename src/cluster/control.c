/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The server half of the control socket (control.h). A peer that sends too much or nonsense is
 * closed; one that does not read its events loses them. */
#include "cluster/control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "base/list.h"
#include "cluster/ctladdr.h"

#define COMMAND_MAX 65536
#define PEERS_MAX 64

struct control {
    uv_loop_t *loop;
    uv_poll_t *poll; /* own allocation: it outlives us by a turn of the loop */
    int fd;
    char *address;
    control_cb cb;
    void *arg;
    struct list peers;
    unsigned npeers;
    uint64_t last_peer; /* number of the newest */
};

struct peer {
    struct list node;
    struct control *owner;
    uint64_t number;
    uv_poll_t *poll;
    int fd;
    struct buf in;
    bool asked, follows;
};

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static void close_poll(uv_poll_t *p)
{
    if (p) {
        uv_poll_stop(p);
        uv_close((uv_handle_t *)p, free_handle);
    }
}

static void peer_free(struct peer *p)
{
    list_del(&p->node);
    p->owner->npeers--;
    close_poll(p->poll);
    close(p->fd);
    buf_release(&p->in);
    free(p);
}

/* Lines are short and the socket's buffer is empty but for events: what does not fit is lost. */
static bool send_line(struct peer *p, const json_t *o)
{
    char *text = o ? jsontext(o, JSON_COMPACT) : NULL;
    char *line = text ? str_printf("%s\n", text) : NULL;
    bool ok = line &&
              send(p->fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)strlen(line);
    free(line);
    free(text);
    return ok;
}

static struct peer *find_peer(struct control *c, uint64_t number)
{
    list_each(at, &c->peers)
    {
        struct peer *p = list_entry(at, struct peer, node);
        if (p->number == number)
            return p;
    }
    return NULL;
}

void control_answer(struct control *c, uint64_t peer, json_t *o_take)
{
    struct peer *p = find_peer(c, peer);
    bool ok = p && send_line(p, o_take);
    json_decref(o_take);
    if (p && (!ok || !p->follows))
        peer_free(p);
}

void control_follow(struct control *c, uint64_t peer)
{
    struct peer *p = find_peer(c, peer);
    if (p)
        p->follows = true;
}

void control_event(struct control *c, const json_t *event)
{
    list_each_safe(at, tmp, &c->peers)
    {
        struct peer *p = list_entry(at, struct peer, node);
        if (p->follows)
            send_line(p, event);
    }
}

json_t *control_ok(json_t *value_take)
{
    return json_pack("{s:o}", "ok", value_take ? value_take : json_null());
}

json_t *control_error(const char *text)
{
    return json_pack("{s:s}", "error", text);
}

/* A whole line: one command. The callback answers, and so may free the peer. */
static void handle(struct peer *p, size_t n)
{
    json_t *o = json_loadb((const char *)p->in.data, n, 0, NULL);
    p->asked = true;
    if (json_is_object(o) && json_is_string(json_object_get(o, "do")))
        p->owner->cb(p->owner->arg, p->number, o);
    else
        control_answer(p->owner, p->number,
                       control_error("a command is one line of JSON: {\"do\": \"status\"}"));
    json_decref(o);
}

static void on_readable(uv_poll_t *h, int status, int events)
{
    struct peer *p = h->data;
    char chunk[4096];
    ssize_t n = recv(p->fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || p->in.len + (size_t)n > COMMAND_MAX) {
        peer_free(p);
        return;
    }
    if (p->asked) /* one command a connection */
        return;
    if (buf_add(&p->in, chunk, (size_t)n)) {
        peer_free(p);
        return;
    }
    uint8_t *end = memchr(p->in.data, '\n', p->in.len);
    if (end)
        handle(p, (size_t)(end - p->in.data));
}

static bool same_user(int fd)
{
    struct ucred cred;
    socklen_t n = sizeof cred;
    return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) &&
           (cred.uid == geteuid() || cred.uid == 0);
}

static uv_poll_t *watch(uv_loop_t *loop, int fd, uv_poll_cb cb, void *data)
{
    uv_poll_t *h = calloc(1, sizeof *h);
    if (!h || uv_poll_init(loop, h, fd)) {
        free(h);
        return NULL;
    }
    h->data = data;
    uv_poll_start(h, UV_READABLE, cb);
    return h;
}

static void on_connection(uv_poll_t *h, int status, int events)
{
    struct control *c = h->data;
    int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct peer *p = c->npeers < PEERS_MAX && same_user(fd) ? calloc(1, sizeof *p) : NULL;
    if (!p) {
        close(fd);
        return;
    }
    p->owner = c;
    p->number = ++c->last_peer;
    p->fd = fd;
    list_add_tail(&c->peers, &p->node);
    c->npeers++;
    p->poll = watch(c->loop, fd, on_readable, p);
    if (!p->poll)
        peer_free(p);
}

static int bind_socket(struct control *c, struct err *e)
{
    struct sockaddr_un a;
    socklen_t n;
    uint8_t random[8];
    int rc = random_bytes(random, sizeof random, e);
    if (rc)
        return rc;
    uint64_t name;
    memcpy(&name, random, sizeof name);
    c->address = str_printf("@covey-cluster-%u-%016llx", geteuid(), (unsigned long long)name);
    if (!c->address)
        return err_set(e, CV_ENOMEM, "out of memory");
    rc = ctladdr_parse(c->address, &a, &n, e);
    if (rc)
        return rc;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0 || bind(c->fd, (struct sockaddr *)&a, n) || listen(c->fd, 16))
        return err_sys(e, "can't listen for commands");
    return CV_OK;
}

int control_new(struct control **ret, uv_loop_t *loop, control_cb cb, void *arg, struct err *e)
{
    struct control *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, CV_ENOMEM, "out of memory");
    *c = (struct control){.loop = loop, .fd = -1, .cb = cb, .arg = arg};
    list_init(&c->peers);
    int rc = bind_socket(c, e);
    if (!rc && !(c->poll = watch(loop, c->fd, on_connection, c)))
        rc = err_set(e, CV_ENOMEM, "out of memory");
    if (rc) {
        control_free(c);
        return rc;
    }
    *ret = c;
    return CV_OK;
}

void control_free(struct control *c)
{
    if (!c)
        return;
    list_each_safe(at, tmp, &c->peers)
    {
        peer_free(list_entry(at, struct peer, node));
    }
    close_poll(c->poll);
    if (c->fd >= 0)
        close(c->fd);
    free(c->address);
    free(c);
}

const char *control_address(const struct control *c)
{
    return c->address;
}

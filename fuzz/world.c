/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See world.h. The stand-ins take the place of the real functions at link time (--wrap). */
#include "world.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "controller/act.h"

int __wrap_kill(pid_t pid, int signum);
int __wrap_files_prepare(struct files *f, const struct options *o, struct log *log, struct err *e);
int __wrap_files_write(struct files *f, const struct options *o, uint16_t port, struct err *e);
int __wrap_listener_new_unix(struct listener **ret, struct loop *l, const char *name,
                             listener_cb cb, void *arg, struct err *e);
int __wrap_listener_new_tcp(struct listener **ret, struct loop *l, const char *ip, uint16_t port,
                            listener_cb cb, void *arg, struct err *e);
uint16_t __wrap_listener_port(const struct listener *l);
int __wrap_tls_server_new(struct tls_context **ret, const char *client_key, const char *engine_key,
                          struct err *e);

int __wrap_kill(pid_t pid, int signum)
{
    errno = ESRCH;
    return signum && pid % 2 ? -1 : 0;
}

int __wrap_files_prepare(struct files *f, const struct options *o, struct log *log, struct err *e)
{
    for (int i = 0; i < FILES_ROLES; i++) {
        f->path[i] = strdup("/nonexistent/ipcontroller.json");
        f->content[i].boot_id = strdup("00112233445566ff");
        if (!f->path[i] || !f->content[i].boot_id)
            return err_set(e, CV_ENOMEM, "out of memory");
    }
    f->reused = o->reuse;
    return CV_OK;
}

int __wrap_files_write(struct files *f, const struct options *o, uint16_t port, struct err *e)
{
    return CV_OK;
}

int __wrap_listener_new_unix(struct listener **ret, struct loop *l, const char *name,
                             listener_cb cb, void *arg, struct err *e)
{
    return CV_OK;
}

int __wrap_listener_new_tcp(struct listener **ret, struct loop *l, const char *ip, uint16_t port,
                            listener_cb cb, void *arg, struct err *e)
{
    return CV_OK;
}

uint16_t __wrap_listener_port(const struct listener *l)
{
    return 4711;
}

int __wrap_tls_server_new(struct tls_context **ret, const char *client_key, const char *engine_key,
                          struct err *e)
{
    return CV_OK;
}

int world_try(struct world *w, uint32_t hwm, bool reuse, const char *store)
{
    struct err e = {""};
    *w = (struct world){.opt = {.cluster_id = "",
                                .ip = "127.0.0.1",
                                .location = "",
                                .scheme = "leastload",
                                .sched_log = "",
                                .store = store,
                                .reuse = reuse,
                                .hwm = hwm,
                                .away_grace = 300,
                                .settle = 3,
                                .record_limit = 16,
                                .size_limit = 1 << 20,
                                .client_buffer = 1 << 16}};
    for (int i = 0; i < WORLD_PEERS; i++)
        w->peers[i] = -1;
    int rc = controller_start(&w->c, &w->opt, NULL, &e);
    assert(rc == CV_OK || *e.text);
    w->c.machine = 1;
    return rc;
}

void world_start(struct world *w, uint32_t hwm, bool reuse, const char *store)
{
    if (world_try(w, hwm, reuse, store))
        abort();
}

static void turns(struct world *w, int n)
{
    while (n-- && !w->c.stopped)
        uv_run(loop_uv(w->c.loop), UV_RUN_NOWAIT);
}

/* Takes what a peer has been sent since it was looked at last. */
static bool drain(struct world *w, unsigned peer)
{
    static uint8_t sink[1 << 20];
    ssize_t n = recv(w->peers[peer], sink, sizeof sink, MSG_DONTWAIT);
    if (n > 0 && w->sent)
        w->sent(w, peer, sink, (size_t)n);
    return n > 0;
}

void world_run(struct world *w)
{
    int idle = 0; /* rounds in which nothing moved: what was read may be answered in the next */
    for (int i = 0; i < (w->patient ? 400 : 40) && idle < 2; i++) {
        if (w->patient && i > 3)
            poll(NULL, 0, 1);
        turns(w, 2);
        idle++;
        for (unsigned p = 0; p < WORLD_PEERS; p++) {
            int waiting = 0;
            if (w->peers[p] < 0)
                continue;
            if (drain(w, p) || (!ioctl(w->peers[p], TIOCOUTQ, &waiting) && waiting))
                idle = 0;
        }
    }
}

void world_close(struct world *w, unsigned peer)
{
    if (w->peers[peer] >= 0)
        close(w->peers[peer]);
    w->peers[peer] = -1;
}

void world_connect(struct world *w, unsigned peer)
{
    int fds[2];
    world_close(w, peer);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        abort();
    w->peers[peer] = fds[1];
    accept_connection(&w->c.unix_door, fds[0], (long)getuid(), "unix");
}

void world_put(struct world *w, unsigned peer, const void *data, size_t n)
{
    const uint8_t *at = data;
    for (int tries = 0; n && w->peers[peer] >= 0 && tries < 20; tries++) {
        ssize_t r = send(w->peers[peer], at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r > 0) {
            at += r;
            n -= (size_t)r;
        } else if (errno != EAGAIN) {
            world_close(w, peer);
        } else {
            world_run(w);
        }
    }
}

/* The numbers of CHUNKs: the first large message of a connection is 1. Only targets that send one
 * know it for certain; else the link dies of it, which is a case too. */
static void put_chunks(struct world *w, unsigned peer, const uint8_t *body, size_t n)
{
    for (size_t off = 0; off < n; off += WIRE_CHUNK_MAX) {
        uint8_t head[WIRE_HEADER_SIZE];
        size_t len = n - off < WIRE_CHUNK_MAX ? n - off : WIRE_CHUNK_MAX;
        header_encode(
            head,
            &(struct header){
                .type = MSG_CHUNK, .nbufs = 1, .body_len = len, .seq = 1, .aux = off, .engine = 0});
        world_put(w, peer, head, sizeof head);
        world_put(w, peer, body + off, len);
    }
}

void world_send(struct world *w, unsigned peer, struct header h, const void *route,
                size_t route_len, const void *body, size_t n)
{
    uint8_t head[WIRE_HEADER_SIZE];
    bool large = n > WIRE_INLINE_MAX;
    h.route_len = (uint32_t)route_len;
    h.nbufs = n > 0;
    h.body_len = n;
    h.incarnation &= UINT16_MAX;
    h.flags = (uint16_t)((h.flags & ~MSG_F_CHUNKED) | (large ? MSG_F_CHUNKED : 0));
    header_encode(head, &h);
    world_put(w, peer, head, sizeof head);
    if (route_len)
        world_put(w, peer, route, route_len);
    if (large)
        put_chunks(w, peer, body, n);
    else if (n)
        world_put(w, peer, body, n);
}

void world_json(struct world *w, unsigned peer, struct header h, const json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text)
        world_send(w, peer, h, NULL, 0, text, strlen(text));
    free(text);
}

void world_hello(struct world *w, unsigned peer, uint8_t role, uint64_t who)
{
    struct hello h = {.role = role,
                      .session = 100 + who,
                      .boot_id = "00112233445566ff",
                      .uuid = "uuid",
                      .python = "3.11",
                      .versions = "{}",
                      .host = "here",
                      .machine = 2,
                      .pid = 1,
                      .number = WIRE_ENGINE_NONE,
                      .host_session = 102};
    struct header head = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE};
    struct buf b = {0};
    if (hello_encode(&h, &b))
        abort();
    world_connect(w, peer);
    world_send(w, peer, head, b.data, b.len, NULL, 0);
    buf_release(&b);
}

void world_end(struct world *w)
{
    bool whole = w->c.loop && w->c.sched;
    if (whole)
        world_run(w);
    for (unsigned p = 0; p < WORLD_PEERS; p++)
        world_close(w, p);
    if (whole) {
        turns(w, 4);
        controller_stop(&w->c, "the end");
        turns(w, 2);
    }
    controller_release(&w->c);
}

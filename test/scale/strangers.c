/* SPDX-License-Identifier: BSD-3-Clause
 *
 * scale-strangers SECURITY_DIR KIND=N…: peers that a controller must not feel. They come again as
 * soon as they are closed, until end of file on standard input; then one line of JSON says how
 * often they came. Kinds, each over the Unix socket (unix-) or TCP (tcp-):
 *
 *   idle     connects and is silent          half     the first half of a HELLO's header
 *   garbage  random bytes without end        loris    a good HELLO, one byte each 20 ms
 *   wrong    unix: HELLO of another boot id; tcp: TLS with another key
 *   tls      tcp: TLS with the right key, then random bytes */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/loop.h"
#include "tls/tls.h"
#include "wire/connfile.h"
#include "wire/hello.h"

#define AGAIN (2 * NS_PER_MS) /* between being closed and coming again */
#define LORIS (20 * NS_PER_MS)

enum kind { IDLE, HALF, GARBAGE, LORIS_, WRONG, TLS, KINDS };

struct crowd {
    struct loop *loop;
    struct connfile file;
    struct tls_context *right, *wrong;
    struct buf hello, stale; /* whole frames */
    uint8_t noise[4096];
    unsigned long long came, closed;
};

struct stranger {
    struct crowd *c;
    enum kind kind;
    bool tcp, shaken;
    struct transport *t;
    struct watch *watch;
    struct timer *timer;
    size_t said;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "scale-strangers: %s: %s\n", what, why);
    exit(1);
}

static void check(int code, const char *what)
{
    if (code < 0)
        die(what, err_name(code));
}

static const char *endpoint(const struct crowd *c, const char *start)
{
    for (uint32_t i = 0; i < c->file.nendpoints; i++)
        if (!strncmp(c->file.endpoints[i], start, strlen(start)))
            return c->file.endpoints[i] + strlen(start);
    die("the connection file", "no such endpoint");
    return NULL;
}

static int dial(const struct crowd *c, bool tcp)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r;
    if (fd < 0)
        return -1;
    if (tcp) {
        in.sin_port = htons(c->file.port);
        r = connect(fd, (struct sockaddr *)&in, sizeof in);
    } else {
        const char *name = endpoint(c, "unix:@");
        memcpy(un.sun_path + 1, name, strlen(name));
        r = connect(fd, (struct sockaddr *)&un,
                    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)));
    }
    if (r < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static void leave(struct stranger *s)
{
    watch_free(s->watch);
    s->watch = NULL;
    if (s->t)
        s->t->ops->free(s->t);
    s->t = NULL;
    s->shaken = false;
    s->said = 0;
    s->c->closed++;
    timer_start(s->timer, AGAIN, 0);
}

/* False: it has been closed. */
static bool say(struct stranger *s, const void *data, size_t n)
{
    struct iovec v = {(void *)data, n};
    struct err e;
    ssize_t r = s->t->ops->writev(s->t, &v, 1, &e);
    if (r < 0 && r != CV_EAGAIN) {
        leave(s);
        return false;
    }
    s->said += r > 0 ? (size_t)r : 0;
    return true;
}

static void speak(struct stranger *s)
{
    struct crowd *c = s->c;
    switch (s->kind) {
    case HALF:
        if (!s->said)
            say(s, c->hello.data, WIRE_HEADER_SIZE / 2);
        break;
    case WRONG:
        if (!s->said)
            say(s, c->stale.data, c->stale.len);
        break;
    case LORIS_:
        if (s->said < c->hello.len && say(s, c->hello.data + s->said, 1))
            timer_start(s->timer, LORIS, 0);
        break;
    case GARBAGE:
    case TLS:
        say(s, c->noise, sizeof c->noise);
        break;
    default:
        break;
    }
}

static void on_event(void *arg, int events)
{
    struct stranger *s = arg;
    uint8_t sink[4096];
    struct err e;
    if (s->t->ops->handshake && !s->shaken) {
        int want, r = s->t->ops->handshake(s->t, &want, &e);
        if (r < 0 && r != CV_EAGAIN)
            return leave(s);
        s->shaken = r == CV_OK;
        watch_set(s->watch,
                  s->shaken || want & WANT_WRITE ? UV_READABLE | UV_WRITABLE : UV_READABLE);
        return;
    }
    if (events & UV_READABLE) {
        ssize_t n = s->t->ops->read(s->t, sink, sizeof sink, &e);
        if (n < 0 && n != CV_EAGAIN)
            return leave(s);
    }
    if (events & UV_WRITABLE) {
        if (s->kind != GARBAGE && s->kind != TLS)
            watch_set(s->watch, UV_READABLE);
        speak(s);
    }
}

static void come(struct stranger *s)
{
    struct crowd *c = s->c;
    int fd = dial(c, s->tcp);
    struct err e;
    if (fd < 0) {
        timer_start(s->timer, 10 * NS_PER_MS, 0);
        return;
    }
    c->came++;
    if (s->kind == TLS || (s->kind == WRONG && s->tcp))
        check(tls_transport_new(s->kind == TLS ? c->right : c->wrong, fd, &s->t, &e), "TLS");
    else
        check(stream_transport_new(&s->t, fd), "a stream");
    check(watch_new(&s->watch, c->loop, fd, UV_READABLE | UV_WRITABLE, on_event, s), "a watch");
}

static void on_timer(void *arg)
{
    struct stranger *s = arg;
    if (s->t)
        speak(s);
    else
        come(s);
}

static void make_hello(struct crowd *c, const char *boot, struct buf *out)
{
    struct hello h = {.role = ROLE_CLIENT,
                      .session = 77,
                      .cluster_id = c->file.cluster_id,
                      .boot_id = (char *)boot,
                      .python = "3.11",
                      .host = "stranger",
                      .number = WIRE_ENGINE_NONE};
    struct header head = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE};
    struct buf route = {0};
    uint8_t bytes[WIRE_HEADER_SIZE];
    check(hello_encode(&h, &route), "HELLO");
    head.route_len = (uint32_t)route.len;
    header_encode(bytes, &head);
    check(buf_add(out, bytes, sizeof bytes), "HELLO");
    check(buf_add(out, route.data, route.len), "HELLO");
    buf_release(&route);
}

static void add(struct crowd *c, const char *arg)
{
    static const char *const names[KINDS] = {"idle", "half", "garbage", "loris", "wrong", "tls"};
    const char *dash = strchr(arg, '-'), *equal = strchr(arg, '=');
    if (!dash || !equal || dash > equal)
        die(arg, "not KIND=N");
    for (int k = 0; k < KINDS; k++) {
        if (strncmp(dash + 1, names[k], (size_t)(equal - dash - 1)))
            continue;
        for (long n = atol(equal + 1); n > 0; n--) {
            struct stranger *s = calloc(1, sizeof *s);
            check(s ? CV_OK : CV_ENOMEM, "a stranger");
            *s = (struct stranger){.c = c, .kind = (enum kind)k, .tcp = arg[0] == 't'};
            check(timer_new(&s->timer, c->loop, on_timer, s), "a timer");
            timer_start(s->timer, 0, 0);
        }
        return;
    }
    die(arg, "no such kind");
}

static void on_input(void *arg, int events)
{
    struct crowd *c = arg;
    char byte;
    if (read(0, &byte, 1) <= 0)
        loop_stop(c->loop);
}

int main(int argc, char **argv)
{
    static const char key[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    struct crowd c = {0};
    struct watch *input;
    struct rlimit l;
    struct err e;
    char path[512];
    if (argc < 3)
        die("usage", "scale-strangers SECURITY_DIR KIND=N...");
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
    snprintf(path, sizeof path, "%s/ipcontroller-client.json", argv[1]);
    if (connfile_read(path, &c.file, &e) < 0)
        die(path, e.text);
    if (getrandom(c.noise, sizeof c.noise, 0) != sizeof c.noise)
        die("noise", "no random bytes");
    check(tls_client_new(&c.right, "client", c.file.key, &e), "TLS");
    check(tls_client_new(&c.wrong, "client", key, &e), "TLS");
    check(loop_new(&c.loop), "a loop");
    make_hello(&c, c.file.boot_id, &c.hello);
    make_hello(&c, "0123456789abcdef", &c.stale);
    check(watch_new(&input, c.loop, 0, UV_READABLE, on_input, &c), "standard input");
    for (int i = 2; i < argc; i++)
        add(&c, argv[i]);
    check(loop_run(c.loop), "the loop");
    printf("{\"came\": %llu, \"closed\": %llu}\n", c.came, c.closed);
    fflush(stdout);
    _exit(0); /* the kernel takes leave of thousands of them faster */
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a link costs: small messages per second, large ones in GB/s, and a message there and one
 * back, over a Unix socket, TCP and TLS on loopback, a thread and a loop on each side. Usage:
 * net-bench [SECONDS [KIND SIZE]], KIND 0: Unix, 1: TCP, 2: TLS. Prints one line per case: message
 * size, messages per second, CPU time of both threads per message, GB/s or the round trip. */
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/link.h"
#include "tls/tls.h"

#define WINDOW 2048 /* small messages on their way; half a window is answered by one ACK */

enum kind { UNIX, TCP, TLS };

struct side {
    struct loop *loop;
    struct link *link;
    struct timer *timer;
    struct payload *payload;
    uint64_t sent, acked, window;
    atomic_ullong *received;
    bool stop;
};

static void check(int r)
{
    if (r < 0) {
        fprintf(stderr, "net-bench: %s\n", err_name(r));
        exit(1);
    }
}

static void send_more(struct side *s)
{
    struct header h = {.type = MSG_TASK, .session = 1};
    while (!s->stop && s->sent < s->acked + s->window) {
        h.seq = ++s->sent;
        check(link_send(s->link, &h, NULL, 0, s->payload, 0));
    }
}

static void on_ready(struct link *l, void *arg)
{
    send_more(arg);
}

static void on_ack(struct link *l, struct msg *m_take, void *arg)
{
    struct side *s = arg;
    s->acked = m_take->h.aux;
    msg_free(m_take);
    send_more(s);
}

static void on_task(struct link *l, struct msg *m_take, void *arg)
{
    struct side *s = arg;
    uint64_t n = atomic_load_explicit(s->received, memory_order_relaxed) + 1;
    atomic_store_explicit(s->received, n, memory_order_relaxed);
    msg_free(m_take);
    if (s->window == 1 || n % (s->window / 2) == 0) {
        struct header h = {.type = MSG_ACK, .aux = n};
        (void)!link_send(l, &h, NULL, 0, NULL, 0); /* the sender may have left */
    }
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    struct side *s = arg;
    loop_stop(s->loop);
}

static void on_time(void *arg)
{
    struct side *s = arg;
    if (atomic_load(s->received) < 4) /* a busy machine: go on until there is something to tell */
        return;
    s->stop = true;
    loop_stop(s->loop);
}

static void *receiver(void *arg)
{
    struct side *s = arg;
    check(loop_run(s->loop));
    return NULL;
}

static void connect_pair(enum kind kind, int fds[2])
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    if (kind == UNIX) {
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
        return;
    }
    int s = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(s, (struct sockaddr *)&sa, sizeof sa));
    check(listen(s, 1));
    check(getsockname(s, (struct sockaddr *)&sa, &n));
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    check(connect(fds[0], (struct sockaddr *)&sa, sizeof sa));
    fds[1] = accept(s, NULL, NULL);
    close(s);
}

static void open_side(struct side *s, int fd, struct tls_context *c,
                      const struct link_callbacks *cb)
{
    static const struct wire_limits limits = {.body_max = 16ull << 30, .route_max = WIRE_ROUTE_MAX};
    struct transport *t;
    struct err e;
    if (c) {
        check(fcntl(fd, F_SETFL, O_NONBLOCK));
        check(tls_transport_new(c, fd, &t, &e));
    } else {
        check(stream_transport_new(&t, fd));
    }
    check(loop_new(&s->loop));
    check(link_new(&s->link, s->loop, t, cb, s));
    link_set_limits(s->link, &limits);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static uint64_t window_for(uint64_t size)
{
    return size < 4096 ? WINDOW : size < (1 << 20) ? 64 : 4;
}

/* window 1: a message there, one back, and so on */
static void run(enum kind kind, uint64_t size, uint64_t window, double seconds)
{
    static const char key[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    static const char *const names[] = {"unix", "tcp", "tls"};
    static const struct link_callbacks sending = {on_ready, on_ack, on_closed},
                                       receiving = {NULL, on_task, on_closed};
    struct tls_context *client = NULL, *server = NULL;
    atomic_ullong received = 0;
    struct side a = {.received = &received}, b = {.received = &received};
    struct err e;
    pthread_t t;
    int fds[2];
    if (kind == TLS) {
        check(tls_server_new(&server, key, NULL, &e));
        check(tls_client_new(&client, "client", key, &e));
    }
    a.window = b.window = window;
    check(payload_new_large(&a.payload, 1, &size));
    memset(a.payload->bufs[0].data, 7, size);
    connect_pair(kind, fds);
    open_side(&a, fds[0], client, &sending);
    open_side(&b, fds[1], server, &receiving);
    check(timer_new(&a.timer, a.loop, on_time, &a));
    timer_start(a.timer, (uint64_t)(seconds * 1e9), NS_PER_MS);
    double cpu = cpu_seconds();
    uint64_t start = clock_mono();
    check(pthread_create(&t, NULL, receiver, &b));
    check(loop_run(a.loop));
    double wall = (double)(clock_mono() - start) / 1e9;
    double n = (double)atomic_load(&received);
    cpu = cpu_seconds() - cpu;
    link_free(a.link); /* the receiver sees the end and leaves */
    pthread_join(t, NULL);
    printf("net   %-5s %9llu bytes %10.0f msg/s %9.3f us CPU ", names[kind],
           (unsigned long long)size, n / wall, cpu / n * 1e6);
    if (window == 1)
        printf("%8.1f us there and back\n", wall / n * 1e6);
    else
        printf("%8.3f GB/s\n", n * (double)size / wall / 1e9);
    fflush(stdout);
    payload_unref(a.payload);
    timer_free(a.timer);
    loop_free(a.loop);
    link_free(b.link);
    loop_free(b.loop);
    tls_context_free(client);
    tls_context_free(server);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    const uint64_t sizes[] = {100, 1024, 3000, 16384, 262144, 16 << 20};
    if (argc > 3) {
        uint64_t size = strtoull(argv[3], NULL, 10);
        run((enum kind)atoi(argv[2]), size, window_for(size), seconds);
        return 0;
    }
    for (int kind = UNIX; kind <= TLS; kind++) {
        run(kind, sizes[0], 1, seconds);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            run(kind, sizes[i], window_for(sizes[i]), seconds);
    }
    return 0;
}

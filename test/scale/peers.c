/* SPDX-License-Identifier: BSD-3-Clause
 *
 * scale-peers SECURITY_DIR [CLUSTER_ID]: simulated engines and a simulated client for a running
 * controller. Reads commands from standard input, one a line, and answers each with one line of
 * JSON when it is done:
 *
 *   engines unix|tls|relay N   N engines register     client unix|tls     a client connects
 *   tasks N WINDOW             N no-ops               broadcast           one call for all engines
 *   roundtrips N               one after another      count               engines now, and lost
 *   deaf N                     N no-ops whose results are never read: stops itself (SIGSTOP)
 *
 * Ends at end of file. bench/scale.py and test/scale drive it. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sim.h"

void sim_die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "scale-peers: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

void sim_check(int code, const char *what)
{
    if (code < 0)
        sim_die("%s: %s", what, err_name(code));
}

void sim_answer(struct sim *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("{");
    vprintf(fmt, ap);
    printf("}\n");
    va_end(ap);
    fflush(stdout);
    s->busy = false;
}

double sim_since(uint64_t start_ns)
{
    return (double)(clock_mono() - start_ns) / 1e9;
}

uint64_t sim_random(void)
{
    uint64_t x = 0;
    while (!x)
        if (getrandom(&x, sizeof x, 0) != sizeof x)
            sim_die("no random bytes");
    return x;
}

const char *sim_endpoint(const struct connfile *f, enum kind k)
{
    const char *start = k == KIND_UNIX ? "unix:" : "tcp:";
    for (uint32_t i = 0; i < f->nendpoints; i++)
        if (!strncmp(f->endpoints[i], start, strlen(start)))
            return f->endpoints[i];
    sim_die("the connection file has no endpoint that starts with %s", start);
}

void sim_say_hello(struct link *l, struct hello *h, uint64_t aux)
{
    struct header head = {.type = MSG_HELLO, .engine = WIRE_ENGINE_NONE, .aux = aux};
    struct buf route = {0};
    sim_check(hello_encode(h, &route), "HELLO");
    sim_check(link_send(l, &head, route.data, (uint32_t)route.len, NULL, 0), "HELLO");
    buf_release(&route);
}

static enum kind kind_of(const char *name)
{
    static const char *const names[KIND_END] = {"unix", "tls", "relay"};
    for (enum kind k = 0; k < KIND_END; k++)
        if (!strcmp(name, names[k]))
            return k;
    sim_die("no kind of link: %s", name);
}

static void command(struct sim *s, const char *line)
{
    char kind[16];
    unsigned long long n, window;
    if (s->busy)
        sim_die("a command came before the last one was answered");
    s->busy = true;
    if (sscanf(line, "engines %15s %llu", kind, &n) == 2)
        engines_start(s, kind_of(kind), (uint32_t)n);
    else if (sscanf(line, "client %15s", kind) == 1)
        client_start(s, kind_of(kind));
    else if (sscanf(line, "tasks %llu %llu", &n, &window) == 2)
        client_tasks(s, n, window);
    else if (sscanf(line, "roundtrips %llu", &n) == 1)
        client_round_trips(s, n);
    else if (sscanf(line, "deaf %llu", &n) == 1)
        client_deaf(s, n);
    else if (!strcmp(line, "broadcast"))
        client_broadcast(s);
    else if (!strcmp(line, "count"))
        engines_answer(s);
    else
        sim_die("no such command: %s", line);
}

static void on_input(void *arg, int events)
{
    struct sim *s = arg;
    char line[128];
    size_t n = 0;
    while (n < sizeof line - 1) { /* no more than the line: the next one may follow at once */
        ssize_t r = read(0, line + n, 1);
        if (r < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (r <= 0) {
            loop_stop(s->loop);
            return;
        }
        if (line[n] == '\n')
            break;
        n++;
    }
    line[n] = 0;
    command(s, line);
}

static void read_file(struct connfile *ret, const char *dir, const char *id, const char *role)
{
    char path[512];
    struct err e;
    snprintf(path, sizeof path, "%s/ipcontroller%s%s-%s.json", dir, id ? "-" : "", id ? id : "",
             role);
    if (connfile_read(path, ret, &e) < 0)
        sim_die("%s", e.text);
}

int main(int argc, char **argv)
{
    struct sim s = {0};
    struct watch *input;
    struct rlimit l;
    struct err e;
    if (argc < 2)
        sim_die("usage: scale-peers SECURITY_DIR [CLUSTER_ID]");
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
    read_file(&s.client_file, argv[1], argc > 2 ? argv[2] : NULL, "client");
    read_file(&s.engine_file, argv[1], argc > 2 ? argv[2] : NULL, "engine");
    sim_check(tls_client_new(&s.client_tls, "client", s.client_file.key, &e), "TLS");
    sim_check(tls_client_new(&s.engine_tls, "engine", s.engine_file.key, &e), "TLS");
    sim_check(loop_new(&s.loop), "a loop");
    sim_check(watch_new(&input, s.loop, 0, UV_READABLE, on_input, &s), "standard input");
    sim_check(loop_run(s.loop), "the loop");
    watch_free(input);
    client_free(s.client);
    engines_free(s.engines);
    loop_free(s.loop);
    tls_context_free(s.client_tls);
    tls_context_free(s.engine_tls);
    connfile_release(&s.client_file);
    connfile_release(&s.engine_file);
    return 0;
}

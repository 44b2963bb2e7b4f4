/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A simulated client: submits no-ops and counts their results. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

#define CALL_BYTES 100 /* about what a small call takes */
#define ACK_EVERY 64

enum job { JOB_NONE, JOB_TASKS, JOB_BROADCAST, JOB_ROUND_TRIPS, JOB_DEAF };

struct client {
    struct sim *sim;
    struct link *link;
    struct connector *connector;
    struct transport_factory tls;
    struct payload *call;
    uint64_t session, seq;
    uint64_t received, acked; /* RESULTs */
    enum job job;
    uint64_t started, asked_at;
    uint64_t todo, window, sent, done, failed; /* of the job, items */
    uint64_t *times;                           /* round trips */
};

static void submit(struct client *c, uint16_t flags, uint32_t count, const void *route,
                   uint32_t len)
{
    struct header h = {.type = MSG_TASK,
                       .session = c->session,
                       .seq = c->seq + 1,
                       .count = count,
                       .flags = flags,
                       .engine = WIRE_ENGINE_NONE,
                       .time = clock_wall()};
    c->seq += count;
    c->sent += count;
    sim_check(link_send(c->link, &h, route, len, c->call, 0), "TASK");
}

static void acknowledge(struct client *c)
{
    struct header h = {.type = MSG_ACK, .engine = WIRE_ENGINE_NONE, .aux = c->received};
    c->acked = c->received;
    sim_check(link_send(c->link, &h, NULL, 0, NULL, 0), "ACK");
}

static void submit_more(struct client *c)
{
    while (c->sent < c->todo && c->sent - c->done < c->window)
        submit(c, 0, 1, NULL, 0);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void round_trip(struct client *c)
{
    c->asked_at = clock_mono();
    submit(c, 0, 1, NULL, 0);
    link_flush(c->link);
}

static void job_done(struct client *c)
{
    double seconds = sim_since(c->started);
    enum job job = c->job;
    c->job = JOB_NONE;
    acknowledge(c);
    if (c->failed)
        sim_die("%llu of %llu tasks failed", (unsigned long long)c->failed,
                (unsigned long long)c->todo);
    if (job == JOB_ROUND_TRIPS) {
        uint64_t *t = c->times, n = c->todo;
        qsort(t, n, sizeof *t, by_size);
        sim_answer(c->sim,
                   "\"round_trips\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f",
                   (unsigned long long)n, (double)t[n / 2] / 1e3, (double)t[n * 99 / 100] / 1e3,
                   (double)t[n - 1] / 1e3);
        free(c->times);
        c->times = NULL;
        return;
    }
    sim_answer(c->sim, "\"%s\": %llu, \"seconds\": %.4f, \"per_second\": %.0f",
               job == JOB_TASKS ? "tasks" : "targets", (unsigned long long)c->todo, seconds,
               (double)c->todo / seconds);
}

static void on_result(struct client *c, const struct header *h)
{
    c->received++;
    c->done += h->count;
    c->failed += h->status == RESULT_OK ? 0 : h->count;
    if (c->received - c->acked >= ACK_EVERY)
        acknowledge(c);
    if (c->job == JOB_ROUND_TRIPS) {
        c->times[c->done - 1] = clock_mono() - c->asked_at;
        if (c->done < c->todo)
            round_trip(c);
    } else if (c->job == JOB_TASKS) {
        submit_more(c);
    } else if (c->job == JOB_DEAF) { /* the others are there, or will be */
        sim_answer(c->sim, "\"deaf\": %llu", (unsigned long long)c->todo);
        raise(SIGSTOP);
    }
    if (c->job && c->done == c->todo)
        job_done(c);
}

static void on_welcome(struct client *c, const struct msg *m)
{
    struct welcome w;
    struct err err;
    sim_check(welcome_decode(m->route, m->h.route_len, &w, &err), "WELCOME");
    if (w.refused)
        sim_die("the client was refused: %s", w.refused);
    welcome_release(&w);
    sim_answer(c->sim, "\"welcome_bytes\": %llu, \"seconds\": %.4f",
               (unsigned long long)m->h.body_len, sim_since(c->started));
}

static void on_msg(struct link *l, struct msg *m, void *arg)
{
    struct client *c = arg;
    if (m->h.type == MSG_WELCOME)
        on_welcome(c, m);
    else if (m->h.type == MSG_RESULT)
        on_result(c, &m->h);
    msg_free(m);
}

static void on_closed(struct link *l, int code, const char *why, void *arg)
{
    sim_die("the client's connection was lost: %s", why);
}

static void on_connected(void *arg, struct link *l, int code, const char *why)
{
    static const struct link_callbacks cb = {.on_msg = on_msg, .on_closed = on_closed};
    static const struct wire_limits limits = {16ull << 30, WIRE_ROUTE_MAX};
    struct client *c = arg;
    if (!l)
        sim_die("the client can't connect: %s", why);
    connector_free(c->connector);
    c->connector = NULL;
    c->link = l;
    link_set_callbacks(l, &cb, c);
    link_set_limits(l, &limits);
    struct hello h = {.role = ROLE_CLIENT,
                      .session = c->session,
                      .cluster_id = c->sim->client_file.cluster_id,
                      .boot_id = c->sim->client_file.boot_id,
                      .python = "3.11",
                      .host = "simulated",
                      .machine = machine_id(),
                      .pid = (uint32_t)getpid(),
                      .number = WIRE_ENGINE_NONE};
    sim_say_hello(l, &h, 0);
}

void client_start(struct sim *s, enum kind k)
{
    struct client *c = calloc(1, sizeof *c);
    const char *endpoint = sim_endpoint(&s->client_file, k);
    uint64_t len = CALL_BYTES;
    struct err err;
    sim_check(c ? CV_OK : CV_ENOMEM, "a client");
    client_free(s->client);
    s->client = c;
    *c = (struct client){.sim = s, .session = sim_random(), .started = clock_mono()};
    c->tls = tls_factory(s->client_tls);
    sim_check(payload_new_inline(&c->call, 1, &len), "a call");
    memset(c->call->bufs[0].data, 0, len);
    sim_check(connector_new(&c->connector, s->loop, &endpoint, 1, &c->tls, 10 * NS_PER_S,
                            on_connected, c, &err),
              "a connector");
}

static struct client *begin(struct sim *s, enum job job, uint64_t todo)
{
    struct client *c = s->client;
    if (!c || !c->link)
        sim_die("there is no client yet");
    if (!todo)
        sim_die("nothing to do");
    c->job = job;
    c->todo = todo;
    c->sent = c->done = c->failed = 0;
    c->started = clock_mono();
    return c;
}

void client_tasks(struct sim *s, uint64_t n, uint64_t window)
{
    struct client *c = begin(s, JOB_TASKS, n);
    c->window = window;
    submit_more(c);
}

void client_deaf(struct sim *s, uint64_t n)
{
    struct client *c = begin(s, JOB_DEAF, n);
    c->window = n;
    submit_more(c);
}

void client_broadcast(struct sim *s)
{
    struct route r;
    struct buf b = {0};
    const uint32_t *numbers;
    route_init(&r);
    r.has_targets = true;
    r.ntargets = engines_numbers(s, &numbers);
    r.targets = (uint32_t *)numbers;
    struct client *c = begin(s, JOB_BROADCAST, r.ntargets);
    sim_check(route_encode(&r, &b), "a route");
    submit(c, MSG_F_BROADCAST, r.ntargets, b.data, (uint32_t)b.len);
    buf_release(&b);
}

void client_round_trips(struct sim *s, uint64_t n)
{
    struct client *c = begin(s, JOB_ROUND_TRIPS, n);
    c->times = calloc(n, sizeof *c->times);
    sim_check(c->times ? CV_OK : CV_ENOMEM, "times");
    round_trip(c);
}

void client_free(struct client *c)
{
    if (!c)
        return;
    connector_free(c->connector);
    link_free(c->link);
    payload_unref(c->call);
    free(c->times);
    free(c);
}

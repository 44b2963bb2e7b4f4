/* SPDX-License-Identifier: BSD-3-Clause
 *
 * sched_bench [tasks]: how fast the scheduler alone is, and what a queued task costs. One thread,
 * no I/O.
 *
 * Rows: tasks per second through submit → send → result by every policy, with 2 and with 10,000
 * engines; the same with a million tasks queued behind; a map of a million items in one submit;
 * bytes per queued record (malloc's view, the index included). */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sched/sched.h"

#define WINDOW 4096 /* tasks submitted ahead of their results */

struct sent {
    struct sched_id id;
    uint32_t engine, count;
    uint16_t attempt;
};

struct bench {
    struct sched *s;
    struct sched_actions a;
    struct sent *ring; /* what engines hold, oldest first */
    size_t head, tail, mask;
    uint64_t now, next;
};

static void payload_none(void *payload)
{
    (void)payload;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void handle(struct bench *b, const struct sched_event *ev)
{
    struct err e = {0};
    b->a.n = 0;
    b->now += 100;
    if (sched_handle(b->s, b->now, ev, &b->a, &e) < 0) {
        fprintf(stderr, "sched_bench: %s\n", e.text);
        exit(1);
    }
    for (size_t i = 0; i < b->a.n; i++)
        if (b->a.v[i].type == SCHED_SEND)
            b->ring[b->tail++ & b->mask] =
                (struct sent){b->a.v[i].id, b->a.v[i].engine, b->a.v[i].count, b->a.v[i].attempt};
}

static void submit(struct bench *b, uint32_t count)
{
    struct sched_event ev = {.type = SCHED_SUBMIT, .id = {1, b->next}, .count = count};
    ev.submit.timeout = -1;
    b->next += count;
    handle(b, &ev);
}

static bool finish_one(struct bench *b)
{
    if (b->head == b->tail)
        return false;
    struct sent t = b->ring[b->head++ & b->mask];
    struct sched_event ev = {.type = SCHED_RESULT,
                             .id = t.id,
                             .count = t.count,
                             .attempt = t.attempt,
                             .engine = t.engine,
                             .incarnation = 1};
    ev.result.run_ns = 10000;
    handle(b, &ev);
    return true;
}

static void bench_init(struct bench *b, const char *policy, uint32_t engines)
{
    static const struct sched_payload_ops ops = {payload_none, payload_none};
    *b = (struct bench){.mask = (1u << 23) - 1, .next = 1, .now = 1};
    b->ring = malloc((b->mask + 1) * sizeof *b->ring);
    if (!b->ring || sched_new(&b->s, &(struct sched_options){.policy = policy}, &ops, NULL) < 0)
        exit(1);
    for (uint32_t i = 0; i < engines; i++)
        handle(b, &(struct sched_event){.type = SCHED_ENGINE_JOIN, .engine = i, .incarnation = 1});
}

static void bench_release(struct bench *b)
{
    sched_free(b->s);
    sched_actions_release(&b->a);
    free(b->ring);
}

static void flow(const char *policy, uint32_t engines, uint64_t queued, uint64_t tasks)
{
    struct bench b;
    bench_init(&b, policy, engines);
    for (uint64_t i = 0; i < queued; i++)
        submit(&b, 1);
    double t = seconds();
    for (uint64_t i = 0; i < tasks; i++) {
        submit(&b, 1);
        if (queued || i >= WINDOW)
            finish_one(&b);
    }
    t = seconds() - t;
    printf("sched %-11s %6u engines %8" PRIu64 " queued %10.0f tasks/s\n", policy, engines, queued,
           (double)tasks / t);
    bench_release(&b);
}

static void map(uint32_t engines, uint32_t items)
{
    struct bench b;
    bench_init(&b, "leastload", engines);
    double t = seconds();
    submit(&b, items);
    while (finish_one(&b))
        ;
    t = seconds() - t;
    printf("sched one map     %6u engines %8u items  %10.0f items/s\n", engines, items, items / t);
    bench_release(&b);
}

static void memory(uint64_t n)
{
    struct bench b;
    bench_init(&b, "leastload", 0);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    double t = seconds();
    for (uint64_t i = 0; i < n; i++)
        submit(&b, 1);
    t = seconds() - t;
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    printf("sched queue of %" PRIu64 ": %.1f bytes a task, index included; %.0f submits/s\n", n,
           (double)(after - before) / (double)n, (double)n / t);
    bench_release(&b);
}

int main(int argc, char **argv)
{
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    static const char *const policies[] = {"leastload", "lru",         "weighted",
                                           "twobin",    "plainrandom", "pure"};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        flow(policies[i], 2, 0, n);
        flow(policies[i], 10000, 0, n);
    }
    flow("leastload", 2, n, n);
    flow("leastload", 10000, n, n);
    map(2, (uint32_t)n);
    memory(n);
    return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * slices_bench [tasks]: what ends many tasks at once, and how long the longest event takes until
 * all have ended (TICKs follow while they are due). CPU time of the scheduler alone, one thread. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sched/sched.h"

struct bench {
    struct sched *s;
    struct sched_actions a;
    uint64_t now;
};

static void payload_none(void *payload)
{
    (void)payload;
}

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void handle(struct bench *b, const struct sched_event *ev)
{
    struct err e = {{0}};
    b->a.n = 0;
    b->now += 100;
    if (sched_handle(b->s, b->now, ev, &b->a, &e) < 0) {
        fprintf(stderr, "slices_bench: %s\n", e.text);
        exit(1);
    }
}

static void begin(struct bench *b)
{
    static const struct sched_payload_ops ops = {payload_none, payload_none};
    *b = (struct bench){.now = 1};
    if (sched_new(&b->s, &(struct sched_options){.client_grace_ns = 1000}, &ops, NULL) < 0)
        exit(1);
    handle(b, &(struct sched_event){.type = SCHED_ENGINE_JOIN, .engine = 0, .incarnation = 1});
}

/* Tasks [from, to), as ev says. */
static void submit(struct bench *b, uint64_t from, uint64_t to, struct sched_event ev)
{
    ev.type = SCHED_SUBMIT;
    ev.count = 1;
    if (!ev.submit.timeout)
        ev.submit.timeout = -1;
    for (uint64_t seq = from; seq < to; seq++) {
        ev.id = (struct sched_id){1, seq};
        handle(b, &ev);
    }
}

static void row(struct bench *b, const char *what, struct sched_event ev)
{
    double longest = 0, all = 0;
    unsigned n = 0;
    do {
        double t = cpu_ms();
        handle(b, &ev);
        t = cpu_ms() - t;
        longest = t > longest ? t : longest;
        all += t;
        n++;
        ev = (struct sched_event){.type = SCHED_TICK};
    } while (sched_deadline(b->s) <= b->now);
    printf("%-40s longest event %7.1f ms, all %7.1f ms in %u events\n", what, longest, all, n);
    sched_free(b->s);
    sched_actions_release(&b->a);
}

int main(int argc, char **argv)
{
    const uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    const uint32_t target = 0;
    const struct sched_range first = {1, 1, 2}, all = {1, 1, n};
    const struct sched_event dead = {.type = SCHED_ENGINE_DEAD, .incarnation = 1};
    struct sched_event failed = {
        .type = SCHED_RESULT, .id = {1, 1}, .count = 1, .attempt = 1, .incarnation = 1};
    struct sched_event direct = {.submit = {.targets = &target, .ntargets = 1}};
    struct sched_event after = {.submit = {.after = &first, .nafter = 1, .after_flags = 3}};
    struct bench b;
    failed.result.status = SCHED_S_ERROR;

    begin(&b);
    submit(&b, 1, n, direct);
    row(&b, "the last engine of a set of targets dies", dead);
    begin(&b);
    direct.submit.mode = SCHED_DIRECT;
    submit(&b, 1, n, direct);
    row(&b, "an engine with direct tasks dies", dead);
    begin(&b);
    submit(&b, 1, n, (struct sched_event){.count = 1});
    handle(&b, &(struct sched_event){.type = SCHED_CLIENT_GONE, .id = {1, 0}});
    b.now += 1000;
    row(&b, "a client's grace is over", (struct sched_event){.type = SCHED_TICK});
    begin(&b);
    submit(&b, 1, 2, (struct sched_event){.count = 1});
    submit(&b, 2, n, after);
    row(&b, "the task that all wait for fails", failed);
    begin(&b);
    submit(&b, 1, n, (struct sched_event){.submit = {.timeout = 1}});
    b.now += 2000000000;
    row(&b, "timeouts are due", (struct sched_event){.type = SCHED_TICK});
    begin(&b);
    submit(&b, 1, n, (struct sched_event){.count = 1});
    after.submit.after = &all;
    after.type = SCHED_SUBMIT;
    after.id = (struct sched_id){1, n};
    after.count = 1;
    after.submit.timeout = -1;
    row(&b, "a task is submitted that waits for all", after);
    return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * store-bench [records]: what the records of tasks cost: submit, end, find and deliver in ns, and
 * bytes per record (malloc's view) while it is pending and once it was delivered. One thread; a
 * line per back end and step. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "store/store.h"

static void payload_none(void *payload)
{
}

static size_t allocated(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void check(int r, const struct err *e)
{
    if (r < 0) {
        fprintf(stderr, "store-bench: %s\n", e && e->text[0] ? e->text : err_name(r));
        exit(1);
    }
}

static void row(const char *backend, const char *step, uint64_t n, uint64_t start)
{
    printf("store %-7s %-8s %8.1f ns\n", backend, step, (double)(clock_mono() - start) / (double)n);
}

static void run(const char *backend, uint64_t n)
{
    static const struct store_payload_ops ops = {payload_none, payload_none};
    struct store_limits limits = {.records = n};
    const struct store_record *found;
    struct store *s;
    struct err e = {0};
    check(store_new(&s, backend, &limits, &ops, &e), &e);
    size_t before = allocated();
    uint64_t hits = 0, t = clock_mono();
    for (uint64_t i = 1; i <= n; i++) {
        struct store_task task = {.session = 1, .seq = i, .count = 1, .submitted = i};
        check(s->ops->submit(s, &task), NULL);
    }
    row(backend, "submit", n, t);
    double pending = (double)(allocated() - before) / (double)n;
    t = clock_mono();
    for (uint64_t i = 1; i <= n; i++)
        hits += s->ops->find(s, 1, 1 + i * 7919 % n, &found, NULL) == STORE_FOUND;
    row(backend, "find", n, t);
    t = clock_mono();
    for (uint64_t i = 1; i <= n; i++) {
        struct store_result result = {.attempt = 1, .seq = i, .count = 1};
        check(s->ops->end(s, 1, i, 1, &result), NULL);
    }
    row(backend, "end", n, t);
    t = clock_mono();
    for (uint64_t i = 1; i <= n; i++)
        s->ops->delivered(s, 1, i, 1);
    row(backend, "deliver", n, t);
    printf("store %-7s %.0f bytes a pending record, %.0f a delivered one; %.0f %% found\n", backend,
           pending, (double)(allocated() - before) / (double)n, 100 * (double)hits / (double)n);
    store_free(s);
}

int main(int argc, char **argv)
{
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    run("memory", n);
    run("none", n);
    return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * store-bench [records [folder]]: what the records of tasks cost: submit, end, find, deliver and a
 * walk over all in ns, and bytes per record (malloc's view) while it is pending and once it was
 * delivered. A line per back end and step; for "sqlite" also until all is in the file, a walk over
 * that, and its bytes per record. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

static uint32_t payload_count(const void *payload)
{
    return 1;
}

/* What a small call and its result have. */
static struct store_slice payload_buffer(const void *payload, uint32_t i)
{
    return (struct store_slice){payload, 100};
}

static void *payload_make(const struct store_slice *v, uint32_t n)
{
    return NULL;
}

static void wake(void *arg)
{
}

static void tell(void *arg, bool bad, const char *text)
{
    fprintf(stderr, "store-bench: %s\n", text);
}

struct count {
    struct store_walk w;
    uint64_t n;
    bool done;
};

static bool visit(struct store_walk *w, const struct store_record *r, uint64_t lo, uint64_t hi)
{
    container_of(w, struct count, w)->n += hi - lo;
    return true;
}

static void walked(struct store_walk *w, bool failed)
{
    container_of(w, struct count, w)->done = true;
}

/* Turns of the loop until the walk is done: behind all that is to be written. */
static void walk(struct store *s, const char *backend, const char *step, uint64_t n)
{
    struct count c = {.w = {.visit = visit, .done = walked}};
    uint64_t t = clock_mono();

    s->ops->walk(s, &c.w);
    while (!c.done)
        if (s->ops->turn(s, clock_mono()) != 0)
            usleep(1000);
    row(backend, step, n, t);
}

static void run(const char *backend, uint64_t n, const char *folder)
{
    static char bytes[100];
    char file[300];
    snprintf(file, sizeof(file), "%s/store-bench.db", folder);
    const struct store_config config = {
        .backend = backend,
        .limits = {.records = n, .bytes = UINT64_MAX},
        .payload = {payload_none, payload_none, payload_count, payload_buffer, payload_make},
        .file = file,
        .table = "ipython-tasks",
        .wake = wake,
        .tell = tell};
    const struct store_record *found;
    struct store *s;
    struct err e = {0};
    check(store_new(&s, &config, &e), &e);
    size_t before = allocated();
    uint64_t hits = 0, t = clock_mono();
    for (uint64_t i = 1; i <= n; i++) {
        struct store_task task = {
            .session = 1, .seq = i, .count = 1, .submitted = i, .payload = bytes};
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
        struct store_result result = {
            .attempt = 1, .seq = i, .count = 1, .started = i, .completed = i, .payload = bytes};
        check(s->ops->end(s, 1, i, 1, &result), NULL);
    }
    row(backend, "end", n, t);
    t = clock_mono();
    for (uint64_t i = 1; i <= n; i++)
        s->ops->delivered(s, 1, i, 1);
    row(backend, "deliver", n, t);
    printf("store %-7s %.0f bytes a pending record, %.0f a delivered one; %.0f %% found\n", backend,
           pending, (double)(allocated() - before) / (double)n, 100 * (double)hits / (double)n);
    if (s->ops->persistent)
        walk(s, backend, "written", n);
    if (s->ops->queryable)
        walk(s, backend, "walk", n);
    store_free(s);
    struct stat st;
    if (stat(file, &st) == 0)
        printf("store %-7s %.0f bytes a record in the file\n", backend,
               (double)st.st_size / (double)n);
    unlink(file);
}

int main(int argc, char **argv)
{
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    const char *folder = argc > 2 ? argv[2] : ".";
    run("memory", n, folder);
    run("none", n, folder);
    run("sqlite", n, folder);
    return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See testkit.h. */
#include "store/testkit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"

#define DEADLINE (120 * NS_PER_S)
#define SESSION 7

struct blob *kit_blob(const char *text)
{
    struct blob *b = calloc(1, sizeof(*b));

    assert_non_null(b);
    b->refs = 1;
    snprintf(b->text, sizeof(b->text), "%s", text);
    return b;
}

static void blob_ref(void *p)
{
    if (p)
        ((struct blob *)p)->refs++;
}

void blob_unref(void *p)
{
    if (p && --((struct blob *)p)->refs == 0)
        free(p);
}

static uint32_t blob_count(const void *p)
{
    return 1;
}

static struct store_slice blob_buffer(const void *p, uint32_t i)
{
    const struct blob *b = p;

    return (struct store_slice){b->text, strlen(b->text)};
}

static void *blob_make(const struct store_slice *v, uint32_t n)
{
    struct blob *b = calloc(1, sizeof(*b));

    if (b) {
        b->refs = 1;
        memcpy(b->text, v[0].data, v[0].len);
    }
    return b;
}

static void on_wake(void *arg)
{
    ((struct kit *)arg)->woken++;
}

static void on_tell(void *arg, bool bad, const char *text)
{
    struct kit *k = arg;

    k->notices++;
    k->bad += bad;
    snprintf(k->notice, sizeof(k->notice), "%s", text);
}

static struct kit *make(struct kit *k, const char *backend, uint64_t bytes, uint64_t records,
                        struct err *e)
{
    snprintf(k->file, sizeof(k->file), "%s/tasks.db", k->folder);
    const struct store_config c = {
        .backend = backend,
        .limits = {bytes, records},
        .payload = {blob_ref, blob_unref, blob_count, blob_buffer, blob_make},
        .file = k->file,
        .table = "ipython-tasks",
        .retry_ns = 20 * NS_PER_MS,
        .wake = on_wake,
        .tell = on_tell,
        .arg = k};

    return store_new(&k->s, &c, e) == CV_OK ? k : NULL;
}

struct kit *kit_new(const char *backend, uint64_t bytes, uint64_t records)
{
    struct kit *k = calloc(1, sizeof(*k));
    const char *tmp = getenv("TMPDIR");
    char name[200];
    struct err e = {{0}};

    assert_non_null(k);
    snprintf(name, sizeof(name), "%s/covey-store-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(name));
    k->folder = strdup(name);
    k->own_folder = true;
    if (!make(k, backend, bytes, records, &e))
        fail_msg("%s", e.text);
    return k;
}

struct kit *kit_open(const char *folder, uint64_t bytes, uint64_t records, struct err *e)
{
    struct kit *k = calloc(1, sizeof(*k));

    assert_non_null(k);
    k->folder = strdup(folder);
    if (make(k, "sqlite", bytes, records, e))
        return k;
    free(k->folder);
    free(k);
    return NULL;
}

static void remove_folder(const char *folder)
{
    DIR *d = opendir(folder);
    char path[600];

    for (struct dirent *x; d && (x = readdir(d));) {
        snprintf(path, sizeof(path), "%s/%s", folder, x->d_name);
        unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(folder);
}

void kit_free(struct kit *k)
{
    store_free(k->s);
    while (k->seen) {
        struct seen *s = k->seen;
        k->seen = s->next;
        free(s->v);
        free(s);
    }
    if (k->own_folder)
        remove_folder(k->folder);
    free(k->folder);
    free(k);
}

void kit_submit(struct kit *k, uint64_t seq, uint32_t count, const char *label, struct blob *b)
{
    struct store_task t = {.session = SESSION,
                           .seq = seq,
                           .count = count,
                           .origin = seq,
                           .submitted = seq,
                           .label = label,
                           .payload = b,
                           .bytes = b ? strlen(b->text) : 0};

    assert_int_equal(k->s->ops->submit(k->s, &t), CV_OK);
}

void kit_end(struct kit *k, uint64_t seq, uint32_t count, struct blob *b)
{
    struct store_result r = {.status = 1,
                             .engine = 3,
                             .engine_uuid = "uuid-3",
                             .started = 100,
                             .completed = 200,
                             .received = 300,
                             .seq = seq,
                             .count = count,
                             .payload = b,
                             .bytes = b ? strlen(b->text) : 0};

    assert_int_equal(k->s->ops->end(k->s, SESSION, seq, count, &r), CV_OK);
}

enum store_find kit_find(struct kit *k, uint64_t seq, const struct store_record **ret)
{
    *ret = NULL;
    return k->s->ops->find(k->s, SESSION, seq, ret, NULL);
}

static void copy(char *to, size_t size, const void *from, size_t n)
{
    n = n < size ? n : size - 1;
    if (n)
        memcpy(to, from, n);
    to[n] = 0;
}

static bool visit(struct store_walk *w, const struct store_record *r, uint64_t lo, uint64_t hi)
{
    struct seen *s = container_of(w, struct seen, w);

    for (uint64_t seq = lo; seq < hi; seq++, s->n++) {
        if (s->count_only)
            continue;
        if (s->n == s->cap)
            s->v = realloc(s->v, (s->cap = s->cap ? 2 * s->cap : 16) * sizeof(*s->v));
        struct seen_item *x = &s->v[s->n];
        memset(x, 0, sizeof(*x));
        x->record = *r;
        x->seq = seq;
        copy(x->label, sizeof(x->label), r->label, r->label ? strlen(r->label) : 0);
        const char *uuid = r->state != STORE_PENDING ? r->result.engine_uuid : NULL;
        copy(x->uuid, sizeof(x->uuid), uuid, uuid ? strlen(uuid) : 0);
        if (r->task)
            strcpy(x->call, ((struct blob *)r->task)->text);
        if (r->result.payload)
            strcpy(x->result, ((struct blob *)r->result.payload)->text);
        if (r->output) {
            copy(x->out, sizeof(x->out), r->output->stream[STORE_STDOUT].data,
                 r->output->stream[STORE_STDOUT].len);
            x->err_len = r->output->stream[STORE_STDERR].len;
            x->cut = r->output->cut;
        }
    }
    return true;
}

static void done(struct store_walk *w, bool failed)
{
    struct seen *s = container_of(w, struct seen, w);

    s->done = true;
    s->failed = failed;
}

struct seen *kit_walk_start(struct kit *k, const struct store_id *only, size_t n)
{
    struct seen *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->next = k->seen;
    k->seen = s;
    s->w = (struct store_walk){.only = only,
                               .nonly = n,
                               .bounds = k->bounds,
                               .parts = k->parts ? k->parts : STORE_ALL,
                               .tested = k->tested,
                               .wanted = k->wanted,
                               .visit = visit,
                               .done = done};
    k->s->ops->walk(k->s, &s->w);
    return s;
}

static void turn(struct kit *k)
{
    const struct timespec t = {0, 1000000};

    if (k->s->ops->turn(k->s, clock_mono()) != 0)
        nanosleep(&t, NULL);
}

void kit_wait(struct kit *k, const bool *what)
{
    uint64_t until = clock_mono() + DEADLINE;

    while (!*what) {
        assert_true(clock_mono() < until);
        turn(k);
    }
}

struct seen *kit_walk(struct kit *k, const struct store_id *only, size_t n)
{
    struct seen *s = kit_walk_start(k, only, n);

    kit_wait(k, &s->done);
    assert_false(s->failed);
    return s;
}

size_t kit_count(struct kit *k)
{
    return kit_walk(k, NULL, 0)->n;
}

struct purging {
    struct store_purge p;
    bool done, failed;
};

static void purged(struct store_purge *p, bool failed)
{
    container_of(p, struct purging, p)->done = true;
    container_of(p, struct purging, p)->failed = failed;
}

uint64_t kit_purge(struct kit *k, struct store_purge p)
{
    struct purging x = {.p = p};

    x.p.done = purged;
    k->s->ops->purge(k->s, &x.p);
    kit_wait(k, &x.done);
    assert_false(x.failed);
    return x.p.purged;
}

void kit_settle(struct kit *k)
{
    uint64_t until = clock_mono() + DEADLINE;
    struct store_stats st;

    do {
        assert_true(clock_mono() < until);
        turn(k);
        k->s->ops->stats(k->s, &st);
    } while (st.unwritten);
    kit_count(k); /* goes behind what is on its way */
}

void kit_wait_notices(struct kit *k, int n)
{
    uint64_t until = clock_mono() + DEADLINE;

    while (k->notices < n) {
        assert_true(clock_mono() < until);
        turn(k);
    }
}

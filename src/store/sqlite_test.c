/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Records in a file: they outlive the store, others read them, and what happens when the file can't
 * be used: full disk, another controller, foreign, damaged, newer, unwritable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store/dbplan.h"
#include "store/testkit.h"

/* A folder for several stores, one after the other. */
struct place {
    char folder[200], file[260];
};

static int place_new(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    const char *tmp = getenv("TMPDIR");

    snprintf(p->folder, sizeof(p->folder), "%s/covey-sqlite-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(p->folder))
        return -1;
    snprintf(p->file, sizeof(p->file), "%s/tasks.db", p->folder);
    *state = p;
    return 0;
}

static int place_free(void **state)
{
    struct place *p = *state;
    char command[300];

    snprintf(command, sizeof(command), "chmod -R u+rwx %s && rm -r %s", p->folder, p->folder);
    int r = system(command);
    free(p);
    return r;
}

static struct kit *open_kit(struct place *p)
{
    struct err e = {{0}};
    struct kit *k = kit_open(p->folder, 0, 0, &e);

    if (!k)
        fail_msg("%s", e.text);
    return k;
}

static void refused(struct place *p, const char *why)
{
    struct err e = {{0}};

    assert_null(kit_open(p->folder, 0, 0, &e));
    assert_non_null(strstr(e.text, why));
    assert_non_null(strstr(e.text, p->folder));
}

/* What others read. */
static char *ask(struct place *p, const char *sql)
{
    static char text[500];
    sqlite3 *db;
    sqlite3_stmt *s;

    assert_int_equal(sqlite3_open_v2(p->file, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    text[0] = 0;
    if (sqlite3_step(s) == SQLITE_ROW)
        snprintf(text, sizeof(text), "%s", (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    sqlite3_close(db);
    return text;
}

static void outlives(void **state)
{
    struct blob *call = kit_blob("call"), *res = kit_blob("result");
    struct place *p = *state;
    struct kit *k = open_kit(p);
    struct store_id only[] = {{7, 5}};
    const struct store_record *r;

    kit_submit(k, 1, 1, "x", call);
    kit_submit(k, 2, 10, NULL, call);
    kit_submit(k, 12, 1, NULL, call);
    kit_end(k, 1, 1, res);
    kit_end(k, 4, 3, res);
    kit_free(k); /* what is not written is written now */
    assert_int_equal(call->refs, 1);

    k = open_kit(p);
    assert_int_equal(kit_find(k, 1, &r), STORE_UNKNOWN); /* not in memory, but */
    struct seen *seen = kit_walk(k, NULL, 0);
    assert_int_equal(seen->n, 12);
    assert_string_equal(seen->v[0].label, "x");
    assert_string_equal(seen->v[0].result, "result");
    assert_string_equal(seen->v[0].call, "call");
    for (size_t i = 0; i < 12; i++) {
        assert_int_equal(seen->v[i].seq, i + 1);
        assert_int_equal(seen->v[i].record.state, STORE_DELIVERED);
        if (seen->v[i].seq != 1 && (seen->v[i].seq < 4 || seen->v[i].seq > 6))
            assert_int_equal(seen->v[i].record.result.status, 9); /* its controller ended */
    }
    seen = kit_walk(k, only, 1);
    assert_true(seen->n == 1 && seen->v[0].seq == 5 && seen->v[0].record.result.seq == 4);
    /* a task of before comes again, in another cut */
    kit_submit(k, 7, 6, NULL, call);
    kit_end(k, 7, 6, res);
    kit_submit(k, 100, 1, NULL, call);
    seen = kit_walk(k, NULL, 0);
    assert_int_equal(seen->n, 13);
    assert_int_equal(seen->v[12].seq, 100); /* new ones come after those of before */
    kit_free(k);
    assert_int_equal(call->refs, 1);
    assert_int_equal(res->refs, 1);
    blob_unref(call);
    blob_unref(res);
}

static void others_read_it(void **state)
{
    struct place *p = *state;
    struct kit *k = open_kit(p);
    struct blob *res = kit_blob("r");

    for (uint64_t i = 1; i <= 20; i++)
        kit_submit(k, i * 10, 5, "it's", NULL);
    kit_end(k, 10, 1, res);
    k->s->ops->resubmitted(k->s, (struct store_id){7, 10},
                           (struct store_id){0xfedcba9876543210, 1});
    kit_settle(k); /* while the controller runs */
    assert_string_equal(ask(p, "SELECT count(*) FROM \"ipython-tasks\""), "100");
    assert_string_equal(ask(p, "SELECT started || ' ' || completed || ' ' || engine_uuid || ' ' || "
                               "msg_id || ' ' || label || ' ' || resubmitted FROM "
                               "\"ipython-tasks\" WHERE started IS NOT NULL"),
                        "1970-01-01T00:00:00.000000+00:00 1970-01-01T00:00:00.000000+00:00 uuid-3 "
                        "0000000000000007_10 it's fedcba9876543210_1");
    assert_string_equal(ask(p, "SELECT hex(result_buffers) FROM \"ipython-tasks\" WHERE msg_id = "
                               "'0000000000000007_10'"),
                        "80045D28420100000072652E");
    assert_string_equal(ask(p, "PRAGMA integrity_check"), "ok");
    struct stat st;
    assert_int_equal(stat(p->file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    kit_free(k);
    blob_unref(res);
}

static void one_controller_at_a_time(void **state)
{
    struct place *p = *state;
    struct kit *a = open_kit(p), *b = open_kit(p);

    kit_wait_notices(b, 1);
    assert_int_equal(b->bad, 1);
    assert_non_null(strstr(b->notice, "used by another controller (pid "));
    assert_non_null(b->s->ops->trouble(b->s));
    kit_submit(b, 1, 1, "b", NULL);
    kit_end(b, 1, 1, NULL);
    assert_int_equal(kit_count(b), 1); /* in memory */
    kit_submit(a, 1, 1, "a", NULL);
    kit_submit(a, 2, 1, "a", NULL);
    kit_free(a);
    kit_wait_notices(b, 2); /* the file is free: it takes over */
    assert_int_equal(b->bad, 1);
    assert_null(b->s->ops->trouble(b->s));
    kit_settle(b);
    struct seen *seen = kit_walk(b, NULL, 0);
    assert_int_equal(seen->n, 2);
    assert_string_equal(seen->v[0].label, "a"); /* task 1 is b's now: the session is the same */
    assert_string_equal(seen->v[1].label, "b");
    kit_free(b);
    assert_int_equal(access(p->file, F_OK), 0);
    char owner[300];
    snprintf(owner, sizeof(owner), "%s-owner", p->file);
    assert_int_equal(access(owner, F_OK), -1);
}

/* What is written from then on is in a file that can be found. */
static void removed_while_it_is_used(void **state)
{
    struct place *p = *state;
    struct kit *k = open_kit(p);
    char wal[300];

    kit_submit(k, 1, 1, NULL, NULL);
    kit_end(k, 1, 1, NULL);
    kit_settle(k);
    snprintf(wal, sizeof(wal), "%s-wal", p->file);
    assert_int_equal(unlink(p->file), 0);
    unlink(wal);
    kit_submit(k, 2, 1, NULL, NULL);
    kit_end(k, 2, 1, NULL);
    kit_wait_notices(k, 2);
    assert_int_equal(k->bad, 1);
    assert_null(k->s->ops->trouble(k->s));
    kit_settle(k);
    assert_int_equal(kit_count(k), 1);
    kit_free(k);
    assert_string_equal(ask(p, "SELECT group_concat(lo) FROM records"), "2");
}

/* The size of files is limited, which is what a full disk looks like. */
static void full_disk(void **state)
{
    struct place *p = *state;
    struct kit *k = open_kit(p);
    struct rlimit before, small;
    struct blob *res = kit_blob("a result that takes some room");

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 300 << 10;
    setrlimit(RLIMIT_FSIZE, &small);
    for (uint64_t i = 1; i <= 20000 && !k->bad; i++) {
        kit_submit(k, i, 1, "full", res);
        kit_end(k, i, 1, res);
        if (i % 500 == 0)
            kit_wait_notices(k, 0), k->s->ops->turn(k->s, i * 1000000000);
    }
    kit_wait_notices(k, 1);
    assert_non_null(strstr(k->notice, "memory only"));
    assert_non_null(strstr(k->notice, p->file));
    kit_submit(k, 50000, 1, "after", NULL);
    assert_true(kit_count(k) > 100); /* from memory */
    size_t n = kit_count(k);
    char probe[PATH_MAX]; /* what a controller that was killed in its look for room left */
    snprintf(probe, sizeof(probe), "%s-probe", p->file);
    int fd = open(probe, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
    setrlimit(RLIMIT_FSIZE, &before);
    kit_wait_notices(k, 2);
    assert_int_equal(k->bad, 1);
    assert_null(strstr(k->notice, "lost"));
    kit_settle(k);
    assert_int_equal(kit_count(k), n); /* nothing is missing */
    kit_free(k);
    char count[30];
    snprintf(count, sizeof(count), "%zu", n);
    assert_string_equal(ask(p, "SELECT count(*) FROM \"ipython-tasks\""), count);
    assert_string_equal(ask(p, "PRAGMA integrity_check"), "ok");
    assert_int_equal(res->refs, 1);
    blob_unref(res);
}

static void write_text(struct place *p, const char *text, size_t n, off_t at)
{
    int fd = open(p->file, O_WRONLY | O_CREAT, 0600);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, text, n, at), n);
    close(fd);
}

static void foreign_files(void **state)
{
    struct place *p = *state;

    write_text(p, "these are my notes, and no database at all", 43, 0);
    refused(p, "is not an SQLite database");
    assert_int_equal(unlink(p->file), 0);
    write_text(p, "", 0, 0); /* an empty file is a new one */
    kit_free(open_kit(p));
    ask(p, "PRAGMA user_version = 99");
    refused(p, "another version (99");
    assert_int_equal(unlink(p->file), 0);
    write_text(p, "", 0, 0);
    ask(p, "CREATE TABLE addresses(name TEXT)");
    refused(p, "a database of something else");
    assert_string_equal(ask(p, "SELECT count(*) FROM addresses"), "0");
}

static void stock_file_is_put_aside(void **state)
{
    struct place *p = *state;
    char aside[300];

    write_text(p, "", 0, 0);
    ask(p, "CREATE TABLE \"ipython-tasks\"(msg_id TEXT, header DICT, result_header DICT)");
    struct kit *k = open_kit(p);
    kit_wait_notices(k, 1);
    assert_int_equal(k->bad, 0);
    assert_non_null(strstr(k->notice, "has the records of ipyparallel"));
    snprintf(aside, sizeof(aside), "%s.ipyparallel-1", p->file);
    assert_non_null(strstr(k->notice, aside));
    assert_int_equal(access(aside, F_OK), 0);
    kit_submit(k, 1, 1, NULL, NULL);
    assert_int_equal(kit_count(k), 1);
    kit_free(k);
}

/* A page in the middle is overwritten: found when the table is read at the latest. */
static void damaged_file(void **state)
{
    struct place *p = *state;
    struct kit *k = open_kit(p);
    struct blob *res = kit_blob("result");
    char junk[4096], aside[300];

    for (uint64_t i = 1; i <= 3000; i++) {
        kit_submit(k, i, 1, NULL, res);
        kit_end(k, i, 1, res);
    }
    kit_free(k);
    memset(junk, 0xa5, sizeof(junk));
    for (int page = 1; page < 60; page++)
        write_text(p, junk, sizeof(junk), page * 4096);
    k = open_kit(p);
    kit_submit(k, 5000, 1, NULL, res);
    kit_end(k, 5000, 1, res);
    kit_wait_notices(k, 1);
    snprintf(aside, sizeof(aside), "%s.damaged-1", p->file);
    for (int n = 2; access(aside, F_OK) != 0; n++)
        kit_wait_notices(k, n);
    kit_settle(k);
    assert_int_equal(kit_count(k), 1);
    kit_free(k);
    assert_string_equal(ask(p, "PRAGMA integrity_check"), "ok");
    assert_int_equal(res->refs, 1);
    blob_unref(res);
}

/* As a copy that ran out of room leaves it, or a machine that lost its power. */
static void cut_short(void **state)
{
    struct place *p = *state;
    struct kit *k = open_kit(p);
    struct blob *res = kit_blob("result");
    char aside[300];
    struct stat st;

    for (uint64_t i = 1; i <= 3000; i++) {
        kit_submit(k, i, 1, NULL, res);
        kit_end(k, i, 1, res);
    }
    kit_free(k);
    assert_int_equal(stat(p->file, &st), 0);
    assert_int_equal(truncate(p->file, st.st_size / 2), 0);
    k = open_kit(p);
    kit_submit(k, 5000, 1, NULL, res);
    kit_end(k, 5000, 1, res);
    kit_settle(k);
    assert_int_equal(kit_count(k), 1);
    kit_free(k);
    snprintf(aside, sizeof(aside), "%s.damaged-1", p->file);
    assert_int_equal(access(aside, F_OK), 0);
    blob_unref(res);
}

static void unwritable_folder(void **state)
{
    struct place *p = *state;

    if (geteuid() == 0)
        skip();
    chmod(p->folder, 0500);
    refused(p, "ermission denied");
}

/* Somebody else has a transaction open: it is waited for, and the loop's calls are not. */
static void locked_by_a_reader(void **state)
{
    struct place *p = *state;
    struct kit *k = open_kit(p);
    sqlite3 *db;

    kit_submit(k, 1, 1, NULL, NULL);
    kit_settle(k);
    assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    struct seen *seen = NULL;
    for (uint64_t i = 2; i <= 100; i++) {
        kit_submit(k, i, 1, NULL, NULL);
        kit_end(k, i, 1, NULL);
        k->s->ops->turn(k->s, i * 1000000000);
    }
    seen = kit_walk_start(k, NULL, 0);
    for (int i = 0; i < 10; i++)
        k->s->ops->turn(k->s, (200 + (uint64_t)i) * 1000000000);
    assert_false(seen->done);
    assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    kit_wait(k, &seen->done);
    assert_int_equal(seen->n, 100);
    assert_int_equal(k->notices, 0);
    kit_free(k);
}

/* A question looks at what its narrowest bound gives, and at all only if none is narrow. */
static void bounds_are_kept_to(void **state)
{
    struct place *p = *state;
    struct kit *k = open_kit(p);
    struct store_result res = {.engine = 1, .engine_uuid = "first", .count = 1};
    struct seen *seen;

    for (uint64_t i = 1; i <= 1000; i++) {
        struct store_task t = {.session = 1, .seq = i, .count = 1, .submitted = i, .origin = i};
        assert_int_equal(k->s->ops->submit(k->s, &t), CV_OK);
        res.engine_uuid = i % 100 ? "first" : "second";
        res.status = i % 500 == 7;
        res.completed = i == 900 ? 0 : 10000 + i;
        if (i != 800)
            assert_int_equal(k->s->ops->end(k->s, 1, i, 1, &res), CV_OK);
    }
    kit_settle(k);
    const struct {
        struct store_bounds b;
        size_t n;
        uint64_t first;
    } cases[] = {
        {{.completed = {10991, UINT64_MAX, true}}, 10, 991},
        {{.submitted = {5, 8, true}}, 4, 5},
        {{.engine_uuid = "second"}, 9, 100}, /* one is pending */
        {{.engine_uuid = "second", .completed = {10500, 10600, true}}, 2, 500},
        {{.engine_uuid = "nobody"}, 0, 0},
        {{.failed = true}, 2, 7},
        {{.pending = true}, 1, 800},
        {{.no_time = true}, 2, 800},
        {{{0}}, 1000, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        k->bounds = cases[i].b;
        seen = kit_walk(k, NULL, 0);
        assert_int_equal(seen->n, cases[i].n);
        assert_int_equal(seen->n ? seen->v[0].seq : 0, cases[i].first);
    }
    kit_free(k);
}

/* Bounds that are too wide for an index still leave out what is beyond them. */
static void wide_bounds_are_kept_to(void **state)
{
    enum { N = DBPLAN_MOST + 1000 };
    struct kit *k = open_kit(*state);
    struct store_result res = {.engine = 1, .engine_uuid = "first", .count = 1};

    for (uint64_t i = 1; i <= N; i++) {
        struct store_task t = {.session = 1, .seq = i, .count = 1, .submitted = i, .origin = i};
        res.completed = 10000 + i;
        assert_int_equal(k->s->ops->submit(k->s, &t), CV_OK);
        assert_int_equal(k->s->ops->end(k->s, 1, i, 1, &res), CV_OK);
    }
    kit_settle(k);
    const struct {
        struct store_bounds b;
        size_t n;
    } cases[] = {
        {{.completed = {10005, UINT64_MAX, true}}, N - 4},
        {{.submitted = {1, N - 3, true}}, N - 3},
        {{.completed = {10005, UINT64_MAX, true}, .submitted = {1, N - 3, true}}, N - 7},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        k->bounds = cases[i].b;
        struct seen *seen = kit_walk_start(k, NULL, 0);
        seen->count_only = true;
        kit_wait(k, &seen->done);
        assert_int_equal(seen->n, cases[i].n);
    }
    kit_free(k);
}

static bool label_is_b(struct store_walk *w, const struct store_record *r)
{
    assert_null(r->result.engine_uuid); /* it is not tested */
    return r->label && !strcmp(r->label, "b");
}

/* Rows that are not wanted are not shown, and of the others what was not asked for is not read. */
static void what_is_read(void **state)
{
    static const char *const labels[] = {"a", "b", NULL, "b", "c"};
    struct place *p = *state;
    struct kit *k = open_kit(p);
    struct blob *b = kit_blob("bytes");
    struct store_id only[] = {{7, 3}, {7, 4}};

    for (uint64_t i = 0; i < 5; i++) {
        kit_submit(k, i + 1, 1, labels[i], b);
        kit_end(k, i + 1, 1, b);
    }
    kit_free(k);

    k = open_kit(p);
    k->parts = STORE_ENGINE | STORE_CALL;
    struct seen *seen = kit_walk(k, NULL, 0);
    assert_int_equal(seen->n, 5);
    k->tested = STORE_LABEL;
    k->wanted = label_is_b;
    seen = kit_walk(k, NULL, 0);
    assert_int_equal(seen->n, 2);
    for (size_t i = 0; i < seen->n; i++) {
        const struct seen_item *x = &seen->v[i];
        assert_int_equal(x->seq, 2 * i + 2);
        assert_int_equal(x->record.result.status, 1);
        assert_int_equal(x->record.result.engine, 3);
        assert_string_equal(x->uuid, "uuid-3");
        assert_string_equal(x->call, "bytes");
        assert_string_equal(x->label, "");
        assert_string_equal(x->result, "");
        assert_int_equal(x->record.submitted, 0);
        assert_int_equal(x->record.result.completed, 0);
    }
    k->bounds.submitted = (struct store_span){2, 3, true};
    assert_int_equal(kit_walk(k, NULL, 0)->n, 1);
    assert_true(kit_walk(k, only, 2)->n <= 2); /* named ones may be shown */
    kit_free(k);
    blob_unref(b);
}

/* None of the plans looks at the table, or at all of an index. */
static void plans_search(void **state)
{
    static const char *const plans[] = {DBPLAN_COMPLETED, DBPLAN_SUBMITTED, DBPLAN_ENGINE,
                                        DBPLAN_NO_TIME};
    struct place *p = *state;
    sqlite3 *db;

    kit_free(open_kit(p));
    assert_int_equal(sqlite3_open(p->file, &db), SQLITE_OK);
    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        char sql[500];
        sqlite3_stmt *s;
        int searches = 0;
        snprintf(sql, sizeof(sql), "EXPLAIN QUERY PLAN %s", plans[i]);
        if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
            fail_msg("%s", sqlite3_errmsg(db));
        while (sqlite3_step(s) == SQLITE_ROW) {
            const char *line = (const char *)sqlite3_column_text(s, 3);
            assert_null(strstr(line, "SCAN"));
            searches += strstr(line, "USING COVERING INDEX") != NULL;
        }
        assert_true(searches > 0);
        sqlite3_finalize(s);
    }
    sqlite3_close(db);
}

#define T(f) cmocka_unit_test_setup_teardown(f, place_new, place_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(outlives),     T(others_read_it),          T(one_controller_at_a_time),
        T(full_disk),    T(foreign_files),           T(stock_file_is_put_aside),
        T(damaged_file), T(unwritable_folder),       T(locked_by_a_reader),
        T(cut_short),    T(bounds_are_kept_to),      T(what_is_read),
        T(plans_search), T(wide_bounds_are_kept_to), T(removed_while_it_is_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Records: what holds for every back end (splitting, ends, output, walks, purges), eviction of
 * those in memory, and that every payload reference is given back. sqlite_test.c has what a file
 * brings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "store/memory.h"
#include "store/testkit.h"

/* --- every back end --- */

static void splits(void **state)
{
    struct kit *k = kit_new(*state, 0, 0);
    struct blob *task = kit_blob("call"), *res = kit_blob("result");
    const struct store_record *r;
    struct store_stats st;

    kit_submit(k, 10, 10, "l", task);
    kit_end(k, 13, 2, res);
    assert_int_equal(kit_find(k, 12, &r), STORE_FOUND);
    assert_int_equal(r->state, STORE_PENDING);
    assert_true(r->lo == 10 && r->hi == 13);
    kit_find(k, 14, &r);
    assert_int_equal(r->state, STORE_ENDED);
    assert_true(r->lo == 13 && r->hi == 15 && r->result.payload == res && r->origin == 10);
    assert_string_equal(r->label, "l");
    kit_find(k, 19, &r);
    assert_true(r->lo == 15 && r->hi == 20 && r->state == STORE_PENDING);
    assert_int_equal(kit_find(k, 20, &r), STORE_UNKNOWN);
    kit_end(k, 10, 10, res); /* 13 and 14 stay what they are */
    k->s->ops->stats(k->s, &st);
    assert_int_equal(st.ended, 3);
    assert_int_equal(st.pending, 0);
    assert_int_equal(kit_count(k), 10);
    kit_free(k);
    assert_int_equal(task->refs, 1);
    assert_int_equal(res->refs, 1);
    blob_unref(task);
    blob_unref(res);
}

/* Each item of a range has its own output, also while the range is one record. */
static void output_is_an_items_own(void **state)
{
    struct kit *k = kit_new(*state, 0, 0);
    static char big[STORE_OUTPUT_MAX + 10];
    struct seen *seen;

    kit_submit(k, 1, 3, NULL, NULL);
    k->s->ops->output(k->s, 7, 1, STORE_STDOUT, "one", 3);
    k->s->ops->output(k->s, 7, 2, STORE_STDOUT, "two", 3);
    memset(big, 'x', sizeof(big));
    k->s->ops->output(k->s, 7, 3, STORE_STDERR, big, sizeof(big));
    kit_end(k, 1, 3, NULL);
    k->s->ops->output(k->s, 7, 2, STORE_STDOUT, ", late", 6);
    seen = kit_walk(k, NULL, 0);
    assert_int_equal(seen->n, 3);
    assert_string_equal(seen->v[0].out, "one");
    assert_string_equal(seen->v[1].out, "two, late");
    assert_int_equal(seen->v[2].err_len, STORE_OUTPUT_MAX);
    assert_true(seen->v[2].cut && !seen->v[1].cut);
    kit_free(k);
}

static void walks_see_what_was_recorded(void **state)
{
    struct kit *k = kit_new(*state, 0, 0);
    struct blob *task = kit_blob("call"), *res = kit_blob("result"), *empty = kit_blob("");
    struct store_id only[] = {{7, 2}, {7, 99}, {7, 1}};
    struct seen *seen;

    kit_submit(k, 1, 1, "first", task);
    kit_submit(k, 2, 2, NULL, task);
    kit_submit(k, 4, 1, NULL, empty);
    kit_end(k, 1, 1, res);
    kit_end(k, 3, 1, empty);
    seen = kit_walk(k, NULL, 0);
    assert_int_equal(seen->n, 4);
    assert_string_equal(seen->v[0].label, "first");
    assert_string_equal(seen->v[0].call, "call");
    assert_string_equal(seen->v[0].result, "result");
    assert_string_equal(seen->v[0].uuid, "uuid-3");
    assert_true(seen->v[0].record.result.started == 100 && seen->v[0].record.submitted == 1);
    assert_int_equal(seen->v[1].record.state, STORE_PENDING);
    assert_string_equal(seen->v[2].result, "");
    assert_true(seen->v[2].seq == 3 && seen->v[2].record.origin == 2);
    assert_string_equal(seen->v[3].call, "");
    seen = kit_walk(k, only, 3);
    assert_int_equal(seen->n, 2);
    assert_true(seen->v[0].seq == 2 && seen->v[1].seq == 1);
    kit_free(k);
    assert_true(task->refs == 1 && res->refs == 1 && empty->refs == 1);
    blob_unref(task);
    blob_unref(res);
    blob_unref(empty);
}

/* Single tasks end in another order than they came, print, and are cut off on both sides of a page;
 * the order of submission stays, and nothing that they hold is lost. */
static void single_tasks_keep_their_order(void **state)
{
    enum { N = 200 };
    struct kit *k = kit_new(*state, 0, 0);
    struct blob *task = kit_blob("call"), *res = kit_blob("result");
    const struct store_record *r;
    struct store_task again = {.session = 7, .seq = 100, .count = 1, .origin = 100};
    struct store_stats st;
    struct seen *seen;

    for (uint64_t i = 1; i <= N; i++)
        kit_submit(k, i, 1, NULL, i % 3 ? task : NULL);
    assert_int_equal(k->s->ops->submit(k->s, &again), CV_EEXIST);
    k->s->ops->output(k->s, 7, 50, STORE_STDOUT, "hello", 5);
    k->s->ops->resubmitted(k->s, (struct store_id){7, 60}, (struct store_id){7, 900});
    for (uint64_t i = N; i > N - 70; i -= 2)
        kit_end(k, i, 1, res);
    kit_end(k, 1, 40, res);
    assert_int_equal(kit_find(k, 41, &r), STORE_FOUND);
    assert_true(r->state == STORE_PENDING && r->lo == 41 && r->hi == 42 && r->task == task);
    k->s->ops->stats(k->s, &st);
    assert_int_equal(st.ended, 75);
    assert_int_equal(st.pending, N - 75);
    seen = kit_walk(k, NULL, 0);
    assert_int_equal(seen->n, N);
    for (uint64_t i = 1; i <= N; i++) {
        const struct seen_item *x = &seen->v[i - 1];
        bool ended = i <= 40 || (i > N - 70 && i % 2 == 0);
        assert_true(x->seq == i && x->record.submitted == i && x->record.origin == i);
        assert_int_equal(x->record.state != STORE_PENDING, ended);
        assert_string_equal(x->call, i % 3 ? "call" : "");
        assert_int_equal(x->record.again.seq, i == 60 ? 900 : 0);
    }
    kit_settle(k); /* with a file: it has those that are pending, too */
    assert_int_equal(kit_find(k, 70, &r), STORE_FOUND);
    assert_true(r->state == STORE_PENDING && r->submitted == 70 && r->task == task);
    kit_end(k, 41, 20, res);
    seen = kit_walk(k, NULL, 0);
    for (uint64_t i = 41; i <= 61; i++) {
        const struct seen_item *x = &seen->v[i - 1];
        assert_true(seen->n == N && x->seq == i && x->record.submitted == i);
        assert_int_equal(x->record.state != STORE_PENDING, i <= 60);
        assert_string_equal(x->call, i % 3 ? "call" : "");
        assert_string_equal(x->result, i <= 60 ? "result" : "");
        assert_string_equal(x->out, i == 50 ? "hello" : "");
    }
    kit_free(k);
    assert_true(task->refs == 1 && res->refs == 1);
    blob_unref(task);
    blob_unref(res);
}

/* A walk that stands at a pending task when that prints, ends and goes. */
static void a_walk_goes_on_when_its_place_changes(void **state)
{
    struct kit *k = kit_new("memory", 0, 0);
    struct seen *seen;

    for (uint64_t i = 1; i <= 20000; i++)
        kit_submit(k, i, 1, NULL, NULL);
    seen = kit_walk_start(k, NULL, 0); /* stands at the first */
    k->s->ops->output(k->s, 7, 1, STORE_STDOUT, "x", 1);
    kit_end(k, 1, 1, NULL);
    kit_purge(k, (struct store_purge){.only = (struct store_id[]){{7, 1}}, .nonly = 1});
    for (uint64_t i = 2; i <= 20000 && !seen->done; i++) {
        k->s->ops->output(k->s, 7, i, STORE_STDOUT, "x", 1);
        kit_end(k, i, 1, NULL);
        if (i % 3 == 0)
            kit_purge(k, (struct store_purge){.only = (struct store_id[]){{7, i}}, .nonly = 1});
        if (i % 200 == 0)
            k->s->ops->turn(k->s, i);
    }
    kit_wait(k, &seen->done);
    assert_true(!seen->failed && seen->n > 10000 && seen->v[0].seq == 2);
    for (size_t i = 1; i < seen->n; i++)
        assert_true(seen->v[i].seq > seen->v[i - 1].seq);
    kit_free(k);
}

static void purges(void **state)
{
    struct kit *k = kit_new(*state, 0, 0);
    struct blob *res = kit_blob("r");
    struct store_id only[] = {{7, 12}, {7, 1}, {7, 13}, {7, 500}};
    uint32_t engines[] = {3};

    kit_submit(k, 1, 1, NULL, NULL);
    kit_submit(k, 10, 10, NULL, NULL);
    kit_submit(k, 30, 5, NULL, NULL);
    kit_end(k, 10, 10, res);
    assert_int_equal(kit_purge(k, (struct store_purge){.only = only, .nonly = 4}), 2);
    assert_int_equal(kit_count(k), 14); /* what is pending stays, and so do its neighbours */
    assert_string_equal(kit_walk(k, NULL, 0)->v[3].result, "r");
    assert_int_equal(kit_purge(k, (struct store_purge){.engines = engines, .nengines = 1}), 8);
    kit_end(k, 30, 2, res);
    assert_int_equal(kit_purge(k, (struct store_purge){.all = true}), 2);
    assert_int_equal(kit_count(k), 4);
    kit_free(k);
    assert_int_equal(res->refs, 1);
    blob_unref(res);
}

static void resubmitted(void **state)
{
    struct kit *k = kit_new(*state, 0, 0);

    kit_submit(k, 1, 3, NULL, NULL);
    kit_end(k, 1, 3, NULL);
    k->s->ops->resubmitted(k->s, (struct store_id){7, 2}, (struct store_id){9, 5});
    k->s->ops->resubmitted(k->s, (struct store_id){7, 99}, (struct store_id){9, 6});
    struct seen *seen = kit_walk(k, NULL, 0);
    assert_int_equal(seen->n, 3);
    assert_int_equal(seen->v[0].record.again.seq, 0);
    assert_true(seen->v[1].record.again.session == 9 && seen->v[1].record.again.seq == 5);
    kit_free(k);
}

/* Records that come and go while a walk stands between them. */
static void walks_survive_changes(void **state)
{
    struct kit *k = kit_new(*state, 0, 0);
    struct seen *seen;

    for (uint64_t i = 1; i <= 5000; i++) {
        kit_submit(k, i, 1, NULL, NULL);
        kit_end(k, i, 1, NULL);
    }
    seen = kit_walk_start(k, NULL, 0);
    kit_submit(k, 6000, 1, NULL, NULL); /* not seen in memory: it came after */
    assert_int_equal(kit_purge(k, (struct store_purge){.all = true}), 5000);
    kit_wait(k, &seen->done);
    assert_in_range(seen->n, 5000, 5001);
    assert_int_equal(kit_count(k), 1);
    kit_free(k);
}

/* --- memory --- */

static void evicts_delivered_first(void **state)
{
    struct kit *k = kit_new("memory", 0, 3);
    struct blob *res = kit_blob("r");
    const struct store_record *r;

    for (uint64_t i = 1; i <= 5; i++)
        kit_submit(k, i, 1, NULL, NULL);
    for (uint64_t i = 1; i <= 3; i++)
        kit_end(k, i, 1, res);
    k->s->ops->delivered(k->s, 7, 2, 1);
    kit_end(k, 4, 1, res);
    assert_int_equal(kit_find(k, 2, &r), STORE_EXPIRED);
    assert_int_equal(kit_find(k, 1, &r), STORE_FOUND);
    kit_end(k, 5, 1, res);
    assert_int_equal(kit_find(k, 1, &r), STORE_EXPIRED);
    assert_int_equal(kit_find(k, 3, &r), STORE_FOUND);
    kit_submit(k, 2, 1, NULL, NULL); /* an expired id comes again */
    assert_int_equal(kit_find(k, 2, &r), STORE_FOUND);
    kit_free(k);
    assert_int_equal(res->refs, 1);
    blob_unref(res);
}

/* The limit of bytes counts what records cost beside their payloads, too; a pending one never
 * goes. */
static void bytes_bound(void **state)
{
    struct kit *k = kit_new("memory", 100000, 0);
    struct store_stats st;

    kit_submit(k, 1, 1, NULL, NULL);
    for (uint64_t i = 2; i <= 10000; i++) {
        kit_submit(k, i, 1, NULL, NULL);
        kit_end(k, i, 1, NULL);
    }
    const struct store_record *r;
    k->s->ops->stats(k->s, &st);
    assert_true(st.bytes <= 100000 && st.ended > 50 && st.ended < 1000);
    assert_int_equal(kit_find(k, 1, &r), STORE_FOUND);
    kit_free(k);
}

static uint64_t bytes_of(struct kit *k)
{
    struct store_stats st;

    k->s->ops->stats(k->s, &st);
    return st.bytes;
}

/* What records share counts once, as long as one of them is there. */
static void a_shared_payload_counts_while_it_is_held(void **state)
{
    static const uint64_t orders[][3] = {{1, 2, 3}, {3, 1, 2}, {2, 3, 1}};
    struct blob *call = kit_blob("a call's buffers"), *res = kit_blob("a result");
    const uint64_t ncall = strlen(call->text), nres = strlen(res->text);

    for (int i = 0; i < 3; i++)
        for (int parts = 0; parts < 2; parts++) { /* the result came in one, or in three */
            struct kit *k = kit_new("memory", 0, 0);
            kit_submit(k, 8, 1, NULL, NULL);
            kit_end(k, 8, 1, NULL);
            const uint64_t bare = bytes_of(k);
            kit_submit(k, 1, 3, NULL, call);
            for (uint64_t id = 1; parts && id <= 3; id++)
                kit_end(k, id, 1, res);
            kit_end(k, 1, 3, res);
            for (uint64_t id = 1; id <= 3; id++) /* each item is a record now */
                k->s->ops->output(k->s, 7, id, STORE_STDOUT, "o", 1);
            for (uint64_t left = 3; left; left--) {
                assert_int_equal(bytes_of(k),
                                 bare + left * (bare + 1) + ncall + (parts ? left : 1) * nres);
                struct store_id id = {7, orders[i][3 - left]};
                assert_int_equal(kit_purge(k, (struct store_purge){.only = &id, .nonly = 1}), 1);
            }
            assert_int_equal(bytes_of(k), bare);
            kit_free(k);
        }
    assert_int_equal(call->refs, 1);
    assert_int_equal(res->refs, 1);
    blob_unref(call);
    blob_unref(res);
}

static void counts_bound(void **state)
{
    struct kit *k = kit_new("memory", 0, 10);
    const struct store_record *r;
    struct store_stats st;
    uint64_t e;

    for (uint64_t i = 1; i <= 1000; i++) {
        kit_submit(k, i, 1, NULL, NULL);
        kit_end(k, i, 1, NULL);
    }
    k->s->ops->stats(k->s, &st);
    assert_int_equal(st.ended, 10);
    assert_int_equal(kit_find(k, 990, &r), STORE_EXPIRED);
    assert_int_equal(kit_find(k, 991, &r), STORE_FOUND);
    assert_int_equal(kit_find(k, 1001, &r), STORE_UNKNOWN);
    assert_int_equal(k->s->ops->find(k->s, 7, 5, &r, &e), STORE_EXPIRED);
    assert_int_equal(e, 991);
    assert_int_equal(k->s->ops->find(k->s, 7, 0, &r, &e), STORE_UNKNOWN);
    assert_int_equal(e, 1);
    assert_int_equal(k->s->ops->find(k->s, 7, 2000, &r, &e), STORE_UNKNOWN);
    assert_true(e == UINT64_MAX);
    kit_free(k);
}

/* A slice of a walk is short, however many records there are. */
static void walks_are_sliced(void **state)
{
    struct kit *k = kit_new("memory", 0, 300000);
    struct seen *seen;
    int turns = 0;

    for (uint64_t i = 1; i <= 200000; i++) {
        kit_submit(k, i, 1, NULL, NULL);
        kit_end(k, i, 1, NULL);
    }
    seen = kit_walk_start(k, NULL, 0);
    seen->count_only = true;
    for (; !seen->done; turns++)
        k->s->ops->turn(k->s, 0);
    assert_true(turns >= 3);
    assert_int_equal(seen->n, 200000);
    kit_free(k);
}

static void none_forgets(void **state)
{
    struct kit *k = kit_new("none", 0, 0);
    const struct store_record *r;
    struct store *s;

    kit_submit(k, 1, 1, NULL, NULL);
    kit_submit(k, 2, 1, NULL, NULL);
    kit_end(k, 1, 1, NULL);
    assert_int_equal(kit_find(k, 1, &r), STORE_FOUND);
    k->s->ops->delivered(k->s, 7, 1, 1);
    assert_int_equal(kit_find(k, 1, &r), STORE_EXPIRED);
    assert_int_equal(kit_find(k, 2, &r), STORE_FOUND);
    kit_end(k, 2, 1, NULL);
    k->s->ops->delivered(k->s, 7, 2, 1); /* the last one: what expired is still known */
    assert_int_equal(kit_find(k, 1, &r), STORE_EXPIRED);
    kit_free(k);
    assert_int_equal(store_new(&s, &(struct store_config){.backend = "mongo"}, NULL), CV_EINVAL);
}

#define EACH(f)                                                                                    \
    {#f " memory", f, NULL, NULL, "memory"}, {#f " none", f, NULL, NULL, "none"},                  \
        {#f " sqlite", f, NULL, NULL, "sqlite"}

/* Engines come and go for ever: only those are known that a record names. */
static void uuids_go_with_the_last_record(void **state)
{
    struct kit *k = kit_new(*state, 0, 10);
    const struct hash *uuids = &memory_of(k->s)->uuids;
    const struct store_record *r;
    struct seen *seen;

    for (uint32_t i = 1; i <= 200; i++) {
        char uuid[16];
        snprintf(uuid, sizeof(uuid), "engine-%u", i % 100 ? i : 1);
        struct store_result res = {
            .engine = 3, .incarnation = i, .engine_uuid = uuid, .seq = 2 * i, .count = 1};
        kit_submit(k, 2 * i, 2, NULL, NULL);
        assert_int_equal(k->s->ops->end(k->s, 7, 2 * i, 1, &res), CV_OK);
        res.engine_uuid = i % 2 ? uuid : "another";
        res.seq++;
        assert_int_equal(k->s->ops->end(k->s, 7, 2 * i + 1, 1, &res), CV_OK);
        if (i % 50 == 0)
            kit_settle(k);
    }
    assert_int_equal(kit_find(k, 399, &r), STORE_FOUND);
    assert_string_equal(r->result.engine_uuid, "engine-199");
    seen = kit_walk(k, &(struct store_id){7, 401}, 1);
    assert_string_equal(seen->v[0].uuid, "another");
    kit_submit(k, 1000, 1, NULL, NULL);
    kit_end(k, 1000, 1, NULL);
    assert_in_range(uuids->count, 1, 11);
    kit_free(k);
}

/* Clients come and go for ever: what expired is known of the newest 10,000 without records. */
static void sessions_without_records_are_bounded(void **state)
{
    enum { SESSIONS = 10200, KEPT = 10000 };
    struct kit *k = kit_new("memory", 0, 10);
    const struct store_record *r;

    for (uint64_t id = 1000; id < 1000 + SESSIONS; id++) {
        struct store_task t = {.session = id, .seq = 1, .count = 1, .origin = 1};
        struct store_result res = {.engine = 3, .engine_uuid = "uuid-3", .seq = 1, .count = 1};
        assert_int_equal(k->s->ops->submit(k->s, &t), CV_OK);
        assert_int_equal(k->s->ops->end(k->s, id, 1, 1, &res), CV_OK);
    }
    assert_in_range(memory_of(k->s)->sessions.count, KEPT, KEPT + 10);
    assert_int_equal(k->s->ops->find(k->s, 1000, 1, &r, NULL), STORE_UNKNOWN);
    assert_int_equal(k->s->ops->find(k->s, 1000 + SESSIONS - KEPT, 1, &r, NULL), STORE_EXPIRED);
    assert_int_equal(k->s->ops->find(k->s, 999 + SESSIONS, 1, &r, NULL), STORE_FOUND);
    kit_free(k);
}

/* What expired in any order is known without a list of it; what was purged is not. */
static void expiry_needs_no_memory(void **state)
{
    enum { N = 3000 };
    struct kit *k = kit_new("memory", 0, 10);
    const struct session *x;
    const struct store_record *r;
    struct store_id some[] = {{7, 2000}, {7, 1000}, {7, 1001}};
    uint64_t end;

    kit_submit(k, N + 100, 1, NULL, NULL);
    k->s->ops->skipped(k->s, 7, N + 101);
    kit_submit(k, N + 102, 1, NULL, NULL);
    k->s->ops->skipped(k->s, 7, N + 110);
    for (uint64_t i = 1; i <= N; i++)
        kit_submit(k, i, 1, NULL, NULL);
    for (uint64_t i = 0; i < N; i++)
        kit_end(k, 1 + i * 1009 % N, 1, NULL); /* 1009 and N have no common divisor */
    x = hash_get(&memory_of(k->s)->sessions, 0, 7);
    assert_true(x->used.n == 2 && x->purged.n == 0);
    for (uint64_t i = 0; i < N; i++)
        assert_int_equal(kit_find(k, 1 + i * 1009 % N, &r),
                         i < N - 10 ? STORE_EXPIRED : STORE_FOUND);
    assert_int_equal(k->s->ops->find(k->s, 7, N + 1, &r, &end), STORE_UNKNOWN);
    assert_int_equal(end, N + 100);
    kit_free(k);

    k = kit_new("memory", 0, 0);
    kit_submit(k, 1, N, NULL, NULL);
    kit_end(k, 1, N, NULL);
    assert_int_equal(kit_purge(k, (struct store_purge){.only = some, .nonly = 3}), 3);
    assert_int_equal(k->s->ops->find(k->s, 7, 1000, &r, &end), STORE_UNKNOWN);
    assert_int_equal(end, 1002);
    kit_submit(k, 1001, 1, NULL, NULL);
    assert_int_equal(kit_find(k, 1001, &r), STORE_FOUND);
    assert_int_equal(kit_find(k, 1000, &r), STORE_UNKNOWN);
    assert_int_equal(kit_find(k, 2000, &r), STORE_UNKNOWN);
    kit_free(k);
}

static void end_as(struct kit *k, uint64_t seq, uint32_t count, uint8_t status)
{
    struct store_result r = {.status = status, .seq = seq, .count = count};

    assert_int_equal(k->s->ops->end(k->s, 7, seq, count, &r), CV_OK);
}

/* What waits for a task may ask when its record is gone. */
static void how_it_ended_is_known_of_what_expired(void **state)
{
    struct kit *k = kit_new(*state, 0, 0);
    bool well;

    for (uint64_t i = 1; i <= 6; i++)
        kit_submit(k, i, 1, NULL, NULL);
    kit_submit(k, 7, 10, NULL, NULL);
    for (uint64_t i = 1; i <= 6; i++)
        end_as(k, i, 1, i == 2 || i == 3 ? 1 : 0);
    end_as(k, 10, 2, 9);
    memory_of(k->s)->limits.records = 1;
    end_as(k, 7, 3, 0);
    end_as(k, 12, 5, 0);
    kit_settle(k);
    k->s->ops->delivered(k->s, 7, 1, 16);
    kit_submit(k, 20, 1, NULL, NULL);
    end_as(k, 20, 1, 0); /* evicts */
    for (uint64_t i = 1; i <= 16; i++) {
        const struct store_record *r;
        assert_int_equal(kit_find(k, i, &r), STORE_EXPIRED);
        assert_true(k->s->ops->expired(k->s, 7, i, &well));
        assert_int_equal(well, !(i == 2 || i == 3 || i == 10 || i == 11));
    }
    assert_false(k->s->ops->expired(k->s, 8, 1, &well));
    kit_free(k);
}

/* A client that uses an id again has its newer task, and nobody else has less. */
static void an_id_that_expired_comes_again(void **state)
{
    struct kit *k = kit_new(*state, 0, 1);
    bool well;

    for (int again = 0; again < 2; again++)
        for (uint64_t i = 1; i <= 3; i++) {
            kit_submit(k, i, 1, NULL, NULL);
            end_as(k, i, 1, i == 3 || !again);
            kit_settle(k);
            k->s->ops->delivered(k->s, 7, i, 1);
        }
    kit_submit(k, 4, 1, NULL, NULL);
    end_as(k, 4, 1, 0);
    kit_settle(k);
    assert_int_equal(k->bad, 0);
    assert_true(k->s->ops->expired(k->s, 7, 2, &well) && well);
    assert_true(k->s->ops->expired(k->s, 7, 3, &well) && !well);
    if (k->s->ops->persistent)
        assert_int_equal(kit_count(k), 4);
    kit_free(k);
}

/* Every other one fails: the oldest of those are forgotten, not mistaken. */
static void how_much_failed_is_bounded(void **state)
{
    enum { N = 100000 };
    struct kit *k = kit_new("memory", 0, 10);
    const struct session *x;
    bool well;
    uint64_t known = 0;

    for (uint64_t i = 1; i <= N; i++) {
        kit_submit(k, i, 1, NULL, NULL);
        end_as(k, i, 1, i % 2);
    }
    x = hash_get(&memory_of(k->s)->sessions, 0, 7);
    assert_true(x->failed.n <= 4097);
    for (uint64_t i = 1; i <= N - 10; i++)
        if (k->s->ops->expired(k->s, 7, i, &well)) {
            assert_int_equal(well, i % 2 == 0);
            known++;
        }
    assert_in_range(known, 4000, 8300);
    kit_free(k);

    k = kit_new("none", 0, 0); /* one without records keeps fewer */
    for (uint64_t i = 1; i <= 2000; i++) {
        kit_submit(k, i, 1, NULL, NULL);
        end_as(k, i, 1, i % 2);
    }
    k->s->ops->delivered(k->s, 7, 1, 2000);
    x = hash_get(&memory_of(k->s)->sessions, 0, 7);
    assert_in_range(x->failed.n, 100, 256);
    assert_true(x->failed.cap <= 256);
    assert_true(k->s->ops->expired(k->s, 7, 1999, &well) && !well);
    assert_true(k->s->ops->expired(k->s, 7, 2000, &well) && well);
    assert_false(k->s->ops->expired(k->s, 7, 100, &well));
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(splits),
        EACH(output_is_an_items_own),
        EACH(walks_see_what_was_recorded),
        EACH(purges),
        EACH(resubmitted),
        EACH(single_tasks_keep_their_order),
        EACH(walks_survive_changes),
        EACH(uuids_go_with_the_last_record),
        EACH(how_it_ended_is_known_of_what_expired),
        EACH(an_id_that_expired_comes_again),
        cmocka_unit_test(how_much_failed_is_bounded),
        cmocka_unit_test(sessions_without_records_are_bounded),
        cmocka_unit_test(expiry_needs_no_memory),
        cmocka_unit_test(evicts_delivered_first),
        cmocka_unit_test(bytes_bound),
        cmocka_unit_test(a_shared_payload_counts_while_it_is_held),
        cmocka_unit_test(counts_bound),
        cmocka_unit_test(a_walk_goes_on_when_its_place_changes),
        cmocka_unit_test(walks_are_sliced),
        cmocka_unit_test(none_forgets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

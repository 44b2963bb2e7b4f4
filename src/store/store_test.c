/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Records: splitting, eviction order, expiry, purge, and that every payload reference is given
 * back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "store/store.h"

struct blob {
    int refs;
};

static void blob_ref(void *p)
{
    if (p)
        ((struct blob *)p)->refs++;
}

static void blob_unref(void *p)
{
    if (p)
        ((struct blob *)p)->refs--;
}

static struct store *make(const char *backend, uint64_t bytes, uint64_t records)
{
    struct store *s;
    struct store_limits l = {bytes, records};
    struct store_payload_ops p = {blob_ref, blob_unref};

    assert_int_equal(store_new(&s, backend, &l, &p, NULL), CV_OK);
    return s;
}

static void submit(struct store *s, uint64_t seq, uint32_t count, struct blob *b)
{
    struct store_task t = {
        .session = 7, .seq = seq, .count = count, .submitted = seq, .label = "l", .payload = b};

    assert_int_equal(s->ops->submit(s, &t), CV_OK);
}

static void end(struct store *s, uint64_t seq, uint32_t count, struct blob *b, uint64_t bytes)
{
    struct store_result r = {.status = 1, .seq = seq, .count = count, .payload = b, .bytes = bytes};

    assert_int_equal(s->ops->end(s, 7, seq, count, &r), CV_OK);
}

static enum store_find find(struct store *s, uint64_t seq, const struct store_record **ret)
{
    *ret = NULL;
    return s->ops->find(s, 7, seq, ret, NULL);
}

static void splits(void **state)
{
    struct store *s = make("memory", 0, 0);
    struct blob task = {0}, res = {0};
    const struct store_record *r;

    submit(s, 10, 10, &task);
    end(s, 13, 2, &res, 5);
    assert_int_equal(find(s, 12, &r), STORE_FOUND);
    assert_int_equal(r->state, STORE_PENDING);
    assert_true(r->lo == 10 && r->hi == 13);
    find(s, 14, &r);
    assert_int_equal(r->state, STORE_ENDED);
    assert_true(r->lo == 13 && r->hi == 15 && r->result.payload == &res);
    assert_string_equal(r->label, "l");
    find(s, 19, &r);
    assert_true(r->lo == 15 && r->hi == 20 && r->state == STORE_PENDING);
    assert_int_equal(find(s, 20, &r), STORE_UNKNOWN);
    end(s, 10, 10, &res, 5); /* 13 and 14 stay what they are */
    struct store_stats st;
    s->ops->stats(s, &st);
    assert_int_equal(st.ended, 3);
    assert_int_equal(st.pending, 0);
    s->ops->delivered(s, 7, 10, 10);
    s->ops->stats(s, &st);
    assert_int_equal(st.delivered, 3);
    store_free(s);
    assert_int_equal(task.refs, 0);
    assert_int_equal(res.refs, 0);
}

static void evicts_delivered_first(void **state)
{
    struct store *s = make("memory", 100, 0);
    struct blob res = {0};
    const struct store_record *r;

    for (uint64_t i = 1; i <= 4; i++)
        submit(s, i, 1, NULL);
    end(s, 1, 1, &res, 40);
    end(s, 2, 1, &res, 40);
    s->ops->delivered(s, 7, 2, 1);
    end(s, 3, 1, &res, 40);
    assert_int_equal(find(s, 2, &r), STORE_EXPIRED);
    assert_int_equal(find(s, 1, &r), STORE_FOUND);
    end(s, 4, 1, &res, 40);
    assert_int_equal(find(s, 1, &r), STORE_EXPIRED);
    assert_int_equal(find(s, 3, &r), STORE_FOUND);
    submit(s, 2, 1, NULL); /* an expired id comes again */
    assert_int_equal(find(s, 2, &r), STORE_FOUND);
    store_free(s);
    assert_int_equal(res.refs, 0);
}

static void counts_bound(void **state)
{
    struct store *s = make("memory", 0, 10);
    const struct store_record *r;
    struct store_stats st;

    for (uint64_t i = 1; i <= 1000; i++) {
        submit(s, i, 1, NULL);
        end(s, i, 1, NULL, 0);
    }
    s->ops->stats(s, &st);
    assert_int_equal(st.ended, 10);
    assert_int_equal(find(s, 990, &r), STORE_EXPIRED);
    assert_int_equal(find(s, 991, &r), STORE_FOUND);
    assert_int_equal(find(s, 1001, &r), STORE_UNKNOWN);
    uint64_t e;
    assert_int_equal(s->ops->find(s, 7, 5, &r, &e), STORE_EXPIRED);
    assert_int_equal(e, 991);
    assert_int_equal(s->ops->find(s, 7, 0, &r, &e), STORE_UNKNOWN);
    assert_int_equal(e, 1);
    assert_int_equal(s->ops->find(s, 7, 2000, &r, &e), STORE_UNKNOWN);
    assert_true(e == UINT64_MAX);
    store_free(s);
}

static bool match_all(void *arg, const struct store_record *r)
{
    return true;
}

static bool count_one(void *arg, const struct store_record *r)
{
    (*(int *)arg)++;
    return true;
}

static void purges_and_output(void **state)
{
    struct store *s = make("memory", 0, 0);
    static char big[STORE_OUTPUT_MAX + 10];
    const struct store_record *r;
    int n = 0;

    submit(s, 1, 1, NULL);
    submit(s, 2, 3, NULL);
    s->ops->output(s, 7, 1, STORE_STDOUT, "hello", 5);
    s->ops->output(s, 7, 1, STORE_STDERR, big, sizeof(big));
    find(s, 1, &r);
    assert_memory_equal(r->output[STORE_STDOUT].data, "hello", 5);
    assert_int_equal(r->output[STORE_STDERR].len, STORE_OUTPUT_MAX);
    assert_true(r->output_cut);
    end(s, 2, 3, NULL, 0);
    s->ops->each(s, count_one, &n);
    assert_int_equal(n, 2);
    assert_int_equal(s->ops->purge(s, match_all, NULL), 3); /* pending ones stay */
    assert_int_equal(find(s, 3, &r), STORE_UNKNOWN);
    assert_int_equal(find(s, 1, &r), STORE_FOUND);
    end(s, 1, 1, NULL, 0);
    struct store_stats st;
    s->ops->stats(s, &st);
    assert_int_equal(st.bytes, 5 + STORE_OUTPUT_MAX);
    store_free(s);
}

static void none_forgets(void **state)
{
    struct store *s = make("none", 0, 0);
    const struct store_record *r;

    submit(s, 1, 1, NULL);
    submit(s, 2, 1, NULL);
    end(s, 1, 1, NULL, 0);
    assert_int_equal(find(s, 1, &r), STORE_FOUND);
    s->ops->delivered(s, 7, 1, 1);
    assert_int_equal(find(s, 1, &r), STORE_EXPIRED);
    assert_int_equal(find(s, 2, &r), STORE_FOUND);
    store_free(s);
    assert_int_equal(
        store_new(&s, "mongo", &(struct store_limits){0}, &(struct store_payload_ops){0}, NULL),
        CV_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits),       cmocka_unit_test(evicts_delivered_first),
        cmocka_unit_test(counts_bound), cmocka_unit_test(purges_and_output),
        cmocka_unit_test(none_forgets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

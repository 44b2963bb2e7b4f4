/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of payloads (references, also from two threads), messages and the status page's ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "wire/msg.h"
#include "wire/statuspage.h"

static void buffers_are_apart_and_aligned(void **state)
{
    const uint64_t lens[] = {3, 0, 300000, 17, 4 << 20};
    for (int large = 0; large < 2; large++) {
        struct payload *p;
        assert_int_equal(large ? payload_new_large(&p, 5, lens) : payload_new_inline(&p, 5, lens),
                         CV_OK);
        assert_int_equal(p->nbufs, 5);
        assert_int_equal(p->total, 3 + 300000 + 17 + (4 << 20));
        for (uint32_t i = 0; i < 5; i++) {
            assert_int_equal(p->bufs[i].len, lens[i]);
            assert_int_equal((uintptr_t)p->bufs[i].data % 16, 0);
            memset(p->bufs[i].data, (int)i + 1, lens[i]);
        }
        for (uint32_t i = 0; i < 5; i++)
            for (uint64_t k = 0; k < lens[i]; k += 4096)
                assert_int_equal(p->bufs[i].data[k], i + 1);
        payload_unref(p);
    }
}

static void absurd_lengths_fail(void **state)
{
    const uint64_t lens[] = {UINT64_MAX - 3, UINT64_MAX / 2, UINT64_MAX / 2 + 8};
    struct payload *p = NULL;
    assert_int_equal(payload_new_inline(&p, 3, lens), CV_ENOMEM);
    assert_int_equal(payload_new_large(&p, 3, lens), CV_ENOMEM);
    assert_null(p);
}

static unsigned released;

static void count_release(struct payload *p)
{
    released += (unsigned)(uintptr_t)payload_owner(p);
}

static void *juggle(void *arg)
{
    for (int i = 0; i < 100000; i++)
        payload_unref(payload_ref(arg));
    payload_unref(arg);
    return NULL;
}

static void the_last_reference_releases_once(void **state)
{
    uint8_t mine[8] = "content";
    struct slice s = {mine, 8};
    struct payload *p;
    assert_int_equal(payload_new_foreign(&p, 1, &s, count_release, (void *)(uintptr_t)1), CV_OK);
    assert_ptr_equal(p->bufs[0].data, mine);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, juggle, payload_ref(p)), 0);
    juggle(p);
    pthread_join(t, NULL);
    assert_int_equal(released, 1);
    assert_null(payload_ref(NULL));
    payload_unref(NULL);
}

static void messages_take_what_they_are_given(void **state)
{
    struct header h = {.type = MSG_TASK, .seq = 5, .nbufs = 77, .body_len = 77, .route_len = 77};
    struct payload *p;
    struct msg *m;
    assert_int_equal(payload_new_copy(&p, "hello", 5), CV_OK);
    assert_int_equal(msg_new(&m, &h, "route", 5, p), CV_OK);
    assert_int_equal(m->h.route_len, 5);
    assert_int_equal(m->h.nbufs, 1);
    assert_int_equal(m->h.body_len, 5);
    assert_int_equal(m->h.seq, 5);
    assert_memory_equal(m->route, "route", 5);
    assert_memory_equal(m->payload->bufs[0].data, "hello", 5);
    msg_free(m);
    assert_int_equal(msg_new(&m, &h, NULL, 0, NULL), CV_OK);
    assert_null(m->route);
    assert_int_equal(m->h.nbufs + m->h.body_len + m->h.route_len, 0);
    msg_free(m);
    msg_free(NULL);
}

static void the_ring_keeps_the_last_bytes(void **state)
{
    struct statuspage *p = calloc(1, sizeof *p);
    char out[STATUSPAGE_RING], all[3 * STATUSPAGE_RING];
    assert_int_equal(statuspage_ring_tail(p, out, sizeof out), 0);
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)(i * 7 + i / 256);
    size_t at = 0;
    for (size_t step = 1; at + step <= sizeof all; step += 97) {
        statuspage_ring_add(p, all + at, step);
        at += step;
        uint32_t n = statuspage_ring_tail(p, out, 1000);
        assert_int_equal(n, at < 1000 ? at : 1000);
        assert_memory_equal(out, all + at - n, n);
    }
    statuspage_ring_add(p, all, sizeof all); /* more than the ring holds, at once */
    assert_int_equal(statuspage_ring_tail(p, out, sizeof out), STATUSPAGE_RING);
    assert_memory_equal(out, all + 2 * STATUSPAGE_RING, STATUSPAGE_RING);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_are_apart_and_aligned),
        cmocka_unit_test(absurd_lengths_fail),
        cmocka_unit_test(the_last_reference_releases_once),
        cmocka_unit_test(messages_take_what_they_are_given),
        cmocka_unit_test(the_ring_keeps_the_last_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

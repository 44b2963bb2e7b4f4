/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of the header, routes and the handshake: round trips, and a refusal for each way in which
 * a peer's bytes can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "wire/header.h"
#include "wire/hello.h"
#include "wire/pack.h"

static const struct wire_limits LIMITS = {.body_max = 1ull << 34, .route_max = WIRE_ROUTE_MAX};

static const struct header FULL = {
    .type = MSG_RESULT,
    .status = RESULT_LOST,
    .flags = MSG_F_CHUNKED | MSG_F_LATE,
    .attempt = 0xfedc,
    .route_len = 0xabcde,
    .nbufs = 65535,
    .body_len = 0x312345678ull,
    .session = 0x1122334455667788ull,
    .seq = UINT64_MAX,
    .count = 0xdeadbeef,
    .engine = WIRE_ENGINE_NONE,
    .incarnation = 65535,
    .time = 0x8000000000000001ull,
    .aux = 0x0102030405060708ull,
};

static void header_survives(void **state)
{
    uint8_t b[WIRE_HEADER_SIZE];
    struct header h;
    memset(&h, 0xaa, sizeof h);
    header_encode(b, &FULL);
    assert_int_equal(header_decode(b, &LIMITS, &h, NULL), CV_OK);
    assert_int_equal(h.type, FULL.type);
    assert_int_equal(h.status, FULL.status);
    assert_int_equal(h.flags, FULL.flags);
    assert_int_equal(h.attempt, FULL.attempt);
    assert_int_equal(h.route_len, FULL.route_len);
    assert_int_equal(h.nbufs, FULL.nbufs);
    assert_int_equal(h.body_len, FULL.body_len);
    assert_int_equal(h.session, FULL.session);
    assert_int_equal(h.seq, FULL.seq);
    assert_int_equal(h.count, FULL.count);
    assert_int_equal(h.engine, FULL.engine);
    assert_int_equal(h.incarnation, FULL.incarnation);
    assert_int_equal(h.time, FULL.time);
    assert_int_equal(h.aux, FULL.aux);
}

struct refusal {
    struct header h;
    int patch_at, patch; /* a byte that is changed after encoding; patch_at 0 with patch 0: none */
    struct wire_limits limits;
    int code;
    const char *says;
};

static void header_refuses(void **state)
{
    const struct wire_limits small = {.body_max = WIRE_PREAUTH_MAX, .route_max = 100};
    const struct refusal CASES[] = {
        {{.type = MSG_PING}, 0, 0xc1, LIMITS, CV_EPROTO, "not covey's protocol"},
        {{.type = MSG_PING}, 1, 0x5f, LIMITS, CV_EPROTO, "not covey's protocol"},
        {{.type = MSG_PING}, 2, 2, LIMITS, CV_EVERSION, "version 2, this program 1"},
        {{.type = MSG_PING}, 3, 0, LIMITS, CV_EPROTO, "type 0"},
        {{.type = MSG_PING}, 3, MSG_TYPE_END, LIMITS, CV_EPROTO, "type 27"},
        {{.type = MSG_HELLO, .route_len = 101}, 4, 0, small, CV_ELIMIT, "at most 100"},
        {{.type = MSG_TASK}, 11, 0x20, LIMITS, CV_ELIMIT, "at most 1048576"},
        {{.type = MSG_HELLO, .nbufs = 1, .body_len = 4097}, 4, 0, small, CV_ELIMIT, "at most 4096"},
        {{.type = MSG_TASK, .nbufs = 1, .body_len = WIRE_INLINE_MAX + 1},
         4,
         0,
         LIMITS,
         CV_ELIMIT,
         "inline"},
        {{.type = MSG_CHUNK, .nbufs = 1, .body_len = WIRE_CHUNK_MAX + 1},
         4,
         0,
         LIMITS,
         CV_ELIMIT,
         "CHUNK"},
        {{.type = MSG_TASK, .body_len = 1}, 4, 0, LIMITS, CV_EPROTO, "without buffers"},
        {{.type = MSG_TASK, .flags = MSG_F_CHUNKED},
         4,
         MSG_F_CHUNKED,
         LIMITS,
         CV_EPROTO,
         "chunked without"},
        {{.type = MSG_CHUNK, .flags = MSG_F_CHUNKED, .nbufs = 1, .body_len = 1},
         4,
         1,
         LIMITS,
         CV_EPROTO,
         "itself"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        uint8_t b[WIRE_HEADER_SIZE];
        struct header h = {.type = 99};
        struct err e = {""};
        header_encode(b, &CASES[i].h);
        b[CASES[i].patch_at] = (uint8_t)CASES[i].patch;
        assert_int_equal(header_decode(b, &CASES[i].limits, &h, &e), CASES[i].code);
        if (!strstr(e.text, CASES[i].says))
            fail_msg("case %zu says: %s", i, e.text);
        assert_int_equal(h.type, 99); /* untouched */
        assert_int_equal(header_decode(b, &CASES[i].limits, &h, NULL), CASES[i].code);
    }
}

static void every_type_has_a_name(void **state)
{
    for (uint8_t t = 1; t < MSG_TYPE_END; t++)
        assert_string_not_equal(msg_type_name(t), "?");
    assert_string_equal(msg_type_name(0), "?");
    assert_string_equal(msg_type_name(MSG_TYPE_END), "?");
    assert_string_equal(msg_type_name(MSG_GIVE_BACK), "GIVE_BACK");
}

static void full_route(struct route *r)
{
    static uint32_t targets[] = {0, 7, UINT32_MAX};
    static struct id_range after[] = {{1, 2, 3}, {UINT64_MAX, 0, UINT64_MAX}},
                           follow[] = {{9, 8, 10}};
    route_init(r);
    r->targets = targets;
    r->ntargets = 3;
    r->has_targets = true;
    r->timeout = 2.5;
    r->retries = 70000;
    r->priority = -5;
    r->label = "lab\xc3\xa9l";
    r->python = "3.11";
    r->after = after;
    r->nafter = 2;
    r->follow = follow;
    r->nfollow = 1;
    r->after_flags = (struct dep_flags){.all = false, .success = true, .failure = true};
    r->follow_flags.success = false;
}

static void route_survives(void **state)
{
    struct route r, got;
    struct buf b = {0};
    full_route(&r);
    assert_int_equal(route_encode(&r, &b), CV_OK);
    assert_int_equal(route_decode(b.data, b.len, &got, NULL), CV_OK);
    assert_true(got.has_targets);
    assert_int_equal(got.ntargets, 3);
    assert_memory_equal(got.targets, r.targets, 3 * sizeof *r.targets);
    assert_true(got.timeout == 2.5);
    assert_int_equal(got.retries, 70000);
    assert_int_equal(got.priority, -5);
    assert_string_equal(got.label, r.label);
    assert_string_equal(got.python, "3.11");
    assert_int_equal(got.nafter, 2);
    assert_memory_equal(got.after, r.after, sizeof(struct id_range[2]));
    assert_int_equal(got.nfollow, 1);
    assert_memory_equal(got.follow, r.follow, sizeof(struct id_range));
    assert_memory_equal(&got.after_flags, &r.after_flags, sizeof r.after_flags);
    assert_memory_equal(&got.follow_flags, &r.follow_flags, sizeof r.follow_flags);
    /* Every shorter prefix is refused, none crashes. */
    for (size_t n = 1; n < b.len; n++) {
        struct route part;
        struct err e;
        assert_int_equal(route_decode(b.data, n, &part, &e), CV_EPROTO);
    }
    route_release(&got);
    buf_release(&b);
}

static void an_absent_route_is_the_default(void **state)
{
    struct route plain, got;
    struct buf b = {0};
    route_init(&plain);
    assert_int_equal(route_encode(&plain, &b), CV_OK);
    assert_int_equal(b.len, 1); /* an empty map */
    assert_int_equal(route_decode(b.data, b.len, &got, NULL), CV_OK);
    assert_false(got.has_targets);
    assert_true(got.timeout < 0);
    route_release(&got);
    assert_int_equal(route_decode(NULL, 0, &got, NULL), CV_OK);
    assert_true(got.after_flags.all && got.after_flags.success && !got.after_flags.failure);
    route_release(&got);
    plain.has_targets = true;
    buf_clear(&b);
    assert_int_equal(route_encode(&plain, &b), CV_OK);
    assert_int_equal(route_decode(b.data, b.len, &got, NULL), CV_OK);
    assert_true(got.has_targets && got.ntargets == 0);
    route_release(&got);
    buf_release(&b);
}

#define BYTES(s) (s), sizeof(s) - 1

static void malformed_maps_are_refused(void **state)
{
    const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } CASES[] = {
        {BYTES("\xc0"), "MessagePack"},
        {BYTES("\x93\x01\x02\x03"), "MessagePack map"},
        {BYTES("\x80\x80"), "one whole"},             /* something behind it */
        {BYTES("\xdf\xff\xff\xff\xff"), "one whole"}, /* a map of 4 billion, announced in 5 bytes */
        {BYTES("\x81\xa7targets\xdd\x7f\xff\xff\xff"), "one whole"},
        {BYTES("\x81\xa7targets\xdb\xff\xff\xff\xff"), "one whole"},
        {BYTES("\x81\xa1x\x91\x91\x91\x91\x91\x91\x91\x91\x91\x01"),
         "one whole"}, /* nested too deeply */
        {BYTES("\x81\xa1x\xc1"), "one whole"},
        {BYTES("\x81\xa7targets\x05"), "\"targets\""},
        {BYTES("\x81\xa7targets\x91\xa1x"), "\"targets\""},
        {BYTES("\x81\xa7targets\x91\xff"), "\"targets\""},
        {BYTES("\x81\xa7timeout\xa1x"), "\"timeout\""},
        {BYTES("\x81\xa7timeout\xcb\x7f\xf8\0\0\0\0\0\0"), "\"timeout\""}, /* NaN */
        {BYTES("\x81\xa7timeout\xcb\xbf\xf0\0\0\0\0\0\0"), "\"timeout\""}, /* -1 */
        {BYTES("\x81\xa7retries\xcf\0\0\0\1\0\0\0\0"), "\"retries\""},
        {BYTES("\x81\xa8priority\xce\xff\xff\xff\xff"), "\"priority\""},
        {BYTES("\x81\xa5label\x01"), "\"label\""},
        {BYTES("\x81\xa5label\xa2x\0"), "\"label\""},
        {BYTES("\x81\xa5"
               "after\x91\x92\x01\x02"),
         "\"after\""},
        {BYTES("\x81\xa5"
               "after\x91\x93\x01\x02\x02"),
         "empty range"},
        {BYTES("\x81\xa3"
               "dep\x81\xa9"
               "after_all\x01"),
         "\"after_all\""},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct route r;
        struct err e = {""};
        assert_int_equal(route_decode(CASES[i].bytes, CASES[i].n, &r, &e), CV_EPROTO);
        if (!strstr(e.text, CASES[i].says))
            fail_msg("case %zu says: %s", i, e.text);
    }
}

static void unknown_keys_are_skipped_and_doubled_ones_don_t_leak(void **state)
{
    struct route r;
    const char bytes[] = "\x84\xa3new\x92\x01\x81\xa1x\xc0\x05\x06\xa5label\xa1x\xa5label\xa1y";
    assert_int_equal(route_decode(BYTES(bytes), &r, NULL), CV_OK);
    assert_string_equal(r.label, "y");
    route_release(&r);
}

static void same_held(const struct held_task *a, const struct held_task *b)
{
    assert_int_equal(a->session, b->session);
    assert_int_equal(a->seq, b->seq);
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->attempt, b->attempt);
}

static void hello_survives(void **state)
{
    struct held_task unstarted[] = {{5, 6, 1, 1}, {5, 100, 50, 3}};
    struct id_range waiting[] = {{0x77, 1, 9}, {0x88, 3, 4}};
    struct hello h = {
        .role = ROLE_ENGINE,
        .session = 0x77,
        .cluster_id = "c",
        .boot_id = "b",
        .uuid = "u",
        .python = "3.11",
        .versions = "{}",
        .host = "node1",
        .machine = UINT64_MAX,
        .pid_namespace = 4026531836,
        .pid = 42,
        .number = 0,
        .incarnation = 2,
        .slot = 3,
        .host_session = 1ull << 63,
        .engine_set = UINT64_MAX - 1,
        .running = {1, 2, 3, 4},
        .unstarted = unstarted,
        .nunstarted = 2,
        .waiting = waiting,
        .nwaiting = 2,
    };
    struct hello got;
    struct buf b = {0};
    assert_int_equal(hello_encode(&h, &b), CV_OK);
    assert_int_equal(hello_decode(b.data, b.len, &got, NULL), CV_OK);
    assert_int_equal(got.role, ROLE_ENGINE);
    assert_int_equal(got.session, 0x77);
    assert_string_equal(got.cluster_id, "c");
    assert_string_equal(got.boot_id, "b");
    assert_string_equal(got.uuid, "u");
    assert_string_equal(got.python, "3.11");
    assert_string_equal(got.versions, "{}");
    assert_string_equal(got.host, "node1");
    assert_int_equal(got.machine, UINT64_MAX);
    assert_int_equal(got.pid_namespace, 4026531836);
    assert_int_equal(got.pid, 42);
    assert_int_equal(got.number, 0);
    assert_int_equal(got.incarnation, 2);
    assert_int_equal(got.slot, 3);
    assert_int_equal(got.host_session, 1ull << 63);
    assert_int_equal(got.engine_set, UINT64_MAX - 1);
    same_held(&got.running, &h.running);
    assert_int_equal(got.nunstarted, 2);
    same_held(&got.unstarted[0], &unstarted[0]);
    same_held(&got.unstarted[1], &unstarted[1]);
    assert_int_equal(got.nwaiting, 2);
    assert_memory_equal(got.waiting, waiting, sizeof waiting);
    hello_release(&got);
    for (size_t n = 0; n < b.len; n++)
        assert_int_equal(hello_decode(b.data, n, &got, NULL), CV_EPROTO);
    buf_release(&b);
}

static void hello_of_a_new_engine_asks_for_any_number(void **state)
{
    struct hello h = {.role = ROLE_CLIENT, .session = 1, .number = WIRE_ENGINE_NONE}, got;
    struct buf b = {0};
    assert_int_equal(hello_encode(&h, &b), CV_OK);
    assert_int_equal(hello_decode(b.data, b.len, &got, NULL), CV_OK);
    assert_int_equal(got.number, WIRE_ENGINE_NONE);
    assert_null(got.cluster_id);
    hello_release(&got);
    buf_release(&b);
}

static void hello_refuses(void **state)
{
    const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } CASES[] = {
        {BYTES("\x80"), "\"role\""},
        {BYTES("\x81\xa4role\x01"), "\"session\""},
        {BYTES("\x82\xa4role\x04\xa7session\x01"), "\"role\""},
        {BYTES("\x82\xa4role\xcd\x01\x01\xa7session\x01"), "\"role\""},
        {BYTES("\x83\xa4role\x01\xa7session\x01\xa7running\x94\x01\x02\x00\x01"), "\"running\""},
        {BYTES("\x83\xa4role\x01\xa7session\x01\xa7running\x93\x01\x02\x03"), "\"running\""},
        {BYTES("\x83\xa4role\x01\xa7session\x01\xa9unstarted\x91\x01"), "\"unstarted\""},
        {BYTES("\x83\xa4role\x01\xa7session\x01\xa7waiting\x91\x92\x05\x05"), "empty range"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct hello h;
        struct err e = {""};
        assert_int_equal(hello_decode(CASES[i].bytes, CASES[i].n, &h, &e), CV_EPROTO);
        if (!strstr(e.text, CASES[i].says))
            fail_msg("case %zu says: %s", i, e.text);
    }
}

static void welcome_survives(void **state)
{
    struct id_range unknown[] = {{0x77, 1, 9}};
    struct welcome w = {.number = 3,
                        .incarnation = 1,
                        .cluster_id = "",
                        .boot_id = "b",
                        .python = "note",
                        .credit = 1ull << 40,
                        .unknown = unknown,
                        .nunknown = 1,
                        .refused = "no"};
    struct welcome got;
    struct buf b = {0};
    assert_int_equal(welcome_encode(&w, &b), CV_OK);
    assert_int_equal(welcome_decode(b.data, b.len, &got, NULL), CV_OK);
    assert_int_equal(got.number, 3);
    assert_int_equal(got.incarnation, 1);
    assert_string_equal(got.cluster_id, "");
    assert_string_equal(got.boot_id, "b");
    assert_string_equal(got.python, "note");
    assert_int_equal(got.credit, 1ull << 40);
    assert_string_equal(got.refused, "no");
    assert_int_equal(got.nunknown, 1);
    assert_memory_equal(got.unknown, unknown, sizeof unknown);
    welcome_release(&got);
    for (size_t n = 0; n < b.len; n++)
        assert_int_equal(welcome_decode(b.data, n, &got, NULL), CV_EPROTO);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_survives),
        cmocka_unit_test(header_refuses),
        cmocka_unit_test(every_type_has_a_name),
        cmocka_unit_test(route_survives),
        cmocka_unit_test(an_absent_route_is_the_default),
        cmocka_unit_test(malformed_maps_are_refused),
        cmocka_unit_test(unknown_keys_are_skipped_and_doubled_ones_don_t_leak),
        cmocka_unit_test(hello_survives),
        cmocka_unit_test(hello_of_a_new_engine_asks_for_any_number),
        cmocka_unit_test(hello_refuses),
        cmocka_unit_test(welcome_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Golden transcripts: the bytes of one message of each type, as they stand on the wire, in
 * golden/TYPE.hex. A change here is a change of the protocol: other versions would not understand
 * it. `golden_test --write FOLDER` writes them anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "wire/hello.h"
#include "wire/msg.h"

#define SESSION 0x0123456789abcdefull
#define TIME 1763668800000000000ull

static const char *folder;

struct sample {
    struct header h;
    int (*route)(struct buf *out); /* NULL: none */
    const char *bufs[3];           /* text of the buffers, up to NULL */
};

static int client_hello(struct buf *out)
{
    struct id_range waiting[] = {{SESSION, 5, 9}};
    struct hello h = {.role = ROLE_CLIENT,
                      .session = SESSION,
                      .cluster_id = "",
                      .boot_id = "00112233445566aa",
                      .python = "3.11",
                      .versions = "{\"covey\":\"0.1.0\"}",
                      .host = "node1",
                      .machine = 0xfedcba9876543210ull,
                      .pid = 4711,
                      .number = WIRE_ENGINE_NONE,
                      .waiting = waiting,
                      .nwaiting = 1};
    return hello_encode(&h, out);
}

static int engine_welcome(struct buf *out)
{
    struct welcome w = {.number = 3,
                        .incarnation = 1,
                        .cluster_id = "",
                        .boot_id = "00112233445566aa",
                        .credit = 256u << 20};
    return welcome_encode(&w, out);
}

static int task_route(struct buf *out)
{
    struct id_range after[] = {{SESSION, 1, 4}};
    uint32_t targets[] = {0, 2};
    struct route r;
    route_init(&r);
    r.targets = targets;
    r.ntargets = 2;
    r.has_targets = true;
    r.timeout = 1.5;
    r.retries = 2;
    r.priority = -1;
    r.label = "pi";
    r.python = "3.11";
    r.after = after;
    r.nafter = 1;
    r.after_flags.failure = true;
    return route_encode(&r, out);
}

#define ID .session = SESSION, .seq = 258, .count = 1
#define NO_ENGINE .engine = WIRE_ENGINE_NONE
#define ENGINE .engine = 3, .incarnation = 1

static const struct sample SAMPLES[] = {
    {{.type = MSG_HELLO, NO_ENGINE, .time = TIME}, client_hello, {0}},
    {{.type = MSG_WELCOME, ENGINE, .time = TIME}, engine_welcome, {0}},
    {{.type = MSG_TASK, .status = TASK_APPLY, ID, NO_ENGINE, .time = TIME},
     task_route,
     {"pickle", "out of band"}},
    {{.type = MSG_STARTED, ID, .attempt = 1, ENGINE, .time = TIME}, NULL, {0}},
    {{.type = MSG_RESULT,
      .status = RESULT_OK,
      ID,
      .attempt = 2,
      ENGINE,
      .time = TIME,
      .aux = TIME + 7},
     NULL,
     {"value"}},
    {{.type = MSG_ACK, NO_ENGINE, .aux = 1000}, NULL, {0}},
    {{.type = MSG_OUTPUT,
      .status = OUTPUT_STDERR,
      .flags = MSG_F_LATE,
      ID,
      .attempt = 1,
      ENGINE,
      .time = TIME},
     NULL,
     {"careful\n"}},
    {{.type = MSG_COMM, ID, ENGINE, .time = TIME}, NULL, {"{\"comm_id\":\"a\"}", "binary"}},
    {{.type = MSG_CANCEL,
      .flags = MSG_F_KILL,
      .session = SESSION,
      .seq = 258,
      .count = 20,
      NO_ENGINE,
      .aux = 2000000000},
     NULL,
     {0}},
    {{.type = MSG_SIGNAL, .session = SESSION, .seq = 259, .engine = 3}, NULL, {"{\"signal\":2}"}},
    {{.type = MSG_TAKE, ID, .attempt = 1, ENGINE}, NULL, {0}},
    {{.type = MSG_GIVE_BACK, ID, .attempt = 1, ENGINE}, NULL, {0}},
    {{.type = MSG_QUERY, ID, NO_ENGINE}, NULL, {"{\"query\":\"engines\"}"}},
    {{.type = MSG_REPLY, ID, NO_ENGINE}, NULL, {"{\"ok\":[]}"}},
    {{.type = MSG_EVENT, .engine = 3}, NULL, {"{\"event\":\"engine_back\",\"id\":3}"}},
    {{.type = MSG_CHUNK, .seq = 2, .engine = 1, .aux = 262144}, NULL, {"chunk's data"}},
    {{.type = MSG_CREDIT, NO_ENGINE, .aux = 1048576}, NULL, {0}},
    {{.type = MSG_EXIT, ENGINE, .time = TIME}, NULL, {"{\"id\":3,\"signal\":11}"}},
    {{.type = MSG_SPAWN, .flags = MSG_F_RESTART, ENGINE}, NULL, {"{\"reason\":\"asked\"}"}},
    {{.type = MSG_PING, NO_ENGINE, .time = TIME}, NULL, {0}},
    {{.type = MSG_PONG, NO_ENGINE, .time = TIME}, NULL, {0}},
    {{.type = MSG_BYE, NO_ENGINE}, NULL, {"{\"reason\":\"shutdown\"}"}},
    {{.type = MSG_BLOB, NO_ENGINE, .seq = 7}, NULL, {"a function's stream"}},
    {{.type = MSG_DROP, NO_ENGINE, .seq = 7}, NULL, {0}},
};
#define NSAMPLES (sizeof SAMPLES / sizeof SAMPLES[0])

/* The message as it stands on the wire. */
static void compose(const struct sample *s, struct buf *out)
{
    struct buf route = {0};
    struct header h = s->h;
    if (s->route)
        assert_int_equal(s->route(&route), CV_OK);
    h.route_len = (uint32_t)route.len;
    for (; h.nbufs < 3 && s->bufs[h.nbufs]; h.nbufs++)
        h.body_len += strlen(s->bufs[h.nbufs]);
    uint8_t head[WIRE_HEADER_SIZE];
    header_encode(head, &h);
    assert_int_equal(buf_add(out, head, sizeof head), CV_OK);
    assert_int_equal(buf_add(out, route.data, route.len), CV_OK);
    for (uint32_t i = 0; i < h.nbufs && h.nbufs > 1; i++) {
        uint64_t len = htole64(strlen(s->bufs[i]));
        assert_int_equal(buf_add(out, &len, sizeof len), CV_OK);
    }
    for (uint32_t i = 0; i < h.nbufs; i++)
        assert_int_equal(buf_addstr(out, s->bufs[i]), CV_OK);
    buf_release(&route);
}

static void to_hex(const struct buf *b, struct buf *out)
{
    for (size_t i = 0; i < b->len; i++)
        assert_int_equal(
            buf_addf(out, "%02x%c", b->data[i], i % 16 == 15 || i + 1 == b->len ? '\n' : ' '),
            CV_OK);
}

static char *file_of(const struct sample *s)
{
    char name[40];
    snprintf(name, sizeof name, "%s.hex", msg_type_name(s->h.type));
    for (char *p = name; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return path_join(folder, name);
}

static void bytes_are_as_recorded(void **state)
{
    for (size_t i = 0; i < NSAMPLES; i++) {
        struct buf bytes = {0}, hex = {0}, recorded = {0};
        struct err e;
        char *path = file_of(&SAMPLES[i]);
        compose(&SAMPLES[i], &bytes);
        to_hex(&bytes, &hex);
        if (file_read(path, 1 << 20, &recorded, &e))
            fail_msg("%s", e.text);
        if (strcmp(buf_cstr(&hex), buf_cstr(&recorded)))
            fail_msg("%s: the bytes have changed; they are now\n%s", path, buf_cstr(&hex));
        buf_release(&recorded);
        buf_release(&hex);
        buf_release(&bytes);
        free(path);
    }
}

/* What was recorded must also be understood: header by header, and the routes by their parsers. */
static void records_are_understood(void **state)
{
    const struct wire_limits limits = {.body_max = WIRE_PREAUTH_MAX, .route_max = WIRE_ROUTE_MAX};
    for (size_t i = 0; i < NSAMPLES; i++) {
        struct buf bytes = {0};
        struct header h;
        compose(&SAMPLES[i], &bytes);
        assert_int_equal(header_decode(bytes.data, &limits, &h, NULL), CV_OK);
        assert_int_equal(h.type, SAMPLES[i].h.type);
        assert_int_equal(h.seq, SAMPLES[i].h.seq);
        assert_int_equal(h.aux, SAMPLES[i].h.aux);
        assert_int_equal(bytes.len, WIRE_HEADER_SIZE + h.route_len +
                                        (h.nbufs > 1 ? 8 * h.nbufs : 0) + h.body_len);
        const uint8_t *route = bytes.data + WIRE_HEADER_SIZE;
        if (h.type == MSG_HELLO) {
            struct hello hello;
            assert_int_equal(hello_decode(route, h.route_len, &hello, NULL), CV_OK);
            assert_int_equal(hello.session, SESSION);
            assert_int_equal(hello.waiting[0].hi, 9);
            hello_release(&hello);
        } else if (h.type == MSG_WELCOME) {
            struct welcome w;
            assert_int_equal(welcome_decode(route, h.route_len, &w, NULL), CV_OK);
            assert_int_equal(w.number, 3);
            welcome_release(&w);
        } else if (h.type == MSG_TASK) {
            struct route r;
            assert_int_equal(route_decode(route, h.route_len, &r, NULL), CV_OK);
            assert_string_equal(r.label, "pi");
            assert_int_equal(r.after[0].hi, 4);
            route_release(&r);
        }
        buf_release(&bytes);
    }
}

/* Each type that is in use has a transcript. */
static void no_type_is_missing(void **state)
{
    for (uint8_t t = 1; t < MSG_TYPE_END; t++) {
        size_t n = 0;
        for (size_t i = 0; i < NSAMPLES; i++)
            n += SAMPLES[i].h.type == t;
        assert_int_equal(n, t != MSG_MEMFD && t != MSG_RELEASE);
    }
}

static int write_anew(void)
{
    for (size_t i = 0; i < NSAMPLES; i++) {
        struct buf bytes = {0}, hex = {0};
        struct err e;
        char *path = file_of(&SAMPLES[i]);
        compose(&SAMPLES[i], &bytes);
        to_hex(&bytes, &hex);
        if (file_write_atomic(path, 0644, hex.data, hex.len, &e)) {
            fprintf(stderr, "%s\n", e.text);
            return 1;
        }
        buf_release(&hex);
        buf_release(&bytes);
        free(path);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_as_recorded),
        cmocka_unit_test(records_are_understood),
        cmocka_unit_test(no_type_is_missing),
    };
    folder = argv[argc - 1];
    if (argc == 3 && !strcmp(argv[1], "--write"))
        return write_anew();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

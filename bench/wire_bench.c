/* SPDX-License-Identifier: BSD-3-Clause
 *
 * wire-bench [operations]: what it costs to write and read the header and the route of a message,
 * and to make and free one. One thread; prints nanoseconds per operation. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "wire/msg.h"
#include "wire/route.h"

static const struct wire_limits limits = {.body_max = 16ull << 30, .route_max = WIRE_ROUTE_MAX};

static void check(int r, const struct err *e)
{
    if (r < 0) {
        fprintf(stderr, "wire-bench: %s\n", e ? e->text : err_name(r));
        exit(1);
    }
}

static void row(const char *what, uint64_t n, uint64_t start)
{
    printf("wire  %-44s %8.1f ns\n", what, (double)(clock_mono() - start) / (double)n);
}

static void headers(uint64_t n)
{
    struct header h = {.type = MSG_TASK, .session = 1, .count = 1, .nbufs = 1, .body_len = 100}, in;
    uint8_t bytes[WIRE_HEADER_SIZE];
    struct err e;
    uint64_t sum = 0, t = clock_mono();
    for (uint64_t i = 0; i < n; i++) {
        h.seq = i;
        header_encode(bytes, &h);
        sum += bytes[40];
    }
    row("header, encode", n, t);
    t = clock_mono();
    for (uint64_t i = 0; i < n; i++) {
        bytes[40] = (uint8_t)i;
        check(header_decode(bytes, &limits, &in, &e), &e);
        sum += in.seq;
    }
    row("header, decode", n, t);
    if (sum == 1) /* never: it keeps the loops */
        puts("");
}

static void routes(uint64_t n, const char *what, const struct route *r)
{
    char text[64];
    struct buf b = {0};
    struct err e;
    uint64_t t = clock_mono();
    for (uint64_t i = 0; i < n; i++) {
        buf_clear(&b);
        check(route_encode(r, &b), NULL);
    }
    snprintf(text, sizeof text, "route %s (%zu bytes), encode", what, b.len);
    row(text, n, t);
    t = clock_mono();
    for (uint64_t i = 0; i < n; i++) {
        struct route in;
        check(route_decode(b.data, b.len, &in, &e), &e);
        route_release(&in);
    }
    snprintf(text, sizeof text, "route %s (%zu bytes), decode", what, b.len);
    row(text, n, t);
    buf_release(&b);
}

static void messages(uint64_t n)
{
    struct header h = {.type = MSG_TASK, .session = 1, .count = 1};
    uint64_t size = 100, t = clock_mono();
    for (uint64_t i = 0; i < n; i++) {
        struct payload *p;
        struct msg *m;
        check(payload_new_large(&p, 1, &size), NULL);
        check(msg_new(&m, &h, "route", 5, p), NULL);
        msg_free(m);
    }
    row("message with a payload of its own, new and free", n, t);
}

int main(int argc, char **argv)
{
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000;
    uint32_t targets[16] = {0};
    char label[] = "a label of a job";
    struct id_range after[3] = {{1, 5, 6}, {1, 7, 9}, {2, 1, 100}};
    struct route r;
    headers(n * 10);
    route_init(&r);
    r.retries = 3;
    r.timeout = 60;
    routes(n, "retries, timeout", &r);
    r.targets = targets;
    r.ntargets = 16;
    r.has_targets = true;
    routes(n, "… 16 targets", &r);
    r.label = label;
    r.after = after;
    r.nafter = 3;
    routes(n, "… label, after", &r);
    messages(n);
    return 0;
}

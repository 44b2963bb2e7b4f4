/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: sets of ranges against a plain list of bits, and HELLO's lists of held tasks and
 * ranges, which come out of a HELLO as they went in. */
#include <assert.h>
#include "base/ranges.h"
#include "input.h"
#include "wire/hello.h"

#define BITS 128u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void sets(struct input *in)
{
    struct ranges r = {0};
    bool bits[BITS] = {false};
    uint64_t base = in_bool(in) ? 0 : UINT64_MAX - BITS; /* also at the end of all numbers */
    while (in->left >= 3) {
        bool add = in_bool(in);
        uint64_t lo = in_u8(in) % BITS, hi = lo + in_u8(in) % (BITS - lo + 1);
        int rc = add ? ranges_add(&r, base + lo, base + hi) : ranges_del(&r, base + lo, base + hi);
        assert(!rc);
        for (uint64_t i = lo; i < hi; i++)
            bits[i] = add;
        uint64_t count = 0;
        for (uint64_t i = 0; i < BITS; i++) {
            assert(ranges_has(&r, base + i) == bits[i]);
            count += bits[i];
        }
        assert(ranges_count(&r) == count);
        for (size_t i = 0; i < r.n; i++)
            assert(r.v[i].lo < r.v[i].hi && (!i || r.v[i - 1].hi < r.v[i].lo));
    }
    ranges_release(&r);
}

static void lists(struct input *in)
{
    struct held_task held[16];
    struct id_range waiting[16];
    struct hello h = {.role = ROLE_ENGINE, .unstarted = held, .waiting = waiting}, again;
    struct buf b = {0};
    struct err e;
    h.session = in_u64(in);
    for (unsigned n = in_u8(in) & 15; h.nunstarted < n;)
        held[h.nunstarted++] = (struct held_task){.session = in_number(in),
                                                  .seq = in_number(in),
                                                  .count = (uint32_t)in_number(in),
                                                  .attempt = (uint16_t)in_number(in)};
    for (unsigned n = in_u8(in) & 15; h.nwaiting < n;)
        waiting[h.nwaiting++] = (struct id_range){in_number(in), in_number(in), in_number(in)};
    int rc = hello_encode(&h, &b);
    assert(!rc);
    if (hello_decode(b.data, b.len, &again, &e) == CV_OK) {
        assert(again.session == h.session && again.nunstarted == h.nunstarted &&
               again.nwaiting == h.nwaiting);
        for (uint32_t i = 0; i < h.nunstarted; i++)
            assert(again.unstarted[i].session == held[i].session &&
                   again.unstarted[i].seq == held[i].seq &&
                   again.unstarted[i].count == held[i].count &&
                   again.unstarted[i].attempt == held[i].attempt);
        for (uint32_t i = 0; i < h.nwaiting; i++)
            assert(!memcmp(&again.waiting[i], &waiting[i], sizeof waiting[i]));
        hello_release(&again);
    }
    buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct input in = {data, n};
    if (in_bool(&in))
        sets(&in);
    else
        lists(&in);
    return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: the route of a TASK. What is accepted can be encoded, and read again. */
#include <assert.h>
#include "wire/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct route r, again;
    struct err e;
    struct buf b = {0};
    if (route_decode(data, n, &r, &e))
        return 0;
    int rc = route_encode(&r, &b);
    assert(!rc);
    rc = route_decode(b.data, b.len, &again, &e);
    assert(!rc);
    assert(again.ntargets == r.ntargets && again.nafter == r.nafter && again.nfollow == r.nfollow);
    route_release(&again);
    route_release(&r);
    buf_release(&b);
    return 0;
}

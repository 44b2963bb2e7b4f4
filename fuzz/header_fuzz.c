/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzz target: the fixed header. What is accepted keeps to the limits and survives a round trip. */
#include <assert.h>
#include <string.h>
#include "wire/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct wire_limits limits = {.body_max = 1 << 30, .route_max = 1 << 16};
    struct header h;
    struct err e;
    uint8_t again[WIRE_HEADER_SIZE];
    if (n < WIRE_HEADER_SIZE || header_decode(data, &limits, &h, &e))
        return 0;
    assert(h.body_len <= limits.body_max && h.route_len <= limits.route_max);
    header_encode(again, &h);
    assert(!memcmp(again, data, sizeof again));
    return 0;
}

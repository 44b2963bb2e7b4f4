/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Functions' streams that this client sent lately, by their content: equal bytes are one payload,
 * so that the link below sends them once (wire/payload.h, head). Bounded; what was used longest ago
 * goes first. GIL held. */
#ifndef COVEY_PYEXT_HEADS_H
#define COVEY_PYEXT_HEADS_H

#include "wire/payload.h"

#define HEADS_MAX (32ull << 20) /* bytes in all */
#define HEADS_COUNT_MAX 64u     /* of them; each is compared when a new one comes */
#define HEAD_MAX (8ull << 20)   /* a larger one is not worth its place */

struct heads;

int heads_new(struct heads **ret) CV_CHECK;
void heads_free(struct heads *h); /* NULL is fine */
/* The payload with these bytes (of one buffer), the caller's reference. */
int heads_get(struct heads *h, const void *data, uint64_t n, struct payload **ret) CV_CHECK;
uint64_t heads_bytes(const struct heads *h);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Mappings of large payloads that have been let go, kept for a moment for the next one of the same
 * size: a fresh page costs more than what is copied into it (the kernel clears it first). Any
 * thread: a put or take that would have to wait for the mutex does without, so a forked child,
 * where nobody may ever release it, never waits. Bounded; spares_age() lets go of what nobody
 * wanted. Shared by reference count. */
#ifndef COVEY_WIRE_SPARES_H
#define COVEY_WIRE_SPARES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

#define SPARES_MAX (128ull << 20) /* bytes in all */
#define SPARES_MIN (2ull << 20)   /* what is smaller is not worth it */

struct spares;

int spares_new(struct spares **ret) CV_CHECK;
struct spares *spares_ref(struct spares *s);
void spares_unref(struct spares *s); /* NULL is fine */
/* A mapping of that many bytes (whole pages), or NULL: there is none. */
void *spares_take(struct spares *s, uint64_t size);
/* Takes the mapping; false: the caller unmaps it. */
bool spares_put(struct spares *s, void *map, uint64_t size);
/* Unmaps what was put before `then` (monotonic ns). */
void spares_age(struct spares *s, uint64_t then);
uint64_t spares_bytes(const struct spares *s);
/* Nobody will take any more: what is kept is unmapped, what comes is refused. */
void spares_close(struct spares *s);

#endif

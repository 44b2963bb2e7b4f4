/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When a dead engine starts again: at once after one that lived, with a pause after one that
 * crashed early, never after RESTART_QUICK_MAX early crashes in a row. Pure. */
#ifndef COVEY_HOST_RESTART_H
#define COVEY_HOST_RESTART_H

#include <stdint.h>

#define RESTART_QUICK_NS (10ull * 1000000000) /* lived shorter: a crash at start */
#define RESTART_QUICK_MAX 3
#define RESTART_NEVER UINT64_MAX

/* One slot's history. Zeroed memory is a new one's. */
struct restarts {
    uint32_t quick; /* early crashes in a row */
};

/* An engine that started `lived_ns` ago has died: the pause before the next start, or
 * RESTART_NEVER. */
uint64_t restart_after(struct restarts *r, uint64_t lived_ns);

#endif

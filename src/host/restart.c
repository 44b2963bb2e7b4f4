/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See restart.h. */
#include "host/restart.h"

#include "base/clock.h"

uint64_t restart_after(struct restarts *r, uint64_t lived_ns)
{
    if (lived_ns >= RESTART_QUICK_NS) {
        r->quick = 0;
        return 0;
    }
    if (++r->quick >= RESTART_QUICK_MAX)
        return RESTART_NEVER;
    return r->quick * 500 * NS_PER_MS;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Clocks, in nanoseconds. Durations are measured with clock_mono() only: wall time may jump. */
#ifndef COVEY_BASE_CLOCK_H
#define COVEY_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

uint64_t clock_mono(void); /* CLOCK_MONOTONIC */
uint64_t clock_wall(void); /* since 1970-01-01 UTC */

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How Python threads wait: in poll() on an eventfd with the GIL released. A signal for the main
 * thread ends poll() with EINTR, so Python's handlers run at once; one that arrives in the instant
 * before poll() is noticed within 100 ms. (An eventfd wakes faster than a condition variable here.)
 */
#ifndef COVEY_PYEXT_WAITER_H
#define COVEY_PYEXT_WAITER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

#define WAIT_FOREVER UINT64_MAX

/* 1: readable; 0: the deadline (clock_mono) has passed; -1: a Python exception is set, or, with
 * stop_on_signal, 0 after a signal whose handler did not raise. GIL held by the caller. */
int wait_readable(int fd, uint64_t deadline, bool stop_on_signal);
/* Seconds from Python (None: for ever) to a clock_mono() deadline. -1 with an exception set. */
int wait_deadline(void *pyobject, uint64_t *ret);
/* What is not above 0 is 0; 1e9 s are as good as for ever, and no sum with a clock overflows. */
uint64_t span_ns(double seconds);

int event_new(void); /* a non-blocking CLOEXEC eventfd, or -1 */
void event_set(int fd);
void event_clear(int fd);

#endif

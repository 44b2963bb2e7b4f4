/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The event loop of a thread: libuv behind the few things that covey needs. Everything except
 * loop_wake() must be called on the loop's thread. Callbacks may free what they were called for. */
#ifndef COVEY_NET_LOOP_H
#define COVEY_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "base/error.h"

struct loop;
struct timer;
struct watch;

int loop_new(struct loop **ret) CV_CHECK;
void loop_free(struct loop *l); /* all timers, watches and links must be gone */
int loop_run(struct loop *l);   /* until loop_stop(); CV_OK */
void loop_stop(struct loop *l);
uv_loop_t *loop_uv(struct loop *l);

/* For who has other things to do between turns: one turn that does not wait, after the callbacks of
 * loop_on_wake(). Returns after how many ns the next one is due, UINT64_MAX if only once loop_fd()
 * is readable. Threads may take turns if they see to it that there is one at a time. */
uint64_t loop_turn_once(struct loop *l);
int loop_fd(const struct loop *l);

uint64_t loop_now(struct loop *l); /* monotonic ns at the start of this turn (cached) */

/* Called on the loop's thread once or more after loop_wake(), from any thread, async-signal-safe.
 */
void loop_on_wake(struct loop *l, void (*cb)(void *arg), void *arg);
void loop_wake(struct loop *l);
/* Called at the end of each turn, before the loop sleeps: batch work goes here. At most 4 hooks. */
int loop_on_turn_end(struct loop *l, void (*cb)(void *arg), void *arg) CV_CHECK;

int timer_new(struct timer **ret, struct loop *l, void (*cb)(void *arg), void *arg) CV_CHECK;
void timer_start(struct timer *t, uint64_t delay_ns, uint64_t repeat_ns); /* restarts */
void timer_stop(struct timer *t);
void timer_free(struct timer *t); /* NULL is fine */

/* Readiness of any descriptor (not owned). events: UV_READABLE | UV_WRITABLE. */
int watch_new(struct watch **ret, struct loop *l, int fd, int events,
              void (*cb)(void *arg, int events), void *arg) CV_CHECK;
void watch_set(struct watch *w, int events);
void watch_free(struct watch *w); /* NULL is fine */

/* SIGNUM delivered on the loop's thread. Freed with watch_free(). */
int signal_new(struct watch **ret, struct loop *l, int signum, void (*cb)(void *arg, int signum),
               void *arg) CV_CHECK;

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading a child's output: a pipe whose bytes go to a callback while their last part is kept, so
 * that a death can be told with its last words. On the loop's thread. Owns the descriptor. */
#ifndef COVEY_PROC_CAPTURE_H
#define COVEY_PROC_CAPTURE_H

#include <stddef.h>
#include <uv.h>
#include "base/buf.h"
#include "base/error.h"

struct capture;

/* n == 0: end of file or a read error; nothing follows. May free the capture. */
typedef void (*capture_cb)(void *arg, const void *data, size_t n);

/* Takes fd (closed on failure too) and makes it non-blocking. Keeps the last `tail` bytes. cb may
 * be NULL. */
int capture_new(struct capture **ret, uv_loop_t *loop, int fd_take, size_t tail, capture_cb cb,
                void *arg) CV_CHECK;
void capture_free(struct capture *c); /* no callback; NULL is fine */
/* Reads what is in the pipe now (to the callback and the tail): after its writer's death is known.
 */
void capture_drain(struct capture *c);
/* Appends the kept bytes to out. */
int capture_tail(const struct capture *c, struct buf *out) CV_CHECK;

/* A close-on-exec pipe whose read end [0] is non-blocking (the write end blocks, as programs
 * expect). */
int capture_pipe(int ret[2], struct err *e) CV_CHECK;
/* Appends what a non-blocking descriptor has now to out, at most `limit` bytes. Waits for nothing.
 */
int capture_leftover(int fd, size_t limit, struct buf *out) CV_CHECK;
/* The last `lines` lines of text as a position in it; trailing blank lines don't count. */
size_t tail_lines(const char *text, size_t n, unsigned lines);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A growable byte buffer. Zeroed memory is a valid empty buffer; buf_release() frees and zeroes. */
#ifndef COVEY_BASE_BUF_H
#define COVEY_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

struct buf {
    uint8_t *data;
    size_t len, cap;
};

void buf_release(struct buf *b);
void buf_clear(struct buf *b); /* len = 0, keeps the memory */
int buf_reserve(struct buf *b, size_t more) CV_CHECK;
int buf_add(struct buf *b, const void *data, size_t n) CV_CHECK;
int buf_addstr(struct buf *b, const char *s) CV_CHECK;
int buf_addf(struct buf *b, const char *fmt, ...) CV_PRINTF(2, 3) CV_CHECK;
void buf_consume(struct buf *b, size_t n); /* drops the first n bytes */
/* The text with a NUL behind it (not counted in len). NULL when out of memory. */
const char *buf_cstr(struct buf *b);

#endif

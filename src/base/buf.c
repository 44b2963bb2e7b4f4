/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The growable byte buffer (buf.h). Any thread, one at a time. On failure a buffer stays as it
 * was. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_release(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
}

int buf_reserve(struct buf *b, size_t more)
{
    if (more <= b->cap - b->len)
        return CV_OK;
    if (more > SIZE_MAX / 4 || b->len > SIZE_MAX / 4)
        return CV_ENOMEM;
    size_t cap = b->cap ? b->cap : 64;
    while (cap - b->len < more)
        cap *= 2;
    uint8_t *p = realloc(b->data, cap);
    if (!p)
        return CV_ENOMEM;
    b->data = p;
    b->cap = cap;
    return CV_OK;
}

int buf_add(struct buf *b, const void *data, size_t n)
{
    if (n == 0)
        return CV_OK;
    int rc = buf_reserve(b, n);
    if (rc)
        return rc;
    memcpy(b->data + b->len, data, n);
    b->len += n;
    return CV_OK;
}

int buf_addstr(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

int buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    size_t room = b->cap - b->len;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n =
        vsnprintf(room ? (char *)b->data + b->len : NULL, room, fmt, ap); /* it fits, as a rule */
    va_end(ap);
    int rc = n < 0 ? CV_EINVAL : (size_t)n < room ? CV_OK : buf_reserve(b, (size_t)n + 1);
    if (!rc) {
        if ((size_t)n >= room)
            vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return rc;
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

const char *buf_cstr(struct buf *b)
{
    if (buf_reserve(b, 1))
        return NULL;
    b->data[b->len] = 0;
    return (const char *)b->data;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See jsontext.h. Any thread. A failure is remembered here, whatever jansson makes of it. */
#include "base/jsontext.h"

#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"

struct text {
    struct buf b;
    bool oom;
};

static int add(const char *part, size_t n, void *arg)
{
    struct text *t = arg;
    t->oom |= buf_add(&t->b, part, n) != CV_OK;
    return t->oom ? -1 : 0;
}

char *jsontext(const json_t *j, size_t flags)
{
    struct text t = {.oom = false};
    if (json_dump_callback(j, add, &t, flags) == 0 && !t.oom && buf_cstr(&t.b))
        return (char *)t.b.data;
    buf_release(&t.b);
    return NULL;
}

/* A byte that JSON text has as it is. */
static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* Bytes of the valid UTF-8 sequence at p, 0: there is none. */
static size_t utf8_length(const uint8_t *p, size_t n)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

    if (!len || len > n || p[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

int jsontext_add(struct buf *b, const char *text, size_t n)
{
    const uint8_t *p = (const uint8_t *)text;
    int r = buf_reserve(b, n + 2);
    size_t from = 0, i = 0;

    if (r == CV_OK)
        r = buf_add(b, "\"", 1);
    while (i < n && r == CV_OK) {
        if (is_plain(p[i])) {
            i++;
            continue;
        }
        size_t len = utf8_length(p + i, n - i);
        if (len > 1) {
            i += len;
            continue;
        }
        r = buf_add(b, p + from, i - from);
        if (r == CV_OK)
            r = !len ? buf_addstr(b, "\xef\xbf\xbd")
                     : buf_addf(b, p[i] < 0x20 ? "\\u%04x" : "\\%c", p[i]);
        from = ++i;
    }
    if (r == CV_OK && n > from)
        r = buf_add(b, p + from, n - from);
    return r == CV_OK ? buf_add(b, "\"", 1) : r;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See pickled.h. The opcodes are PROTO 4, EMPTY_LIST, MARK, one BINBYTES or BINBYTES8 each, APPENDS
 * and STOP. On any thread. */
#include "store/pickled.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t head[] = {0x80, 4, ']', '('};
static const uint8_t tail[] = {'e', '.'};
#define OP_BYTES 'B'
#define OP_BYTES8 0x8e

static int add_opcode(struct buf *out, uint64_t len)
{
    uint8_t op[9] = {len <= UINT32_MAX ? OP_BYTES : OP_BYTES8};
    size_t n = len <= UINT32_MAX ? 4 : 8;

    for (size_t i = 0; i < n; i++)
        op[1 + i] = (uint8_t)(len >> 8 * i);
    return buf_add(out, op, n + 1);
}

int pickled_add(struct buf *out, const struct store_payload_ops *ops, const void *payload)
{
    uint32_t n = ops->count(payload);
    int r = buf_add(out, head, sizeof(head));

    for (uint32_t i = 0; i < n && r == CV_OK; i++) {
        struct store_slice s = ops->buffer(payload, i);
        r = add_opcode(out, s.len);
        if (r == CV_OK && s.len)
            r = buf_add(out, s.data, s.len);
    }
    return r == CV_OK ? buf_add(out, tail, sizeof(tail)) : r;
}

uint64_t pickled_size(const struct store_payload_ops *ops, const void *payload)
{
    uint64_t n = sizeof(head) + sizeof(tail);

    for (uint32_t i = 0; i < ops->count(payload); i++)
        n += 9 + ops->buffer(payload, i).len;
    return n;
}

/* The next buffer; false: there is none, or it does not end where it should. */
static bool next_buffer(const uint8_t **at, const uint8_t *end, struct store_slice *ret)
{
    size_t n = **at == OP_BYTES ? 4 : **at == OP_BYTES8 ? 8 : 0;
    uint64_t len = 0;

    if (!n || (size_t)(end - *at) < n + 1)
        return false;
    for (size_t i = 0; i < n; i++)
        len |= (uint64_t)(*at)[1 + i] << 8 * i;
    *at += n + 1;
    if (len > (uint64_t)(end - *at))
        return false;
    *ret = (struct store_slice){*at, len};
    *at += len;
    return true;
}

void *pickled_read(const void *data, uint64_t n, const struct store_payload_ops *ops)
{
    const uint8_t *at = data, *end = at + n;
    struct store_slice *v = NULL, s;
    uint32_t count = 0, cap = 0;
    void *ret = NULL;

    if (n < sizeof(head) + sizeof(tail) || memcmp(at, head, sizeof(head)) != 0)
        return NULL;
    at += sizeof(head);
    while (at < end && next_buffer(&at, end, &s)) {
        if (count == cap) {
            struct store_slice *more = realloc(v, (cap = cap ? 2 * cap : 4) * sizeof(*v));
            if (!more)
                goto out;
            v = more;
        }
        v[count++] = s;
    }
    if (end - at == sizeof(tail) && memcmp(at, tail, sizeof(tail)) == 0)
        ret = ops->make(v, count);
out:
    free(v);
    return ret;
}

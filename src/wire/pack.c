/* SPDX-License-Identifier: BSD-3-Clause
 *
 * MessagePack maps (pack.h). Any thread; the unpacked tree lives in a zone that its holder
 * destroys. */
#include "wire/pack.h"

#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

static int write_to_buf(void *arg, const char *data, size_t n)
{
    struct pack *p = arg;
    if (!p->rc)
        p->rc = buf_add(p->out, data, n);
    return p->rc;
}

void pack_begin(struct pack *p, struct buf *out)
{
    p->out = out;
    p->rc = CV_OK;
    msgpack_packer_init(&p->mp, p, write_to_buf);
}

int pack_end(const struct pack *p)
{
    return p->rc;
}

void pack_map(struct pack *p, size_t n)
{
    msgpack_pack_map(&p->mp, n);
}

void pack_array(struct pack *p, size_t n)
{
    msgpack_pack_array(&p->mp, n);
}

void pack_str(struct pack *p, const char *s)
{
    msgpack_pack_str_with_body(&p->mp, s, strlen(s));
}

void pack_u64(struct pack *p, uint64_t v)
{
    msgpack_pack_uint64(&p->mp, v);
}

void pack_key_u64(struct pack *p, const char *key, uint64_t v)
{
    pack_str(p, key);
    pack_u64(p, v);
}

void pack_key_str(struct pack *p, const char *key, const char *s)
{
    pack_str(p, key);
    pack_str(p, s);
}

/* ---- reading ---- */

/* One value's head: how many bytes it has itself (head and data) and how many values follow inside.
 */
struct item {
    uint64_t bytes, children;
};

static uint64_t big_endian(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    while (n--)
        v = v << 8 | *p++;
    return v;
}

/* Heads 0xc0 to 0xdf: bytes of the length field, fixed bytes behind it, and what the length counts.
 */
static const struct {
    uint8_t len_bytes, fixed;
    enum { NOTHING, BYTES, ITEMS, PAIRS, BAD } counts;
} HEADS[32] = {
    [0x00] = {0, 0, NOTHING},  [0x01] = {0, 0, BAD},     [0x02] = {0, 0, NOTHING},
    [0x03] = {0, 0, NOTHING},  [0x04] = {1, 0, BYTES},   [0x05] = {2, 0, BYTES},
    [0x06] = {4, 0, BYTES},    [0x07] = {1, 1, BYTES},   [0x08] = {2, 1, BYTES},
    [0x09] = {4, 1, BYTES},    [0x0a] = {0, 4, NOTHING}, [0x0b] = {0, 8, NOTHING},
    [0x0c] = {0, 1, NOTHING},  [0x0d] = {0, 2, NOTHING}, [0x0e] = {0, 4, NOTHING},
    [0x0f] = {0, 8, NOTHING},  [0x10] = {0, 1, NOTHING}, [0x11] = {0, 2, NOTHING},
    [0x12] = {0, 4, NOTHING},  [0x13] = {0, 8, NOTHING}, [0x14] = {0, 2, NOTHING},
    [0x15] = {0, 3, NOTHING},  [0x16] = {0, 5, NOTHING}, [0x17] = {0, 9, NOTHING},
    [0x18] = {0, 17, NOTHING}, [0x19] = {1, 0, BYTES},   [0x1a] = {2, 0, BYTES},
    [0x1b] = {4, 0, BYTES},    [0x1c] = {2, 0, ITEMS},   [0x1d] = {4, 0, ITEMS},
    [0x1e] = {2, 0, PAIRS},    [0x1f] = {4, 0, PAIRS},
};

static int read_head(const uint8_t *p, size_t n, struct item *ret)
{
    uint8_t b = p[0];
    *ret = (struct item){.bytes = 1};
    if (b <= 0x7f || b >= 0xe0)
        return CV_OK;
    if (b <= 0x8f)
        ret->children = (uint64_t)(b & 15) * 2;
    else if (b <= 0x9f)
        ret->children = b & 15;
    else if (b <= 0xbf)
        ret->bytes += b & 31;
    else {
        size_t len_bytes = HEADS[b - 0xc0].len_bytes;
        if (HEADS[b - 0xc0].counts == BAD || n < 1 + len_bytes)
            return CV_EPROTO;
        uint64_t len = big_endian(p + 1, len_bytes);
        ret->bytes += len_bytes + HEADS[b - 0xc0].fixed;
        if (HEADS[b - 0xc0].counts == BYTES)
            ret->bytes += len;
        else if (HEADS[b - 0xc0].counts == ITEMS)
            ret->children = len;
        else if (HEADS[b - 0xc0].counts == PAIRS)
            ret->children = len * 2;
    }
    return CV_OK;
}

/* Walks one value: everything it announces is there, it is not nested too deeply, nothing follows.
 */
static int check(const uint8_t *p, size_t n)
{
    uint64_t left[PACK_DEPTH_MAX] = {1}; /* values still to come, by depth */
    size_t depth = 0;
    for (;;) {
        while (left[depth] == 0) {
            if (depth-- == 0)
                return n == 0 ? CV_OK : CV_EPROTO;
        }
        struct item it;
        if (n == 0 || read_head(p, n, &it) || it.bytes > n || it.children > n - it.bytes)
            return CV_EPROTO;
        p += it.bytes;
        n -= it.bytes;
        left[depth]--;
        if (!it.children)
            continue;
        if (++depth == PACK_DEPTH_MAX)
            return CV_EPROTO;
        left[depth] = it.children;
    }
}

int unpack_map(const void *data, size_t n, msgpack_unpacked *ret, struct err *e)
{
    if (check(data, n))
        return err_set(e, CV_EPROTO, "not one whole MessagePack value of at most %d levels",
                       PACK_DEPTH_MAX - 1);
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    size_t off = 0;
    msgpack_unpack_return r = msgpack_unpack_next(&u, data, n, &off);
    if (r == MSGPACK_UNPACK_SUCCESS && u.data.type == MSGPACK_OBJECT_MAP) {
        *ret = u;
        return CV_OK;
    }
    msgpack_unpacked_destroy(&u);
    if (r == MSGPACK_UNPACK_NOMEM_ERROR)
        return err_set(e, CV_ENOMEM, "out of memory reading a route");
    return err_set(e, CV_EPROTO, "not a MessagePack map");
}

bool unpack_is(const msgpack_object *key, const char *name)
{
    size_t n = strlen(name);
    return key->type == MSGPACK_OBJECT_STR && key->via.str.size == n &&
           !memcmp(key->via.str.ptr, name, n);
}

int unpack_u64(const msgpack_object *v, const char *key, uint64_t max, uint64_t *ret, struct err *e)
{
    if (v->type != MSGPACK_OBJECT_POSITIVE_INTEGER || v->via.u64 > max)
        return err_set(e, CV_EPROTO, "\"%s\" must be a whole number from 0 to %llu", key,
                       (unsigned long long)max);
    *ret = v->via.u64;
    return CV_OK;
}

int unpack_u32(const msgpack_object *v, const char *key, uint32_t max, uint32_t *ret, struct err *e)
{
    uint64_t x = 0;
    int rc = unpack_u64(v, key, max, &x, e);
    if (!rc)
        *ret = (uint32_t)x;
    return rc;
}

int unpack_bool(const msgpack_object *v, const char *key, bool *ret, struct err *e)
{
    if (v->type != MSGPACK_OBJECT_BOOLEAN)
        return err_set(e, CV_EPROTO, "\"%s\" must be true or false", key);
    *ret = v->via.boolean;
    return CV_OK;
}

int unpack_str(const msgpack_object *v, const char *key, char **ret, struct err *e)
{
    char *s = NULL;
    if (v->type != MSGPACK_OBJECT_NIL) {
        if (v->type != MSGPACK_OBJECT_STR ||
            (v->via.str.size && memchr(v->via.str.ptr, 0, v->via.str.size)))
            return err_set(e, CV_EPROTO, "\"%s\" must be text", key);
        s = strndup(v->via.str.size ? v->via.str.ptr : "", v->via.str.size);
        if (!s)
            return err_set(e, CV_ENOMEM, "out of memory");
    }
    free(*ret);
    *ret = s;
    return CV_OK;
}

int unpack_array(const msgpack_object *v, const char *key, const msgpack_object_array **ret,
                 struct err *e)
{
    if (v->type != MSGPACK_OBJECT_ARRAY)
        return err_set(e, CV_EPROTO, "\"%s\" must be a list", key);
    *ret = &v->via.array;
    return CV_OK;
}

int unpack_tuple(const msgpack_object *v, const char *key, uint32_t min, uint32_t max,
                 uint64_t *ret, uint32_t *ret_n, struct err *e)
{
    if (v->type != MSGPACK_OBJECT_ARRAY || v->via.array.size < min || v->via.array.size > max)
        return err_set(e, CV_EPROTO, "\"%s\" must have items of %u to %u numbers", key, min, max);
    for (uint32_t i = 0; i < v->via.array.size; i++) {
        int rc = unpack_u64(&v->via.array.ptr[i], key, UINT64_MAX, &ret[i], e);
        if (rc)
            return rc;
    }
    *ret_n = v->via.array.size;
    return CV_OK;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * MessagePack maps with text keys, as the routes hold them: writing into a buf, reading with
 * msgpack-c on its zones. Reading first walks the bytes once, so that no length that a peer sent is
 * believed (memory is allocated from it) before it is known to fit in what came. Used inside
 * wire/ alone. */
#ifndef COVEY_WIRE_PACK_H
#define COVEY_WIRE_PACK_H

#include <stdbool.h>
#include <stdint.h>
#include <msgpack.h>
#include "base/buf.h"
#include "base/error.h"

#define PACK_DEPTH_MAX 8

/* Writing: the first error stays and the later calls do nothing; pack_end() returns it. */
struct pack {
    msgpack_packer mp;
    struct buf *out;
    int rc;
};

void pack_begin(struct pack *p, struct buf *out);
int pack_end(const struct pack *p) CV_CHECK;
void pack_map(struct pack *p, size_t n);
void pack_array(struct pack *p, size_t n);
void pack_str(struct pack *p, const char *s);
void pack_u64(struct pack *p, uint64_t v);
void pack_key_u64(struct pack *p, const char *key, uint64_t v);
void pack_key_str(struct pack *p, const char *key, const char *s);

/* Reading. */
int unpack_map(const void *data, size_t n, msgpack_unpacked *ret, struct err *e) CV_CHECK;
bool unpack_is(const msgpack_object *key, const char *name); /* a text key with this name? */
/* Each fails with CV_EPROTO and a text that names the key. */
int unpack_u64(const msgpack_object *v, const char *key, uint64_t max, uint64_t *ret,
               struct err *e) CV_CHECK;
int unpack_u32(const msgpack_object *v, const char *key, uint32_t max, uint32_t *ret,
               struct err *e) CV_CHECK;
int unpack_bool(const msgpack_object *v, const char *key, bool *ret, struct err *e) CV_CHECK;
/* malloc'ed text without NUL inside; nil gives NULL; frees what was in *ret (a key that comes
 * twice). */
int unpack_str(const msgpack_object *v, const char *key, char **ret, struct err *e) CV_CHECK;
/* An array; and an array of min to max unsigned numbers, copied out. */
int unpack_array(const msgpack_object *v, const char *key, const msgpack_object_array **ret,
                 struct err *e) CV_CHECK;
int unpack_tuple(const msgpack_object *v, const char *key, uint32_t min, uint32_t max,
                 uint64_t *ret, uint32_t *ret_n, struct err *e) CV_CHECK;

#endif

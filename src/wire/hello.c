/* SPDX-License-Identifier: BSD-3-Clause
 *
 * HELLO and WELCOME (hello.h). Any thread. A failed decode leaves nothing allocated. Scalars that
 * have the default are left out; both sides skip keys that they don't know. */
#include "wire/hello.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "wire/header.h"
#include "wire/pack.h"

/* A key whose value is one number or one text at an offset of the struct. */
struct field {
    const char *name;
    enum { F_U8, F_U32, F_U64, F_STR } kind;
    size_t offset;
    uint64_t absent; /* the number that is not sent */
};

static const struct field HELLO_FIELDS[] = {
    {"role", F_U8, offsetof(struct hello, role), 0},
    {"session", F_U64, offsetof(struct hello, session), 0},
    {"cluster", F_STR, offsetof(struct hello, cluster_id), 0},
    {"boot", F_STR, offsetof(struct hello, boot_id), 0},
    {"uuid", F_STR, offsetof(struct hello, uuid), 0},
    {"python", F_STR, offsetof(struct hello, python), 0},
    {"versions", F_STR, offsetof(struct hello, versions), 0},
    {"host", F_STR, offsetof(struct hello, host), 0},
    {"machine", F_U64, offsetof(struct hello, machine), 0},
    {"pid_namespace", F_U64, offsetof(struct hello, pid_namespace), 0},
    {"pid", F_U32, offsetof(struct hello, pid), 0},
    {"number", F_U32, offsetof(struct hello, number), WIRE_ENGINE_NONE},
    {"incarnation", F_U32, offsetof(struct hello, incarnation), 0},
    {"slot", F_U32, offsetof(struct hello, slot), 0},
    {"host_session", F_U64, offsetof(struct hello, host_session), 0},
    {"engine_set", F_U64, offsetof(struct hello, engine_set), 0},
    {"connects", F_U64, offsetof(struct hello, connects), 0},
    {"memfds", F_U32, offsetof(struct hello, memfds), 0},
};

static const struct field WELCOME_FIELDS[] = {
    {"number", F_U32, offsetof(struct welcome, number), WIRE_ENGINE_NONE},
    {"incarnation", F_U32, offsetof(struct welcome, incarnation), 0},
    {"cluster", F_STR, offsetof(struct welcome, cluster_id), 0},
    {"boot", F_STR, offsetof(struct welcome, boot_id), 0},
    {"python", F_STR, offsetof(struct welcome, python), 0},
    {"credit", F_U64, offsetof(struct welcome, credit), 0},
    {"ping", F_U64, offsetof(struct welcome, ping), 0},
    {"dead", F_U64, offsetof(struct welcome, dead), 0},
    {"memfds", F_U32, offsetof(struct welcome, memfds), 0},
    {"refused", F_STR, offsetof(struct welcome, refused), 0},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t number_at(const void *base, const struct field *f)
{
    const char *p = (const char *)base + f->offset;
    switch (f->kind) {
    case F_U8:
        return *(const uint8_t *)p;
    case F_U32:
        return *(const uint32_t *)p;
    default:
        return *(const uint64_t *)p;
    }
}

static char **text_at(const void *base, const struct field *f)
{
    return (char **)((char *)base + f->offset);
}

static bool is_absent(const void *base, const struct field *f)
{
    return f->kind == F_STR ? !*text_at(base, f) : number_at(base, f) == f->absent;
}

static size_t count_fields(const void *base, const struct field *f, size_t n)
{
    size_t present = 0;
    for (size_t i = 0; i < n; i++)
        present += !is_absent(base, &f[i]);
    return present;
}

static void pack_fields(struct pack *p, const void *base, const struct field *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (is_absent(base, &f[i]))
            continue;
        if (f[i].kind == F_STR)
            pack_key_str(p, f[i].name, *text_at(base, &f[i]));
        else
            pack_key_u64(p, f[i].name, number_at(base, &f[i]));
    }
}

static void init_fields(void *base, const struct field *f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (f[i].kind == F_U32)
            *(uint32_t *)((char *)base + f[i].offset) = (uint32_t)f[i].absent;
}

static void release_fields(const void *base, const struct field *f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (f[i].kind == F_STR)
            free(*text_at(base, &f[i]));
}

static int read_field(const msgpack_object *v, void *base, const struct field *f, struct err *e)
{
    static const uint64_t MAX[] = {[F_U8] = UINT8_MAX, [F_U32] = UINT32_MAX, [F_U64] = UINT64_MAX};
    if (f->kind == F_STR)
        return unpack_str(v, f->name, text_at(base, f), e);
    uint64_t x = 0;
    int rc = unpack_u64(v, f->name, MAX[f->kind], &x, e);
    if (rc)
        return rc;
    char *p = (char *)base + f->offset;
    if (f->kind == F_U8)
        *(uint8_t *)p = (uint8_t)x;
    else if (f->kind == F_U32)
        *(uint32_t *)p = (uint32_t)x;
    else
        *(uint64_t *)p = x;
    return CV_OK;
}

static int read_fields(const msgpack_object_kv *kv, void *base, const struct field *f, size_t n,
                       struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (unpack_is(&kv->key, f[i].name))
            return read_field(&kv->val, base, &f[i], e);
    return CV_OK;
}

/* ---- ids: [lo, hi) of `session`, or [session, lo, hi) of another one ---- */

static void pack_ranges(struct pack *p, const char *key, const struct id_range *v, uint32_t n,
                        uint64_t session)
{
    pack_str(p, key);
    pack_array(p, n);
    for (uint32_t i = 0; i < n; i++) {
        bool own = v[i].session == session;
        pack_array(p, own ? 2 : 3);
        if (!own)
            pack_u64(p, v[i].session);
        pack_u64(p, v[i].lo);
        pack_u64(p, v[i].hi);
    }
}

static int read_ranges(const msgpack_object *v, const char *key, uint64_t session,
                       struct id_range **ret, uint32_t *ret_n, struct err *e)
{
    const msgpack_object_array *a;
    int rc = unpack_array(v, key, &a, e);
    if (rc)
        return rc;
    struct id_range *ids = calloc(a->size ? a->size : 1, sizeof *ids);
    if (!ids)
        return err_set(e, CV_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < a->size && !rc; i++) {
        uint64_t t[3] = {0};
        uint32_t n = 0;
        rc = unpack_tuple(&a->ptr[i], key, 2, 3, t, &n, e);
        ids[i] =
            n == 3 ? (struct id_range){t[0], t[1], t[2]} : (struct id_range){session, t[0], t[1]};
        if (!rc && ids[i].lo >= ids[i].hi)
            rc = err_set(e, CV_EPROTO, "\"%s\" has an empty range", key);
    }
    if (rc) {
        free(ids);
        return rc;
    }
    free(*ret);
    *ret = ids;
    *ret_n = a->size;
    return CV_OK;
}

/* ---- held tasks: [session, seq, count, attempt] ---- */

static void pack_held(struct pack *p, const struct held_task *t)
{
    pack_array(p, 4);
    pack_u64(p, t->session);
    pack_u64(p, t->seq);
    pack_u64(p, t->count);
    pack_u64(p, t->attempt);
}

static int read_held(const msgpack_object *v, const char *key, struct held_task *ret, struct err *e)
{
    uint64_t t[4] = {0};
    uint32_t n;
    int rc = unpack_tuple(v, key, 4, 4, t, &n, e);
    if (rc)
        return rc;
    if (t[2] == 0 || t[2] > UINT32_MAX || t[3] > UINT16_MAX || t[1] > UINT64_MAX - t[2])
        return err_set(e, CV_EPROTO, "\"%s\" has a count or attempt out of bounds", key);
    *ret = (struct held_task){t[0], t[1], (uint32_t)t[2], (uint16_t)t[3]};
    return CV_OK;
}

static int read_unstarted(const msgpack_object *v, struct hello *h, struct err *e)
{
    const msgpack_object_array *a;
    int rc = unpack_array(v, "unstarted", &a, e);
    if (rc)
        return rc;
    struct held_task *t = calloc(a->size ? a->size : 1, sizeof *t);
    if (!t)
        return err_set(e, CV_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < a->size && !rc; i++)
        rc = read_held(&a->ptr[i], "unstarted", &t[i], e);
    if (rc) {
        free(t);
        return rc;
    }
    free(h->unstarted);
    h->unstarted = t;
    h->nunstarted = a->size;
    return CV_OK;
}

/* ---- HELLO ---- */

void hello_release(struct hello *h)
{
    release_fields(h, HELLO_FIELDS, COUNT(HELLO_FIELDS));
    free(h->unstarted);
    free(h->waiting);
    *h = (struct hello){0};
}

int hello_encode(const struct hello *h, struct buf *out)
{
    struct pack p;
    pack_begin(&p, out);
    pack_map(&p, count_fields(h, HELLO_FIELDS, COUNT(HELLO_FIELDS)) + (h->running.count != 0) +
                     (h->nunstarted != 0) + (h->nwaiting != 0));
    pack_fields(&p, h, HELLO_FIELDS, COUNT(HELLO_FIELDS));
    if (h->running.count) {
        pack_str(&p, "running");
        pack_held(&p, &h->running);
    }
    if (h->nunstarted) {
        pack_str(&p, "unstarted");
        pack_array(&p, h->nunstarted);
        for (uint32_t i = 0; i < h->nunstarted; i++)
            pack_held(&p, &h->unstarted[i]);
    }
    /* Behind "session", which its short form refers to. */
    if (h->nwaiting)
        pack_ranges(&p, "waiting", h->waiting, h->nwaiting, h->session);
    return pack_end(&p);
}

static int hello_key(const msgpack_object_kv *kv, struct hello *h, struct err *e)
{
    if (unpack_is(&kv->key, "running"))
        return read_held(&kv->val, "running", &h->running, e);
    if (unpack_is(&kv->key, "unstarted"))
        return read_unstarted(&kv->val, h, e);
    if (unpack_is(&kv->key, "waiting"))
        return read_ranges(&kv->val, "waiting", h->session, &h->waiting, &h->nwaiting, e);
    return read_fields(kv, h, HELLO_FIELDS, COUNT(HELLO_FIELDS), e);
}

int hello_decode(const void *data, size_t n, struct hello *ret, struct err *e)
{
    struct hello h = {0};
    init_fields(&h, HELLO_FIELDS, COUNT(HELLO_FIELDS));
    msgpack_unpacked u;
    int rc = unpack_map(data, n, &u, e);
    if (rc)
        return err_wrap(e, rc, "HELLO");
    for (uint32_t i = 0; i < u.data.via.map.size && !rc; i++)
        rc = hello_key(&u.data.via.map.ptr[i], &h, e);
    msgpack_unpacked_destroy(&u);
    if (!rc && (h.role < ROLE_CLIENT || h.role > ROLE_HOST))
        rc = err_set(e, CV_EPROTO, "\"role\" must be 1 (client), 2 (engine) or 3 (host)");
    if (!rc && h.session == 0)
        rc = err_set(e, CV_EPROTO, "\"session\" is missing");
    if (rc) {
        hello_release(&h);
        return err_wrap(e, rc, "HELLO");
    }
    *ret = h;
    return CV_OK;
}

/* ---- WELCOME ---- */

void welcome_release(struct welcome *w)
{
    release_fields(w, WELCOME_FIELDS, COUNT(WELCOME_FIELDS));
    free(w->unknown);
    *w = (struct welcome){0};
}

int welcome_encode(const struct welcome *w, struct buf *out)
{
    struct pack p;
    pack_begin(&p, out);
    pack_map(&p, count_fields(w, WELCOME_FIELDS, COUNT(WELCOME_FIELDS)) + (w->nunknown != 0));
    pack_fields(&p, w, WELCOME_FIELDS, COUNT(WELCOME_FIELDS));
    if (w->nunknown) {
        /* WELCOME does not know the peer's session: all ranges name theirs. */
        pack_str(&p, "unknown");
        pack_array(&p, w->nunknown);
        for (uint32_t i = 0; i < w->nunknown; i++) {
            pack_array(&p, 3);
            pack_u64(&p, w->unknown[i].session);
            pack_u64(&p, w->unknown[i].lo);
            pack_u64(&p, w->unknown[i].hi);
        }
    }
    return pack_end(&p);
}

int welcome_decode(const void *data, size_t n, struct welcome *ret, struct err *e)
{
    struct welcome w = {0};
    init_fields(&w, WELCOME_FIELDS, COUNT(WELCOME_FIELDS));
    msgpack_unpacked u;
    int rc = unpack_map(data, n, &u, e);
    if (rc)
        return err_wrap(e, rc, "WELCOME");
    for (uint32_t i = 0; i < u.data.via.map.size && !rc; i++) {
        const msgpack_object_kv *kv = &u.data.via.map.ptr[i];
        rc = unpack_is(&kv->key, "unknown")
                 ? read_ranges(&kv->val, "unknown", 0, &w.unknown, &w.nunknown, e)
                 : read_fields(kv, &w, WELCOME_FIELDS, COUNT(WELCOME_FIELDS), e);
    }
    msgpack_unpacked_destroy(&u);
    if (rc) {
        welcome_release(&w);
        return err_wrap(e, rc, "WELCOME");
    }
    *ret = w;
    return CV_OK;
}

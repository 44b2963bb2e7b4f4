/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The route of a TASK (route.h). Any thread. A failed decode leaves nothing allocated. */
#include "wire/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "wire/pack.h"

void route_init(struct route *r)
{
    *r = (struct route){
        .timeout = -1,
        .after_flags = {.all = true, .success = true},
        .follow_flags = {.all = true, .success = true},
    };
}

void route_release(struct route *r)
{
    free(r->targets);
    free(r->label);
    free(r->python);
    free(r->after);
    free(r->follow);
    *r = (struct route){0};
}

/* ---- encoding ---- */

static void pack_ids(struct pack *p, const char *key, const struct id_range *v, uint32_t n)
{
    pack_str(p, key);
    pack_array(p, n);
    for (uint32_t i = 0; i < n; i++) {
        pack_array(p, 3);
        pack_u64(p, v[i].session);
        pack_u64(p, v[i].lo);
        pack_u64(p, v[i].hi);
    }
}

/* The six flags of "dep", by name. */
struct dep_key {
    const char *name;
    size_t offset; /* in struct route */
};

#define DEP(which, flag) {#which "_" #flag, offsetof(struct route, which##_flags.flag)}
static const struct dep_key DEP_KEYS[] = {
    DEP(after, all),  DEP(after, success),  DEP(after, failure),
    DEP(follow, all), DEP(follow, success), DEP(follow, failure),
};
#define NDEP (sizeof DEP_KEYS / sizeof DEP_KEYS[0])

static bool *dep_at(struct route *r, size_t i)
{
    return (bool *)((char *)r + DEP_KEYS[i].offset);
}

static size_t count_deps(struct route *r, struct route *plain)
{
    size_t n = 0;
    for (size_t i = 0; i < NDEP; i++)
        n += *dep_at(r, i) != *dep_at(plain, i);
    return n;
}

static void pack_deps(struct pack *p, struct route *r, struct route *plain, size_t n)
{
    pack_str(p, "dep");
    pack_map(p, n);
    for (size_t i = 0; i < NDEP; i++) {
        if (*dep_at(r, i) == *dep_at(plain, i))
            continue;
        pack_str(p, DEP_KEYS[i].name);
        if (*dep_at(r, i))
            msgpack_pack_true(&p->mp);
        else
            msgpack_pack_false(&p->mp);
    }
}

int route_encode(const struct route *r, struct buf *out)
{
    struct route copy = *r, plain;
    route_init(&plain);
    size_t ndep = count_deps(&copy, &plain);
    struct pack p;
    pack_begin(&p, out);
    pack_map(&p, (size_t)r->has_targets + (r->timeout >= 0) + (r->retries != 0) +
                     (r->priority != 0) + (r->label != NULL) + (r->python != NULL) +
                     (r->nafter != 0) + (r->nfollow != 0) + (ndep != 0));
    if (r->has_targets) {
        pack_str(&p, "targets");
        pack_array(&p, r->ntargets);
        for (uint32_t i = 0; i < r->ntargets; i++)
            pack_u64(&p, r->targets[i]);
    }
    if (r->timeout >= 0) {
        pack_str(&p, "timeout");
        msgpack_pack_double(&p.mp, r->timeout);
    }
    if (r->retries)
        pack_key_u64(&p, "retries", r->retries);
    if (r->priority) {
        pack_str(&p, "priority");
        msgpack_pack_int32(&p.mp, r->priority);
    }
    if (r->label)
        pack_key_str(&p, "label", r->label);
    if (r->python)
        pack_key_str(&p, "python", r->python);
    if (r->nafter)
        pack_ids(&p, "after", r->after, r->nafter);
    if (r->nfollow)
        pack_ids(&p, "follow", r->follow, r->nfollow);
    if (ndep)
        pack_deps(&p, &copy, &plain, ndep);
    return pack_end(&p);
}

/* ---- decoding ---- */

static int read_targets(const msgpack_object *v, struct route *r, struct err *e)
{
    const msgpack_object_array *a;
    int rc = unpack_array(v, "targets", &a, e);
    if (rc)
        return rc;
    uint32_t *t = calloc(a->size ? a->size : 1, sizeof *t);
    if (!t)
        return err_set(e, CV_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < a->size && !rc; i++)
        rc = unpack_u32(&a->ptr[i], "targets", UINT32_MAX, &t[i], e);
    if (rc) {
        free(t);
        return rc;
    }
    free(r->targets);
    r->targets = t;
    r->ntargets = a->size;
    r->has_targets = true;
    return CV_OK;
}

static int read_ids(const msgpack_object *v, const char *key, struct id_range **ret,
                    uint32_t *ret_n, struct err *e)
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
        uint32_t n;
        rc = unpack_tuple(&a->ptr[i], key, 3, 3, t, &n, e);
        if (!rc && t[1] >= t[2])
            rc = err_set(e, CV_EPROTO, "\"%s\" has an empty range", key);
        ids[i] = (struct id_range){t[0], t[1], t[2]};
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

static int read_timeout(const msgpack_object *v, struct route *r, struct err *e)
{
    double t;
    if (v->type == MSGPACK_OBJECT_FLOAT64 || v->type == MSGPACK_OBJECT_FLOAT32)
        t = v->via.f64;
    else if (v->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        t = (double)v->via.u64;
    else
        return err_set(e, CV_EPROTO, "\"timeout\" must be seconds");
    if (!isfinite(t) || t < 0)
        return err_set(e, CV_EPROTO, "\"timeout\" must be 0 or more seconds");
    r->timeout = t;
    return CV_OK;
}

static int read_priority(const msgpack_object *v, struct route *r, struct err *e)
{
    bool pos = v->type == MSGPACK_OBJECT_POSITIVE_INTEGER && v->via.u64 <= INT32_MAX;
    bool neg = v->type == MSGPACK_OBJECT_NEGATIVE_INTEGER && v->via.i64 >= INT32_MIN;
    if (!pos && !neg)
        return err_set(e, CV_EPROTO, "\"priority\" must be a whole number of 32 bits");
    r->priority = (int32_t)v->via.i64;
    return CV_OK;
}

static int read_deps(const msgpack_object *v, struct route *r, struct err *e)
{
    if (v->type != MSGPACK_OBJECT_MAP)
        return err_set(e, CV_EPROTO, "\"dep\" must be a map");
    int rc = CV_OK;
    for (uint32_t i = 0; i < v->via.map.size && !rc; i++)
        for (size_t k = 0; k < NDEP && !rc; k++)
            if (unpack_is(&v->via.map.ptr[i].key, DEP_KEYS[k].name))
                rc = unpack_bool(&v->via.map.ptr[i].val, DEP_KEYS[k].name, dep_at(r, k), e);
    return rc;
}

static int read_key(const msgpack_object_kv *kv, struct route *r, struct err *e)
{
    const msgpack_object *k = &kv->key, *v = &kv->val;
    if (unpack_is(k, "targets"))
        return read_targets(v, r, e);
    if (unpack_is(k, "timeout"))
        return read_timeout(v, r, e);
    if (unpack_is(k, "retries"))
        return unpack_u32(v, "retries", UINT32_MAX, &r->retries, e);
    if (unpack_is(k, "priority"))
        return read_priority(v, r, e);
    if (unpack_is(k, "label"))
        return unpack_str(v, "label", &r->label, e);
    if (unpack_is(k, "python"))
        return unpack_str(v, "python", &r->python, e);
    if (unpack_is(k, "after"))
        return read_ids(v, "after", &r->after, &r->nafter, e);
    if (unpack_is(k, "follow"))
        return read_ids(v, "follow", &r->follow, &r->nfollow, e);
    if (unpack_is(k, "dep"))
        return read_deps(v, r, e);
    return CV_OK;
}

int route_decode(const void *data, size_t n, struct route *ret, struct err *e)
{
    struct route r;
    route_init(&r);
    if (n) {
        msgpack_unpacked u;
        int rc = unpack_map(data, n, &u, e);
        if (rc)
            return err_wrap(e, rc, "route");
        for (uint32_t i = 0; i < u.data.via.map.size && !rc; i++)
            rc = read_key(&u.data.via.map.ptr[i], &r, e);
        msgpack_unpacked_destroy(&u);
        if (rc) {
            route_release(&r);
            return err_wrap(e, rc, "route");
        }
    }
    *ret = r;
    return CV_OK;
}

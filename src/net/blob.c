/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What messages of a link have in common crosses it once. Runs on the loop's thread.
 *
 * Sending: a payload that several messages begin with leaves as a BLOB under a number of this link
 * when it is first needed; messages then name it. The table of what was sent holds a reference of
 * each payload, so that an address is never two payloads; what was used longest ago is dropped to
 * keep within LINK_BLOBS_MAX, and a large one as soon as nobody else holds it. DROP waits behind
 * all that may still refer to its BLOB, and a BLOB that needs the room behind that DROP; so the
 * receiver holds at any time what it is told to use, and never more than its bound.
 *
 * Receiving: number -> payload. A message that names a BLOB gets its buffers in front of its own.
 * Whatever does not fit is the peer's breach. A new connection begins with empty tables. */
#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "net/link_priv.h"

#define BLOB_COST 256u      /* counted for each beside its bytes */
#define BLOB_BIG (1u << 20) /* from here on it is worth a look at every write */

struct blob {
    struct list node, big;
    struct payload *payload;
    uint64_t number;
    uint64_t serial; /* of the last large message that it leaves with or after; 0: of none */
};

/* Few links need them: made with the first. NULL: out of memory. */
static struct blobs *blobs_of(struct link *l)
{
    if (l->blobs)
        return l->blobs;
    struct blobs *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    list_init(&t->used);
    list_init(&t->big);
    return l->blobs = t;
}

static uint64_t cost(const struct payload *p)
{
    return p->total + BLOB_COST;
}

static void forget(struct blobs *t, struct blob *b)
{
    hash_del(&t->out, 0, (uintptr_t)b->payload);
    list_del(&b->node);
    list_del(&b->big);
    t->bytes -= cost(b->payload);
    atomic_fetch_sub(&b->payload->tables, 1);
    payload_unref(b->payload);
    free(b);
}

static int drop(struct link *l, struct blob *b)
{
    const struct header h = {.type = MSG_DROP, .seq = b->number, .engine = WIRE_ENGINE_NONE};
    struct blobs *t = l->blobs;
    if (bulk_oldest(l) != UINT64_MAX)
        t->drop_serial = l->serial;
    forget(t, b);
    return link_queue(l, &h, NULL, 0, 0, NULL, LINK_AFTER_BULK);
}

int blob_sweep(struct link *l)
{
    struct blobs *t = l->blobs;
    int r = CV_OK;
    if (!t)
        return CV_OK;
    list_each_safe(n, tmp, &t->big)
    {
        struct blob *b = list_entry(n, struct blob, big);
        if (r == CV_OK && atomic_load(&b->payload->refs) == atomic_load(&b->payload->tables))
            r = drop(l, b);
    }
    return r;
}

static int make_room(struct link *l, uint64_t bytes)
{
    const struct blobs *t = l->blobs;
    int r = CV_OK;
    while (r == CV_OK && !list_empty(&t->used) && t->bytes + bytes > LINK_BLOBS_MAX)
        r = drop(l, list_entry(t->used.prev, struct blob, node));
    return r;
}

static int enter(struct blobs *t, struct payload *p, struct blob **ret)
{
    struct blob *b = calloc(1, sizeof *b);
    if (!b || hash_put(&t->out, 0, (uintptr_t)p, b, NULL) != CV_OK) {
        free(b);
        return CV_ENOMEM;
    }
    b->payload = payload_ref(p);
    atomic_fetch_add(&p->tables, 1);
    b->number = ++t->number;
    t->bytes += cost(p);
    list_add_head(&t->used, &b->node);
    list_init(&b->big);
    if (p->total >= BLOB_BIG)
        list_add_head(&t->big, &b->big);
    *ret = b;
    return CV_OK;
}

static int put(struct link *l, struct payload *p, struct blob **ret)
{
    struct header h = {.type = MSG_BLOB, .engine = WIRE_ENGINE_NONE};
    struct blob *b;
    int r = make_room(l, cost(p));
    if (r == CV_OK)
        r = enter(l->blobs, p, &b);
    if (r != CV_OK)
        return r;
    h.seq = b->number;
    bool waits = bulk_oldest(l) <= l->blobs->drop_serial;
    r = link_queue(l, &h, NULL, 0, 0, p, waits ? LINK_AFTER_BULK : 0);
    if (r != CV_OK) {
        forget(l->blobs, b);
        return r;
    }
    b->serial = waits || p->total > WIRE_INLINE_MAX ? l->serial : 0;
    *ret = b;
    return CV_OK;
}

int blob_send(struct link *l, const struct header *h, const void *route, uint32_t route_len,
              struct payload *head, struct payload *own, int flags)
{
    struct header out = *h;
    struct blobs *t = blobs_of(l);
    if (!t)
        return CV_ENOMEM;
    struct blob *b = hash_get(&t->out, 0, (uintptr_t)head);
    int r = b ? CV_OK : put(l, head, &b);
    if (r != CV_OK)
        return r;
    list_del(&b->node);
    list_add_head(&t->used, &b->node);
    if (bulk_oldest(l) <= b->serial)
        flags |= LINK_AFTER_BULK;
    out.flags |= MSG_F_BLOB;
    return link_queue(l, &out, route, route_len, b->number, own, flags);
}

static struct msg *breach(struct link *l, struct msg *m, const char *what, uint64_t number)
{
    link_fail(l, CV_EPROTO, "the peer broke the protocol: %s (%s %" PRIu64 ")", what,
              msg_type_name(m->h.type), number);
    msg_free(m);
    return NULL;
}

static struct msg *no_memory(struct link *l, struct msg *m)
{
    link_fail(l, CV_ENOMEM, "out of memory");
    msg_free(m);
    return NULL;
}

/* Of one that was left out a payload without buffers is kept. */
static struct msg *received(struct link *l, struct msg *m)
{
    uint64_t number = m->h.seq;
    if (m->h.flags & MSG_F_LEFT_OUT && !m->payload && payload_new_bare(&m->payload, 0, NULL))
        return no_memory(l, m);
    struct payload *p = m->payload;
    if (l->limits.body_max <= WIRE_PREAUTH_MAX || !p)
        return breach(l, m, "something to be kept that may not be", number);
    struct blobs *t = blobs_of(l);
    if (!t)
        return no_memory(l, m);
    if (hash_get(&t->in, 0, number))
        return breach(l, m, "two of one number", number);
    if (t->in.count && t->in_bytes + cost(p) > LINK_BLOBS_MAX)
        return breach(l, m, "more to be kept than the bound", number);
    if (hash_put(&t->in, 0, number, p, NULL) != CV_OK) {
        link_fail(l, CV_ENOMEM, "out of memory");
    } else {
        t->in_bytes += cost(p);
        payload_ref(p);
    }
    msg_free(m);
    return NULL;
}

static struct msg *dropped(struct link *l, struct msg *m)
{
    struct blobs *t = l->blobs;
    struct payload *p = t ? hash_del(&t->in, 0, m->h.seq) : NULL;
    if (!p)
        return breach(l, m, "a number that nothing has", m->h.seq);
    t->in_bytes -= cost(p);
    payload_unref(p);
    msg_free(m);
    return NULL;
}

/* A part of it was left out: what is there of the other is of no use. */
static struct msg *without(struct link *l, struct msg *m)
{
    if (!left_out_may(m->h.type))
        return no_memory(l, m);
    left_out_mark(m);
    return m;
}

/* Puts the BLOB's buffers in front. */
static struct msg *complete(struct link *l, struct msg *m)
{
    uint64_t number = 0;
    uint32_t nbufs = m->h.nbufs;
    if (m->h.route_len < sizeof number)
        return breach(l, m, "no number of what it begins with", 0);
    m->h.route_len -= sizeof number;
    memcpy(&number, m->route + m->h.route_len, sizeof number);
    number = le64toh(number);
    struct payload *head = l->blobs ? hash_get(&l->blobs->in, 0, number) : NULL, *whole = head;
    if (!head)
        return breach(l, m, "it begins with what this link does not have", number);
    if (head->nbufs + nbufs > WIRE_BUFFERS_MAX || m->h.body_len > l->limits.body_max ||
        head->total > l->limits.body_max - m->h.body_len)
        return breach(l, m, "too large with what it begins with", number);
    m->h.flags &= (uint16_t)~MSG_F_BLOB;
    if (!m->h.route_len)
        m->route = NULL;
    if (!head->nbufs || m->h.flags & MSG_F_LEFT_OUT)
        return without(l, m);
    if (!m->payload)
        payload_ref(head);
    else if (payload_new_joined(&whole, head, m->payload) != CV_OK)
        return no_memory(l, m);
    m->payload = whole;
    m->h.nbufs = whole->nbufs;
    m->h.body_len = whole->total;
    return m;
}

struct msg *blob_receive(struct link *l, struct msg *m)
{
    if (m->h.flags & MSG_F_BLOB) {
        if (m->h.type >= MSG_BLOB)
            return breach(l, m, "it names another one", m->h.seq);
        return complete(l, m);
    }
    return m->h.type == MSG_BLOB ? received(l, m) : dropped(l, m);
}

void blob_release(struct link *l)
{
    struct blobs *t = l->blobs;
    struct payload *p;
    if (!t)
        return;
    while (!list_empty(&t->used))
        forget(t, list_entry(list_first(&t->used), struct blob, node));
    hash_release(&t->out);
    for (size_t i = 0; (p = hash_next(&t->in, &i));)
        payload_unref(p);
    hash_release(&t->in);
    free(t);
    l->blobs = NULL;
}

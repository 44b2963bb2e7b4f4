/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The sending half of a link. Small messages are a list of segments: bytes (headers, routes, tiny
 * payloads), each followed by the buffers of at most one payload that is sent from where it lies.
 * A write takes, in this order, what is left of a CHUNK that has begun, the segments, new CHUNKs;
 * what the transport does not take of the CHUNKs is planned again next time, so that whatever is
 * queued meanwhile overtakes it. Runs on the loop's thread. A failed write does not kill the link
 * before everything that the peer sent has been read: its reason to close may be there. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "net/link_priv.h"

#define SEG_MIN 1024u
#define SEG_MAX (16u << 10)

/* What one write offers. */
struct plan {
    struct iovec iov[LINK_IOV_MAX];
    int n;
    uint64_t bytes;
    struct frame frames[LINK_FRAMES_MAX];
    int nframes;
    int fds[TRANSPORT_FDS_MAX]; /* of the first frame, which is then the first thing */
    int nfds;
};

static void seg_free(struct seg *s)
{
    payload_unref(s->payload);
    free(s);
}

void link_send_release(struct link *l)
{
    struct seg *s;
    while ((s = l->head)) {
        l->head = s->next;
        seg_free(s);
    }
    l->tail = NULL;
    l->head_off = 0;
    l->queued = l->queued_large = 0;
}

uint8_t *link_room(struct link *l, uint32_t n)
{
    struct seg *s = l->tail;
    if (!s || s->payload || s->cap - s->len < n) {
        if (!s || s->payload)
            l->seg_cap = SEG_MIN;
        else if (l->seg_cap < SEG_MAX)
            l->seg_cap *= 4;
        uint32_t cap = n > l->seg_cap ? n : l->seg_cap;
        s = malloc(sizeof *s + cap);
        if (!s)
            return NULL;
        *s = (struct seg){.cap = cap};
        if (l->tail)
            l->tail->next = s;
        else
            l->head = s;
        l->tail = s;
    }
    uint8_t *p = s->data + s->len;
    s->len += n;
    l->queued += n;
    return p;
}

/* Copies a tiny payload to p, which has room for it, or attaches it to the last segment. */
static void add_payload(struct link *l, uint8_t *p, struct payload *payload)
{
    if (!payload || !payload->total)
        return;
    if (payload->total > LINK_COPY_MAX) {
        l->tail->payload = payload_ref(payload);
        l->queued += payload->total;
        return;
    }
    for (uint32_t i = 0; i < payload->nbufs; i++) {
        memcpy(p, payload->bufs[i].data, payload->bufs[i].len);
        p += payload->bufs[i].len;
    }
}

static uint32_t copied_len(const struct payload *p)
{
    return p && p->total <= LINK_COPY_MAX ? (uint32_t)p->total : 0;
}

static uint8_t *put_u64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
    return p + sizeof v;
}

static uint8_t *encode_head(uint8_t *p, const struct header *h, const void *route, uint64_t blob,
                            const struct payload *payload)
{
    bool named = h->flags & MSG_F_BLOB;
    uint32_t route_len = h->route_len - (named ? (uint32_t)sizeof blob : 0);
    header_encode(p, h);
    p += WIRE_HEADER_SIZE;
    if (route_len)
        memcpy(p, route, route_len);
    p += route_len;
    if (named)
        p = put_u64(p, blob);
    for (uint32_t i = 0; h->nbufs >= 2 && i < h->nbufs; i++)
        p = put_u64(p, payload->bufs[i].len);
    return p;
}

/* A message that waits outside the send queue: large, or behind large ones. */
static int hold(struct link *l, const struct header *h, const void *route, uint64_t blob,
                struct payload *payload, uint32_t head_len, bool large, bool after)
{
    struct held *held = malloc(sizeof *held + head_len);
    if (!held)
        return CV_ENOMEM;
    *held = (struct held){.after = after, .head_len = head_len, .payload = payload_ref(payload)};
    encode_head(held->head, h, route, blob, payload);
    held->serial = large ? ++l->serial : l->serial;
    list_add_tail(large ? &l->waiting : &l->late, &held->node);
    l->queued += payload ? payload->total : 0;
    l->queued_large += large ? payload->total : 0;
    return CV_OK;
}

int link_queue_held(struct link *l, struct held *h)
{
    struct payload *payload = h->number ? NULL : h->payload;
    uint8_t *p = link_room(l, h->head_len + copied_len(payload));
    if (!p)
        return CV_ENOMEM;
    memcpy(p, h->head, h->head_len);
    if (payload)
        l->queued -= payload->total; /* counted since it is held; counted again below */
    add_payload(l, p + h->head_len, payload);
    return CV_OK;
}

int link_queue_own(struct link *l, uint8_t type, uint64_t time, uint64_t aux)
{
    struct header h = {.type = type, .engine = WIRE_ENGINE_NONE, .time = time, .aux = aux};
    uint8_t *p = link_room(l, WIRE_HEADER_SIZE);
    if (!p)
        return CV_ENOMEM;
    header_encode(p, &h);
    return CV_OK;
}

int link_queue(struct link *l, const struct header *h, const void *route, uint32_t route_len,
               uint64_t blob, struct payload *payload, int flags)
{
    struct header out = *h;
    if (h->flags & MSG_F_BLOB)
        route_len += sizeof blob;
    if (route_len > WIRE_ROUTE_MAX || (payload && payload->nbufs > WIRE_BUFFERS_MAX))
        return CV_ELIMIT;
    out.route_len = route_len;
    out.nbufs = payload ? payload->nbufs : 0;
    out.body_len = payload ? payload->total : 0;
    bool large = out.body_len > WIRE_INLINE_MAX;
    out.flags = (uint16_t)((out.flags & ~MSG_F_CHUNKED) | (large ? MSG_F_CHUNKED : 0));
    uint32_t head_len = WIRE_HEADER_SIZE + route_len + (out.nbufs >= 2 ? out.nbufs * 8 : 0);
    bool after = flags & LINK_AFTER_BULK;
    if (large || (after && (l->serial && bulk_oldest(l) != UINT64_MAX))) {
        return hold(l, &out, route, blob, payload, head_len, large, after);
    } else {
        uint8_t *p = link_room(l, head_len + copied_len(payload));
        if (!p)
            return CV_ENOMEM;
        add_payload(l, encode_head(p, &out, route, blob, payload), payload);
    }
    return CV_OK;
}

int link_send(struct link *l, const struct header *h, const void *route, uint32_t route_len,
              struct payload *payload, int flags)
{
    struct header out = *h;
    struct payload *head = payload ? payload_head(payload) : NULL;
    struct payload *own = head ? payload_own(payload) : payload;
    int r;
    if (!link_alive(l) || l->closing || l->tx_error)
        return CV_ECLOSED;
    out.flags &= (uint16_t)~MSG_F_BLOB;
    if ((flags & LINK_SHARE) && own && own->total >= LINK_BLOB_MIN) {
        head = payload; /* as one BLOB, also if a part of it is one */
        own = NULL;
    }
    if (head && head->total >= LINK_BLOB_MIN && route_len + sizeof(uint64_t) <= WIRE_ROUTE_MAX)
        r = blob_send(l, &out, route, route_len, head, own, flags);
    else
        r = link_queue(l, &out, route, route_len, 0, payload, flags);
    if (r == CV_OK)
        link_schedule_flush(l);
    return r;
}

void link_schedule_flush(struct link *l)
{
    if (l->state == LINK_READY && !l->blocked)
        loop_job_at_turn_end(l->loop, &l->flush_job);
}

/* Adds bytes to the plan, skipping the first *skip. */
static void plan_add(struct plan *p, uint64_t *skip, const void *data, uint64_t len)
{
    if (*skip >= len) {
        *skip -= len;
        return;
    }
    p->iov[p->n++] = (struct iovec){(uint8_t *)data + *skip, len - *skip};
    p->bytes += len - *skip;
    *skip = 0;
}

static void plan_frame(struct plan *p, const struct frame *f)
{
    uint64_t skip = f->sent;
    plan_add(p, &skip, f->head, WIRE_HEADER_SIZE);
    if (f->len)
        plan_add(p, &skip, slice_bytes(&f->h->payload->bufs[f->buf]) + f->off, f->len);
}

static void plan_segs(struct link *l, struct plan *p, uint64_t max)
{
    uint64_t skip = l->head_off;
    for (struct seg *s = l->head; s && p->bytes < max; s = s->next) {
        uint32_t nbufs = s->payload ? s->payload->nbufs : 0;
        if (p->n == LINK_IOV_MAX)
            return;
        plan_add(p, &skip, s->data, s->len);
        for (uint32_t i = 0; i < nbufs; i++) {
            if (p->n == LINK_IOV_MAX)
                return;
            plan_add(p, &skip, s->payload->bufs[i].data, s->payload->bufs[i].len);
        }
    }
}

static void plan_make(struct link *l, struct plan *p, uint64_t max)
{
    p->n = p->nframes = p->nfds = 0;
    p->bytes = 0;
    if (l->cur)
        plan_frame(p, l->cur);
    plan_segs(l, p, max);
    while (p->bytes < max && p->nframes < LINK_FRAMES_MAX && p->n + 2 <= LINK_IOV_MAX) {
        struct frame *f = &p->frames[p->nframes];
        if (!bulk_plan(l, f, max - p->bytes, p->bytes == 0))
            return;
        if (f->nfds) {
            memfd_fds(f, p->fds);
            p->nfds = (int)f->nfds;
        }
        p->nframes++;
        plan_frame(p, f);
    }
}

static void sent_segs(struct link *l, uint64_t *n)
{
    while (*n && l->head) {
        struct seg *s = l->head;
        uint64_t size = s->len + (s->payload ? s->payload->total : 0);
        uint64_t take = size - l->head_off < *n ? size - l->head_off : *n;
        l->head_off += take;
        l->queued -= take;
        *n -= take;
        if (l->head_off < size)
            return;
        l->head = s->next;
        if (!l->head)
            l->tail = NULL;
        l->head_off = 0;
        seg_free(s);
    }
}

/* Counts n bytes of a frame as sent; CV_EAGAIN when it has not left entirely. */
static int sent_frame(struct link *l, struct frame *f, uint64_t *n)
{
    uint32_t size = WIRE_HEADER_SIZE + f->len;
    uint32_t take = size - f->sent < *n ? size - f->sent : (uint32_t)*n;
    if (f->nfds && take && !f->sent && memfd_left(l, f))
        return CV_ENOMEM;
    f->sent += take;
    *n -= take;
    return f->sent < size ? CV_EAGAIN : bulk_sent(l, f);
}

/* Books n bytes of the plan as sent and takes back the CHUNKs that were not begun. */
static int plan_sent(struct link *l, struct plan *p, uint64_t n)
{
    int r = CV_OK, done = 0;
    if (l->cur && n) {
        r = sent_frame(l, l->cur, &n);
        if (r == CV_EAGAIN)
            r = CV_OK;
        else {
            free(l->cur);
            l->cur = NULL;
        }
    }
    sent_segs(l, &n);
    for (; r == CV_OK && n && done < p->nframes; done++) {
        struct frame *f = &p->frames[done];
        r = sent_frame(l, f, &n);
        if (r == CV_EAGAIN) {
            r = (l->cur = malloc(sizeof *f)) ? CV_OK : CV_ENOMEM;
            if (l->cur)
                *l->cur = *f;
        }
    }
    for (int i = p->nframes - 1; i >= done; i--)
        bulk_undo(l, &p->frames[i]);
    return r;
}

static void write_failed(struct link *l, int code, const char *text)
{
    l->tx_code = code;
    l->tx_error = strdup(text);
    if (!l->tx_error) {
        link_fail(l, code, "%s", text);
        return;
    }
    l->read_again = true;
    link_next_turn(l);
}

static bool tx_empty(const struct link *l)
{
    return !l->head && !l->cur && list_empty(&l->waiting) && list_empty(&l->active) &&
           list_empty(&l->late);
}

/* All that may leave has been handed to the transport. */
static void write_done(struct link *l)
{
    struct err e = {0};
    int r = l->t->ops->flush ? l->t->ops->flush(l->t, &e) : CV_OK;
    l->blocked = r == CV_EAGAIN;
    if (r < 0 && r != CV_EAGAIN)
        write_failed(l, r, e.text);
    else if (r == CV_OK && l->closing && tx_empty(l))
        link_sent_all(l);
}

void link_write(struct link *l)
{
    struct plan plan;
    struct err e = {0};
    l->write_again = false;
    if (l->state != LINK_READY || l->blocked || l->tx_error)
        return;
    if (l->tx_turn != loop_turn(l->loop)) {
        l->tx_turn = loop_turn(l->loop);
        l->tx_spent = 0;
    }
    if (bulk_credit_flush(l) < 0 || blob_sweep(l) < 0 || memfd_release_flush(l) < 0)
        return link_fail(l, CV_ENOMEM, "out of memory");
    for (;;) {
        if (bulk_begin(l) < 0)
            return link_fail(l, CV_ENOMEM, "out of memory");
        if (!l->head && !l->cur && !bulk_ready(l))
            return write_done(l);
        if (l->tx_spent >= LINK_TURN_MAX) {
            l->write_again = true;
            link_next_turn(l);
            return;
        }
        plan_make(l, &plan, LINK_TURN_MAX - l->tx_spent);
        if (!link_alive(l))
            return;
        ssize_t n = plan.nfds
                        ? l->t->ops->writev_fds(l->t, plan.iov, plan.n, plan.fds, plan.nfds, &e)
                        : l->t->ops->writev(l->t, plan.iov, plan.n, &e);
        int r = plan_sent(l, &plan, n > 0 ? (uint64_t)n : 0);
        if (r < 0)
            return link_fail(l, r, "out of memory");
        if (n == CV_ENFILE) { /* too many descriptors are in flight on this machine */
            l->memfds.send = 0;
            continue;
        }
        if (n == CV_EAGAIN) {
            l->blocked = true;
            return;
        }
        if (n < 0)
            return write_failed(l, (int)n, e.text);
        l->tx_spent += (uint64_t)n;
        l->sent_bytes += (uint64_t)n;
    }
}

void link_flush(struct link *l)
{
    link_enter(l);
    link_write(l);
    link_watch(l);
    link_leave(l);
}

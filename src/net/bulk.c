/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Large messages of a link, both ways, and the credit that bounds them.
 *
 * Sending: waiting -> active (its header was queued, CHUNKs leave round-robin) -> ending (its last
 * CHUNK is planned) -> gone. At most LINK_ACTIVE_MAX are active, so a peer never has more of ours
 * half received. A plan may be undone, newest first, up to the first CHUNK that left in part.
 *
 * Receiving: the payload is allocated when the message is announced; its CHUNKs must fill the
 * buffers in order. Whatever does not fit kills the link with CV_EPROTO, never more. What there is
 * no memory for is read and thrown away, and the message delivered without it (wire/leftout.h).
 *
 * Credit: a CHUNK's bytes are owed to the sender until they are given back, which happens when the
 * message is delivered (manual: by the owner). Of unfinished messages at most half a window is
 * held back; beyond that bytes are given back as they arrive, so that messages larger than the
 * window get through. That is then not given back a second time. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "net/link_priv.h"

static void held_free(struct held *h)
{
    list_del(&h->node);
    payload_unref(h->payload);
    free(h);
}

static void list_release(struct list *list)
{
    list_each_safe(n, tmp, list) held_free(list_entry(n, struct held, node));
}

static void transfer_free(struct transfer *t)
{
    msg_free(t->m);
    free(t);
}

void bulk_release(struct link *l)
{
    list_release(&l->waiting);
    list_release(&l->active);
    list_release(&l->ending);
    list_release(&l->late);
    free(l->cur);
    struct transfer *t;
    for (size_t i = 0; (t = hash_next(&l->transfers, &i));)
        transfer_free(t);
    hash_release(&l->transfers);
}

/* Skips empty buffers. */
static void held_settle(struct held *h)
{
    while (h->buf < h->payload->nbufs && h->off == h->payload->bufs[h->buf].len) {
        h->buf++;
        h->off = 0;
    }
}

int bulk_begin(struct link *l)
{
    struct list *n;
    while (l->nactive < LINK_ACTIVE_MAX && (n = list_first(&l->waiting))) {
        struct held *h = list_entry(n, struct held, node);
        if (h->after && l->nactive)
            break;
        h->number = l->numbers + 1;
        if (link_queue_held(l, h) < 0)
            return CV_ENOMEM;
        l->numbers++;
        l->nactive++;
        held_settle(h);
        list_del(n);
        list_add_tail(&l->active, n);
    }
    return CV_OK;
}

/* Whose turn it is: without credit the first one that needs none. NULL: none may go. */
static struct held *next_active(const struct link *l)
{
    list_each(n, &l->active)
    {
        struct held *h = list_entry(n, struct held, node);
        if (l->credit_out > 0 || memfd_count(l, h))
            return h;
        if (!l->memfds.send)
            break;
    }
    return NULL;
}

bool bulk_ready(const struct link *l)
{
    return next_active(l);
}

static void pass_on(struct link *l, struct held *h)
{
    held_settle(h);
    list_del(&h->node);
    list_add_tail(h->buf < h->payload->nbufs ? &l->active : &l->ending, &h->node);
}

bool bulk_plan(struct link *l, struct frame *f, uint64_t max, bool first)
{
    struct held *h = next_active(l);
    if (!h)
        return false;
    *f = (struct frame){.h = h, .buf = h->buf, .off = h->off, .nfds = memfd_count(l, h)};
    if (f->nfds) { /* descriptors go with the first byte of a write */
        if (!first)
            return false;
        memfd_head(l, f);
        h->buf += f->nfds;
        pass_on(l, h);
        return true;
    }
    if (!slice_bytes(&h->payload->bufs[h->buf])) {
        link_fail(l, CV_ENOMEM, "no memory to read a buffer that came as a descriptor");
        return false;
    }
    uint64_t len = h->payload->bufs[h->buf].len - h->off;
    if (len > l->chunk_max)
        len = l->chunk_max;
    if (len > max)
        len = max;
    if (len > (uint64_t)l->credit_out)
        len = (uint64_t)l->credit_out;
    struct header head = {.type = MSG_CHUNK,
                          .nbufs = 1,
                          .body_len = len,
                          .seq = h->number,
                          .aux = h->off,
                          .engine = h->buf};
    f->len = (uint32_t)len;
    header_encode(f->head, &head);
    l->credit_out -= (int64_t)len;
    h->off += len;
    pass_on(l, h);
    return true;
}

void bulk_undo(struct link *l, const struct frame *f)
{
    f->h->buf = f->buf;
    f->h->off = f->off;
    l->credit_out += f->len;
    list_del(&f->h->node);
    list_add_head(&l->active, &f->h->node);
}

uint64_t bulk_oldest(const struct link *l)
{
    uint64_t oldest = UINT64_MAX;
    const struct list *lists[] = {&l->active, &l->ending, &l->waiting};
    for (int i = 0; i < 3; i++) {
        list_each(n, lists[i])
        {
            struct held *h = list_entry(n, struct held, node);
            if (h->serial < oldest)
                oldest = h->serial;
            if (i == 2)
                break; /* in order */
        }
    }
    return oldest;
}

/* Where f ends: a buffer, and how far in it. */
static uint64_t frame_end(const struct frame *f, uint32_t *ret_buf)
{
    *ret_buf = f->nfds ? f->buf + f->nfds - 1 : f->buf;
    return f->nfds ? f->h->payload->bufs[*ret_buf].len : f->off + f->len;
}

int bulk_sent(struct link *l, const struct frame *f)
{
    struct held *h = f->h;
    uint32_t buf;
    uint64_t end = frame_end(f, &buf), sent = f->len;
    for (uint32_t i = 0; i < f->nfds; i++)
        sent += h->payload->bufs[f->buf + i].len;
    l->queued -= sent;
    l->queued_large -= sent;
    /* Its last frame is the one that ends where the last non-empty buffer ends. */
    if (h->buf < h->payload->nbufs)
        return CV_OK;
    uint32_t last = h->payload->nbufs - 1;
    while (!h->payload->bufs[last].len)
        last--;
    if (buf != last || end != h->payload->bufs[last].len)
        return CV_OK;
    held_free(h);
    l->nactive--;
    uint64_t oldest = list_empty(&l->late) ? 0 : bulk_oldest(l);
    struct list *n;
    while ((n = list_first(&l->late))) {
        struct held *late = list_entry(n, struct held, node);
        if (late->serial >= oldest)
            break;
        if (link_queue_held(l, late) < 0)
            return CV_ENOMEM;
        held_free(late);
    }
    return CV_OK;
}

static void refuse(struct link *l, const char *what, uint64_t number)
{
    link_fail(l, CV_EPROTO, "the peer broke the protocol: %s (transfer %" PRIu64 ")", what, number);
}

void bulk_announced(struct link *l, struct msg *m_take, bool left_out)
{
    uint64_t number = ++l->numbers_in;
    struct transfer *t = calloc(1, sizeof *t);
    if (!t || hash_put(&l->transfers, 0, number, t, NULL) < 0) {
        link_fail(l, CV_ENOMEM, "out of memory");
        free(t);
        msg_free(m_take);
        return;
    }
    t->m = m_take;
    t->number = number;
    t->left_out = left_out;
    while (!m_take->payload->bufs[t->buf].len)
        t->buf++;
}

bool bulk_leave_out(struct link *l, struct transfer *t)
{
    struct payload *p = t->m->payload, *bare = NULL;
    uint64_t *lens = left_out_may(t->m->h.type) ? malloc(p->nbufs * sizeof *lens) : NULL;
    for (uint32_t i = 0; lens && i < p->nbufs; i++)
        lens[i] = p->bufs[i].len;
    if (lens && payload_new_bare(&bare, p->nbufs, lens) == CV_OK) {
        payload_unref(p);
        t->m->payload = bare;
        t->left_out = true;
    }
    free(lens);
    return t->left_out;
}

void bulk_chunk(struct link *l, const struct header *h)
{
    struct transfer *t = hash_get(&l->transfers, 0, h->seq);
    if (!t)
        return refuse(l, "a CHUNK of a large message that is not on its way", h->seq);
    if (h->route_len || h->nbufs > 1 || !h->body_len || h->body_len > WIRE_CHUNK_MAX ||
        (h->flags & MSG_F_CHUNKED))
        return refuse(l, "a CHUNK of a wrong form", h->seq);
    if (h->engine != t->buf || h->aux != t->off)
        return refuse(l, "a CHUNK out of order", h->seq);
    if (h->body_len > t->m->payload->bufs[t->buf].len - t->off)
        return refuse(l, "a CHUNK that reaches beyond its buffer", h->seq);
    if (h->body_len > l->window_in || l->owed > l->window_in - h->body_len)
        return refuse(l, "more large data than its credit allows", h->seq);
    if (!t->left_out && memfd_room(l, t) < 0 && !bulk_leave_out(l, t))
        return link_fail(l, CV_ENOMEM, "no memory for a buffer of %" PRIu64 " bytes",
                         t->m->payload->bufs[t->buf].len);
    l->owed += h->body_len;
    l->unfinished += h->body_len;
    l->rx = t;
    l->rx_left = (uint32_t)h->body_len;
}

uint8_t *bulk_space(struct link *l)
{
    return l->rx->left_out ? NULL : l->rx->m->payload->bufs[l->rx->buf].data + l->rx->off;
}

static void give_back(struct link *l, uint64_t bytes)
{
    l->credit_due += bytes;
    link_schedule_flush(l);
}

/* Gives back at once what unfinished messages hold beyond half of the window. */
static void give_back_early(struct link *l, struct transfer *t, uint32_t n)
{
    uint64_t half = l->window_in / 2;
    if (l->unfinished <= half)
        return;
    uint64_t bytes = l->unfinished - half < n ? l->unfinished - half : n;
    t->early += bytes;
    l->unfinished -= bytes;
    give_back(l, bytes);
}

/* Moves on to the next buffer that is not empty; delivers the message after the last one. */
static void transfer_settle(struct link *l, struct transfer *t)
{
    struct msg *m = t->m;
    const struct payload *p = m->payload;
    while (t->buf < p->nbufs && t->off == p->bufs[t->buf].len) {
        t->buf++;
        t->off = 0;
    }
    if (t->buf < p->nbufs)
        return;
    hash_del(&l->transfers, 0, t->number);
    l->unfinished -= t->bytes - t->early;
    if (l->manual && !l->closing)
        l->early_debt += t->early + (m->h.body_len - t->bytes);
    else
        give_back(l, t->bytes - t->early);
    m->h.flags &= (uint16_t)~MSG_F_CHUNKED;
    if (t->left_out)
        left_out_mark(m);
    free(t);
    link_deliver(l, m);
}

void bulk_received(struct link *l, uint32_t n)
{
    struct transfer *t = l->rx;
    t->off += n;
    t->bytes += n;
    l->rx_left -= n;
    give_back_early(l, t, n);
    if (!l->rx_left)
        l->rx = NULL; /* a CHUNK never reaches beyond its buffer */
    transfer_settle(l, t);
}

void bulk_memfd(struct link *l, const struct header *h)
{
    struct transfer *t = hash_get(&l->transfers, 0, h->seq);
    if (!t)
        return refuse(l, "a MEMFD of a large message that is not on its way", h->seq);
    if (h->route_len || h->nbufs || h->flags || !h->count)
        return refuse(l, "a MEMFD of a wrong form", h->seq);
    if (h->engine != t->buf || t->off)
        return refuse(l, "a MEMFD out of order", h->seq);
    if (h->count > t->m->payload->nbufs - t->buf)
        return refuse(l, "a MEMFD for more buffers than there are", h->seq);
    if (memfd_take(l, t, h) < 0)
        return;
    t->buf += h->count;
    transfer_settle(l, t);
}

int bulk_credit_flush(struct link *l)
{
    if (!l->credit_due || l->state != LINK_READY)
        return CV_OK;
    if (!l->manual && l->credit_due < l->window_in / 8)
        return CV_OK;
    int r = link_queue_own(l, MSG_CREDIT, 0, l->credit_due);
    if (r < 0)
        return r;
    l->owed -= l->credit_due < l->owed ? l->credit_due : l->owed;
    l->credit_due = 0;
    return CV_OK;
}

void link_credit(struct link *l, uint64_t bytes)
{
    uint64_t paid = bytes < l->early_debt ? bytes : l->early_debt;
    l->early_debt -= paid;
    if (bytes > paid)
        give_back(l, bytes - paid);
}

void link_set_credit(struct link *l, uint64_t bytes)
{
    if (bytes > INT64_MAX / 4)
        bytes = INT64_MAX / 4;
    l->credit_out += (int64_t)bytes - (int64_t)l->window_out;
    l->window_out = bytes;
    link_schedule_flush(l);
}

void link_set_window(struct link *l, uint64_t bytes)
{
    l->window_in = bytes;
}

void link_set_manual_credit(struct link *l, bool manual)
{
    l->manual = manual;
}

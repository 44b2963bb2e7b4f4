/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The receiving half of a link. Bytes are read into the loop's shared buffer; an incomplete message
 * is kept aside, so an idle link has no buffer. A CHUNK's data beyond what came with its header is
 * read straight to its place. Everything in a header is checked before memory is taken for it; a
 * breach kills this link alone. Runs on the loop's thread. */
#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/link_priv.h"

#define BIG                                                                                        \
    (LOOP_READ_SIZE / 2)          /* messages longer than this are gathered in memory of their own \
                                   */
#define BULK_PEEK 4096u           /* read at a time where a CHUNK's header is expected */
#define PONG_QUEUE_MAX (1u << 20) /* a peer that does not read gets no PONGs on top */

void link_recv_release(struct link *l)
{
    buf_release(&l->left);
}

void link_deliver(struct link *l, struct msg *m_take)
{
    if (m_take->h.flags & MSG_F_BLOB || m_take->h.type >= MSG_BLOB)
        m_take = blob_receive(l, m_take);
    if (m_take && l->state == LINK_READY && !l->closing && l->cb->on_msg)
        l->cb->on_msg(l, m_take, l->arg);
    else
        msg_free(m_take);
}

static int check_header(struct link *l, const struct header *h)
{
    bool chunked = h->flags & MSG_F_CHUNKED;
    bool own = h->type >= MSG_CHUNK && h->type <= MSG_RELEASE;
    const char *what = NULL;
    if (!h->nbufs && h->body_len)
        what = "bytes without a buffer";
    else if (chunked && (!h->body_len || own || h->type == MSG_PING || h->type == MSG_PONG))
        what = "a large message of a wrong form";
    else if (!chunked && h->type != MSG_CHUNK && h->body_len > WIRE_INLINE_MAX)
        what = "a large message in one piece";
    else if (h->nbufs >= 2 && (uint64_t)h->nbufs * 8 > l->limits.body_max)
        what = "too many buffers";
    else if (chunked && l->transfers.count == LINK_TRANSFERS_MAX)
        what = "too many large messages at a time";
    if (!what)
        return CV_OK;
    link_fail(l, CV_EPROTO, "the peer broke the protocol: %s in a %s", what,
              msg_type_name(h->type));
    return CV_EPROTO;
}

/* Header, route, table and what of the body follows at once. */
static uint64_t message_size(const struct header *h)
{
    uint64_t n = WIRE_HEADER_SIZE + h->route_len + (h->nbufs >= 2 ? (uint64_t)h->nbufs * 8 : 0);
    return h->flags & MSG_F_CHUNKED ? n : n + h->body_len;
}

static int make_payload(struct link *l, const struct header *h, const uint8_t *table,
                        struct payload **ret, bool *ret_left_out)
{
    uint64_t one = h->body_len, sum = 0, *lens = &one;
    *ret_left_out = false;
    if (!h->nbufs) {
        *ret = NULL;
        return CV_OK;
    }
    if (h->nbufs >= 2) {
        lens = malloc(h->nbufs * sizeof *lens);
        if (!lens)
            return CV_ENOMEM;
        for (uint32_t i = 0; i < h->nbufs; i++) {
            memcpy(&lens[i], table + 8 * (size_t)i, 8);
            lens[i] = le64toh(lens[i]);
            if (lens[i] > h->body_len - sum) {
                free(lens);
                return CV_EPROTO;
            }
            sum += lens[i];
        }
        if (sum != h->body_len) {
            free(lens);
            return CV_EPROTO;
        }
    }
    int r = h->flags & MSG_F_CHUNKED ? payload_new_empty(ret, h->nbufs, lens)
                                     : payload_new_inline(ret, h->nbufs, lens);
    if (r == CV_OK && (h->flags & MSG_F_CHUNKED)) {
        payload_reuse(*ret, loop_spares(l->loop));
    } else if (r == CV_ENOMEM && (h->flags & MSG_F_CHUNKED) && left_out_may(h->type)) {
        *ret_left_out = true;
        r = payload_new_bare(ret, h->nbufs, lens);
    }
    if (lens != &one)
        free(lens);
    return r;
}

/* Copies a whole message out of p. */
static int make_message(struct link *l, const struct header *h, const uint8_t *p, struct msg **ret,
                        bool *ret_left_out)
{
    const uint8_t *table = p + WIRE_HEADER_SIZE + h->route_len;
    struct payload *payload;
    int r = make_payload(l, h, table, &payload, ret_left_out);
    if (r == CV_EPROTO)
        link_fail(l, r, "the peer broke the protocol: buffers that don't add up in a %s",
                  msg_type_name(h->type));
    else if (r < 0)
        link_fail(l, r, "no memory for a message of %" PRIu64 " bytes", h->body_len);
    if (r < 0)
        return r;
    if (!(h->flags & MSG_F_CHUNKED)) {
        const uint8_t *body = h->nbufs >= 2 ? table + 8 * (size_t)h->nbufs : table;
        for (uint32_t i = 0; i < h->nbufs; i++) {
            if (payload->bufs[i].len)
                memcpy(payload->bufs[i].data, body, payload->bufs[i].len);
            body += payload->bufs[i].len;
        }
    }
    r = msg_new(ret, h, p + WIRE_HEADER_SIZE, h->route_len, payload);
    if (r < 0)
        link_fail(l, r, "out of memory");
    return r;
}

static void on_credit(struct link *l, const struct header *h)
{
    if (h->aux > INT64_MAX / 4 || l->credit_out > INT64_MAX / 4) {
        link_fail(l, CV_EPROTO, "the peer broke the protocol: more credit than there can be");
        return;
    }
    l->credit_out += (int64_t)h->aux;
    link_schedule_flush(l);
}

/* A whole message at p, except a CHUNK or MEMFD. */
static void take_message(struct link *l, const struct header *h, const uint8_t *p)
{
    struct msg *m;
    bool left_out;
    switch (h->type) {
    case MSG_PING:
        if (l->queued < PONG_QUEUE_MAX && link_queue_own(l, MSG_PONG, h->time, 0) < 0)
            link_fail(l, CV_ENOMEM, "out of memory");
        link_schedule_flush(l);
        break;
    case MSG_PONG:
        break;
    case MSG_CREDIT:
        on_credit(l, h);
        break;
    case MSG_RELEASE:
        memfd_released(l, h);
        break;
    default:
        if (make_message(l, h, p, &m, &left_out) < 0)
            break;
        if (h->flags & MSG_F_CHUNKED)
            bulk_announced(l, m, left_out);
        else
            link_deliver(l, m);
    }
}

/* The one thing that versions have in common is that a BYE says why. */
static void say_version(struct link *l, const char *why)
{
    struct header h = {.type = MSG_BYE, .engine = WIRE_ENGINE_NONE};
    struct payload *p;
    char json[sizeof(struct err) + 16];
    int n = snprintf(json, sizeof json, "{\"reason\": \"%s\"}", why);
    if (payload_new_copy(&p, json, (size_t)n) < 0)
        return;
    if (link_send(l, &h, NULL, 0, p, 0) == CV_OK)
        link_flush(l);
    payload_unref(p);
}

/* Takes what is complete in data; returns how many bytes were used up. */
static size_t parse(struct link *l, const uint8_t *data, size_t n)
{
    size_t pos = 0;
    l->need = 0;
    while (link_alive(l)) {
        const uint8_t *p = data + pos;
        if (l->rx) {
            uint32_t len = n - pos < l->rx_left ? (uint32_t)(n - pos) : l->rx_left;
            uint8_t *to = bulk_space(l);
            if (to)
                memcpy(to, p, len);
            pos += len;
            bulk_received(l, len);
            if (pos == n)
                break;
            continue;
        }
        struct header h;
        struct err e = {0};
        if (n - pos < WIRE_HEADER_SIZE)
            break;
        int r = header_decode(p, &l->limits, &h, &e);
        if (r < 0) {
            if (r == CV_EVERSION)
                say_version(l, e.text);
            link_fail(l, r, "%s", e.text);
            break;
        }
        if (check_header(l, &h) < 0)
            break;
        l->bulk_last = h.type == MSG_CHUNK;
        if (h.type == MSG_CHUNK || h.type == MSG_MEMFD) {
            if (h.type == MSG_CHUNK)
                bulk_chunk(l, &h);
            else
                bulk_memfd(l, &h);
            pos += WIRE_HEADER_SIZE;
            continue;
        }
        uint64_t size = message_size(&h);
        if (n - pos < size) {
            l->need = size;
            break;
        }
        pos += size;
        take_message(l, &h, p);
    }
    return pos;
}

static void received(struct link *l, ssize_t n)
{
    l->last_received = loop_now(l->loop);
    l->rx_spent += (uint64_t)n;
    l->received_bytes += (uint64_t)n;
}

/* The data of a CHUNK, straight to its place. */
static ssize_t read_bulk(struct link *l, size_t max, struct err *e, size_t *ret_asked)
{
    static_assert(WIRE_CHUNK_MAX <= LOOP_READ_SIZE, "what is thrown away is read into that");
    uint8_t *to = bulk_space(l);
    *ret_asked = l->rx_left < max ? l->rx_left : max;
    ssize_t n = l->t->ops->read(l->t, to ? to : loop_read_buffer(l->loop), *ret_asked, e);
    if (n > 0) {
        received(l, n);
        bulk_received(l, (uint32_t)n);
    }
    return n;
}

/* The rest of a message that is longer than the shared buffer should hold. */
static ssize_t read_big(struct link *l, size_t max, struct err *e, size_t *ret_asked)
{
    size_t rest = (size_t)l->need - l->left.len;
    *ret_asked = rest < max ? rest : max;
    if (buf_reserve(&l->left, *ret_asked) < 0)
        return err_set(e, CV_ENOMEM, "no memory for a message of %" PRIu64 " bytes", l->need);
    ssize_t n = l->t->ops->read(l->t, l->left.data + l->left.len, *ret_asked, e);
    if (n > 0) {
        received(l, n);
        l->left.len += (size_t)n;
        if (l->left.len >= l->need) {
            struct buf b = l->left; /* callbacks may free the link */
            l->left = (struct buf){0};
            parse(l, b.data, b.len);
            buf_release(&b);
        }
    }
    return n;
}

static int keep(struct link *l, const uint8_t *data, size_t n)
{
    if (!n) {
        buf_release(&l->left);
        return CV_OK;
    }
    buf_clear(&l->left);
    return buf_add(&l->left, data, n);
}

/* Whatever comes, into the shared buffer behind the incomplete message. */
static ssize_t read_shared(struct link *l, size_t max, struct err *e, size_t *ret_asked)
{
    uint8_t *data = loop_read_buffer(l->loop);
    size_t k = l->left.len;
    if (max > LOOP_READ_SIZE - k)
        max = LOOP_READ_SIZE - k;
    if (l->bulk_last && l->transfers.count && max > BULK_PEEK)
        max = BULK_PEEK;
    *ret_asked = max;
    ssize_t n = l->t->ops->read(l->t, data + k, max, e);
    if (n <= 0)
        return n;
    received(l, n);
    if (k)
        memcpy(data, l->left.data, k);
    size_t used = parse(l, data, k + (size_t)n);
    if (link_alive(l) && keep(l, data + used, k + (size_t)n - used) < 0)
        return err_set(e, CV_ENOMEM, "out of memory");
    return n;
}

static void discard(struct link *l)
{
    struct err e;
    ssize_t n = l->t->ops->read(l->t, loop_read_buffer(l->loop), LOOP_READ_SIZE, &e);
    if (n < 0 && n != CV_EAGAIN)
        link_fail(l, CV_ECLOSED, "closed");
}

static void read_failed(struct link *l, int code, const struct err *e)
{
    if (l->tx_error)
        link_fail(l, l->tx_code, "%s", l->tx_error);
    else if (code == CV_EOF && (l->left.len || l->rx || l->transfers.count))
        link_fail(l, code, "the peer closed the connection in the middle of a message");
    else if (code == CV_EOF)
        link_fail(l, code, "the peer closed the connection");
    else
        link_fail(l, code, "%s", e->text);
}

/* Reads until nothing is there or this link had its share of the turn. */
void link_read(struct link *l)
{
    l->read_again = false;
    if (l->rx_turn != loop_turn(l->loop)) {
        l->rx_turn = loop_turn(l->loop);
        l->rx_spent = 0;
    }
    while (l->state == LINK_READY && l->rx_spent < LINK_TURN_MAX) {
        size_t max = LINK_TURN_MAX - l->rx_spent, asked;
        struct err e = {0};
        ssize_t n = l->rx           ? read_bulk(l, max, &e, &asked)
                    : l->need > BIG ? read_big(l, max, &e, &asked)
                                    : read_shared(l, max, &e, &asked);
        if (!link_alive(l))
            return;
        if (n < 0 && n != CV_EAGAIN)
            return read_failed(l, (int)n, &e);
        if (n == CV_EAGAIN || ((size_t)n < asked && !l->t->ops->pending(l->t))) {
            if (l->tx_error)
                link_fail(l, l->tx_code, "%s", l->tx_error);
            return;
        }
    }
    if (l->state == LINK_LINGER)
        return discard(l);
    if (link_alive(l) && (l->tx_error || l->t->ops->pending(l->t))) {
        l->read_again = true;
        link_next_turn(l);
    }
}

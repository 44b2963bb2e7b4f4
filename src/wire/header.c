/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The fixed header (header.h; docs/protocol.md has the offsets). Pure; any thread. */
#include "wire/header.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

static void put16(uint8_t *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p, &v, sizeof v);
}

static void put32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

static void put64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}

static uint16_t get16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return le16toh(v);
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

void header_encode(uint8_t out[WIRE_HEADER_SIZE], const struct header *h)
{
    assert(h->route_len <= WIRE_ROUTE_MAX && h->nbufs <= WIRE_BUFFERS_MAX &&
           h->incarnation <= WIRE_INCARNATION_MAX);
    put16(out, WIRE_MAGIC);
    out[2] = WIRE_VERSION;
    out[3] = h->type;
    put16(out + 4, h->flags);
    put16(out + 6, h->attempt);
    put32(out + 8, h->status | h->route_len << 8); /* one byte of status, three of route_len */
    put16(out + 12, (uint16_t)h->nbufs);
    put16(out + 14, (uint16_t)h->incarnation);
    put32(out + 16, h->engine);
    put32(out + 20, h->count);
    put64(out + 24, h->body_len);
    put64(out + 32, h->session);
    put64(out + 40, h->seq);
    put64(out + 48, h->time);
    put64(out + 56, h->aux);
}

static int check_sizes(const struct header *h, const struct wire_limits *l, struct err *e)
{
    const char *name = msg_type_name(h->type);
    uint32_t route_max = l->route_max < WIRE_ROUTE_MAX ? l->route_max : WIRE_ROUTE_MAX;
    if (h->route_len > route_max)
        return err_set(e, CV_ELIMIT, "%s: a route of %u bytes; at most %u are allowed", name,
                       h->route_len, route_max);
    if (h->body_len > l->body_max)
        return err_set(e, CV_ELIMIT, "%s: a body of %llu bytes; at most %llu are allowed", name,
                       (unsigned long long)h->body_len, (unsigned long long)l->body_max);
    if (h->nbufs == 0 && h->body_len != 0)
        return err_set(e, CV_EPROTO, "%s: a body of %llu bytes without buffers", name,
                       (unsigned long long)h->body_len);
    if (h->flags & MSG_F_CHUNKED && h->nbufs == 0)
        return err_set(e, CV_EPROTO, "%s: chunked without buffers", name);
    if (!(h->flags & MSG_F_CHUNKED) && h->type == MSG_CHUNK && h->body_len > WIRE_CHUNK_MAX)
        return err_set(e, CV_ELIMIT, "CHUNK: %llu bytes; at most %u are allowed",
                       (unsigned long long)h->body_len, WIRE_CHUNK_MAX);
    if (!(h->flags & MSG_F_CHUNKED) && h->type != MSG_CHUNK && h->body_len > WIRE_INLINE_MAX)
        return err_set(e, CV_ELIMIT, "%s: %llu bytes inline; at most %u are allowed", name,
                       (unsigned long long)h->body_len, WIRE_INLINE_MAX);
    if (h->type == MSG_CHUNK && h->flags & MSG_F_CHUNKED)
        return err_set(e, CV_EPROTO, "CHUNK: chunked itself");
    return CV_OK;
}

int header_decode(const uint8_t in[WIRE_HEADER_SIZE], const struct wire_limits *l,
                  struct header *ret, struct err *e)
{
    if (get16(in) != WIRE_MAGIC)
        return err_set(e, CV_EPROTO, "not covey's protocol (first bytes %02x %02x)", in[0], in[1]);
    if (in[2] != WIRE_VERSION)
        return err_set(
            e, CV_EVERSION,
            "the peer speaks wire version %u, this program %u: both must have the same covey",
            in[2], WIRE_VERSION);
    if (in[3] == 0 || in[3] >= MSG_TYPE_END)
        return err_set(e, CV_EPROTO, "unknown message type %u", in[3]);
    uint32_t status_and_route = get32(in + 8);
    struct header h = {
        .type = in[3],
        .flags = get16(in + 4),
        .attempt = get16(in + 6),
        .status = in[8],
        .route_len = status_and_route >> 8,
        .nbufs = get16(in + 12),
        .incarnation = get16(in + 14),
        .engine = get32(in + 16),
        .count = get32(in + 20),
        .body_len = get64(in + 24),
        .session = get64(in + 32),
        .seq = get64(in + 40),
        .time = get64(in + 48),
        .aux = get64(in + 56),
    };
    int rc = check_sizes(&h, l, e);
    if (rc)
        return rc;
    *ret = h;
    return CV_OK;
}

const char *msg_type_name(uint8_t type)
{
    static const char *const names[MSG_TYPE_END] = {
        [MSG_HELLO] = "HELLO",     [MSG_WELCOME] = "WELCOME", [MSG_TASK] = "TASK",
        [MSG_STARTED] = "STARTED", [MSG_RESULT] = "RESULT",   [MSG_ACK] = "ACK",
        [MSG_OUTPUT] = "OUTPUT",   [MSG_COMM] = "COMM",       [MSG_CANCEL] = "CANCEL",
        [MSG_SIGNAL] = "SIGNAL",   [MSG_TAKE] = "TAKE",       [MSG_GIVE_BACK] = "GIVE_BACK",
        [MSG_QUERY] = "QUERY",     [MSG_REPLY] = "REPLY",     [MSG_EVENT] = "EVENT",
        [MSG_CHUNK] = "CHUNK",     [MSG_CREDIT] = "CREDIT",   [MSG_MEMFD] = "MEMFD",
        [MSG_RELEASE] = "RELEASE", [MSG_EXIT] = "EXIT",       [MSG_SPAWN] = "SPAWN",
        [MSG_PING] = "PING",       [MSG_PONG] = "PONG",       [MSG_BYE] = "BYE",
        [MSG_BLOB] = "BLOB",       [MSG_DROP] = "DROP",
    };
    return type < MSG_TYPE_END && names[type] ? names[type] : "?";
}

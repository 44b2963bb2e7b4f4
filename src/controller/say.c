/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See say.h. */
#include "controller/say.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/jsontext.h"

struct payload *say_json(json_t *j_take)
{
    char *text = j_take ? jsontext(j_take, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    struct payload *p = NULL;

    json_decref(j_take);
    if (text && payload_new_copy(&p, text, strlen(text)) != CV_OK)
        p = NULL;
    free(text);
    return p;
}

json_t *say_parse(const struct msg *m)
{
    json_t *j;

    if (!m->payload || !m->payload->nbufs)
        return NULL;
    j = json_loadb((const char *)m->payload->bufs[0].data, m->payload->bufs[0].len,
                   JSON_REJECT_DUPLICATES, NULL);
    if (j && !json_is_object(j)) {
        json_decref(j);
        j = NULL;
    }
    return j;
}

void say_payload(struct link *l, const struct header *h, struct payload *p)
{
    if (!p || link_send(l, h, NULL, 0, p, 0) != CV_OK)
        link_close_after_flush(l, 0);
}

void say(struct link *l, const struct header *h, json_t *j_take)
{
    struct payload *p = say_json(j_take);

    say_payload(l, h, p);
    payload_unref(p);
}

void say_bye(struct link *l, uint32_t engine, const char *reason)
{
    struct header h = {.type = MSG_BYE, .engine = engine};

    say(l, &h, json_pack("{s:s}", "reason", reason));
}

/* JSON text and the buffers of another payload as one. */
struct joined {
    struct payload *inner;
    struct payload *first;
};

static void joined_release(struct payload *p)
{
    struct joined *j = payload_owner(p);

    payload_unref(j->inner);
    payload_unref(j->first);
    free(j);
}

static struct payload *join(struct payload *first_take, struct payload *inner)
{
    uint32_t n = inner->nbufs + 1;
    struct slice *v = malloc(n * sizeof(*v));
    struct joined *j = malloc(sizeof(*j));
    struct payload *p = NULL;

    if (!v || !j || n > WIRE_BUFFERS_MAX)
        goto fail;
    v[0] = first_take->bufs[0];
    memcpy(v + 1, inner->bufs, inner->nbufs * sizeof(*v));
    *j = (struct joined){payload_ref(inner), first_take};
    if (payload_new_foreign(&p, n, v, joined_release, j) != CV_OK) {
        payload_unref(inner);
        goto fail;
    }
    free(v);
    return p;
fail:
    payload_unref(first_take);
    free(v);
    free(j);
    return NULL;
}

static void reply(struct link *l, const struct header *h, struct payload *p_take,
                  struct payload *extra)
{
    struct header out = {.type = MSG_REPLY,
                         .engine = WIRE_ENGINE_NONE,
                         .session = h->session,
                         .seq = h->seq,
                         .count = 1,
                         .time = clock_wall()};
    struct payload *p = p_take;

    if (p && extra && extra->nbufs)
        p = join(p, extra);
    say_payload(l, &out, p);
    payload_unref(p);
}

void say_reply(struct link *l, const struct header *h, json_t *ok_take, struct payload *extra)
{
    reply(l, h, say_json(json_pack("{s:o}", "ok", ok_take)), extra);
}

static void free_text(struct payload *p)
{
    free(payload_owner(p));
}

/* The text between before and after, as one buffer that is moved, not copied twice. */
static struct payload *wrapped(const char *before, struct buf *text_take, const char *after)
{
    size_t n = strlen(before);
    struct buf b = *text_take;
    struct payload *p = NULL;

    *text_take = (struct buf){0};
    if (buf_reserve(&b, n + strlen(after)) == CV_OK) {
        memmove(b.data + n, b.data, b.len);
        memcpy(b.data, before, n);
        memcpy(b.data + n + b.len, after, strlen(after));
        struct slice s = {b.data, b.len + n + strlen(after)};
        if (payload_new_foreign(&p, 1, &s, free_text, b.data) == CV_OK)
            return p;
    }
    buf_release(&b);
    return NULL;
}

struct payload *say_text(struct buf *text_take)
{
    return wrapped("", text_take, "");
}

void say_reply_list(struct link *l, const struct header *h, struct buf *text_take)
{
    reply(l, h, wrapped("{\"ok\":[", text_take, "]}"), NULL);
}

void say_reply_whole(struct link *l, const struct header *h, struct buf *text_take)
{
    reply(l, h, wrapped("", text_take, ""), NULL);
}

void say_reply_text(struct link *l, const struct header *h, struct buf *text_take,
                    struct payload *extra)
{
    reply(l, h, wrapped("{\"ok\":", text_take, "}"), extra);
}

void say_error(struct link *l, const struct header *h, const char *ename, const char *fmt, ...)
{
    struct header out = {.type = MSG_REPLY,
                         .engine = WIRE_ENGINE_NONE,
                         .session = h->session,
                         .seq = h->seq,
                         .count = 1,
                         .time = clock_wall()};
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    say(l, &out, json_pack("{s:{s:s,s:s}}", "error", "ename", ename, "evalue", text));
}

json_t *say_time(uint64_t ns)
{
    return ns ? json_real((double)ns / 1e9) : json_null();
}

/* Without printf(): an answer may name a million. */
void msg_id_format(char out[MSG_ID_SIZE], uint64_t session, uint64_t seq)
{
    char digits[20], *p = out + 17;
    int n = 0;

    for (int i = 15; i >= 0; i--, session >>= 4)
        out[i] = "0123456789abcdef"[session & 15];
    out[16] = '_';
    do
        digits[n++] = (char)('0' + seq % 10);
    while (seq /= 10);
    while (n)
        *p++ = digits[--n];
    *p = 0;
}

int msg_id_parse(const char *text, uint64_t *ret_session, uint64_t *ret_seq)
{
    char canonical[MSG_ID_SIZE];
    uint64_t session, seq;

    if (strlen(text) < 18 || sscanf(text, "%16" SCNx64 "_%" SCNu64, &session, &seq) != 2)
        return CV_EINVAL;
    msg_id_format(canonical, session, seq);
    if (strcmp(canonical, text))
        return CV_EINVAL;
    *ret_session = session;
    *ret_seq = seq;
    return CV_OK;
}

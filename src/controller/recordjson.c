/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See recordjson.h. A million records are written for one question, so JSON is put together as
 * text. */
#include "controller/recordjson.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/jsontext.h"
#include "wire/header.h"
#include "wire/payload.h"
#include "wire/route.h"

#define TARGETS_SHOWN 100 /* there may be thousands, in each of a million records */

static void two_digits(char *p, unsigned v)
{
    p[0] = (char)('0' + v / 10);
    p[1] = (char)('0' + v % 10);
}

/* "2026-11-20T20:11:03.123456+00:00" in quotes. The calendar is counted from 1 March of year 0. */
static int time_add(struct buf *b, int64_t us)
{
    char t[] = "\"0000-00-00T00:00:00.000000+00:00\"";
    uint64_t s = (uint64_t)us / 1000000, days = s / 86400 + 719468, frac = (uint64_t)us % 1000000;
    uint64_t era = days / 146097, doe = days % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    unsigned month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    unsigned year = (unsigned)(yoe + era * 400 + (month <= 2));

    two_digits(t + 1, year / 100 % 100);
    two_digits(t + 3, year % 100);
    two_digits(t + 6, month);
    two_digits(t + 9, (unsigned)(doy - (153 * mp + 2) / 5 + 1));
    two_digits(t + 12, (unsigned)(s % 86400 / 3600));
    two_digits(t + 15, (unsigned)(s % 3600 / 60));
    two_digits(t + 18, (unsigned)(s % 60));
    two_digits(t + 21, (unsigned)(frac / 10000));
    two_digits(t + 23, (unsigned)(frac / 100 % 100));
    two_digits(t + 25, (unsigned)(frac % 100));
    return buf_add(b, t, sizeof(t) - 1);
}

static int value_add(struct buf *b, const struct value *v)
{
    switch (v->kind) {
    case VALUE_INT:
        return buf_addf(b, "%" PRId64, v->i);
    case VALUE_BOOL:
        return buf_addstr(b, v->i ? "true" : "false");
    case VALUE_TIME:
        return time_add(b, v->i);
    case VALUE_TEXT:
        return jsontext_add(b, v->text, v->len);
    default:
        return buf_addstr(b, "null");
    }
}

static int field_add(struct buf *b, const struct store_record *r, uint64_t seq,
                     enum record_field f);

/* {"name": field, …}: a list of names and fields that ends with NULL. */
struct member {
    const char *name;
    enum record_field field;
    const char *text; /* instead of a field */
};

static int object_add(struct buf *b, const struct store_record *r, uint64_t seq,
                      const struct member *m)
{
    int code = CV_OK;

    for (int i = 0; m[i].name && code == CV_OK; i++) {
        code = buf_addf(b, "%s\"%s\":", i ? "," : "{", m[i].name);
        if (code == CV_OK)
            code = m[i].text ? buf_addf(b, "\"%s\"", m[i].text) : field_add(b, r, seq, m[i].field);
    }
    return code == CV_OK ? buf_addstr(b, "}") : code;
}

/* What programs that know ipyparallel's words look for. */
static const char *outcome_of(const struct store_record *r)
{
    return r->result.status == RESULT_OK                                                ? "ok"
           : r->result.status == RESULT_ABORTED || r->result.status == RESULT_CANCELLED ? "aborted"
                                                                                        : "error";
}

static const char *type_of(const struct store_record *r, bool reply)
{
    return r->kind == TASK_EXECUTE ? reply ? "execute_reply" : "execute_request"
           : reply                 ? "apply_reply"
                                   : "apply_request";
}

/* The JSON object that an engine wrote there, NULL: it is none. */
static json_t *object_in(const struct slice *s)
{
    const uint8_t *data = s ? slice_bytes(s) : NULL;
    json_t *j = data ? json_loadb((const char *)data, s->len, 0, NULL) : NULL;
    if (json_is_object(j))
        return j;
    json_decref(j);
    return NULL;
}

/* Writes j, and gives it up. */
static int json_add(struct buf *b, json_t *j)
{
    char *text = jsontext(j, JSON_COMPACT);
    int code = text ? buf_addstr(b, text) : CV_ENOMEM;
    free(text);
    json_decref(j);
    return code;
}

/* The error of a failed task: what the engine or the controller said, if that is JSON. */
static int error_add(struct buf *b, const struct store_record *r, const char *status)
{
    const struct payload *p = r->result.payload;
    json_t *j = object_in(p && p->nbufs ? &p->bufs[0] : NULL);

    if (!j)
        return status ? buf_addf(b, "{\"status\":\"%s\"}", status) : buf_addstr(b, "null");
    if (status)
        json_object_set_new(j, "status", json_string(status));
    return json_add(b, j);
}

static int cell_value_add(struct buf *b, const struct store_record *r)
{
    json_t *j = object_in(record_cell_value(r));
    return j ? json_add(b, j) : buf_addstr(b, "null");
}

/* --- how it was submitted --- */

json_t *record_route(const struct store_record *r, uint32_t most_targets)
{
    json_t *j = json_object();
    struct route x;

    if (r->label)
        json_object_set_new(j, "label", json_string(r->label));
    route_init(&x);
    if (r->route_len && route_decode(r->route, r->route_len, &x, NULL) == CV_OK) {
        if (x.retries)
            json_object_set_new(j, "retries", json_integer(x.retries));
        if (x.priority)
            json_object_set_new(j, "priority", json_integer(x.priority));
        if (x.timeout >= 0)
            json_object_set_new(j, "timeout", json_real(x.timeout));
        if (x.python)
            json_object_set_new(j, "python", json_string(x.python));
        json_t *targets = x.has_targets && x.ntargets <= most_targets ? json_array() : NULL;
        for (uint32_t i = 0; targets && i < x.ntargets; i++)
            json_array_append_new(targets, json_integer(x.targets[i]));
        if (targets)
            json_object_set_new(j, "targets", targets);
    }
    route_release(&x);
    return j;
}

/* Most records have the label alone, and a broadcast's route names all its engines in each of its
 * records: those cost no JSON object. */
static int metadata_add(struct buf *b, const struct store_record *r)
{
    if (r->route_len && r->mode != 2) {
        json_t *j = record_route(r, TARGETS_SHOWN);
        if (j && !r->label)
            json_object_set_new(j, "label", json_null());
        return json_add(b, j);
    }
    int code = buf_addstr(b, "{\"label\":");
    if (code == CV_OK)
        code = r->label ? jsontext_add(b, r->label, strlen(r->label)) : buf_addstr(b, "null");
    return code == CV_OK ? buf_addstr(b, "}") : code;
}

/* In base64: JSON has no bytes. */
static int bytes_add(struct buf *b, const struct slice *s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *data = slice_bytes(s);
    int r = data || !s->len ? buf_reserve(b, s->len / 3 * 4 + 8) : CV_ENOMEM;

    if (r != CV_OK)
        return r;
    b->data[b->len++] = '"';
    for (uint64_t i = 0; i < s->len; i += 3) {
        uint64_t left = s->len - i;
        uint32_t v = (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                     (left > 2 ? data[i + 2] : 0);
        b->data[b->len++] = (uint8_t)digits[v >> 18];
        b->data[b->len++] = (uint8_t)digits[v >> 12 & 63];
        b->data[b->len++] = left > 1 ? (uint8_t)digits[v >> 6 & 63] : '=';
        b->data[b->len++] = left > 2 ? (uint8_t)digits[v & 63] : '=';
    }
    b->data[b->len++] = '"';
    return CV_OK;
}

static int buffers_add(struct buf *b, const struct payload *p)
{
    int r = p ? buf_addstr(b, "[") : buf_addstr(b, "null");

    for (uint32_t i = 0; p && i < p->nbufs && r == CV_OK; i++) {
        r = i ? buf_addstr(b, ",") : CV_OK;
        if (r == CV_OK)
            r = bytes_add(b, &p->bufs[i]);
    }
    return p && r == CV_OK ? buf_addstr(b, "]") : r;
}

static int group_add(struct buf *b, const struct store_record *r, uint64_t seq, enum record_field f)
{
    const struct member header[] = {{"msg_id", FIELD_MSG_ID, NULL},
                                    {"msg_type", 0, type_of(r, false)},
                                    {"session", FIELD_CLIENT_UUID, NULL},
                                    {"date", FIELD_SUBMITTED, NULL},
                                    {NULL, 0, NULL}};
    const struct member reply[] = {{"msg_type", 0, type_of(r, true)},
                                   {"session", FIELD_ENGINE_UUID, NULL},
                                   {"date", FIELD_COMPLETED, NULL},
                                   {NULL, 0, NULL}};
    const struct member result[] = {{"engine", FIELD_ENGINE_UUID, NULL},
                                    {"status", 0, outcome_of(r)},
                                    {"started", FIELD_STARTED, NULL},
                                    {NULL, 0, NULL}};
    const struct member code[] = {{"code", FIELD_SOURCE, NULL}, {NULL, 0, NULL}};
    bool ended = r->state != STORE_PENDING;

    if (f == FIELD_HEADER)
        return object_add(b, r, seq, header);
    if (f == FIELD_CONTENT && r->kind == TASK_EXECUTE)
        return object_add(b, r, seq, code);
    if (f == FIELD_METADATA)
        return metadata_add(b, r);
    if (f == FIELD_CONTENT)
        return buf_addstr(b, "{}");
    if (!ended)
        return buf_addstr(b, "null");
    return object_add(b, r, seq, f == FIELD_RESULT_HEADER ? reply : result);
}

static int field_add(struct buf *b, const struct store_record *r, uint64_t seq, enum record_field f)
{
    bool ended = r->state != STORE_PENDING;
    struct value v;

    switch (f) {
    case FIELD_HEADER:
    case FIELD_METADATA:
    case FIELD_CONTENT:
    case FIELD_RESULT_HEADER:
    case FIELD_RESULT_METADATA:
        return group_add(b, r, seq, f);
    case FIELD_RESULT_CONTENT:
        return !ended                          ? buf_addstr(b, "null")
               : r->result.status == RESULT_OK ? buf_addstr(b, "{\"status\":\"ok\"}")
                                               : error_add(b, r, outcome_of(r));
    case FIELD_EXECUTE_RESULT:
        return cell_value_add(b, r);
    case FIELD_ERROR:
        return ended && r->result.status != RESULT_OK ? error_add(b, r, NULL)
                                                      : buf_addstr(b, "null");
    case FIELD_BUFFERS:
        return buffers_add(b, r->task);
    case FIELD_RESULT_BUFFERS:
        return buffers_add(b, r->result.payload);
    default:
        record_value(r, seq, f, &v);
        return value_add(b, &v);
    }
}

int record_json(struct buf *b, const struct store_record *r, uint64_t seq,
                const enum record_field *fields, size_t n)
{
    int code = CV_OK;

    for (size_t i = 0; i < n && code == CV_OK; i++) {
        code = buf_add(b, i ? ",\"" : "{\"", 2);
        if (code == CV_OK)
            code = buf_addstr(b, record_field_name(fields[i]));
        if (code == CV_OK)
            code = buf_add(b, "\":", 2);
        if (code == CV_OK)
            code = field_add(b, r, seq, fields[i]);
    }
    return code == CV_OK ? buf_addstr(b, "}") : code;
}

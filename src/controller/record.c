/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See record.h. A million records are written for one question, so JSON is put together as text. */
#include "controller/record.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/jsontext.h"
#include "controller/say.h"
#include "wire/header.h"
#include "wire/payload.h"
#include "wire/route.h"

#define TARGETS_SHOWN 100 /* there may be thousands, in each of a million records */

static const char *const names[FIELD_END] = {
    "msg_id",         "client_uuid", "label",         "queue",          "mode",
    "kind",           "state",       "status",        "engine",         "engine_uuid",
    "attempt",        "submitted",   "started",       "completed",      "received",
    "resubmitted",    "first",       "count",         "output_cut",     "stdout",
    "stderr",         "source",      "execute_input", "execute_result", "error",
    "header",         "metadata",    "content",       "result_header",  "result_metadata",
    "result_content", "buffers",     "result_buffers"};
static const char *const modes[] = {"balanced", "direct", "broadcast"};
static const char *const kinds[] = {"apply", "execute", "map", "apply"};
static const char *const statuses[RESULT_STATUS_END] = {[RESULT_OK] = "ok",
                                                        [RESULT_ERROR] = "error",
                                                        [RESULT_ABORTED] = "aborted",
                                                        [RESULT_CANCELLED] = "cancelled",
                                                        [RESULT_ENGINE_DIED] = "engine_died",
                                                        [RESULT_TIMEOUT] = "timeout",
                                                        [RESULT_IMPOSSIBLE] = "impossible",
                                                        [RESULT_INVALID] = "invalid",
                                                        [RESULT_UNMET] = "unmet",
                                                        [RESULT_LOST] = "lost",
                                                        [RESULT_REFUSED] = "refused"};

enum record_field record_field_of(const char *name)
{
    for (int i = 0; i < FIELD_END; i++)
        if (!strcmp(name, names[i]))
            return (enum record_field)i;
    return FIELD_END;
}

unsigned record_parts(enum record_field f)
{
    static const unsigned parts[FIELD_END] = {
        [FIELD_LABEL] = STORE_LABEL,
        [FIELD_QUEUE] = STORE_KIND,
        [FIELD_MODE] = STORE_KIND,
        [FIELD_KIND] = STORE_KIND,
        [FIELD_ENGINE] = STORE_ENGINE,
        [FIELD_ENGINE_UUID] = STORE_ENGINE,
        [FIELD_ATTEMPT] = STORE_ATTEMPT,
        [FIELD_SUBMITTED] = STORE_SUBMITTED,
        [FIELD_STARTED] = STORE_TIMES,
        [FIELD_COMPLETED] = STORE_COMPLETED,
        [FIELD_RECEIVED] = STORE_TIMES,
        [FIELD_RESUBMITTED] = STORE_AGAIN,
        [FIELD_FIRST] = STORE_RANGE,
        [FIELD_COUNT] = STORE_RANGE,
        [FIELD_OUTPUT_CUT] = STORE_OUTPUT,
        [FIELD_STDOUT] = STORE_OUTPUT,
        [FIELD_STDERR] = STORE_OUTPUT,
        [FIELD_SOURCE] = STORE_KIND | STORE_CALL,
        [FIELD_EXECUTE_INPUT] = STORE_KIND | STORE_CALL,
        [FIELD_EXECUTE_RESULT] = STORE_KIND | STORE_RESULT,
        [FIELD_ERROR] = STORE_RESULT,
        [FIELD_HEADER] = STORE_KIND | STORE_SUBMITTED,
        [FIELD_METADATA] = STORE_KIND | STORE_LABEL | STORE_ROUTE,
        [FIELD_CONTENT] = STORE_KIND | STORE_CALL,
        [FIELD_RESULT_HEADER] = STORE_KIND | STORE_ENGINE | STORE_COMPLETED,
        [FIELD_RESULT_METADATA] = STORE_ENGINE | STORE_TIMES,
        [FIELD_RESULT_CONTENT] = STORE_RESULT,
        [FIELD_BUFFERS] = STORE_CALL,
        [FIELD_RESULT_BUFFERS] = STORE_RESULT,
    };
    return parts[f];
}

/* --- values --- */

static void set_text(struct value *v, const char *text)
{
    v->kind = text ? VALUE_TEXT : VALUE_NULL;
    v->text = text;
    v->len = text ? strlen(text) : 0;
}

static void set_int(struct value *v, bool known, uint64_t i)
{
    v->kind = known ? VALUE_INT : VALUE_NULL;
    v->i = (int64_t)i;
}

static void set_time(struct value *v, uint64_t ns)
{
    v->kind = ns ? VALUE_TIME : VALUE_NULL;
    v->i = (int64_t)(ns / 1000);
}

static void set_id(struct value *v, uint64_t session, uint64_t seq)
{
    msg_id_format(v->own, session, seq);
    set_text(v, v->own);
}

/* The first buffer of a payload as text. */
static void set_buffer(struct value *v, const struct payload *p)
{
    const uint8_t *data = p && p->nbufs ? slice_bytes(&p->bufs[0]) : NULL;
    v->kind = p && p->nbufs ? VALUE_TEXT : VALUE_NULL;
    v->text = (const char *)data;
    v->len = data ? p->bufs[0].len : 0;
}

static void set_stream(struct value *v, const struct store_record *r, enum store_stream s)
{
    v->kind = VALUE_TEXT;
    v->text = r->output ? (const char *)r->output->stream[s].data : NULL;
    v->len = r->output ? r->output->stream[s].len : 0;
}

static const char *status_of(const struct store_record *r)
{
    return r->state != STORE_PENDING && r->result.status < RESULT_STATUS_END
               ? statuses[r->result.status]
               : NULL;
}

/* What programs that know ipyparallel's words look for. */
static const char *outcome_of(const struct store_record *r)
{
    return r->result.status == RESULT_OK                                                ? "ok"
           : r->result.status == RESULT_ABORTED || r->result.status == RESULT_CANCELLED ? "aborted"
                                                                                        : "error";
}

/* The value of a cell's last expression: the second buffer of its result; NULL: it has none. */
static const struct slice *cell_value(const struct store_record *r)
{
    const struct payload *p = r->result.payload;
    bool ok = r->state != STORE_PENDING && r->result.status == RESULT_OK;
    return ok && r->kind == TASK_EXECUTE && p && p->nbufs > 1 ? &p->bufs[1] : NULL;
}

void record_value(const struct store_record *r, uint64_t seq, enum record_field f, struct value *v)
{
    const struct store_result *s = &r->result;
    bool ended = r->state != STORE_PENDING;

    v->kind = VALUE_OTHER;
    switch (f) {
    case FIELD_MSG_ID:
        set_id(v, r->session, seq);
        break;
    case FIELD_CLIENT_UUID:
        snprintf(v->own, sizeof(v->own), "%016" PRIx64, r->session);
        set_text(v, v->own);
        break;
    case FIELD_LABEL:
        set_text(v, r->label);
        break;
    case FIELD_QUEUE:
        set_text(v, r->mode ? "mux" : "task");
        break;
    case FIELD_MODE:
        set_text(v, r->mode < 3 ? modes[r->mode] : "?");
        break;
    case FIELD_KIND:
        set_text(v, r->kind < 4 ? kinds[r->kind] : "?");
        break;
    case FIELD_STATE:
        set_text(v, !ended ? "pending" : s->status == RESULT_OK ? "done" : "failed");
        break;
    case FIELD_STATUS:
        set_text(v, status_of(r));
        break;
    case FIELD_ENGINE:
        set_int(v, ended && s->engine != WIRE_ENGINE_NONE, s->engine);
        break;
    case FIELD_ENGINE_UUID:
        set_text(v, ended ? s->engine_uuid : NULL);
        break;
    case FIELD_ATTEMPT:
        set_int(v, ended, s->attempt);
        break;
    case FIELD_SUBMITTED:
        set_time(v, r->submitted);
        break;
    case FIELD_STARTED:
        set_time(v, ended ? s->started : 0);
        break;
    case FIELD_COMPLETED:
        set_time(v, ended ? s->completed : 0);
        break;
    case FIELD_RECEIVED:
        set_time(v, ended ? s->received : 0);
        break;
    case FIELD_RESUBMITTED:
        set_id(v, r->again.session, r->again.seq);
        if (!r->again.seq)
            v->kind = VALUE_NULL;
        break;
    case FIELD_FIRST:
        set_int(v, true, ended ? s->seq : r->lo);
        break;
    case FIELD_COUNT:
        set_int(v, true, ended ? s->count : r->hi - r->lo);
        break;
    case FIELD_OUTPUT_CUT:
        v->kind = VALUE_BOOL;
        v->i = r->output && r->output->cut;
        break;
    case FIELD_STDOUT:
        set_stream(v, r, STORE_STDOUT);
        break;
    case FIELD_STDERR:
        set_stream(v, r, STORE_STDERR);
        break;
    case FIELD_SOURCE:
    case FIELD_EXECUTE_INPUT:
        set_buffer(v, r->kind == TASK_EXECUTE ? r->task : NULL);
        break;
    case FIELD_EXECUTE_RESULT: /* an object, too */
        v->kind = cell_value(r) ? VALUE_OTHER : VALUE_NULL;
        break;
    case FIELD_ERROR: /* an object; whether there is one can be asked */
        v->kind = ended && s->status != RESULT_OK ? VALUE_OTHER : VALUE_NULL;
        break;
    default:
        break;
    }
}

/* --- JSON --- */

/* Bytes of the valid UTF-8 sequence at p, 0: there is none. */
static size_t utf8_length(const uint8_t *p, size_t n)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

    if (!len || len > n || p[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

int json_text_add(struct buf *b, const char *text, size_t n)
{
    const uint8_t *p = (const uint8_t *)text;
    int r = buf_reserve(b, n + 2);
    size_t from = 0, i = 0;

    if (r == CV_OK)
        r = buf_add(b, "\"", 1);
    while (i < n && r == CV_OK) {
        size_t len = utf8_length(p + i, n - i);
        if (len && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\') {
            i += len;
            continue;
        }
        r = buf_add(b, p + from, i - from);
        if (r == CV_OK)
            r = !len ? buf_addstr(b, "\xef\xbf\xbd")
                     : buf_addf(b, p[i] < 0x20 ? "\\u%04x" : "\\%c", p[i]);
        from = ++i;
    }
    if (r == CV_OK && n > from)
        r = buf_add(b, p + from, n - from);
    return r == CV_OK ? buf_add(b, "\"", 1) : r;
}

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
        return json_text_add(b, v->text, v->len);
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
    json_t *j = object_in(cell_value(r));
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
        code = r->label ? json_text_add(b, r->label, strlen(r->label)) : buf_addstr(b, "null");
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
            code = buf_addstr(b, names[fields[i]]);
        if (code == CV_OK)
            code = buf_add(b, "\":", 2);
        if (code == CV_OK)
            code = field_add(b, r, seq, fields[i]);
    }
    return code == CV_OK ? buf_addstr(b, "}") : code;
}

bool record_parse_time(const char *text, int64_t *ret)
{
    struct tm tm = {0};
    const char *p = strptime(text, "%Y-%m-%d", &tm);

    if (!p || (*p != 'T' && *p != ' ') || !(p = strptime(p + 1, "%H:%M:%S", &tm)))
        return false;
    int64_t us = (int64_t)timegm(&tm) * 1000000;
    if (*p == '.') {
        int64_t unit = 100000;
        for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
            us += unit * (*p - '0');
    }
    int hours, minutes;
    if ((*p == '+' || *p == '-') && sscanf(p + 1, "%2d:%2d", &hours, &minutes) == 2)
        us -= (*p == '-' ? -1 : 1) * (hours * 60 + minutes) * INT64_C(60000000);
    else if (*p && strcmp(p, "Z"))
        return false;
    *ret = us;
    return true;
}

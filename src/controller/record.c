/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See record.h. Any thread; nothing is allocated, and nothing fails. */
#include "controller/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "controller/say.h"
#include "wire/header.h"
#include "wire/payload.h"

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

const char *record_field_name(enum record_field f)
{
    return names[f];
}

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

const struct slice *record_cell_value(const struct store_record *r)
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
        v->kind = record_cell_value(r) ? VALUE_OTHER : VALUE_NULL;
        break;
    case FIELD_ERROR: /* an object; whether there is one can be asked */
        v->kind = ended && s->status != RESULT_OK ? VALUE_OTHER : VALUE_NULL;
        break;
    default:
        break;
    }
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

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Records as JSON, and the query language about them: {"key": value} or {"key": {"$op": value}},
 * all of which must hold. Operators: $eq $ne $lt $lte $gt $gte $in $nin $glob $exists. Times are
 * texts in ISO 8601 and compare as times; a comparison with a value that is null or of another kind
 * does not hold. */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "controller/query.h"
#include "controller/say.h"
#include "wire/header.h"
#include "wire/payload.h"

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

static json_t *text_or_empty(const struct buf *b)
{
    json_t *j = b->len ? json_stringn((const char *)b->data, b->len) : json_string("");

    return j ? j : json_string("(not text)");
}

static json_t *time_or_null(uint64_t ns)
{
    time_t t = (time_t)(ns / NS_PER_S);
    struct tm tm;
    char day[40], text[64];

    if (!ns || !gmtime_r(&t, &tm) || !strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm))
        return json_null();
    snprintf(text, sizeof(text), "%s.%06u+00:00", day, (unsigned)(ns % NS_PER_S / 1000));
    return json_string(text);
}

/* The source of an execute, where the call was kept. */
static json_t *source_or_null(const struct store_record *r)
{
    const struct payload *p = r->kind == TASK_EXECUTE ? r->task : NULL;
    json_t *j = p && p->nbufs ? json_stringn((const char *)p->bufs[0].data, p->bufs[0].len) : NULL;

    return j ? j : json_null();
}

static json_t *uuid_json(struct controller *c, const struct store_result *r)
{
    const char *uuid = registry_uuid(&c->registry, r->engine, r->incarnation);

    return uuid ? json_string(uuid) : json_null();
}

json_t *dbquery_record(struct controller *c, const struct store_record *r, uint64_t seq)
{
    const struct store_result *s = &r->result;
    bool ended = r->state != STORE_PENDING;
    char id[MSG_ID_SIZE], client[20];

    msg_id_format(id, r->session, seq);
    snprintf(client, sizeof(client), "%016" PRIx64, r->session);
    json_t *j =
        json_pack("{s:s,s:s,s:o,s:s,s:s,s:s,s:o,s:o,s:b}", "msg_id", id, "client_uuid", client,
                  "label", r->label ? json_string(r->label) : json_null(), "queue",
                  r->mode ? "mux" : "task", "mode", r->mode < 3 ? modes[r->mode] : "?", "kind",
                  r->kind < 4 ? kinds[r->kind] : "?", "submitted", time_or_null(r->submitted),
                  "stdout", text_or_empty(&r->output[STORE_STDOUT]), "output_cut", r->output_cut);
    json_object_set_new(j, "stderr", text_or_empty(&r->output[STORE_STDERR]));
    json_object_set_new(
        j, "state", json_string(ended ? s->status == RESULT_OK ? "done" : "failed" : "pending"));
    json_object_set_new(j, "status",
                        ended && s->status < RESULT_STATUS_END ? json_string(statuses[s->status])
                                                               : json_null());
    json_object_set_new(j, "source", source_or_null(r));
    json_object_set_new(j, "engine",
                        ended && s->engine != WIRE_ENGINE_NONE ? json_integer(s->engine)
                                                               : json_null());
    json_object_set_new(j, "engine_uuid", ended ? uuid_json(c, s) : json_null());
    json_object_set_new(j, "started", time_or_null(ended ? s->started : 0));
    json_object_set_new(j, "completed", time_or_null(ended ? s->completed : 0));
    json_object_set_new(j, "received", time_or_null(ended ? s->received : 0));
    json_object_set_new(j, "attempt", ended ? json_integer(s->attempt) : json_null());
    json_object_set_new(j, "first", json_integer((json_int_t)(ended ? s->seq : r->lo)));
    json_object_set_new(j, "count", json_integer((json_int_t)(ended ? s->count : r->hi - r->lo)));
    return j;
}

/* --- matching --- */

/* Microseconds of an ISO 8601 text with date and time; without a zone it is UTC. */
static bool parse_time(const char *text, int64_t *ret)
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

/* -1, 0, 1; false: they can't be compared. */
static bool compare(const json_t *a, const json_t *b, int *ret)
{
    if (json_is_number(a) && json_is_number(b)) {
        double x = json_number_value(a), y = json_number_value(b);
        *ret = x < y ? -1 : x > y;
        return true;
    }
    if (json_is_string(a) && json_is_string(b)) {
        int64_t x, y;
        int r = strcmp(json_string_value(a), json_string_value(b));
        if (parse_time(json_string_value(a), &x) && parse_time(json_string_value(b), &y))
            r = x < y ? -1 : x > y;
        *ret = r < 0 ? -1 : r > 0;
        return true;
    }
    *ret = 1;
    return false;
}

static bool equal(const json_t *a, const json_t *b)
{
    int r;

    return compare(a, b, &r) ? r == 0 : json_equal(a, b);
}

static bool is_in(const json_t *v, const json_t *list)
{
    json_t *x;
    size_t i;

    json_array_foreach((json_t *)list, i, x) if (equal(v, x)) return true;
    return false;
}

enum op { OP_EQ, OP_NE, OP_LT, OP_LTE, OP_GT, OP_GTE, OP_IN, OP_NIN, OP_GLOB, OP_EXISTS, OP_END };
static const char *const ops[OP_END] = {"$eq",  "$ne", "$lt",  "$lte",  "$gt",
                                        "$gte", "$in", "$nin", "$glob", "$exists"};

static enum op op_of(const char *name)
{
    for (int i = 0; i < OP_END; i++)
        if (!strcmp(name, ops[i]))
            return (enum op)i;
    return OP_END;
}

static bool holds(const json_t *value, enum op op, const json_t *arg)
{
    int r = 0;
    bool comparable = op >= OP_LT && op <= OP_GTE && compare(value, arg, &r);

    switch (op) {
    case OP_EQ:
        return equal(value, arg);
    case OP_NE:
        return !equal(value, arg);
    case OP_LT:
        return comparable && r < 0;
    case OP_LTE:
        return comparable && r <= 0;
    case OP_GT:
        return comparable && r > 0;
    case OP_GTE:
        return comparable && r >= 0;
    case OP_IN:
        return is_in(value, arg);
    case OP_NIN:
        return !is_in(value, arg);
    case OP_GLOB:
        return json_is_string(value) && json_is_string(arg) &&
               fnmatch(json_string_value(arg), json_string_value(value), 0) == 0;
    case OP_EXISTS:
        return json_is_null(value) == json_is_false(arg);
    case OP_END:
        break;
    }
    return false;
}

static bool is_test(const json_t *v)
{
    const char *key = json_object_iter_key(json_object_iter((json_t *)v));

    return json_is_object(v) && key && key[0] == '$';
}

static bool matches(const json_t *rec, const json_t *query)
{
    const char *key, *op;
    json_t *want, *arg;

    json_object_foreach((json_t *)query, key, want)
    {
        const json_t *value = json_object_get(rec, key);
        if (!is_test(want)) {
            if (!equal(value, want))
                return false;
            continue;
        }
        json_object_foreach(want, op, arg) if (!holds(value, op_of(op), arg)) return false;
    }
    return true;
}

/* What is wrong with the query, in ret; NULL if nothing. */
static const char *check(struct controller *c, const json_t *query, const json_t *keys,
                         char ret[200])
{
    struct store_record empty = {0};
    json_t *rec = dbquery_record(c, &empty, 0), *want, *arg, *k;
    const char *key, *op, *bad = NULL;
    size_t i;

    ret[0] = 0;
    json_object_foreach((json_t *)query, key, want)
    {
        if (!json_object_get(rec, key))
            bad = key;
        if (is_test(want))
            json_object_foreach(want, op, arg) if (op_of(op) == OP_END)
                snprintf(ret, 200, "there is no operator '%.40s' in queries", op);
    }
    json_array_foreach((json_t *)keys, i,
                       k) if (!json_is_string(k) || !json_object_get(rec, json_string_value(k)))
        bad = json_is_string(k) ? json_string_value(k) : "?";
    if (bad)
        snprintf(ret, 200, "records have no key '%.60s'", bad);
    json_decref(rec);
    return ret[0] ? ret : NULL;
}

/* --- */

struct walk {
    struct controller *c;
    const json_t *query, *keys;
    json_t *list;
};

static json_t *project(json_t *rec, const json_t *keys)
{
    json_t *k, *ret = json_object();
    size_t i;

    json_object_set(ret, "msg_id", json_object_get(rec, "msg_id"));
    json_array_foreach((json_t *)keys, i, k)
        json_object_set(ret, json_string_value(k), json_object_get(rec, json_string_value(k)));
    return ret;
}

static bool collect(void *arg, const struct store_record *r)
{
    struct walk *w = arg;

    for (uint64_t seq = r->lo; seq < r->hi; seq++) {
        json_t *rec = dbquery_record(w->c, r, seq);
        if (matches(rec, w->query))
            json_array_append_new(w->list, json_is_array(w->keys) ? project(rec, w->keys)
                                                                  : json_incref(rec));
        json_decref(rec);
    }
    return true;
}

void dbquery_handle(struct controller *c, const struct origin *o, const struct header *h,
                    const json_t *args)
{
    struct walk w = {c, json_object_get(args, "where"), json_object_get(args, "keys"), NULL};
    char text[200];

    if (check(c, w.query, w.keys, text)) {
        say_error(o->conn->link, h, "KeyError", "%s", text);
        return;
    }
    w.list = json_array();
    c->store->ops->each(c->store, collect, &w);
    say_reply(o->conn->link, h, w.list, NULL);
}

static bool collect_id(void *arg, const struct store_record *r)
{
    char id[MSG_ID_SIZE];

    for (uint64_t seq = r->lo; seq < r->hi; seq++) {
        msg_id_format(id, r->session, seq);
        json_array_append_new(arg, json_string(id));
    }
    return true;
}

void dbquery_history(struct controller *c, const struct origin *o, const struct header *h)
{
    json_t *list = json_array();

    c->store->ops->each(c->store, collect_id, list);
    say_reply(o->conn->link, h, list, NULL);
}

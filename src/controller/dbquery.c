/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Questions about records. Each is a walk of the store, which may take many turns of the loop or
 * go on on the store's thread; so the answer is put together in `struct ask`, which touches nothing
 * of the controller until the walk is done, and goes to the client that then is connected. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/jsontext.h"
#include "controller/filter.h"
#include "controller/query.h"
#include "controller/recordjson.h"
#include "controller/say.h"
#include "wire/header.h"
#include "wire/payload.h"

/* What a list of records may take, if it is more than DictDB.size_limit: it is put together, sent
 * and read in one piece. */
#define ANSWER_MIN ((uint64_t)64 << 20)

struct ask {
    struct store_walk walk;
    struct controller *c;
    uint64_t session; /* who asked */
    struct header h;  /* the QUERY's */
    struct filter *filter;
    enum record_field fields[FIELD_END];
    size_t nfields;
    struct buf out; /* JSON of what was found */
    uint64_t found;
    int code;
    struct store_id *only; /* own */
    struct payload *payload;
    json_t *args; /* own; queue_status: the list of each engine by its uuid */
    json_t *ok;   /* the answer as it grows, where it is no list */
    enum store_find in_memory;
    uint64_t most; /* bytes of out; 0: any */
    bool too_long; /* more than that */
    bool lost;     /* the file does not have the result */
    bool gone;     /* memory does not have it any more */
};

static void ask_free(struct ask *a)
{
    filter_free(a->filter);
    buf_release(&a->out);
    free(a->only);
    payload_unref(a->payload);
    json_decref(a->args);
    json_decref(a->ok);
    free(a);
}

static struct link *link_of(const struct ask *a)
{
    return query_link(a->c, a->session);
}

static void fail(const struct ask *a, const char *ename, const char *fmt, ...)
{
    struct link *l = link_of(a);
    char text[600];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (l)
        say_error(l, &a->h, ename, "%s", text);
}

/* True: told that there is no answer. */
static bool failed(const struct ask *a, bool walk_failed)
{
    if (walk_failed)
        fail(a, "NoData",
             "the file of the task records can't be read now; ask again for what is "
             "in memory");
    else if (a->code != CV_OK)
        fail(a, "KernelError", "the controller is out of memory for this answer");
    else if (a->too_long)
        fail(a, "ValueError",
             "the answer is longer than %" PRIu64 " MiB, with %" PRIu64 " records so far: narrow "
             "the question, or ask for some fields only, such as keys=['msg_id', 'completed'] "
             "(the controller's DictDB.size_limit bounds it)",
             a->most >> 20, a->found);
    return walk_failed || a->code != CV_OK || a->too_long;
}

static struct ask *
ask_new(struct controller *c, const struct origin *o, const struct header *h, const json_t *args,
        bool (*visit)(struct store_walk *w, const struct store_record *r, uint64_t lo, uint64_t hi),
        void (*done)(struct store_walk *w, bool failed))
{
    struct ask *a = calloc(1, sizeof(*a));

    if (!a) {
        say_error(o->conn->link, h, "KernelError", "the controller is out of memory");
        return NULL;
    }
    a->c = c;
    a->h = *h;
    a->session = o->client->session;
    a->args = json_incref((json_t *)args);
    a->walk.visit = visit;
    a->walk.done = done;
    return a;
}

static void start(struct ask *a)
{
    a->c->store->ops->walk(a->c->store, &a->walk);
}

static struct ask *ask_of(struct store_walk *w)
{
    return container_of(w, struct ask, walk);
}

/* --- db_query and history --- */

static void comma(struct ask *a)
{
    if (a->code == CV_OK && a->found++)
        a->code = buf_addstr(&a->out, ",");
}

/* Of a row of several items each may be another case. */
static bool wanted_query(struct store_walk *w, const struct store_record *r)
{
    const struct ask *a = ask_of(w);

    return (filter_by_item(a->filter) && r->hi - r->lo > 1) || filter_matches(a->filter, r, r->lo);
}

static bool visit_query(struct store_walk *w, const struct store_record *r, uint64_t lo,
                        uint64_t hi)
{
    struct ask *a = ask_of(w);
    bool by_item = filter_by_item(a->filter);

    if (!by_item && !filter_matches(a->filter, r, lo))
        return true;
    for (uint64_t seq = lo; seq < hi && a->code == CV_OK && !a->too_long; seq++) {
        if (by_item && !filter_matches(a->filter, r, seq))
            continue;
        comma(a);
        if (a->code == CV_OK)
            a->code = record_json(&a->out, r, seq, a->fields, a->nfields);
        a->too_long = a->most && a->out.len > a->most;
    }
    return a->code == CV_OK && !a->too_long;
}

static bool visit_history(struct store_walk *w, const struct store_record *r, uint64_t lo,
                          uint64_t hi)
{
    struct ask *a = ask_of(w);
    char id[MSG_ID_SIZE];

    for (uint64_t seq = lo; seq < hi && a->code == CV_OK; seq++) {
        msg_id_format(id, r->session, seq);
        comma(a);
        if (a->code == CV_OK)
            a->code = buf_addf(&a->out, "\"%s\"", id);
    }
    return a->code == CV_OK;
}

static void list_done(struct store_walk *w, bool walk_failed)
{
    struct ask *a = ask_of(w);
    struct link *l = link_of(a);

    if (!failed(a, walk_failed) && l)
        say_reply_list(l, &a->h, &a->out);
    ask_free(a);
}

/* The fields that are asked for, the id first. */
static int read_keys(struct ask *a, const json_t *keys, struct err *e)
{
    json_t *k;
    size_t i;

    a->fields[a->nfields++] = FIELD_MSG_ID;
    for (int f = 1; !json_is_array(keys) && f < FIELD_BUFFERS; f++)
        a->fields[a->nfields++] = (enum record_field)f;
    json_array_foreach((json_t *)keys, i, k)
    {
        const char *name = json_string_value(k);
        enum record_field f = name ? record_field_of(name) : FIELD_END;
        bool there = false;
        for (size_t n = 0; n < a->nfields; n++)
            there |= a->fields[n] == f;
        if (f == FIELD_END)
            return err_set(e, CV_EINVAL, "records have no key '%.60s'", name ? name : "?");
        if (!there)
            a->fields[a->nfields++] = f;
    }
    for (size_t n = 0; n < a->nfields; n++)
        a->walk.parts |= record_parts(a->fields[n]);
    return CV_OK;
}

void dbquery_handle(struct controller *c, const struct origin *o, const struct header *h,
                    const json_t *args)
{
    struct ask *a = ask_new(c, o, h, args, visit_query, list_done);
    struct err e = {{0}};

    if (!a)
        return;
    int r = filter_new(&a->filter, json_object_get(args, "where"), &e);
    if (r == CV_OK)
        r = read_keys(a, json_object_get(args, "keys"), &e);
    if (r != CV_OK) {
        fail(a, r == CV_EINVAL ? "KeyError" : "KernelError", "%s", e.text);
        ask_free(a);
        return;
    }
    a->most = c->opt->size_limit;
    if (a->most && a->most < ANSWER_MIN)
        a->most = ANSWER_MIN;
    a->walk.tested = filter_parts(a->filter);
    a->walk.parts |= a->walk.tested;
    a->walk.wanted = json_object_size(json_object_get(args, "where")) ? wanted_query : NULL;
    filter_bounds(a->filter, &a->walk.bounds);
    a->walk.only = a->only = filter_ids(a->filter, &a->walk.nonly);
    start(a);
}

void dbquery_history(struct controller *c, const struct origin *o, const struct header *h)
{
    struct ask *a = ask_new(c, o, h, NULL, visit_history, list_done);

    if (a)
        start(a);
}

/* --- result: one record with the RESULT's buffers --- */

static const char *id_text(const struct ask *a)
{
    const char *text = json_string_value(json_object_get(a->args, "id"));

    return text ? text : "";
}

static struct store_id *id_of(const char *text)
{
    struct store_id *v = malloc(sizeof(*v));

    if (v && msg_id_parse(text, &v->session, &v->seq) != CV_OK) {
        free(v);
        return NULL;
    }
    return v;
}

static bool visit_result(struct store_walk *w, const struct store_record *r, uint64_t lo,
                         uint64_t hi)
{
    struct ask *a = ask_of(w);

    a->found++;
    if (r->state == STORE_PENDING) {
        a->code = buf_addstr(&a->out, "null");
        return false;
    }
    a->lost = !r->in_memory && !r->result.payload;
    a->gone = r->result.gone;
    a->payload = payload_ref(r->result.payload);
    a->code = record_json(&a->out, r, lo, a->fields, a->nfields);
    if (a->code == CV_OK) {
        a->out.len--; /* the brace */
        a->code = buf_addf(&a->out, ",\"status\":%u}", r->result.status);
    }
    return false;
}

/* An id beyond all that its client has sent, of a client that is connected: it may be on the way.
 */
static bool may_come(const struct ask *a)
{
    return a->in_memory == STORE_UNKNOWN && query_link(a->c, a->only->session);
}

static void result_done(struct store_walk *w, bool walk_failed)
{
    struct ask *a = ask_of(w);
    struct link *l = link_of(a);
    const char *text = id_text(a);

    if (failed(a, walk_failed) || !l)
        goto out;
    if (!a->found && a->in_memory == STORE_EXPIRED && !a->c->store->ops->queryable)
        fail(a, "NoData",
             "this controller keeps no task records (it was started with --nodb): the result of %s "
             "went to the client that asked for it",
             text);
    else if (!a->found && a->in_memory == STORE_EXPIRED)
        fail(a, "ResultExpired",
             "the result of %s was kept for a while and is gone by now: the controller keeps what "
             "DictDB.record_limit and DictDB.size_limit allow, or all of it with --db=sqlite",
             text);
    else if (!a->found && may_come(a))
        say_reply(l, &a->h, json_false(), NULL);
    else if (!a->found)
        fail(a, "KeyError", "no task %s is known here", text);
    else if (a->gone)
        fail(a, "ResultExpired",
             "the result of %s went to its client and, being large, is not kept after that", text);
    else if (a->lost)
        fail(a, "ResultExpired",
             "the result of %s is not in the records: it was too large for a row, or the "
             "controller of then ended before the task did",
             text);
    else
        say_reply_text(l, &a->h, &a->out, a->payload);
out:
    ask_free(a);
}

static struct ask *
ask_one(struct controller *c, const struct origin *o, const struct header *h, const json_t *args,
        bool (*visit)(struct store_walk *w, const struct store_record *r, uint64_t lo, uint64_t hi),
        void (*done)(struct store_walk *w, bool failed))
{
    struct ask *a = ask_new(c, o, h, args, visit, done);
    const struct store_record *r;

    if (!a)
        return NULL;
    a->walk.only = a->only = id_of(id_text(a));
    if (!a->only) {
        fail(a, "KeyError", "'%.60s' is not a message id", id_text(a));
        ask_free(a);
        return NULL;
    }
    a->walk.nonly = 1;
    a->in_memory = c->store->ops->find(c->store, a->only->session, a->only->seq, &r, NULL);
    return a;
}

void dbquery_result(struct controller *c, const struct origin *o, const struct header *h,
                    const json_t *args)
{
    static const enum record_field wanted[] = {
        FIELD_MSG_ID,  FIELD_LABEL,     FIELD_KIND,    FIELD_ENGINE,    FIELD_ENGINE_UUID,
        FIELD_ATTEMPT, FIELD_SUBMITTED, FIELD_STARTED, FIELD_COMPLETED, FIELD_RECEIVED,
        FIELD_FIRST,   FIELD_COUNT,     FIELD_STDOUT,  FIELD_STDERR,    FIELD_SOURCE};
    struct ask *a = ask_one(c, o, h, args, visit_result, result_done);

    if (!a)
        return;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        a->fields[a->nfields++] = wanted[i];
    a->walk.parts = STORE_ALL;
    start(a);
}

/* --- call: what is needed to submit a task again --- */

static bool visit_call(struct store_walk *w, const struct store_record *r, uint64_t lo, uint64_t hi)
{
    struct ask *a = ask_of(w);
    bool ended = r->state != STORE_PENDING;
    uint32_t engine = r->mode == 1 ? r->target : ended ? r->result.engine : WIRE_ENGINE_NONE;

    a->found++;
    a->payload = payload_ref(r->task);
    json_t *j =
        json_pack("{s:i,s:i,s:i,s:o,s:I,s:o}", "kind", r->kind, "mode", r->mode, "flags",
                  r->flags & MSG_F_SILENT, "engine",
                  engine == WIRE_ENGINE_NONE || !r->mode ? json_null() : json_integer(engine),
                  "item", (json_int_t)(lo - r->origin), "route", record_route(r, UINT32_MAX));
    char *text = j ? jsontext(j, JSON_COMPACT) : NULL;
    a->code = text ? buf_addstr(&a->out, text) : CV_ENOMEM;
    free(text);
    json_decref(j);
    return false;
}

static void call_done(struct store_walk *w, bool walk_failed)
{
    struct ask *a = ask_of(w);
    struct link *l = link_of(a);
    const char *text = id_text(a);

    if (failed(a, walk_failed) || !l)
        goto out;
    if (!a->found)
        fail(a, a->in_memory == STORE_EXPIRED ? "ResultExpired" : "KeyError",
             "no record of task %s is kept here", text);
    else if (!a->payload)
        fail(a, "KeyError",
             "the arguments of task %s are not kept: those of more than 1 MiB, or with a large "
             "function that is sent once for many calls, never are",
             text);
    else
        say_reply_text(l, &a->h, &a->out, a->payload);
out:
    ask_free(a);
}

void dbquery_call(struct controller *c, const struct origin *o, const struct header *h,
                  const json_t *args)
{
    struct ask *a = ask_one(c, o, h, args, visit_call, call_done);

    if (!a)
        return;
    a->walk.parts = STORE_ALL & ~(STORE_RESULT | STORE_OUTPUT);
    start(a);
}

/* --- result_status --- */

static bool visit_status(struct store_walk *w, const struct store_record *r, uint64_t lo,
                         uint64_t hi)
{
    struct ask *a = ask_of(w);
    char id[MSG_ID_SIZE];

    msg_id_format(id, r->session, lo);
    json_t *list = json_object_get(a->ok, r->state == STORE_PENDING ? "pending" : "completed");
    json_array_append_new(list, json_string(id));
    json_object_del(json_object_get(a->ok, "unknown"), id);
    return true;
}

static void status_done(struct store_walk *w, bool walk_failed)
{
    struct ask *a = ask_of(w);
    struct link *l = link_of(a);
    json_t *unknown = json_array();
    const char *id;
    json_t *v;

    json_object_foreach(json_object_get(a->ok, "unknown"), id, v)
        json_array_append_new(unknown, json_string(id));
    json_object_set_new(a->ok, "unknown", unknown);
    if (!failed(a, walk_failed) && l)
        say_reply(l, &a->h, json_incref(a->ok), NULL);
    ask_free(a);
}

void dbquery_result_status(struct controller *c, const struct origin *o, const struct header *h,
                           const json_t *args)
{
    struct ask *a = ask_new(c, o, h, args, visit_status, status_done);
    const json_t *ids = json_object_get(args, "ids");
    json_t *id;
    size_t i;

    if (!a)
        return;
    a->ok = json_pack("{s:[],s:[],s:{}}", "pending", "completed", "unknown");
    a->only = calloc(json_array_size(ids) + 1, sizeof(*a->only));
    a->code = a->only && a->ok ? CV_OK : CV_ENOMEM;
    a->walk.only = a->only;
    json_array_foreach((json_t *)ids, i, id)
    {
        const struct store_record *r;
        struct store_id x;
        const char *text = json_string_value(id);
        bool is_id = text && msg_id_parse(text, &x.session, &x.seq) == CV_OK;
        if (a->code != CV_OK || !text)
            break;
        if (is_id && c->store->ops->find(c->store, x.session, x.seq, &r, NULL) == STORE_EXPIRED) {
            json_array_append(json_object_get(a->ok, "completed"), id);
            continue;
        }
        json_object_set_new(json_object_get(a->ok, "unknown"), text, json_null());
        if (is_id)
            a->only[a->walk.nonly++] = x;
    }
    if (a->only)
        start(a);
    else
        status_done(&a->walk, false);
}

/* --- resubmitted: {old id: new id} --- */

void dbquery_resubmitted(struct controller *c, const struct origin *o, const struct header *h,
                         const json_t *args)
{
    const char *old;
    json_t *new;

    json_object_foreach(json_object_get(args, "ids"), old, new)
    {
        struct store_id a, b;
        const char *text = json_string_value(new);
        if (text && msg_id_parse(old, &a.session, &a.seq) == CV_OK &&
            msg_id_parse(text, &b.session, &b.seq) == CV_OK)
            c->store->ops->resubmitted(c->store, a, b);
    }
    say_reply(o->conn->link, h, json_null(), NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See query.h. One table of names; an unknown one is answered with KeyError. Arguments are checked
 * here, so that a handler sees what protocol.md says. */
#include "controller/query.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/jsontext.h"
#include "controller/act.h"
#include "controller/events.h"
#include "controller/recordjson.h"
#include "controller/say.h"

struct question {
    struct controller *c;
    const struct origin *o;
    const struct header *h;
    const json_t *args;
    struct link *link;
};

static void answer(const struct question *q, json_t *ok_take)
{
    say_reply(q->link, q->h, ok_take, NULL);
}

/* --- engines --- */

/* The engines as JSON objects, with commas between them. */
static int engines_text(struct controller *c, struct buf *b)
{
    uint32_t n;
    struct engine **v = registry_engines_sorted(&c->registry, &n);
    int r = v || !c->registry.nengines ? CV_OK : CV_ENOMEM;

    for (uint32_t i = 0; i < n && r == CV_OK; i++) {
        r = i ? buf_addstr(b, ",") : CV_OK;
        if (r == CV_OK)
            r = event_engine_text(b, v[i]);
    }
    free(v);
    return r;
}

static uint64_t resident_bytes(void)
{
    struct buf b = {0};
    unsigned long pages = 0;

    if (file_read("/proc/self/statm", 4096, &b, NULL) == CV_OK && buf_cstr(&b) &&
        sscanf((const char *)b.data, "%*u %lu", &pages) != 1)
        pages = 0;
    buf_release(&b);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* {"client": {"sent", "received"}, ...}: bytes that crossed the links of each kind of peer. */
static json_t *traffic_json(struct controller *c)
{
    static const char *const names[] = {NULL, "client", "engine", "host"};
    struct traffic sums[ROLE_HOST + 1];
    json_t *j = json_object();

    memcpy(sums, c->traffic, sizeof(sums));
    list_each(l, &c->conns)
    {
        struct conn *k = list_entry(l, struct conn, node);
        conn_traffic(k, &sums[k->role]);
    }
    for (int role = ROLE_CLIENT; role <= ROLE_HOST; role++)
        json_object_set_new(j, names[role],
                            json_pack("{s:I,s:I}", "sent", (json_int_t)sums[role].sent, "received",
                                      (json_int_t)sums[role].received));
    return j;
}

static json_t *status_json(struct controller *c)
{
    const struct registry *r = &c->registry;
    struct store_stats s;

    c->store->ops->stats(c->store, &s);
    return json_pack("{s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:o,s:o,s:s,s:s}", "pid", (int)getpid(),
                     "engines", (json_int_t)r->nengines, "clients", (json_int_t)r->nclients,
                     "hosts", (json_int_t)r->nhosts, "tasks",
                     (json_int_t)sched_task_count(c->sched), "queued",
                     (json_int_t)sched_unassigned(c->sched), "memory", (json_int_t)resident_bytes(),
                     "record_bytes", (json_int_t)s.bytes, "records", c->store->ops->name, "traffic",
                     traffic_json(c), "started", say_time(c->started), "cluster_id",
                     c->opt->cluster_id, "version", COVEY_VERSION);
}

struct link *query_link(const struct controller *c, uint64_t session)
{
    struct client *x = registry_client(&c->registry, session);

    return x && x->conn && !x->conn->closing ? x->conn->link : NULL;
}

struct payload *query_welcome(struct controller *c)
{
    json_t *j = status_json(c);
    char *status = j ? jsontext(j, JSON_COMPACT) : NULL;
    struct buf b = {0};
    int r = status ? buf_addf(&b, "{\"controller\":%s,\"engines\":[", status) : CV_ENOMEM;

    if (r == CV_OK)
        r = engines_text(c, &b);
    if (r == CV_OK)
        r = buf_addstr(&b, "]}");
    json_decref(j);
    free(status);
    if (r == CV_OK)
        return say_text(&b);
    buf_release(&b);
    return NULL;
}

static void ask_engines(const struct question *q)
{
    struct buf b = {0};

    if (engines_text(q->c, &b) == CV_OK)
        say_reply_list(q->link, q->h, &b);
    else
        say_error(q->link, q->h, "KernelError", "the controller is out of memory");
    buf_release(&b);
}

static void ask_status(const struct question *q)
{
    answer(q, status_json(q->c));
}

/* The live engines of args.targets (null: all): malloc'ed. NULL with *ret_bad: no such engine. */
static struct engine **targets_of(const struct question *q, uint32_t *ret_n, json_int_t *ret_bad)
{
    const json_t *t = json_object_get(q->args, "targets");
    uint32_t n = 0;

    *ret_bad = -1;
    *ret_n = 0;
    if (!json_is_array(t) && !json_is_integer(t))
        return registry_engines_sorted(&q->c->registry, ret_n);
    size_t want = json_is_array(t) ? json_array_size(t) : 1;
    struct engine **v = malloc((want + 1) * sizeof(*v));
    for (size_t i = 0; i < want && v; i++) {
        json_int_t id = json_integer_value(json_is_array(t) ? json_array_get(t, i) : t);
        struct engine *e = id >= 0 && id < WIRE_ENGINE_NONE
                               ? registry_engine(&q->c->registry, (uint32_t)id)
                               : NULL;
        if (!e || e->state == ENGINE_DEAD) {
            *ret_bad = id;
            free(v);
            return NULL;
        }
        v[n++] = e;
    }
    *ret_n = n;
    return v;
}

static struct engine **targets_or_error(const struct question *q, uint32_t *ret_n)
{
    json_int_t bad;
    struct engine **v = targets_of(q, ret_n, &bad);

    if (!v && bad >= 0)
        say_error(q->link, q->h, "EngineError", "there is no engine %lld", (long long)bad);
    else if (!v)
        v = malloc(sizeof(*v)); /* no engines */
    return v;
}

/* --- queues --- */

static json_t *queue_of(struct controller *c, const struct engine *e)
{
    struct sched_engine_info info = {0};

    if (!sched_engine_info(c->sched, e->number, &info))
        memset(&info, 0, sizeof(info));
    return json_pack("{s:I,s:I,s:I}", "queue", (json_int_t)info.held_direct, "tasks",
                     (json_int_t)info.held_balanced, "completed", (json_int_t)info.completed);
}

static void ask_queue_status(const struct question *q)
{
    uint32_t n;
    struct engine **v = targets_or_error(q, &n);
    json_t *ret;

    if (!v)
        return;
    if (json_is_true(json_object_get(q->args, "verbose"))) {
        queues_ask(q->c, q->o, q->h, v, n);
        goto out;
    }
    ret = json_pack("{s:I}", "unassigned", (json_int_t)sched_unassigned(q->c->sched));
    for (uint32_t i = 0; i < n; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%u", v[i]->number);
        json_object_set_new(ret, key, queue_of(q->c, v[i]));
    }
    answer(q, ret);
out:
    free(v);
}

/* --- tasks --- */

/* args.id; false: answered with an error. */
static bool id_arg(const struct question *q, struct sched_id *ret, const char **ret_text)
{
    *ret_text = json_string_value(json_object_get(q->args, "id"));
    if (*ret_text && msg_id_parse(*ret_text, &ret->session, &ret->seq) == CV_OK)
        return true;
    say_error(q->link, q->h, "KeyError", "'%s' is not a message id", *ret_text ? *ret_text : "");
    return false;
}

static void ask_result_status(const struct question *q)
{
    dbquery_result_status(q->c, q->o, q->h, q->args);
}

static void ask_result(const struct question *q)
{
    dbquery_result(q->c, q->o, q->h, q->args);
}

static json_t *task_json(const struct store_record *r, uint64_t seq)
{
    enum record_field fields[FIELD_HEADER];
    struct buf b = {0};

    for (int i = 0; i < FIELD_HEADER; i++)
        fields[i] = (enum record_field)i;
    json_t *j = record_json(&b, r, seq, fields, FIELD_HEADER) == CV_OK
                    ? json_loadb((const char *)b.data, b.len, 0, NULL)
                    : NULL;
    buf_release(&b);
    return j ? j : json_object();
}

static void ask_task(const struct question *q)
{
    const struct store_record *r;
    struct sched_id id;
    const char *text;
    uint32_t engine = WIRE_ENGINE_NONE;

    if (!id_arg(q, &id, &text))
        return;
    enum sched_task_state st = sched_task_state(q->c->sched, id, &engine);
    enum store_find f = q->c->store->ops->find(q->c->store, id.session, id.seq, &r, NULL);
    if (f != STORE_FOUND && st == SCHED_T_UNKNOWN) {
        say_error(q->link, q->h, f == STORE_EXPIRED ? "ResultExpired" : "KeyError",
                  "nothing is known of task %s", text);
        return;
    }
    json_t *j = f == STORE_FOUND ? task_json(r, id.seq) : json_object();
    if (st != SCHED_T_UNKNOWN || f != STORE_FOUND || r->state == STORE_PENDING) {
        json_object_set_new(j, "state", json_string(sched_state_name(st)));
        json_object_set_new(j, "engine",
                            engine == SCHED_ENGINE_NONE ? json_null() : json_integer(engine));
    }
    answer(q, j);
}

/* False: told that there are no records. */
static bool have_records(const struct question *q)
{
    if (!q->c->store->ops->queryable)
        say_error(q->link, q->h, "NoData",
                  "this controller keeps no task records (it was started with --nodb)");
    return q->c->store->ops->queryable;
}

static void ask_history(const struct question *q)
{
    if (have_records(q))
        dbquery_history(q->c, q->o, q->h);
}

static void ask_db_query(const struct question *q)
{
    if (have_records(q))
        dbquery_handle(q->c, q->o, q->h, q->args);
}

static void ask_call(const struct question *q)
{
    if (have_records(q))
        dbquery_call(q->c, q->o, q->h, q->args);
}

static void ask_resubmitted(const struct question *q)
{
    dbquery_resubmitted(q->c, q->o, q->h, q->args);
}

static void ask_purge(const struct question *q)
{
    dbpurge_handle(q->c, q->o, q->h, q->args);
}

/* --- signals and shutdown --- */

static void ask_signal(const struct question *q)
{
    json_t *number = json_object_get(q->args, "signal");
    struct err e = {{0}};
    uint32_t n;
    int r = CV_OK;

    if (!json_is_integer(number) || json_integer_value(number) < 1 ||
        json_integer_value(number) > 64) {
        say_error(q->link, q->h, "ValueError", "a signal is a number from 1 to 64");
        return;
    }
    struct engine **v = targets_or_error(q, &n);
    if (!v)
        return;
    for (uint32_t i = 0; i < n && r == CV_OK; i++)
        r = act_signal(q->c, v[i], (int)json_integer_value(number), &e);
    if (r == CV_OK)
        answer(q, json_null());
    else
        say_error(q->link, q->h, "EngineError", "%s", e.text);
    free(v);
}

/* It gets no more tasks and is told to leave; its host is asked where it can't be reached or is to
 * be replaced. */
static void shut_down_engine(struct controller *c, struct engine *e, bool restart)
{
    struct host *x = registry_host(&c->registry, e->host_session);
    struct header h = {.type = MSG_SPAWN,
                       .flags = MSG_F_RESTART,
                       .engine = e->number,
                       .incarnation = e->incarnation};
    struct sched_event drain = {
        .type = SCHED_ENGINE_DRAIN, .engine = e->number, .incarnation = e->incarnation};
    struct err err = {{0}};

    act_must(c, &drain);
    if (e->state == ENGINE_UP)
        e->state = ENGINE_DRAINING;
    e->asked = true;
    if (restart && x && x->conn && !x->conn->closing)
        say(x->conn->link, &h, json_pack("{s:s}", "reason", "a client asked for a restart"));
    else if (e->conn)
        conn_bye_engine(e, "a client asked for the shutdown");
    else if (act_signal(c, e, SIGTERM, &err) != CV_OK)
        log_warn(c->log, "engine %u can't be told to leave: %s", e->number, err.text);
}

static void ask_shutdown(const struct question *q)
{
    bool hub = json_is_true(json_object_get(q->args, "hub")),
         restart = json_is_true(json_object_get(q->args, "restart"));
    uint32_t n;
    struct engine **v = targets_or_error(q, &n);

    if (!v)
        return;
    for (uint32_t i = 0; i < n; i++)
        shut_down_engine(q->c, v[i], restart && !hub);
    free(v);
    answer(q, json_null());
    if (hub) {
        event_clients(
            q->c, WIRE_ENGINE_NONE,
            json_pack("{s:s,s:s}", "event", "shutdown", "reason", "a client asked for it"));
        controller_stop(q->c, "a client asked for the shutdown");
    }
}

static const struct {
    const char *name;
    void (*ask)(const struct question *q);
} names[] = {
    {"engines", ask_engines},
    {"queue_status", ask_queue_status},
    {"result_status", ask_result_status},
    {"result", ask_result},
    {"history", ask_history},
    {"db_query", ask_db_query},
    {"call", ask_call},
    {"resubmitted", ask_resubmitted},
    {"purge", ask_purge},
    {"signal", ask_signal},
    {"shutdown", ask_shutdown},
    {"task", ask_task},
    {"status", ask_status},
};

void query_handle(struct controller *c, const struct origin *o, struct msg *m)
{
    json_t *args = say_parse(m);
    const char *name = json_string_value(json_object_get(args, "query"));
    struct question q = {c, o, &m->h, args, o->conn->link};
    c->store->ops->skipped(c->store, o->client->session, m->h.seq);
    size_t i = 0, n = sizeof(names) / sizeof(names[0]);

    while (i < n && (!name || strcmp(names[i].name, name)))
        i++;
    if (i < n)
        names[i].ask(&q);
    else
        say_error(q.link, q.h, "KeyError", "there is no query '%s'", name ? name : "");
    json_decref(args);
}

void query_signal(struct controller *c, const struct origin *o, struct msg *m)
{
    json_t *args = say_parse(m);
    struct question q = {c, o, &m->h, args, o->conn->link};

    c->store->ops->skipped(c->store, o->client->session, m->h.seq);
    if (args && m->h.engine != WIRE_ENGINE_NONE)
        json_object_set_new(args, "targets", json_pack("[I]", (json_int_t)m->h.engine));
    ask_signal(&q);
    json_decref(args);
}

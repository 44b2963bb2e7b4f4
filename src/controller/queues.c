/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `queue_status` with verbose: ids of all tasks that have not ended, by where they are, and of
 * those that each engine has completed. There may be a million: they are written in slices between
 * the loop's turns, first the scheduler's, then the records' (which may be on the store's thread).
 * A task that moves meanwhile may be missed or listed twice. Owned by the controller's list, then
 * by the store's walk. Out of memory is an error for who asked. */
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "controller/query.h"
#include "controller/say.h"

/* Of an engine: JSON strings with commas between them. */
struct lists {
    uint32_t number;
    struct buf queue, tasks, completed;
};

struct queues {
    struct list node;
    struct controller *c;
    uint64_t session; /* who asked */
    struct header h;  /* the QUERY's */
    struct sched_walk live;
    struct lists *of;
    uint32_t n;
    struct hash by_number;
    json_t *by_uuid; /* an engine's place in `of` */
    struct buf out;  /* the answer, which begins with what is unassigned */
    bool some;       /* something is */
    int code;
    struct store_walk walk;
};

static void queues_free(struct queues *q)
{
    for (uint32_t i = 0; i < q->n; i++) {
        buf_release(&q->of[i].queue);
        buf_release(&q->of[i].tasks);
        buf_release(&q->of[i].completed);
    }
    list_del(&q->node);
    sched_walk_release(&q->live);
    free(q->of);
    hash_release(&q->by_number);
    json_decref(q->by_uuid);
    buf_release(&q->out);
    free(q);
}

static void add_ids(struct queues *q, struct buf *b, bool first, uint64_t session, uint64_t lo,
                    uint64_t hi)
{
    char id[MSG_ID_SIZE];

    for (uint64_t seq = lo; seq < hi && q->code == CV_OK; seq++, first = false) {
        msg_id_format(id, session, seq);
        q->code = buf_addf(b, first ? "\"%s\"" : ",\"%s\"", id);
    }
}

static void add_live(void *arg, struct sched_id id, uint32_t count, uint32_t engine,
                     enum sched_mode mode)
{
    struct queues *q = arg;
    struct lists *of = engine == SCHED_ENGINE_NONE ? NULL : hash_get(&q->by_number, 0, engine);
    struct buf *b = of ? (mode == SCHED_BALANCED ? &of->tasks : &of->queue) : &q->out;

    if (engine != SCHED_ENGINE_NONE && !of) /* it was not asked for */
        return;
    add_ids(q, b, of ? !b->len : !q->some, id.session, id.seq, id.seq + count);
    q->some |= !of;
}

static bool add_completed(struct store_walk *w, const struct store_record *r, uint64_t lo,
                          uint64_t hi)
{
    struct queues *q = container_of(w, struct queues, walk);
    const json_t *place = r->state != STORE_PENDING && r->result.engine_uuid
                              ? json_object_get(q->by_uuid, r->result.engine_uuid)
                              : NULL;
    struct buf *b = place ? &q->of[json_integer_value(place)].completed : NULL;

    if (b)
        add_ids(q, b, !b->len, r->session, lo, hi);
    return q->code == CV_OK;
}

static int add_list(struct buf *out, const char *before, const struct buf *b)
{
    int r = buf_addstr(out, before);

    return r == CV_OK ? buf_add(out, b->data, b->len) : r;
}

static int finish_text(struct queues *q)
{
    int r = buf_addstr(&q->out, "]");

    for (uint32_t i = 0; i < q->n && r == CV_OK; i++) {
        struct lists *of = &q->of[i];
        r = buf_addf(&q->out, ",\"%u\":{", of->number);
        if (r == CV_OK)
            r = add_list(&q->out, "\"queue\":[", &of->queue);
        if (r == CV_OK)
            r = add_list(&q->out, "],\"tasks\":[", &of->tasks);
        if (r == CV_OK)
            r = add_list(&q->out, "],\"completed\":[", &of->completed);
        if (r == CV_OK)
            r = buf_addstr(&q->out, "]}");
    }
    return r == CV_OK ? buf_addstr(&q->out, "}}") : r;
}

static void done(struct store_walk *w, bool failed)
{
    struct queues *q = container_of(w, struct queues, walk);
    struct link *l = query_link(q->c, q->session);

    if (q->code == CV_OK && !failed)
        q->code = finish_text(q);
    if (l && failed)
        say_error(l, &q->h, "NoData", "the file of the task records can't be read now");
    else if (l && q->code != CV_OK)
        say_error(l, &q->h, "KernelError", "the controller is out of memory for this answer");
    else if (l)
        say_reply_whole(l, &q->h, &q->out);
    queues_free(q);
}

bool queues_turn(struct controller *c)
{
    struct list *l = list_first(&c->queues);
    struct queues *q = l ? list_entry(l, struct queues, node) : NULL;

    if (!q)
        return false;
    if (q->code == CV_OK && sched_walk_some(c->sched, &q->live, add_live, q))
        return true;
    list_del(&q->node);
    c->store->ops->walk(c->store, &q->walk);
    return !list_empty(&c->queues);
}

void queues_release(struct controller *c)
{
    for (struct list *l; (l = list_first(&c->queues));)
        queues_free(list_entry(l, struct queues, node));
}

static int note_engine(struct queues *q, const struct engine *e)
{
    struct lists *of = &q->of[q->n];

    if (hash_get(&q->by_number, 0, e->number)) /* named twice */
        return CV_OK;
    if (json_object_set_new(q->by_uuid, e->uuid, json_integer((json_int_t)q->n)) < 0)
        return CV_ENOMEM;
    of->number = e->number;
    q->n++;
    return hash_put(&q->by_number, 0, e->number, of, NULL);
}

void queues_ask(struct controller *c, const struct origin *o, const struct header *h,
                struct engine *const *engines, uint32_t n)
{
    struct queues *q = calloc(1, sizeof(*q));
    int r = q && (q->of = calloc(n + 1, sizeof(*q->of))) && (q->by_uuid = json_object())
                ? buf_addstr(&q->out, "{\"ok\":{\"unassigned\":[")
                : CV_ENOMEM;

    for (uint32_t i = 0; i < n && r == CV_OK; i++)
        r = note_engine(q, engines[i]);
    if (r == CV_OK)
        r = sched_walk_begin(c->sched, &q->live);
    if (q)
        list_init(&q->node);
    if (r != CV_OK) {
        say_error(o->conn->link, h, "KernelError", "the controller is out of memory");
        if (q)
            queues_free(q);
        return;
    }
    q->c = c;
    q->h = *h;
    q->session = o->client->session;
    q->walk = (struct store_walk){.parts = STORE_ENGINE, .visit = add_completed, .done = done};
    list_add_tail(&c->queues, &q->node);
}

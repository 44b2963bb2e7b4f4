/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Records in memory that a thread also writes to a file (writer.h). The list of what the file does
 * not have yet is the queue: it is bounded as the memory is, by bytes, and while the file can't be
 * written records simply stay in it. A task that ends soon is written once, when it has ended; one
 * that takes longer than PENDING_NS is written before, too.
 *
 * Questions are answered from the file, behind all that was there to be written when they came; so
 * is a purge, which is done in memory first. While the file can't be used they are answered from
 * memory. On the loop's thread. */
#include "store/sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "store/memory.h"
#include "store/writer.h"

#define PENDING_NS NS_PER_S
#define GATHER_NS (100 * NS_PER_MS) /* at most so long ended records wait for others */
#define GATHER_N 2000               /* or for so many */
#define BATCH 512                   /* rows of a job */
#define BATCHES_A_TURN 4
#define FLIGHT_ROWS 16384 /* with the thread at a time */
#define FLIGHT_BYTES (64ull << 20)
#define STOP_NS (3 * NS_PER_S)

struct sqlite {
    struct memory m; /* first, for the ops of memory.h */
    struct writer *writer;
    struct list walks, purges; /* that wait until the file has what was there before them */
    uint64_t flush;            /* what came into `unwritten` up to this tick is due now */
    uint64_t rows, bytes;      /* with the thread */
    uint64_t gathered;         /* when rows were handed over last */
    uint64_t told_lost, told_at;
    bool broken;
    char *trouble;
    struct store_config c;
};

static struct sqlite *sqlite_of(const struct store *s)
{
    return (struct sqlite *)s;
}

/* --- rows to the thread and back --- */

static struct store_record *head_of(const struct sqlite *q)
{
    struct list *l = list_first(&q->m.unwritten);

    return l ? list_entry(l, struct store_record, unwritten) : NULL;
}

static bool is_due(const struct sqlite *q, const struct store_record *r)
{
    return r->state != STORE_PENDING || r->tick <= q->flush || q->m.now - r->since >= PENDING_NS;
}

static void row_release(struct sqlite *q, struct store_record *c)
{
    q->m.payload.unref(c->task);
    q->m.payload.unref(c->result.payload);
    memory_uuid_unref(&q->m, c->result.engine_uuid);
    for (int i = 0; c->output && i < STORE_STREAMS; i++)
        buf_release(&c->output->stream[i]);
    free(c->output);
    free(c->label);
    free(c->route);
}

static struct store_output *output_copy(const struct store_output *o)
{
    struct store_output *c = calloc(1, sizeof(*c));
    bool ok = c;

    for (int i = 0; i < STORE_STREAMS && ok; i++)
        ok = !o->stream[i].len ||
             buf_add(&c->stream[i], o->stream[i].data, o->stream[i].len) == CV_OK;
    if (ok) {
        c->cut = o->cut;
        return c;
    }
    for (int i = 0; i < STORE_STREAMS && c; i++)
        buf_release(&c->stream[i]);
    free(c);
    return NULL;
}

/* All that the thread needs of r, whatever becomes of r. False: out of memory. */
static bool row_copy(struct sqlite *q, struct store_record *c, const struct store_record *r)
{
    bool ok = true;

    *c = *r;
    c->label = NULL;
    c->route = NULL;
    c->output = NULL;
    if (r->written)
        c->task = NULL; /* the file has it */
    q->m.payload.ref(c->task);
    q->m.payload.ref(c->result.payload);
    memory_uuid_ref(c->result.engine_uuid);
    if (r->label)
        ok = (c->label = strdup(r->label)) != NULL;
    if (ok && r->route_len && (ok = (c->route = malloc(r->route_len)) != NULL))
        memcpy(c->route, r->route, r->route_len);
    if (ok && r->output && r->state != STORE_PENDING)
        ok = (c->output = output_copy(r->output)) != NULL;
    if (!ok)
        row_release(q, c);
    return ok;
}

static uint64_t row_bytes(const struct store_record *c)
{
    return sizeof(*c) + c->task_bytes + c->result.bytes;
}

/* Up to BATCH records that are due, as one job. False: none are, or memory is out. */
static bool hand_over(struct sqlite *q)
{
    struct store_record *r = head_of(q);
    struct job *j = r && is_due(q, r) ? calloc(1, sizeof(*j)) : NULL;

    if (!j)
        return false;
    j->type = JOB_ROWS;
    j->rows.v = malloc(BATCH * sizeof(*j->rows.v));
    while (j->rows.v && j->rows.n < BATCH && (r = head_of(q)) && is_due(q, r)) {
        struct store_record *c = &j->rows.v[j->rows.n];
        if (!row_copy(q, c, r))
            break;
        memory_unmark(&q->m, r);
        if (r->state == STORE_DELIVERED)
            memory_give_back(&q->m, r);
        q->bytes += row_bytes(c);
        j->rows.n++;
    }
    if (!j->rows.n) {
        free(j->rows.v);
        free(j);
        return false;
    }
    q->rows += j->rows.n;
    writer_put(q->writer, j);
    return true;
}

/* What could not be written waits again, if it is still there. */
static void rows_back(struct sqlite *q, struct job *j)
{
    for (uint32_t i = 0; i < j->rows.n; i++) {
        struct store_record *c = &j->rows.v[i];
        struct store_record *r = memory_record(&q->m, c->session, c->lo);
        if (r && r->id != c->id)
            r = NULL;
        if (r && !j->failed) {
            r->written = true;
            memory_fold(&q->m, r);
        } else if (r)
            memory_mark(&q->m, r);
        else if (j->failed)
            q->m.lost++;
        q->bytes -= row_bytes(c);
        row_release(q, c);
    }
    q->rows -= j->rows.n;
    free(j->rows.v);
}

static void job_back(struct sqlite *q, struct job *j)
{
    switch (j->type) {
    case JOB_ROWS:
        rows_back(q, j);
        break;
    case JOB_WALK:
        j->walk->done(j->walk, j->failed);
        break;
    case JOB_PURGE:
        j->purge->done(j->purge, j->failed);
        break;
    case JOB_AGAIN:
        break;
    }
    free(j);
}

static void tell_state(struct sqlite *q, char *trouble_take, bool broken)
{
    char text[500];

    free(q->trouble);
    q->trouble = NULL;
    if (broken)
        snprintf(text, sizeof(text),
                 "task records are kept in memory only (%s). Tasks go on; what is in memory is "
                 "written when it can be",
                 trouble_take ? trouble_take : "out of memory");
    else if (q->m.lost > q->told_lost)
        snprintf(text, sizeof(text), "%s; %llu records were lost meanwhile",
                 trouble_take ? trouble_take : "task records are written again",
                 (unsigned long long)(q->m.lost - q->told_lost));
    else
        snprintf(text, sizeof(text), "%s",
                 trouble_take ? trouble_take : "task records are written again");
    if (broken)
        q->trouble = strdup(text);
    q->broken = broken;
    q->told_lost = q->m.lost;
    q->c.tell(q->c.arg, broken, text);
    free(trouble_take);
}

static void take_back(struct sqlite *q)
{
    char *trouble;
    bool broken;
    struct job *j = writer_take(q->writer, &trouble, &broken);

    while (j) {
        struct job *next = j->next;
        job_back(q, j);
        j = next;
    }
    if (trouble || broken != q->broken)
        tell_state(q, trouble, broken);
}

/* Records that went before the file had them though it can be written: told every 10 s. */
static void tell_lost(struct sqlite *q)
{
    char text[200];

    if (q->broken || q->m.lost == q->told_lost || q->m.now - q->told_at < 10 * NS_PER_S)
        return;
    snprintf(text, sizeof(text),
             "%llu task records are not in %s: tasks end faster than they can be written, and "
             "memory for records (DictDB.size_limit) is full",
             (unsigned long long)(q->m.lost - q->told_lost), q->c.file);
    q->told_lost = q->m.lost;
    q->told_at = q->m.now;
    q->c.tell(q->c.arg, true, text);
}

/* --- questions --- */

/* Has all that was due at the tick been handed over? */
static bool is_flushed(const struct sqlite *q, uint64_t tick)
{
    const struct store_record *r = head_of(q);

    return q->broken || !r || r->tick > tick;
}

static bool put_job(struct sqlite *q, struct job job)
{
    struct job *j = malloc(sizeof(*j));

    if (!j)
        return false;
    *j = job;
    writer_put(q->writer, j);
    return true;
}

static void start_walk(struct sqlite *q, struct store_walk *w)
{
    if (q->broken)
        memory_walk(&q->m.store, w);
    else if (!put_job(q, (struct job){.type = JOB_WALK, .walk = w}))
        w->done(w, true);
}

static bool all_in_memory(struct sqlite *q, const struct store_walk *w)
{
    for (size_t i = 0; i < w->nonly; i++) {
        struct store_record room;
        const struct store_record *r =
            memory_peek(&q->m, w->only[i].session, w->only[i].seq, &room);
        if (!r || ((w->parts & STORE_RESULT) && r->result.gone))
            return false;
    }
    return w->only;
}

static void sqlite_walk(struct store *s, struct store_walk *w)
{
    struct sqlite *q = sqlite_of(s);

    if (q->broken || all_in_memory(q, w)) {
        memory_walk(s, w);
        return;
    }
    w->flush = q->flush = q->m.tick;
    list_add_tail(&q->walks, &w->node);
}

/* Memory is purged: now the file. */
static void purge_file(struct store_purge *p, bool failed)
{
    struct sqlite *q = (struct sqlite *)p->memory;

    p->done = p->then;
    if (failed || q->broken || !put_job(q, (struct job){.type = JOB_PURGE, .purge = p}))
        p->done(p, failed);
}

static void sqlite_purge(struct store *s, struct store_purge *p)
{
    struct sqlite *q = sqlite_of(s);

    p->then = p->done;
    p->done = purge_file;
    p->flush = q->flush = q->m.tick;
    list_add_tail(&q->purges, &p->node);
}

static void sqlite_resubmitted(struct store *s, struct store_id id, struct store_id again)
{
    struct sqlite *q = sqlite_of(s);
    struct store_record room;

    if (memory_peek(&q->m, id.session, id.seq, &room))
        memory_resubmitted(s, id, again);
    else if (!q->broken)
        put_job(q, (struct job){.type = JOB_AGAIN, .again = {id, again}});
}

static void start_flushed(struct sqlite *q)
{
    struct list *l;

    while ((l = list_first(&q->walks)) &&
           is_flushed(q, list_entry(l, struct store_walk, node)->flush)) {
        list_del(l);
        start_walk(q, list_entry(l, struct store_walk, node));
    }
    while ((l = list_first(&q->purges)) &&
           is_flushed(q, list_entry(l, struct store_purge, node)->flush)) {
        list_del(l);
        memory_purge(&q->m.store, list_entry(l, struct store_purge, node));
    }
}

/* --- turns --- */

static bool may_hand_over(const struct sqlite *q)
{
    const struct store_record *r = head_of(q);

    if (!r || q->broken || q->rows >= FLIGHT_ROWS || q->bytes >= FLIGHT_BYTES)
        return false;
    return r->tick <= q->flush || q->m.nunwritten >= GATHER_N ||
           q->m.now - q->gathered >= GATHER_NS;
}

/* When rows are due next, if not by more of them. */
static uint64_t next_time(const struct sqlite *q)
{
    const struct store_record *r = head_of(q);

    if (!r || q->broken || q->rows >= FLIGHT_ROWS || q->bytes >= FLIGHT_BYTES)
        return UINT64_MAX;
    return is_due(q, r) ? q->gathered + GATHER_NS : r->since + PENDING_NS;
}

static uint64_t sqlite_turn(struct store *s, uint64_t now)
{
    struct sqlite *q = sqlite_of(s);
    int n = 0;

    q->m.now = now;
    take_back(q);
    tell_lost(q);
    if (may_hand_over(q))
        while (n < BATCHES_A_TURN && hand_over(q))
            n++;
    if (n)
        q->gathered = now;
    start_flushed(q);
    bool more = memory_walk_slices(&q->m);
    return more || n == BATCHES_A_TURN ? 0 : next_time(q);
}

static const char *sqlite_trouble(const struct store *s)
{
    return sqlite_of(s)->trouble;
}

static void fail_waiting(struct sqlite *q)
{
    struct list *l;

    while ((l = list_first(&q->walks))) {
        struct store_walk *w = list_entry(l, struct store_walk, node);
        list_del(l);
        w->done(w, true);
    }
    while ((l = list_first(&q->purges))) {
        struct store_purge *p = list_entry(l, struct store_purge, node);
        list_del(l);
        p->then(p, true);
    }
}

static void sqlite_free(struct store *s)
{
    struct sqlite *q = sqlite_of(s);

    q->flush = UINT64_MAX;
    while (!q->broken && hand_over(q))
        continue;
    fail_waiting(q);
    bool ended = writer_stop(q->writer, STOP_NS);
    take_back(q);
    if (!ended) /* the disk hangs: what the thread has stays, and the process ends soon */
        return;
    if (q->m.nunwritten) {
        char text[200];
        snprintf(text, sizeof(text), "%llu task records are not in %s",
                 (unsigned long long)q->m.nunwritten, q->c.file);
        q->c.tell(q->c.arg, true, text);
    }
    writer_free(q->writer);
    free(q->trouble);
    memory_free(s);
}

static const struct store_ops sqlite_ops = {
    .name = "sqlite",
    .queryable = true,
    .persistent = true,
    .submit = memory_submit,
    .end = memory_end,
    .output = memory_output,
    .delivered = memory_delivered,
    .find = memory_find,
    .expired = memory_expired,
    .walk = sqlite_walk,
    .purge = sqlite_purge,
    .skipped = memory_skipped,
    .resubmitted = sqlite_resubmitted,
    .turn = sqlite_turn,
    .trouble = sqlite_trouble,
    .stats = memory_stats,
    .free = sqlite_free,
};

int sqlite_store_new(struct store **ret, const struct store_config *c, struct err *e)
{
    const struct writer_config wc = {
        .file = {.path = c->file, .table = c->table, .payload = c->payload},
        .retry_ns = c->retry_ns ? c->retry_ns : 5 * NS_PER_S,
        .wake = c->wake,
        .arg = c->arg};
    struct memory *m;
    int r = memory_new(&m, sizeof(struct sqlite), &sqlite_ops, c);

    if (r != CV_OK)
        return err_set(e, r, "out of memory for the task records");
    struct sqlite *q = (struct sqlite *)m;
    q->c = *c;
    q->m.journal = true;
    list_init(&q->walks);
    list_init(&q->purges);
    r = writer_new(&q->writer, &wc, e);
    if (r != CV_OK) {
        memory_free(&m->store);
        return r;
    }
    *ret = &m->store;
    return r;
}

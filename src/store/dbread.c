/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Walks over the file of records. See dbfile.h; on the store's thread. Of a million rows most are
 * only tested: so the test is a function of the statement, which gets the columns that it looks at,
 * and the others are read from rows that pass. What nobody looks at is left on the disk. */
#include <stdlib.h>
#include <string.h>
#include "store/dbplan.h"
#include "store/dbpriv.h"
#include "store/pickled.h"

/* Columns in the order of the table, and which part of a record each is of. */
static const struct {
    const char *name;
    unsigned part; /* 0: always read */
} columns[C_END] = {
    [C_ID] = {"id", 0},
    [C_SESSION] = {"session", 0},
    [C_LO] = {"lo", 0},
    [C_HI] = {"hi", 0},
    [C_ORIGIN] = {"origin", STORE_KIND},
    [C_KIND] = {"kind", STORE_KIND},
    [C_MODE] = {"mode", STORE_KIND},
    [C_FLAGS] = {"flags", STORE_KIND},
    [C_TARGET] = {"target", STORE_KIND},
    [C_SUBMITTED] = {"submitted", STORE_SUBMITTED},
    [C_LABEL] = {"label", STORE_LABEL},
    [C_ROUTE] = {"route", STORE_ROUTE},
    [C_STATUS] = {"status", 0},
    [C_ATTEMPT] = {"attempt", STORE_ATTEMPT},
    [C_ENGINE] = {"engine", STORE_ENGINE},
    [C_INCARNATION] = {"incarnation", STORE_ENGINE},
    [C_UUID] = {"engine_uuid", STORE_ENGINE},
    [C_STARTED] = {"started", STORE_TIMES},
    [C_COMPLETED] = {"completed", STORE_COMPLETED},
    [C_RECEIVED] = {"received", STORE_TIMES},
    [C_FIRST] = {"first", STORE_RANGE},
    [C_COUNT] = {"count", STORE_RANGE},
    [C_AGAIN_SESSION] = {"again_session", STORE_AGAIN},
    [C_AGAIN_SEQ] = {"again_seq", STORE_AGAIN},
    [C_CUT] = {"output_cut", STORE_OUTPUT},
    [C_STDOUT] = {"stdout", STORE_OUTPUT},
    [C_STDERR] = {"stderr", STORE_OUTPUT},
    [C_CALL] = {"call", STORE_CALL},
    [C_RESULT] = {"result", STORE_RESULT},
};

static bool is_read(enum column c, unsigned parts)
{
    return !columns[c].part || columns[c].part & parts;
}

/* --- a row --- */

/* The columns of `parts`: what a statement shows, or a function of it was given. */
struct row {
    sqlite3_stmt *s;
    sqlite3_value **v; /* instead of s */
    unsigned parts;
    int8_t at[C_END]; /* where each column is, if it is read */
};

static struct row row_of(unsigned parts)
{
    struct row row = {.parts = parts};
    int8_t n = 0;

    for (enum column c = 0; c < C_END; c++)
        if (is_read(c, parts))
            row.at[c] = n++;
    return row;
}

static uint64_t number(const struct row *row, enum column c)
{
    int i = row->at[c];

    return (uint64_t)(row->v ? sqlite3_value_int64(row->v[i]) : sqlite3_column_int64(row->s, i));
}

static bool is_null(const struct row *row, enum column c)
{
    int i = row->at[c];

    return (row->v ? sqlite3_value_type(row->v[i]) : sqlite3_column_type(row->s, i)) == SQLITE_NULL;
}

static char *text(const struct row *row, enum column c)
{
    int i = row->at[c];

    return (char *)(row->v ? sqlite3_value_text(row->v[i]) : sqlite3_column_text(row->s, i));
}

static struct buf borrowed(const struct row *row, enum column c)
{
    int i = row->at[c];
    const void *data = row->v ? sqlite3_value_blob(row->v[i]) : sqlite3_column_blob(row->s, i);
    int n = row->v ? sqlite3_value_bytes(row->v[i]) : sqlite3_column_bytes(row->s, i);

    return (struct buf){.data = (uint8_t *)data, .len = (size_t)n};
}

static void *payload_of(const struct dbfile *f, const struct row *row, enum column c)
{
    struct buf b = borrowed(row, c);

    return b.len ? pickled_read(b.data, b.len, &f->payload) : NULL;
}

static void read_task(const struct row *row, struct store_record *r)
{
    if (row->parts & STORE_KIND) {
        r->origin = number(row, C_ORIGIN);
        r->kind = (uint8_t)number(row, C_KIND);
        r->mode = (uint8_t)number(row, C_MODE);
        r->flags = (uint16_t)number(row, C_FLAGS);
        r->target = (uint32_t)number(row, C_TARGET);
    }
    if (row->parts & STORE_SUBMITTED)
        r->submitted = number(row, C_SUBMITTED);
    if (row->parts & STORE_LABEL)
        r->label = text(row, C_LABEL);
    if (row->parts & STORE_ROUTE) {
        struct buf route = borrowed(row, C_ROUTE);
        r->route = route.data;
        r->route_len = (uint32_t)route.len;
    }
    if (row->parts & STORE_AGAIN)
        r->again = (struct store_id){number(row, C_AGAIN_SESSION), number(row, C_AGAIN_SEQ)};
}

static void read_end(const struct row *row, struct store_result *x)
{
    x->status = (uint8_t)number(row, C_STATUS);
    if (row->parts & STORE_ATTEMPT)
        x->attempt = (uint16_t)number(row, C_ATTEMPT);
    if (row->parts & STORE_ENGINE) {
        x->engine = is_null(row, C_ENGINE) ? UINT32_MAX : (uint32_t)number(row, C_ENGINE);
        x->incarnation = (uint32_t)number(row, C_INCARNATION);
        x->engine_uuid = text(row, C_UUID);
    }
    if (row->parts & STORE_TIMES) {
        x->started = number(row, C_STARTED);
        x->received = number(row, C_RECEIVED);
    }
    if (row->parts & STORE_COMPLETED)
        x->completed = number(row, C_COMPLETED);
    if (row->parts & STORE_RANGE) {
        x->seq = number(row, C_FIRST);
        x->count = (uint32_t)number(row, C_COUNT);
    }
}

static void read_output(const struct row *row, struct store_output *out)
{
    out->cut = number(row, C_CUT);
    out->stream[STORE_STDOUT] = borrowed(row, C_STDOUT);
    out->stream[STORE_STDERR] = borrowed(row, C_STDERR);
}

/* The row as a record but for its payloads; texts and output are SQLite's until the next step. */
static void read_row(const struct row *row, struct store_record *r, struct store_output *out)
{
    *r = (struct store_record){.session = number(row, C_SESSION),
                               .lo = number(row, C_LO),
                               .hi = number(row, C_HI),
                               .id = number(row, C_ID),
                               .state = STORE_DELIVERED};
    read_task(row, r);
    if (is_null(row, C_STATUS))
        r->state = STORE_PENDING;
    else
        read_end(row, &r->result);
    if (row->parts & STORE_OUTPUT) {
        read_output(row, out);
        r->output = out;
    }
}

/* --- a walk --- */

struct dbreader {
    struct dbfile *f;
    struct store_walk *w;
    struct row row, tested;
    const bool *cancel;
    struct err *e;
};

static bool is_cancelled(const struct dbreader *d)
{
    return __atomic_load_n(d->cancel, __ATOMIC_RELAXED);
}

/* wanted(columns that are tested): whether the walk wants to see the row. */
static void wanted(sqlite3_context *ctx, int n, sqlite3_value **v)
{
    const struct dbfile *f = sqlite3_user_data(ctx);
    struct dbreader *d = f->reader;
    struct store_output out = {0};
    struct store_record r;

    if (!d || is_cancelled(d)) {
        sqlite3_result_error_code(ctx, SQLITE_INTERRUPT);
        return;
    }
    d->tested.v = v;
    read_row(&d->tested, &r, &out);
    if (d->tested.parts & STORE_CALL)
        r.task = payload_of(f, &d->tested, C_CALL);
    sqlite3_result_int(ctx, d->w->wanted(d->w, &r));
    f->payload.unref(r.task);
}

int db_read_init(struct dbfile *f, struct err *e)
{
    int r = sqlite3_create_function_v2(f->db, "wanted", -1, SQLITE_UTF8 | SQLITE_DIRECTONLY, f,
                                       wanted, NULL, NULL, NULL);

    return r == SQLITE_OK ? CV_OK : db_error(f, e, r);
}

static bool visit_row(struct dbreader *d, sqlite3_stmt *s, uint64_t lo, uint64_t hi)
{
    struct dbfile *f = d->f;
    struct store_walk *w = d->w;
    struct store_output out = {0};
    struct store_record r;

    d->row.s = s;
    read_row(&d->row, &r, &out);
    if (!lo && !hi) {
        lo = r.lo;
        hi = r.hi;
    }
    if (w->parts & STORE_CALL)
        r.task = payload_of(f, &d->row, C_CALL);
    if (w->parts & STORE_RESULT)
        r.result.payload = payload_of(f, &d->row, C_RESULT);
    bool more = w->visit(w, &r, lo, hi);
    f->payload.unref(r.task);
    f->payload.unref(r.result.payload);
    return more;
}

static int add_columns(struct buf *sql, unsigned parts)
{
    int r = CV_OK;

    for (enum column c = 0; c < C_END && r == CV_OK; c++)
        if (is_read(c, parts))
            r = buf_addf(sql, "%s%s", c ? ", " : "", columns[c].name);
    return r;
}

/* A statement that reads what the walk looks at of the rows that `where` (or NULL) chooses. tests:
 * of those that are wanted. */
static int prepare(struct dbreader *d, const char *where, bool tests, const char *rest,
                   sqlite3_stmt **ret)
{
    struct buf sql = {0};
    int r = buf_addstr(&sql, "SELECT ");

    if (r == CV_OK)
        r = add_columns(&sql, d->w->parts);
    if (r == CV_OK)
        r = buf_addf(&sql, " FROM records%s%s", where || tests ? " WHERE " : "",
                     where ? where : "");
    if (r == CV_OK && tests)
        r = buf_addf(&sql, "%swanted(", where ? " AND " : "");
    if (r == CV_OK && tests)
        r = add_columns(&sql, d->w->tested);
    if (r == CV_OK)
        r = buf_addf(&sql, "%s%s", tests ? ")" : "", rest);
    const char *text = r == CV_OK ? buf_cstr(&sql) : NULL;
    r = text ? db_prepare(d->f, text, ret, d->e)
             : err_set(d->e, CV_ENOMEM, "out of memory for a question about the task records");
    buf_release(&sql);
    return r;
}

/* What a step returned that is no row. */
static int stepped(const struct dbreader *d, int r)
{
    return r == SQLITE_ROW || r == SQLITE_DONE || is_cancelled(d) ? CV_OK : db_error(d->f, d->e, r);
}

/* Whether a test by itself leaves anything unread: the walk's own test is as good otherwise. */
static bool tests_first(const struct store_walk *w)
{
    return w->wanted && (w->parts & ~w->tested);
}

static void bind_span(sqlite3_stmt *s, int at, const struct store_span *span)
{
    if (!span->set)
        return;
    sqlite3_bind_int64(s, at, dbplan_clamp(span->from));
    sqlite3_bind_int64(s, at + 1, dbplan_clamp(span->to));
}

/* Most rows, in their order: so no index, which a + rules out. */
static int walk_all(struct dbreader *d)
{
    const struct store_bounds *b = &d->w->bounds;
    static const char *const where[2][2] = {
        {NULL, "+completed BETWEEN ?1 AND ?2"},
        {"+submitted BETWEEN ?3 AND ?4",
         "+completed BETWEEN ?1 AND ?2 AND +submitted BETWEEN ?3 AND ?4"}};
    sqlite3_stmt *s = NULL;
    int code = prepare(d, where[b->submitted.set][b->completed.set], tests_first(d->w),
                       " ORDER BY id", &s);
    int r = SQLITE_DONE;

    if (code == CV_OK) {
        bind_span(s, 1, &b->completed);
        bind_span(s, 3, &b->submitted);
    }
    while (code == CV_OK && !is_cancelled(d) && (r = sqlite3_step(s)) == SQLITE_ROW)
        if (!visit_row(d, s, 0, 0))
            break;
    if (code == CV_OK)
        code = stepped(d, r);
    sqlite3_finalize(s);
    return code;
}

static int walk_ids(struct dbreader *d, const struct dbplan *p)
{
    sqlite3_stmt *s = NULL;
    bool more = true;
    int code = prepare(d, "id = ?1", tests_first(d->w), "", &s);

    for (size_t i = 0; i < p->n && more && code == CV_OK && !is_cancelled(d); i++) {
        sqlite3_bind_int64(s, 1, p->ids[i]);
        int r = sqlite3_step(s);
        if (r == SQLITE_ROW)
            more = visit_row(d, s, 0, 0);
        code = stepped(d, r);
        sqlite3_reset(s);
    }
    sqlite3_finalize(s);
    return code;
}

static int walk_planned(struct dbreader *d)
{
    struct dbplan p;
    int r = dbplan_make(&p, d->f, &d->w->bounds, d->e);

    if (r == CV_OK)
        r = p.all ? walk_all(d) : walk_ids(d, &p);
    dbplan_release(&p);
    return r;
}

static int walk_only(struct dbreader *d)
{
    const struct store_walk *w = d->w;
    sqlite3_stmt *s = NULL;
    bool more = true;
    int code = prepare(d, "session = ?1 AND lo <= ?2", false, " ORDER BY lo DESC LIMIT 1", &s);

    for (size_t i = 0; i < w->nonly && more && code == CV_OK && !is_cancelled(d); i++) {
        uint64_t seq = w->only[i].seq;
        sqlite3_bind_int64(s, 1, (int64_t)w->only[i].session);
        sqlite3_bind_int64(s, 2, (int64_t)seq);
        int r = sqlite3_step(s);
        if (r == SQLITE_ROW && (uint64_t)sqlite3_column_int64(s, d->row.at[C_HI]) > seq)
            more = visit_row(d, s, seq, seq + 1);
        code = stepped(d, r);
        sqlite3_reset(s);
    }
    sqlite3_finalize(s);
    return code;
}

int dbfile_walk(struct dbfile *f, struct store_walk *w, const bool *cancel, struct err *e)
{
    struct dbreader d = {.f = f,
                         .w = w,
                         .row = row_of(w->parts),
                         .tested = row_of(w->tested),
                         .cancel = cancel,
                         .e = e};

    f->reader = &d;
    int r = w->only ? walk_only(&d) : walk_planned(&d);
    f->reader = NULL;
    return r;
}

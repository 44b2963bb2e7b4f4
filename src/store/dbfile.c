/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rows of the file of records: writing, walking, purging. See dbfile.h. Owns the connection, its
 * statements and the lock; on the store's thread. */
#include "store/dbfile.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "store/dbplan.h"
#include "store/dbpriv.h"
#include "store/pickled.h"

#define SESSION_NEW ((void *)1)
#define SESSION_BACK ((void *)2)
#define BLOB_SLACK (1u << 20)  /* of SQLite's limit of a row: what is not the result */
#define KEEP_BUFFER (1u << 20) /* larger buffers are not kept for the next row */

#define PLAIN_COLUMNS                                                                              \
    "id, session, lo, hi, origin, kind, mode, flags, target, submitted, label, route, status, "    \
    "attempt, engine, incarnation, engine_uuid, started, completed, received, first, count, "      \
    "again_session, again_seq"
#define COLUMNS PLAIN_COLUMNS ", output_cut, stdout, stderr, call, result"

enum column {
    C_ID,
    C_SESSION,
    C_LO,
    C_HI,
    C_ORIGIN,
    C_KIND,
    C_MODE,
    C_FLAGS,
    C_TARGET,
    C_SUBMITTED,
    C_LABEL,
    C_ROUTE,
    C_STATUS,
    C_ATTEMPT,
    C_ENGINE,
    C_INCARNATION,
    C_UUID,
    C_STARTED,
    C_COMPLETED,
    C_RECEIVED,
    C_FIRST,
    C_COUNT,
    C_AGAIN_SESSION,
    C_AGAIN_SEQ,
    C_CUT,
    C_STDOUT,
    C_STDERR,
    C_CALL,
    C_RESULT
};

static const char sql_write[] =
    "INSERT INTO records(" COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, "
    "?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29) "
    "ON CONFLICT(id) DO UPDATE SET hi = excluded.hi, status = excluded.status, "
    "attempt = excluded.attempt, engine = excluded.engine, incarnation = excluded.incarnation, "
    "engine_uuid = excluded.engine_uuid, started = excluded.started, "
    "completed = excluded.completed, received = excluded.received, first = excluded.first, "
    "count = excluded.count, again_session = excluded.again_session, "
    "again_seq = excluded.again_seq, output_cut = excluded.output_cut, stdout = excluded.stdout, "
    "stderr = excluded.stderr, call = coalesce(excluded.call, call), result = "
    "coalesce(excluded.result, result)";

int dbfile_open(struct dbfile **ret, const struct dbfile_config *c, char **ret_note, struct err *e)
{
    struct dbfile *f = calloc(1, sizeof(*f));
    int r = CV_ENOMEM;

    *ret_note = NULL;
    if (!f)
        return err_set(e, r, "out of memory for the task records");
    f->owner_fd = -1;
    f->payload = c->payload;
    f->fresh = !c->again;
    f->path = strdup(c->path);
    f->owner_path = str_printf("%s-owner", c->path);
    if (f->path && f->owner_path)
        r = db_open(f, c->table, ret_note, e);
    /* unless another controller wrote meanwhile */
    f->base = c->again && f->last <= c->base + c->last_id ? c->base : f->last;
    if (r == CV_OK)
        r = db_prepare(f, sql_write, &f->write, e);
    if (r == CV_OK)
        r = db_prepare(f, "SELECT 1 FROM records WHERE session = ?1 AND id <= ?2 LIMIT 1", &f->seen,
                       e);
    if (r == CV_OK)
        r = db_prepare(f,
                       "DELETE FROM records WHERE session = ?1 AND lo >= ?2 AND lo < ?3 AND id <= "
                       "?4",
                       &f->overlap_del, e);
    if (r == CV_OK)
        r = db_prepare(f,
                       "UPDATE records SET hi = ?2 WHERE session = ?1 AND lo < ?2 AND hi > ?2 AND "
                       "id <= ?4",
                       &f->overlap_cut, e);
    if (r == CV_OK)
        *ret = f;
    else
        dbfile_close(f);
    return r;
}

void dbfile_close(struct dbfile *f)
{
    if (!f)
        return;
    sqlite3_finalize(f->write);
    sqlite3_finalize(f->seen);
    sqlite3_finalize(f->overlap_del);
    sqlite3_finalize(f->overlap_cut);
    sqlite3_close(f->db);
    if (f->owner)
        unlink(f->owner_path);
    if (f->owner_fd >= 0)
        close(f->owner_fd);
    hash_release(&f->sessions);
    buf_release(&f->call);
    buf_release(&f->result);
    free(f->path);
    free(f->owner_path);
    free(f);
}

uint64_t dbfile_base(const struct dbfile *f)
{
    return f->base;
}

int dbfile_begin(struct dbfile *f, struct err *e)
{
    return db_exec(f, "BEGIN IMMEDIATE", e);
}

int dbfile_commit(struct dbfile *f, struct err *e)
{
    return db_exec(f, "COMMIT", e);
}

void dbfile_rollback(struct dbfile *f)
{
    if (!sqlite3_get_autocommit(f->db))
        sqlite3_exec(f->db, "ROLLBACK", NULL, NULL, NULL);
}

/* --- writing --- */

static int step_done(struct dbfile *f, sqlite3_stmt *s, struct err *e)
{
    int r = sqlite3_step(s);
    int code = r == SQLITE_DONE || r == SQLITE_ROW ? CV_OK : db_error(f, e, r);

    sqlite3_reset(s);
    return code;
}

/* A session of which the file had records before this controller: a task that comes again takes
 * the place of what there was. */
static int make_room(struct dbfile *f, const struct store_record *r, struct err *e)
{
    void *known = hash_get(&f->sessions, 0, r->session);
    sqlite3_stmt *const both[] = {f->overlap_del, f->overlap_cut};
    int code = CV_OK;

    if (!known) {
        sqlite3_bind_int64(f->seen, 1, (int64_t)r->session);
        sqlite3_bind_int64(f->seen, 2, (int64_t)f->base);
        int s = sqlite3_step(f->seen);
        known = s == SQLITE_ROW ? SESSION_BACK : SESSION_NEW;
        sqlite3_reset(f->seen);
        if (s != SQLITE_ROW && s != SQLITE_DONE)
            return db_error(f, e, s);
        if (hash_put(&f->sessions, 0, r->session, known, NULL) != CV_OK)
            return CV_ENOMEM;
    }
    for (size_t i = 0; i < 2 && known == SESSION_BACK && code == CV_OK; i++) {
        sqlite3_bind_int64(both[i], 1, (int64_t)r->session);
        sqlite3_bind_int64(both[i], 2, (int64_t)r->lo);
        if (i == 0)
            sqlite3_bind_int64(both[i], 3, (int64_t)r->hi);
        sqlite3_bind_int64(both[i], 4, (int64_t)f->base);
        code = step_done(f, both[i], e);
    }
    return code;
}

static void bind_int(sqlite3_stmt *s, enum column c, uint64_t v)
{
    sqlite3_bind_int64(s, c + 1, (int64_t)v);
}

static void bind_text(sqlite3_stmt *s, enum column c, const char *text)
{
    sqlite3_bind_text(s, c + 1, text, -1, SQLITE_STATIC); /* NULL where there is none */
}

/* What does not fit into a row of SQLite is left out. */
static int bind_payload(struct dbfile *f, enum column c, const void *payload, struct buf *b)
{
    uint64_t max = (uint64_t)sqlite3_limit(f->db, SQLITE_LIMIT_LENGTH, -1) - BLOB_SLACK;

    if (!payload || pickled_size(&f->payload, payload) > max) {
        sqlite3_bind_null(f->write, c + 1);
        return CV_OK;
    }
    buf_clear(b);
    int r = pickled_add(b, &f->payload, payload);
    if (r == CV_OK)
        sqlite3_bind_blob64(f->write, c + 1, b->data, b->len, SQLITE_STATIC);
    return r;
}

static void bind_task(sqlite3_stmt *s, const struct store_record *r, uint64_t base)
{
    bind_int(s, C_ID, base + r->id);
    bind_int(s, C_SESSION, r->session);
    bind_int(s, C_LO, r->lo);
    bind_int(s, C_HI, r->hi);
    bind_int(s, C_ORIGIN, r->origin);
    bind_int(s, C_KIND, r->kind);
    bind_int(s, C_MODE, r->mode);
    bind_int(s, C_FLAGS, r->flags);
    bind_int(s, C_TARGET, r->target);
    bind_int(s, C_SUBMITTED, r->submitted);
    bind_text(s, C_LABEL, r->label);
    if (r->route_len)
        sqlite3_bind_blob64(s, C_ROUTE + 1, r->route, r->route_len, SQLITE_STATIC);
    bind_int(s, C_AGAIN_SESSION, r->again.session);
    bind_int(s, C_AGAIN_SEQ, r->again.seq);
}

static void bind_end(sqlite3_stmt *s, const struct store_record *r)
{
    const struct store_result *x = &r->result;

    bind_int(s, C_STATUS, x->status);
    bind_int(s, C_ATTEMPT, x->attempt);
    bind_int(s, C_ENGINE, x->engine);
    bind_int(s, C_INCARNATION, x->incarnation);
    bind_text(s, C_UUID, x->engine_uuid);
    bind_int(s, C_STARTED, x->started);
    bind_int(s, C_COMPLETED, x->completed);
    bind_int(s, C_RECEIVED, x->received);
    bind_int(s, C_FIRST, x->seq);
    bind_int(s, C_COUNT, x->count);
}

static void bind_output(sqlite3_stmt *s, const struct store_output *o)
{
    bind_int(s, C_CUT, o->cut);
    for (int i = 0; i < STORE_STREAMS; i++)
        sqlite3_bind_text64(s, C_STDOUT + i + 1, (const char *)o->stream[i].data, o->stream[i].len,
                            SQLITE_STATIC, SQLITE_UTF8);
}

static void shrink(struct buf *b)
{
    if (b->cap > KEEP_BUFFER)
        buf_release(b);
}

int dbfile_write(struct dbfile *f, const struct store_record *r, struct err *e)
{
    int code = make_room(f, r, e);

    if (code != CV_OK)
        return code;
    sqlite3_clear_bindings(f->write);
    bind_task(f->write, r, f->base);
    if (r->state != STORE_PENDING)
        bind_end(f->write, r);
    if (r->output)
        bind_output(f->write, r->output);
    code = bind_payload(f, C_CALL, r->task, &f->call);
    if (code == CV_OK)
        code = bind_payload(f, C_RESULT, r->result.payload, &f->result);
    if (code == CV_OK)
        code = step_done(f, f->write, e);
    else
        err_set(e, code, "out of memory for the task records");
    shrink(&f->call);
    shrink(&f->result);
    return code;
}

int dbfile_resubmitted(struct dbfile *f, struct store_id id, struct store_id again, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int code = db_prepare(f,
                          "UPDATE records SET again_session = ?1, again_seq = ?2 WHERE session = "
                          "?3 AND lo = ?4 AND hi = lo + 1",
                          &s, e);

    if (code == CV_OK) {
        sqlite3_bind_int64(s, 1, (int64_t)again.session);
        sqlite3_bind_int64(s, 2, (int64_t)again.seq);
        sqlite3_bind_int64(s, 3, (int64_t)id.session);
        sqlite3_bind_int64(s, 4, (int64_t)id.seq);
        code = step_done(f, s, e);
    }
    sqlite3_finalize(s);
    return code;
}

/* --- reading --- */

static uint64_t number(sqlite3_stmt *s, enum column c)
{
    return (uint64_t)sqlite3_column_int64(s, c);
}

static struct buf borrowed(sqlite3_stmt *s, enum column c)
{
    const void *data = sqlite3_column_blob(s, c);

    return (struct buf){.data = (uint8_t *)data, .len = (size_t)sqlite3_column_bytes(s, c)};
}

static void *payload_of(struct dbfile *f, sqlite3_stmt *s, enum column c)
{
    struct buf b = borrowed(s, c);

    return b.len ? pickled_read(b.data, b.len, &f->payload) : NULL;
}

/* The row as a record; texts and output are SQLite's until the next step. */
static void read_row(sqlite3_stmt *s, struct store_record *r)
{
    struct buf route = borrowed(s, C_ROUTE);

    *r = (struct store_record){.session = number(s, C_SESSION),
                               .lo = number(s, C_LO),
                               .hi = number(s, C_HI),
                               .id = number(s, C_ID),
                               .origin = number(s, C_ORIGIN),
                               .submitted = number(s, C_SUBMITTED),
                               .label = (char *)sqlite3_column_text(s, C_LABEL),
                               .route = route.data,
                               .route_len = (uint32_t)route.len,
                               .target = (uint32_t)number(s, C_TARGET),
                               .flags = (uint16_t)number(s, C_FLAGS),
                               .kind = (uint8_t)number(s, C_KIND),
                               .mode = (uint8_t)number(s, C_MODE),
                               .again = {number(s, C_AGAIN_SESSION), number(s, C_AGAIN_SEQ)},
                               .state = STORE_DELIVERED};
    if (sqlite3_column_type(s, C_STATUS) == SQLITE_NULL) {
        r->state = STORE_PENDING;
        return;
    }
    r->result = (struct store_result){.status = (uint8_t)number(s, C_STATUS),
                                      .attempt = (uint16_t)number(s, C_ATTEMPT),
                                      .engine = sqlite3_column_type(s, C_ENGINE) == SQLITE_NULL
                                                    ? UINT32_MAX
                                                    : (uint32_t)number(s, C_ENGINE),
                                      .incarnation = (uint32_t)number(s, C_INCARNATION),
                                      .engine_uuid = (const char *)sqlite3_column_text(s, C_UUID),
                                      .started = number(s, C_STARTED),
                                      .completed = number(s, C_COMPLETED),
                                      .received = number(s, C_RECEIVED),
                                      .seq = number(s, C_FIRST),
                                      .count = (uint32_t)number(s, C_COUNT)};
}

static bool visit_row(struct dbfile *f, sqlite3_stmt *s, struct store_walk *w, uint64_t lo,
                      uint64_t hi)
{
    struct store_output out = {0};
    struct store_record r;

    read_row(s, &r);
    if (!lo && !hi) {
        lo = r.lo;
        hi = r.hi;
    }
    if (w->outputs) {
        out.cut = number(s, C_CUT);
        out.stream[STORE_STDOUT] = borrowed(s, C_STDOUT);
        out.stream[STORE_STDERR] = borrowed(s, C_STDERR);
        r.output = &out;
    }
    if (w->calls)
        r.task = payload_of(f, s, C_CALL);
    if (w->results)
        r.result.payload = payload_of(f, s, C_RESULT);
    bool more = w->visit(w, &r, lo, hi);
    f->payload.unref(r.task);
    f->payload.unref(r.result.payload);
    return more;
}

/* Reads from records; what the walk does not need is left on the disk. NULL: out of memory. */
static char *select_for(const struct store_walk *w, const char *rest)
{
    return sqlite3_mprintf("SELECT " PLAIN_COLUMNS ", %s, %s, %s FROM records %s",
                           w->outputs ? "output_cut, stdout, stderr" : "0, NULL, NULL",
                           w->calls ? "call" : "NULL", w->results ? "result" : "NULL", rest);
}

static int prepare_for(struct dbfile *f, const struct store_walk *w, const char *rest,
                       sqlite3_stmt **ret, struct err *e)
{
    char *sql = select_for(w, rest);
    int r = sql ? db_prepare(f, sql, ret, e)
                : err_set(e, CV_ENOMEM, "out of memory for a question about the task records");

    sqlite3_free(sql);
    return r;
}

static int walk_all(struct dbfile *f, struct store_walk *w, const bool *cancel, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int code = prepare_for(f, w, "ORDER BY id", &s, e);
    int r = SQLITE_DONE;

    while (code == CV_OK && !__atomic_load_n(cancel, __ATOMIC_RELAXED) &&
           (r = sqlite3_step(s)) == SQLITE_ROW)
        if (!visit_row(f, s, w, 0, 0))
            break;
    if (code == CV_OK && r != SQLITE_ROW && r != SQLITE_DONE)
        code = db_error(f, e, r);
    sqlite3_finalize(s);
    return code;
}

static int walk_ids(struct dbfile *f, struct store_walk *w, const struct dbplan *p,
                    const bool *cancel, struct err *e)
{
    sqlite3_stmt *s = NULL;
    bool more = true;
    int code = prepare_for(f, w, "WHERE id = ?1", &s, e);

    for (size_t i = 0;
         i < p->n && more && code == CV_OK && !__atomic_load_n(cancel, __ATOMIC_RELAXED); i++) {
        sqlite3_bind_int64(s, 1, p->ids[i]);
        int r = sqlite3_step(s);
        if (r == SQLITE_ROW)
            more = visit_row(f, s, w, 0, 0);
        else if (r != SQLITE_DONE)
            code = db_error(f, e, r);
        sqlite3_reset(s);
    }
    sqlite3_finalize(s);
    return code;
}

static int walk_planned(struct dbfile *f, struct store_walk *w, const bool *cancel, struct err *e)
{
    struct dbplan p;
    int r = dbplan_make(&p, f, &w->bounds, e);

    if (r == CV_OK)
        r = p.all ? walk_all(f, w, cancel, e) : walk_ids(f, w, &p, cancel, e);
    dbplan_release(&p);
    return r;
}

static int walk_only(struct dbfile *f, struct store_walk *w, const bool *cancel, struct err *e)
{
    sqlite3_stmt *s = NULL;
    bool more = true;
    int code = prepare_for(f, w, "WHERE session = ?1 AND lo <= ?2 ORDER BY lo DESC LIMIT 1", &s, e);

    for (size_t i = 0;
         i < w->nonly && more && code == CV_OK && !__atomic_load_n(cancel, __ATOMIC_RELAXED); i++) {
        uint64_t seq = w->only[i].seq;
        sqlite3_bind_int64(s, 1, (int64_t)w->only[i].session);
        sqlite3_bind_int64(s, 2, (int64_t)seq);
        int r = sqlite3_step(s);
        if (r == SQLITE_ROW && number(s, C_HI) > seq)
            more = visit_row(f, s, w, seq, seq + 1);
        else if (r != SQLITE_ROW && r != SQLITE_DONE)
            code = db_error(f, e, r);
        sqlite3_reset(s);
    }
    sqlite3_finalize(s);
    return code;
}

int dbfile_walk(struct dbfile *f, struct store_walk *w, const bool *cancel, struct err *e)
{
    return w->only ? walk_only(f, w, cancel, e) : walk_planned(f, w, cancel, e);
}

/* --- purging --- */

static int purge_where(struct dbfile *f, const char *condition, uint64_t value, uint64_t *purged,
                       struct err *e)
{
    char *count = sqlite3_mprintf("SELECT sum(hi - lo) FROM records WHERE status IS NOT NULL AND "
                                  "%s %lld",
                                  condition, (long long)value);
    char *del = sqlite3_mprintf("DELETE FROM records WHERE status IS NOT NULL AND %s %lld",
                                condition, (long long)value);
    int64_t n = 0;
    int r = count && del ? db_number(f, count, &n, e) : CV_ENOMEM;

    if (r == CV_OK)
        r = db_exec(f, del, e);
    if (r == CV_OK)
        *purged += (uint64_t)n;
    sqlite3_free(count);
    sqlite3_free(del);
    return r;
}

/* Takes one item out of its row, which may cover others. */
static int purge_id(struct dbfile *f, sqlite3_stmt *find, struct store_id id, uint64_t *purged,
                    struct err *e)
{
    sqlite3_bind_int64(find, 1, (int64_t)id.session);
    sqlite3_bind_int64(find, 2, (int64_t)id.seq);
    int s = sqlite3_step(find), r = CV_OK;
    long long row = 0, lo = 0, hi = 0, seq = (long long)id.seq;
    bool there = s == SQLITE_ROW && sqlite3_column_int64(find, 2) > (int64_t)id.seq;

    if (there) {
        row = sqlite3_column_int64(find, 0);
        lo = sqlite3_column_int64(find, 1);
        hi = sqlite3_column_int64(find, 2);
        there = sqlite3_column_type(find, 3) != SQLITE_NULL;
    }
    sqlite3_reset(find);
    if (s != SQLITE_ROW && s != SQLITE_DONE)
        return db_error(f, e, s);
    if (!there)
        return CV_OK;
    char *rest =
        hi > seq + 1
            ? sqlite3_mprintf("INSERT INTO records SELECT id + %lld, session, %lld, hi, origin, "
                              "kind, mode, flags, target, submitted, label, route, status, "
                              "attempt, engine, incarnation, engine_uuid, started, completed, "
                              "received, first, count, again_session, again_seq, output_cut, "
                              "stdout, stderr, call, result FROM records WHERE id = %lld;",
                              seq + 1 - lo, seq + 1, row)
            : sqlite3_mprintf("");
    char *sql = lo < seq ? sqlite3_mprintf("%s UPDATE records SET hi = %lld WHERE id = %lld", rest,
                                           seq, row)
                         : sqlite3_mprintf("%s DELETE FROM records WHERE id = %lld", rest, row);
    r = rest && sql ? db_exec(f, sql, e) : CV_ENOMEM;
    if (r == CV_OK)
        (*purged)++;
    sqlite3_free(rest);
    sqlite3_free(sql);
    return r;
}

int dbfile_purge(struct dbfile *f, struct store_purge *p, struct err *e)
{
    sqlite3_stmt *find = NULL;
    uint64_t purged = 0;
    int r = dbfile_begin(f, e);

    if (r == CV_OK && p->all)
        r = purge_where(f, "id >=", 0, &purged, e);
    for (size_t i = 0; i < p->nengines && !p->all && r == CV_OK; i++) {
        char *mine = sqlite3_mprintf("id > %lld AND engine =", (long long)f->base);
        r = mine ? purge_where(f, mine, p->engines[i], &purged, e) : CV_ENOMEM;
        sqlite3_free(mine);
    }
    if (r == CV_OK && p->nonly)
        r = db_prepare(f,
                       "SELECT id, lo, hi, status FROM records WHERE session = ?1 AND lo <= ?2 "
                       "ORDER BY lo DESC LIMIT 1",
                       &find, e);
    for (size_t i = 0; i < p->nonly && !p->all && r == CV_OK; i++)
        r = purge_id(f, find, p->only[i], &purged, e);
    sqlite3_finalize(find);
    if (r == CV_OK)
        r = dbfile_commit(f, e);
    if (r == CV_OK)
        p->purged = purged;
    else
        dbfile_rollback(f);
    return r;
}

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rows of the file of records: writing and purging. See dbfile.h. Owns the connection, its
 * statements and the lock; on the store's thread. */
#include "store/dbfile.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "store/dbpriv.h"
#include "store/pickled.h"

#define SESSION_NEW ((void *)1)
#define SESSION_BACK ((void *)2)
#define BLOB_SLACK (4u << 20)  /* of SQLite's limit of a row: what is not the result */
#define KEEP_BUFFER (1u << 20) /* larger buffers are not kept for the next row */

static const char sql_write[] =
    "INSERT INTO records(" DB_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, "
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
        r = db_read_init(f, e);
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
    int moved = 0;

    if (sqlite3_file_control(f->db, NULL, SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved)
        return err_set(e, CV_ESYS, "%s: it was removed, or another file is there now", f->path);
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

static bool is_used(struct dbfile *f)
{
    return sqlite3_extended_errcode(f->db) == SQLITE_CONSTRAINT_UNIQUE;
}

/* The row of an id that its client has used before, since this controller began: the newer one
 * takes its place, so that no client keeps the others' records from being written. */
static int make_way(struct dbfile *f, const struct store_record *r, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int code = db_prepare(f, "DELETE FROM records WHERE session = ?1 AND lo = ?2", &s, e);

    if (code == CV_OK) {
        sqlite3_bind_int64(s, 1, (int64_t)r->session);
        sqlite3_bind_int64(s, 2, (int64_t)r->lo);
        code = step_done(f, s, e);
    }
    sqlite3_finalize(s);
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
    if (code == CV_OK) {
        code = step_done(f, f->write, e);
        if (code != CV_OK && is_used(f) && (code = make_way(f, r, e)) == CV_OK)
            code = step_done(f, f->write, e);
    } else
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

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * See dbplan.h. On the store's thread. A failure of the file or of memory ends the plan with an
 * error; what was gathered is the caller's to release. */
#include "store/dbplan.h"

#include <stdlib.h>

static int by_number(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

void dbplan_release(struct dbplan *p)
{
    free(p->ids);
    *p = (struct dbplan){.all = true};
}

static int add(struct dbplan *p, int64_t id)
{
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 256;
        int64_t *v = realloc(p->ids, cap * sizeof(*v));
        if (!v)
            return CV_ENOMEM;
        p->ids = v;
        p->cap = cap;
    }
    p->ids[p->n++] = id;
    return CV_OK;
}

int64_t dbplan_clamp(uint64_t ns)
{
    return ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
}

/* The ids of one index, if they are few enough: then p->all is false. */
static int gather(struct dbplan *p, struct dbfile *f, const char *sql, struct store_span span,
                  const char *uuid, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int r = SQLITE_DONE, code;

    if (!p->all)
        return CV_OK;
    code = db_prepare(f, sql, &s, e);
    if (code != CV_OK)
        return code;
    if (sqlite3_bind_parameter_count(s) >= 2) {
        sqlite3_bind_int64(s, 1, span.set ? dbplan_clamp(span.from) : INT64_MIN);
        sqlite3_bind_int64(s, 2, span.set ? dbplan_clamp(span.to) : INT64_MAX);
    }
    if (uuid)
        sqlite3_bind_text(s, 3, uuid, -1, SQLITE_STATIC);
    p->n = 0;
    while (code == CV_OK && p->n < DBPLAN_MOST && (r = sqlite3_step(s)) == SQLITE_ROW)
        code = add(p, sqlite3_column_int64(s, 0));
    p->all = r != SQLITE_DONE;
    if (code != CV_OK)
        err_set(e, code, "out of memory for a question about the task records");
    else if (r != SQLITE_ROW && r != SQLITE_DONE)
        code = db_error(f, e, r);
    sqlite3_finalize(s);
    return code;
}

int dbplan_make(struct dbplan *p, struct dbfile *f, const struct store_bounds *b, struct err *e)
{
    const struct store_span any = {0};
    int r = CV_OK;

    *p = (struct dbplan){.all = true};
    if (b->pending)
        r = gather(p, f, DBPLAN_PENDING, any, NULL, e);
    if (r == CV_OK && b->failed)
        r = gather(p, f, DBPLAN_FAILED, any, NULL, e);
    if (r == CV_OK && b->no_time)
        r = gather(p, f, DBPLAN_NO_TIME, any, NULL, e);
    if (r == CV_OK && b->submitted.set)
        r = gather(p, f, DBPLAN_SUBMITTED, b->submitted, NULL, e);
    if (r == CV_OK && b->engine_uuid)
        r = gather(p, f, DBPLAN_ENGINE, b->completed, b->engine_uuid, e);
    else if (r == CV_OK && b->completed.set)
        r = gather(p, f, DBPLAN_COMPLETED, b->completed, NULL, e);
    if (r == CV_OK && !p->all && p->n)
        qsort(p->ids, p->n, sizeof(*p->ids), by_number);
    return r;
}

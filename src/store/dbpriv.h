/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What dbopen.c, dbfile.c and dbread.c share. */
#ifndef COVEY_STORE_DBPRIV_H
#define COVEY_STORE_DBPRIV_H

#include <sqlite3.h>
#include "base/hash.h"
#include "store/dbfile.h"

/* Of the table, in this order. */
#define DB_COLUMNS                                                                                 \
    "id, session, lo, hi, origin, kind, mode, flags, target, submitted, label, route, status, "    \
    "attempt, engine, incarnation, engine_uuid, started, completed, received, first, count, "      \
    "again_session, again_seq, output_cut, stdout, stderr, call, result"

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
    C_RESULT,
    C_END
};

struct dbreader; /* dbread.c */

struct dbfile {
    sqlite3 *db;
    char *path, *owner_path;
    int owner_fd;
    bool owner;    /* we hold the lock */
    bool fresh;    /* this controller has not used it before */
    uint64_t last; /* the greatest id at open */
    uint64_t base; /* behind it this controller's rows begin */
    struct store_payload_ops payload;
    sqlite3_stmt *write, *overlap_del, *overlap_cut, *seen;
    struct hash sessions; /* session -> SESSION_NEW, or SESSION_BACK if the file had some of it */
    struct buf call, result; /* of the row that is written */
    struct dbreader *reader; /* of the walk that is under way */
};

int db_open(struct dbfile *f, const char *table, char **ret_note, struct err *e) CV_CHECK;
/* CV_EPROTO: the file is damaged; CV_ENOMEM; CV_ESYS. With the path and SQLite's text. */
int db_error(struct dbfile *f, struct err *e, int code);
int db_exec(struct dbfile *f, const char *sql, struct err *e) CV_CHECK;
int db_prepare(struct dbfile *f, const char *sql, sqlite3_stmt **ret, struct err *e) CV_CHECK;
/* The first column of the first row; ret is untouched if there is none. */
int db_number(struct dbfile *f, const char *sql, int64_t *ret, struct err *e) CV_CHECK;
/* dbread.c */
int db_read_init(struct dbfile *f, struct err *e) CV_CHECK;

#endif

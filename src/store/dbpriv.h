/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What dbopen.c and dbfile.c share. */
#ifndef COVEY_STORE_DBPRIV_H
#define COVEY_STORE_DBPRIV_H

#include <sqlite3.h>
#include "base/hash.h"
#include "store/dbfile.h"

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
};

int db_open(struct dbfile *f, const char *table, char **ret_note, struct err *e) CV_CHECK;
/* CV_EPROTO: the file is damaged; CV_ENOMEM; CV_ESYS. With the path and SQLite's text. */
int db_error(struct dbfile *f, struct err *e, int code);
int db_exec(struct dbfile *f, const char *sql, struct err *e) CV_CHECK;
int db_prepare(struct dbfile *f, const char *sql, sqlite3_stmt **ret, struct err *e) CV_CHECK;
/* The first column of the first row; ret is untouched if there is none. */
int db_number(struct dbfile *f, const char *sql, int64_t *ret, struct err *e) CV_CHECK;

#endif

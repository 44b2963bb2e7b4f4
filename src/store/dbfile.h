/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The SQLite file of records: its tables, and what is written and read. Used by one thread at a
 * time; it may block. A failure of a write or a commit leaves the file as it was before begin().
 *
 * One controller uses a file at a time: it holds a lock on PATH-owner, in which its pid stands.
 * What is no file of ours is left alone (CV_EINVAL), but for ipyparallel's own and for a damaged
 * one of ours, which are renamed and told. */
#ifndef COVEY_STORE_DBFILE_H
#define COVEY_STORE_DBFILE_H

#include "store/store.h"

struct dbfile;

struct dbfile_config {
    const char *path, *table;
    struct store_payload_ops payload;
    /* When this controller had it open before: dbfile_base() of then, and the last id it gave. */
    bool again;
    uint64_t base, last_id;
};

/* CV_EAGAIN: another controller uses it. ret_note receives a sentence if something was put aside
 * (malloc'ed), else NULL. */
int dbfile_open(struct dbfile **ret, const struct dbfile_config *c, char **ret_note,
                struct err *e) CV_CHECK;
void dbfile_close(struct dbfile *f); /* NULL is fine */
/* What is added to a record's id to make its row's: rows of earlier controllers come before. */
uint64_t dbfile_base(const struct dbfile *f);
/* Is there room on the disk to go on? */
bool dbfile_has_room(const char *path);

int dbfile_begin(struct dbfile *f, struct err *e) CV_CHECK;
int dbfile_write(struct dbfile *f, const struct store_record *r, struct err *e) CV_CHECK;
int dbfile_commit(struct dbfile *f, struct err *e) CV_CHECK;
void dbfile_rollback(struct dbfile *f);
/* Outside of begin() and commit(). Records that the walk's visit() gets hold payloads made of the
 * file's bytes, which it may ref. */
int dbfile_walk(struct dbfile *f, struct store_walk *w, const bool *cancel, struct err *e) CV_CHECK;
/* Counts into p->purged. */
int dbfile_purge(struct dbfile *f, struct store_purge *p, struct err *e) CV_CHECK;
int dbfile_resubmitted(struct dbfile *f, struct store_id id, struct store_id again,
                       struct err *e) CV_CHECK;

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The back ends that keep records in memory (pending ones as briefs, log.h, while that says it
 * all), and what the one with a file (sqlite.c) needs of them: with `journal` set each record that
 * was changed is in the list `unwritten`, in the order in which they came into it, until the one
 * with the file takes it out. */
#ifndef COVEY_STORE_MEMORY_H
#define COVEY_STORE_MEMORY_H

#include "base/hash.h"
#include "base/ranges.h"
#include "store/index.h"
#include "store/store.h"

struct session {
    uint64_t id;
    struct index index;
    struct ranges used;   /* what was submitted */
    struct ranges purged; /* of that, what nothing is to be known of; what else has no record has
                             expired */
    struct ranges failed; /* of what has expired: what did not end well */
    uint64_t failed_from; /* of ids below that it is not known */
    uint64_t records;
    struct list idle; /* in memory.idle while it has no records */
};

struct memory {
    struct store store;
    struct store_limits limits;
    struct store_payload_ops payload;
    struct hash sessions;
    struct list idle; /* sessions of which only what was used is known */
    uint64_t nidle;
    struct hash uuids; /* {engine, incarnation} -> struct uuid (memory_uuid.c), the newest */
    struct log log;
    struct list states[STORE_DELIVERED + 1];
    uint64_t counts[STORE_DELIVERED + 1];
    uint64_t bytes; /* of ended and delivered records */
    uint64_t next_id;
    struct list walks; /* store_walk.node of those that are under way */

    bool journal;
    struct list unwritten;
    uint64_t nunwritten, tick, now, lost;
    struct store_record found; /* what find() says of a brief */
};

/* size: of the struct that begins with the struct memory. */
int memory_new(struct memory **ret, size_t size, const struct store_ops *ops,
               const struct store_config *c) CV_CHECK;
int memory_store_new(struct store **ret, const struct store_config *c, struct err *e) CV_CHECK;
int none_store_new(struct store **ret, const struct store_config *c, struct err *e) CV_CHECK;

static inline struct memory *memory_of(const struct store *s)
{
    return (struct memory *)s;
}

static inline void memory_record_init(struct store_record *r)
{
    list_init(&r->by_time);
    list_init(&r->by_state);
    list_init(&r->unwritten);
}

/* The ops. */
int memory_submit(struct store *s, const struct store_task *t) CV_CHECK;
int memory_end(struct store *s, uint64_t session, uint64_t seq, uint32_t count,
               const struct store_result *r) CV_CHECK;
void memory_output(struct store *s, uint64_t session, uint64_t seq, enum store_stream which,
                   const void *data, size_t n);
void memory_delivered(struct store *s, uint64_t session, uint64_t seq, uint32_t count);
enum store_find memory_find(struct store *s, uint64_t session, uint64_t seq,
                            const struct store_record **ret, uint64_t *ret_end);
bool memory_expired(const struct store *s, uint64_t session, uint64_t seq, bool *ret_well);
void memory_skipped(struct store *s, uint64_t session, uint64_t seq);
void memory_resubmitted(struct store *s, struct store_id id, struct store_id again);
void memory_stats(const struct store *s, struct store_stats *ret);
void memory_free(struct store *s);

/* memory_session.c: the session of that id, made if need be; NULL: out of memory. */
struct session *memory_session_get(struct memory *m, uint64_t id);
/* It has one record more; or perhaps none any more, and may go. */
void memory_session_took(struct memory *m, struct session *x);
void memory_session_rest(struct memory *m, struct session *x);
void memory_session_free(struct memory *m, struct session *x);
/* r goes, and expires. */
void memory_session_lost(struct session *x, const struct store_record *r);

/* memory_uuid.c: the store's own copy of a result's engine_uuid, with a reference; NULL when there
 * is none or memory is out. */
const char *memory_uuid_keep(struct memory *m, const struct store_result *res);
const char *memory_uuid_ref(const char *text); /* text, which may be NULL */
void memory_uuid_unref(struct memory *m, const char *text);

/* memory_walk.c */
void memory_walk(struct store *s, struct store_walk *w);
void memory_purge(struct store *s, struct store_purge *p);
/* A slice of each walk; true: there is more to do. */
bool memory_walk_slices(struct memory *m);
void memory_walks_fail(struct memory *m);
/* A record leaves: walks that stand at it go on. */
void memory_walk_leave(struct memory *m, const struct store_record *r);
void memory_walk_fold(struct memory *m, const struct store_record *r);
/* `rest` was cut off behind r. */
void memory_walk_split(struct memory *m, const struct store_record *r, struct store_record *rest);

/* memory_parts.c: the record that covers exactly [lo, hi) of r, which covers more. CV_ENOMEM. */
int memory_cut(struct memory *m, struct store_record *r, uint64_t lo, uint64_t hi,
               struct store_record **ret) CV_CHECK;
/* A payload that records share is charged to one of them, and to another when that one leaves. */
void memory_pass_on_result(struct memory *m, const struct store_record *r);
void memory_pass_on_task(struct memory *m, const struct store_record *r);

/* memory.c: what a record costs; r's own copies of label and route. */
uint64_t memory_record_bytes(const struct store_record *r);
int memory_copy_texts(struct store_record *r, const char *label, const void *route,
                      uint32_t n) CV_CHECK;
/* To be changed; a brief becomes a record. NULL: there is none, or memory is out. */
struct store_record *memory_record(struct memory *m, uint64_t session, uint64_t seq);
/* To be looked at; of a brief in *room. NULL: there is none. */
const struct store_record *memory_peek(const struct memory *m, uint64_t session, uint64_t seq,
                                       struct store_record *room);
/* There is more to say about it. NULL: out of memory. */
struct store_record *memory_unfold(struct memory *m, struct log_entry *e);
void memory_read_brief(const struct log_entry *e, struct store_record *ret);
/* A pending record of which there is no more to say than a brief has becomes one. */
void memory_fold(struct memory *m, struct store_record *r);
void memory_drop(struct memory *m, struct store_record *r, bool expired);
/* The client of an ended record has its result, and the file, where there is one. */
void memory_give_back(struct memory *m, struct store_record *r);
/* The file must (not) be told of it. */
void memory_mark(struct memory *m, struct store_record *r);
void memory_unmark(struct memory *m, struct store_record *r);

#endif

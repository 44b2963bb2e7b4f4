/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The records of tasks: what was submitted, how it ended, what it printed, and the result until
 * its client has it. One interface, a back end per way of keeping them: "memory" keeps ended
 * records within its limits, "none" forgets a record as soon as its client has the result,
 * "sqlite" is memory whose records are also written to a file by a thread of its own.
 *
 * All calls come from the loop's thread and never block (but store_new() and store_free()). A
 * record covers the ids [lo, hi) of a session and is split when a part of it ends. It is pending,
 * ended (result not acknowledged yet) or delivered. Beyond the limits delivered records go first,
 * the oldest before the others, then ended ones; a pending one never. What went is remembered as
 * expired. Payloads are opaque: the store holds references and reads buffers by the functions that
 * it is given. */
#ifndef COVEY_STORE_STORE_H
#define COVEY_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"

#define STORE_OUTPUT_MAX (256u << 10) /* bytes kept of each stream of a record */

struct store;

struct store_limits {
    uint64_t bytes;   /* memory of ended records; 0: 1 GiB */
    uint64_t records; /* ended records; 0: 100,000 */
};

struct store_slice {
    const void *data;
    uint64_t len;
};

/* ref() and unref() are called on the loop's thread for what came with submit() and end(), on any
 * thread for what make() made. The others are called on the store's thread. NULL is no payload. */
struct store_payload_ops {
    void (*ref)(void *payload);
    void (*unref)(void *payload);
    uint32_t (*count)(const void *payload);
    struct store_slice (*buffer)(const void *payload, uint32_t i);
    void *(*make)(const struct store_slice *v, uint32_t n); /* copies; NULL: out of memory */
    /* Its memory is lent by another process, which wants it back: a result is kept until its client
     * has it, not longer. NULL: none is. */
    bool (*lent)(const void *payload);
};

enum store_state { STORE_PENDING, STORE_ENDED, STORE_DELIVERED };
enum store_find { STORE_FOUND, STORE_UNKNOWN, STORE_EXPIRED };
enum store_stream { STORE_STDOUT, STORE_STDERR, STORE_STREAMS };

struct store_task {
    uint64_t session, seq;
    uint32_t count;
    uint8_t kind; /* enum task_kind */
    uint8_t mode; /* 0 balanced, 1 direct, 2 broadcast */
    uint16_t flags;
    uint32_t target;    /* direct: the engine */
    uint64_t origin;    /* the first id of the TASK message: the call's buffers begin there */
    uint64_t submitted; /* ns since 1970, as are all times here */
    const char *label;  /* copied; may be NULL */
    const void *route;  /* copied */
    uint32_t route_len;
    void *payload; /* of the call, kept so that it can be submitted again; may be NULL */
    uint64_t bytes;
};

struct store_result {
    uint8_t status; /* enum result_status */
    uint16_t attempt;
    uint32_t engine, incarnation;
    const char *engine_uuid; /* copied; NULL: unknown */
    uint64_t started, completed, received;
    uint64_t seq; /* the range that the payload is about: may be wider than the record */
    uint32_t count;
    void *payload; /* may be NULL */
    uint64_t bytes;
    bool gone; /* it was delivered, and the payload was lent: given back since */
};

struct store_output {
    struct buf stream[STORE_STREAMS];
    bool cut; /* more was printed than is kept */
};

struct store_id {
    uint64_t session, seq;
};

struct log_entry;

struct store_record {
    uint64_t session, lo, hi;
    struct log_entry *entry;
    uint64_t id; /* of item lo; grows by one an item in the order of submission */
    uint64_t origin, submitted;
    char *label;
    uint8_t *route;
    uint32_t route_len, target;
    void *task;
    uint64_t task_bytes;
    struct store_result result;  /* once ended */
    struct store_output *output; /* NULL: nothing was printed */
    struct store_id again;       /* what it was submitted again as; seq 0: it was not */
    uint16_t flags;
    uint8_t kind, mode, state; /* enum store_state */
    bool written;              /* the file has its call */
    bool in_memory;            /* not read from the file */
    struct list by_time, by_state, unwritten;
    uint64_t tick, since; /* of unwritten */
};

struct store_stats {
    uint64_t bytes, pending, ended, delivered;
    uint64_t unwritten; /* records that the file does not have yet */
    uint64_t lost;      /* records that went before they could be written */
};

struct store_span {
    uint64_t from, to; /* both belong to it */
    bool set;
};

/* What all records that a walk is for have in common; others may be shown, too. The file finds
 * them by its indexes. */
struct store_bounds {
    struct store_span submitted, completed;
    const char *engine_uuid;       /* borrowed; NULL: any */
    bool failed, pending, no_time; /* ended, but not well; not ended; completed is unknown */
};

/* What of a record is read from the file, beside ids and state. */
enum store_part {
    STORE_KIND = 1 << 0, /* kind, mode, flags, target, origin */
    STORE_LABEL = 1 << 1,
    STORE_ROUTE = 1 << 2,
    STORE_SUBMITTED = 1 << 3,
    STORE_AGAIN = 1 << 4,
    STORE_ATTEMPT = 1 << 5,
    STORE_ENGINE = 1 << 6, /* and its incarnation and uuid */
    STORE_TIMES = 1 << 7,  /* started, received */
    STORE_COMPLETED = 1 << 8,
    STORE_RANGE = 1 << 9, /* of the result */
    STORE_OUTPUT = 1 << 10,
    STORE_CALL = 1 << 11,
    STORE_RESULT = 1 << 12, /* its payload */
    STORE_ALL = (1 << 13) - 1
};

/* Looks at records in the order of submission, in slices between the loop's turns, or on the
 * store's thread. It is the caller's until done() was called, which may be before walk() returns.
 */
struct store_walk {
    const struct store_id *only; /* NULL: all; else at the records of these ids, in this order */
    size_t nonly;
    struct store_bounds bounds;
    unsigned parts; /* enum store_part: what visit() looks at */
    /* What wanted() looks at, and whether the walk may leave the record out. It may be shown all
     * the same; NULL: none may be left out. STORE_RESULT can't be tested. */
    unsigned tested;
    bool (*wanted)(struct store_walk *w, const struct store_record *r);
    /* For items [lo, hi) of r. False ends the walk. */
    bool (*visit)(struct store_walk *w, const struct store_record *r, uint64_t lo, uint64_t hi);
    /* On the loop's thread. failed: the store is being freed, or its file failed. */
    void (*done)(struct store_walk *w, bool failed);

    struct list node; /* from here on the store's own */
    struct log_entry *at;
    struct store_record *at_record; /* of `at`; NULL: the first */
    uint64_t at_seq;                /* of at_record: the next item; 0: the first */
    size_t next_only;
    uint64_t goal, flush;
};

/* Forgets ended records: all, those of engines, those of ids. */
struct store_purge {
    bool all;
    const uint32_t *engines;
    size_t nengines;
    const struct store_id *only;
    size_t nonly;
    void (*done)(struct store_purge *p, bool failed);
    uint64_t purged; /* items */

    struct store_walk walk; /* from here on the store's own */
    struct memory *memory;
    struct list node;
    uint64_t flush;
    void (*then)(struct store_purge *p, bool failed);
};

struct store_ops {
    const char *name;
    bool queryable;  /* records of delivered tasks can be asked for */
    bool persistent; /* there is a file: an id that find() does not know may still be found by
                        walk() */
    int (*submit)(struct store *s, const struct store_task *t) CV_CHECK;
    /* [seq, seq + count) has ended; parts that are unknown or have ended already are left alone. */
    int (*end)(struct store *s, uint64_t session, uint64_t seq, uint32_t count,
               const struct store_result *r) CV_CHECK;
    void (*output)(struct store *s, uint64_t session, uint64_t seq, enum store_stream which,
                   const void *data, size_t n);
    void (*delivered)(struct store *s, uint64_t session, uint64_t seq, uint32_t count);
    /* In memory. ret is valid until the next call that changes something. ret_end (may be NULL):
     * the answer holds for [seq, *ret_end). */
    enum store_find (*find)(struct store *s, uint64_t session, uint64_t seq,
                            const struct store_record **ret, uint64_t *ret_end);
    /* How an id ended that find() calls expired. False: that is not known any more. */
    bool (*expired)(const struct store *s, uint64_t session, uint64_t seq, bool *ret_well);
    void (*walk)(struct store *s, struct store_walk *w);
    void (*purge)(struct store *s, struct store_purge *p);
    /* An id of that client that is no task's: what it uses next is next to what it used. */
    void (*skipped)(struct store *s, uint64_t session, uint64_t seq);
    /* The task `id` was submitted again as `again`. */
    void (*resubmitted)(struct store *s, struct store_id id, struct store_id again);
    /* At the end of each turn of the loop: a part of what is to be done. now: monotonic ns.
     * Returns when it must be called next; 0: at once, UINT64_MAX: not by time. */
    uint64_t (*turn)(struct store *s, uint64_t now);
    const char *(*trouble)(const struct store *s); /* what is wrong with the file; NULL: nothing */
    void (*stats)(const struct store *s, struct store_stats *ret);
    void (*free)(struct store *s);
};

struct store {
    const struct store_ops *ops;
};

struct store_config {
    const char *backend; /* "memory", "none", "sqlite" */
    struct store_limits limits;
    struct store_payload_ops payload;
    /* sqlite: */
    const char *file;                                    /* path */
    const char *table;                                   /* name of the view for others */
    uint64_t retry_ns;                                   /* after trouble with the file; 0: 5 s */
    void (*wake)(void *arg);                             /* turn() is due; from any thread */
    void (*tell)(void *arg, bool bad, const char *text); /* the file's state has changed */
    void *arg;
};

/* CV_EINVAL names the back ends that there are. sqlite: opens the file, or says why it can't. */
int store_new(struct store **ret, const struct store_config *c, struct err *e) CV_CHECK;
/* sqlite: writes what is not written, for at most 3 s. NULL is fine. */
void store_free(struct store *s);

#endif

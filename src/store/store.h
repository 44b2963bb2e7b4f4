/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The records of tasks: what was submitted, how it ended, what it printed, and the result until
 * its client has it. One interface, a back end per way of keeping them: "memory" keeps ended
 * records within its limits, "none" forgets a record as soon as its client has the result.
 *
 * All calls come from the loop's thread and never block. A record covers the ids [lo, hi) of a
 * session and is split when a part of it ends. It is pending, ended (result not acknowledged yet)
 * or delivered. Beyond the limits delivered records go first, the oldest before the others, then
 * ended ones; a pending one never. What went is remembered as expired while its session has
 * records. Payloads are opaque: the store holds references. */
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
    uint64_t bytes;   /* payloads and output of ended records; 0: 1 GiB */
    uint64_t records; /* ended records; 0: 100,000 */
};

struct store_payload_ops {
    void (*ref)(void *payload);
    void (*unref)(void *payload);
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
    uint64_t submitted; /* ns since 1970, as are all times here */
    const char *label;  /* copied; may be NULL */
    void *payload;      /* of the call, kept so that it can be submitted again; may be NULL */
    uint64_t bytes;
};

struct store_result {
    uint8_t status; /* enum result_status */
    uint16_t attempt;
    uint32_t engine, incarnation;
    uint64_t started, completed, received;
    uint64_t seq; /* the range that the payload is about: may be wider than the record */
    uint32_t count;
    void *payload; /* may be NULL */
    uint64_t bytes;
    bool gone; /* it was delivered, and the payload was lent: given back since */
};

struct store_record {
    uint64_t session, lo, hi;
    enum store_state state;
    uint8_t kind, mode;
    uint16_t flags;
    uint64_t submitted;
    char *label;
    void *task;
    uint64_t task_bytes;
    struct store_result result; /* once ended */
    struct buf output[STORE_STREAMS];
    bool output_cut; /* more was printed than is kept */
    struct list by_time, by_state;
};

struct store_stats {
    uint64_t bytes, pending, ended, delivered;
};

typedef bool (*store_cb)(void *arg, const struct store_record *r); /* false ends the walk */

struct store_ops {
    const char *name;
    bool queryable; /* records of delivered tasks can be asked for */
    int (*submit)(struct store *s, const struct store_task *t) CV_CHECK;
    /* [seq, seq + count) has ended; parts that are unknown or have ended already are left alone. */
    int (*end)(struct store *s, uint64_t session, uint64_t seq, uint32_t count,
               const struct store_result *r) CV_CHECK;
    void (*output)(struct store *s, uint64_t session, uint64_t seq, enum store_stream which,
                   const void *data, size_t n);
    void (*delivered)(struct store *s, uint64_t session, uint64_t seq, uint32_t count);
    /* ret is valid until the next call that changes something. ret_end (may be NULL): the answer
     * holds for [seq, *ret_end). */
    enum store_find (*find)(struct store *s, uint64_t session, uint64_t seq,
                            const struct store_record **ret, uint64_t *ret_end);
    void (*each)(struct store *s, store_cb cb, void *arg); /* in the order of submission */
    /* Forgets the ended and delivered records that match; returns how many ids. */
    uint64_t (*purge)(struct store *s, store_cb match, void *arg);
    void (*stats)(const struct store *s, struct store_stats *ret);
    void (*free)(struct store *s);
};

struct store {
    const struct store_ops *ops;
};

/* backend: "memory" or "none"; CV_EINVAL names those that there are. */
int store_new(struct store **ret, const char *backend, const struct store_limits *l,
              const struct store_payload_ops *p, struct err *e) CV_CHECK;
void store_free(struct store *s); /* NULL is fine */

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What was submitted, in that order: pages of entries. An entry is a brief, which is all that there
 * is to say about most pending tasks, or the records of what was submitted at once (several once
 * that was cut). A page goes when nothing of it is left. On the loop's thread. Owns the pages; a
 * brief has a reference of its payload, which the caller takes and drops. */
#ifndef COVEY_STORE_LOG_H
#define COVEY_STORE_LOG_H

#include "store/store.h"

#define LOG_PAGE 32u /* entries */

struct session;

enum log_type { LOG_EMPTY, LOG_BRIEF, LOG_RECORDS };

struct log_entry {
    union {
        struct list records; /* LOG_RECORDS: store_record.by_time */
        struct {             /* LOG_BRIEF */
            uint64_t seq, submitted;
        };
    };
    void *task;
    struct session *session;
    uint32_t id; /* less its page's first */
    uint32_t bytes, target;
    uint16_t flags;
    uint16_t kind : 4, mode : 2, written : 1, type : 2, index : 5;
};

struct log_page {
    struct list node;
    uint64_t first;
    uint32_t n, live;
    struct log_entry v[LOG_PAGE];
};

struct log {
    struct list pages;
};

void log_init(struct log *g);
void log_release(struct log *g);
/* An entry at the end, LOG_EMPTY, for what begins with id. NULL: out of memory. */
struct log_entry *log_add(struct log *g, uint64_t id);
void log_fill(struct log_entry *e, enum log_type type); /* it is in use now */
/* Nothing of it is left, or it was not used: it and its page may be gone after. */
void log_clear(struct log_entry *e);
struct log_entry *log_first(const struct log *g);
struct log_entry *log_next(const struct log *g, const struct log_entry *e);
uint64_t log_id(const struct log_entry *e);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a scheduler was told, as bytes, so that it can be told again: its options, then each event
 * with the answers of outcome() that it asked for and a digest of its actions. Sessions are written
 * once and numbered, numbers are varints: about 20 bytes an event. A payload, note or cause is only
 * said to be there. No I/O: the caller owns the bytes. */
#ifndef COVEY_SCHED_TRACE_H
#define COVEY_SCHED_TRACE_H

#include "base/buf.h"
#include "base/hash.h"
#include "sched/sched.h"

#define TRACE_MAGIC "CVSCHED1"

struct trace {
    struct buf out;      /* the writer's; the caller takes what it has and clears it */
    struct hash numbers; /* session -> its number (from 1) as a pointer */
    uint64_t *sessions;  /* the reader's: by number */
    uint64_t n, now;
    bool oom; /* the writer's: what follows is worth nothing */
};

struct trace_outcome {
    struct sched_id id;
    bool known;
    uint8_t status;
    uint32_t engine;
};

/* --- writing --- */
void trace_begin(struct trace *t, const struct sched_options *o);
void trace_event(struct trace *t, uint64_t now, const struct sched_event *ev);
void trace_outcome(struct trace *t, const struct trace_outcome *o);
void trace_end(struct trace *t, int code, const struct sched_action *v, size_t n);
void trace_release(struct trace *t);

/* --- reading --- */
enum trace_kind { TRACE_BEGIN, TRACE_EVENT, TRACE_OUTCOME, TRACE_END };
struct trace_item {
    enum trace_kind kind;
    struct sched_options options; /* BEGIN: policy is policy_name */
    char policy_name[32];
    struct sched_event event; /* EVENT: its arrays and a stand-in for payload, note and cause */
    uint64_t now;
    struct trace_outcome outcome;
    int code; /* END */
    uint32_t nactions, digest;
};
/* The next item at *p, which moves on. CV_EOF where it is cut short, CV_EPROTO for other bytes. */
int trace_next(struct trace *t, const uint8_t **p, const uint8_t *end,
               struct trace_item *ret) CV_CHECK;
void trace_item_release(struct trace_item *i);

uint32_t trace_digest(const struct sched_action *v, size_t n);

#endif

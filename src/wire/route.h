/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The route of a TASK: the MessagePack map that the controller reads. Absent for plain tasks.
 * Unknown keys are skipped, a known key of the wrong kind is CV_EPROTO naming it.
 * keys: "targets" [u32], "timeout" f64 s, "retries" u32, "priority" i32, "label" str,
 *       "after"/"follow" [[session, lo, hi], ...], "dep" map
 * {"after_all","after_success","after_failure", "follow_all","follow_success","follow_failure":
 * bool}, "python" str (x.y, when a function travels by value) */
#ifndef COVEY_WIRE_ROUTE_H
#define COVEY_WIRE_ROUTE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

struct id_range {
    uint64_t session, lo, hi;
};

struct dep_flags {
    bool all, success, failure;
};

struct route {
    uint32_t *targets; /* malloc'ed; has_targets tells an empty list from none */
    uint32_t ntargets;
    bool has_targets;
    double timeout; /* seconds; < 0: none */
    uint32_t retries;
    int32_t priority;
    char *label;  /* malloc'ed, NULL when absent */
    char *python; /* likewise */
    struct id_range *after, *follow;
    uint32_t nafter, nfollow;
    struct dep_flags after_flags, follow_flags;
};

void route_init(struct route *r); /* the values of an absent route */
void route_release(struct route *r);
int route_encode(const struct route *r,
                 struct buf *out) CV_CHECK; /* only keys that differ from route_init */
int route_decode(const void *data, size_t n, struct route *ret, struct err *e) CV_CHECK;

#endif

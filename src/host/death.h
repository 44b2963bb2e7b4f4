/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What is known about an engine's end, and how it is told: one sentence for people and the CAUSE of
 * docs/protocol.md. Pure: no I/O, no clock. */
#ifndef COVEY_HOST_DEATH_H
#define COVEY_HOST_DEATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>
#include "base/buf.h"
#include "base/error.h"

#define DEATH_STDERR_MAX (16u << 10) /* bytes of stderr that travel with the report */

struct death {
    uint32_t number, incarnation; /* WIRE_ENGINE_NONE: it never registered */
    uint32_t slot;
    const char *host; /* this machine's name */
    pid_t pid;        /* 0: it never became a process */
    bool known;       /* signal and code are facts */
    int signal, code;
    const char *because; /* we ended it: "a restart was asked for"; NULL: not by us */
    const char *failure; /* it could not be started: why; NULL otherwise */
    bool left;           /* it was leaving in order when it ended: it had been told to */
    bool rank;           /* mpiexec started it */
    bool oom;            /* the kernel counted a kill for lack of memory in our cgroup */
    bool running;        /* user code ran: */
    uint64_t session, seq;
    uint32_t attempt;
    uint32_t tasks_done; /* items that it has finished */
    bool planned;        /* the host stops, or a successor was asked for */
    bool restart;        /* a successor will have its number */
    uint64_t peak_rss;   /* bytes, 0: unknown */
    struct buf err;      /* the last bytes of its standard error; not owned by death_* */
};

/* Why a host that was asked to stop ends its engines. mpiexec: it was that which asked; job: the
 * batch job that it is in, if the request came from outside (may be NULL). */
void death_reason(bool mpiexec, const char *job, char *out, size_t cap);
/* A clean end that was asked for. */
bool death_is_clean(const struct death *d);
/* Appends the sentence to out. What the engine wrote last is not in it, but for the place in a
 * crash dump: whoever shows CAUSE shows `stderr` beside `text`. */
int death_text(const struct death *d, struct buf *out) CV_CHECK;
/* The same with the last lines of stderr, for a log. */
int death_log_text(const struct death *d, struct buf *out) CV_CHECK;
/* CAUSE as a new JSON object with "slot" and "incarnation" added. */
int death_json(const struct death *d, json_t **ret) CV_CHECK;
/* Replaces what is not UTF-8, and control characters that would garble a terminal, by '?'. */
void text_clean(char *text, size_t n);

#endif

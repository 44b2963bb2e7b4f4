/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the host keeps for one engine: its status page and the read ends of its capture pipes, made
 * before the engine is and read after its death. No loop, no processes. */
#ifndef COVEY_HOST_SLOT_H
#define COVEY_HOST_SLOT_H

#include <jansson.h>
#include "base/buf.h"
#include "base/error.h"
#include "host/death.h"
#include "host/restart.h"
#include "proc/reap.h"
#include "wire/statuspage.h"

enum slot_state { SLOT_EMPTY, SLOT_ASKED, SLOT_STARTING, SLOT_UP, SLOT_PAUSED };

struct slot {
    uint32_t index;
    enum slot_state state;
    uint32_t number;      /* asked for or held; WIRE_ENGINE_NONE: none */
    uint32_t incarnation; /* of the last engine that registered here; 0: none did */
    pid_t pid;            /* STARTING, UP */
    uint64_t started;     /* monotonic ns, of the request */
    uint64_t start_at;    /* PAUSED: when the next start is due */
    char because[160];    /* we are ending it: why; else empty */
    uint64_t kill_at;     /* monotonic ns of the SIGKILL that follows a SIGTERM; 0: none */
    bool want_restart;    /* a successor was asked for, whatever the policy says */
    struct restarts restarts;
    struct statuspage *page; /* NULL: none */
    int out_fd, err_fd;      /* read ends, -1: none */
    char *report;            /* JSON of the last death until a successor registers */
    uint32_t report_number, report_incarnation;
};

/* The engine's descriptors, in the order of docs/internals.md: page, stdout r, w, stderr r, w. */
#define SLOT_FDS 5

void slot_init(struct slot *s, uint32_t index, uint32_t number);
/* Makes page and pipes; ret_fds are the engine's own (close-on-exec, the caller closes them). */
int slot_open(struct slot *s, int ret_fds[SLOT_FDS], struct err *e) CV_CHECK;
void slot_close(struct slot *s); /* page and pipes */
void slot_release(struct slot *s);
/* User code runs in it now. */
bool slot_running(const struct slot *s);
/* Of the engine that registered here; 0: none did, or its page says what can't be. */
uint32_t slot_incarnation(const struct slot *s);
/* Fills what page and pipes know about the end: number, running task, stderr (into err, which
 * the caller releases). */
int slot_autopsy(const struct slot *s, struct death *d, struct buf *err) CV_CHECK;

#endif

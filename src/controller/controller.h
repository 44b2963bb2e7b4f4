/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The controller's one context, passed to all its parts, and what they call of each other. All of
 * it lives on the loop's thread. */
#ifndef COVEY_CONTROLLER_CONTROLLER_H
#define COVEY_CONTROLLER_CONTROLLER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/list.h"
#include "base/log.h"
#include "controller/admission.h"
#include "controller/backlog.h"
#include "controller/events.h"
#include "controller/files.h"
#include "controller/options.h"
#include "controller/registry.h"
#include "net/listener.h"
#include "net/loop.h"
#include "sched/sched.h"
#include "store/store.h"
#include "tls/tls.h"

struct traffic {
    uint64_t sent, received; /* bytes, before encryption */
};

/* A listener and those who have come through it and have not said HELLO (accept.c). */
struct door {
    struct controller *c;
    struct listener *listener;
    struct admission admission;
    struct timer *expiry; /* the next one's time is over */
    struct timer *room;   /* the listener is paused until then, or until a place is free */
    struct timer *sweep;  /* what those who have left it needed goes back to the kernel then */
    unsigned left;        /* how many have, since the last sweep */
};

/* A kind of line in the log that comes once a second at most. */
struct quiet {
    uint64_t logged;  /* when */
    uint32_t skipped; /* since then */
};

/* The last end that the controller put into words: of many that end alike each has the same. */
struct last_end {
    struct payload *words; /* NULL: none yet */
    uint8_t status;
    uint32_t engine, incarnation;
    const char *ename, *cause; /* to be compared, not to be read */
    char *evalue;
};

struct controller {
    const struct options *opt;
    struct log *log;
    struct loop *loop;
    struct files files;
    struct door unix_door, tcp_door;
    struct tls_context *tls;
    struct lane *lane;              /* of all that strangers make us do */
    struct quiet garbage, refusals; /* what strangers can fill the log with */
    struct list conns;              /* those that said HELLO, and those that are being closed */
    struct traffic traffic[ROLE_HOST + 1]; /* of ended connections, by role */
    struct registry registry;
    struct sched *sched;
    struct sched_actions actions;
    struct last_end last_end;
    struct schedlog *schedlog; /* NULL: none is written */
    struct timer *tick;        /* SCHED_TICK */
    uint64_t tick_at;
    struct store *store;
    struct timer *store_timer; /* its next turn */
    uint64_t store_at;
    struct backlog backlog;
    struct list cancels;   /* that are not done yet */
    struct list queues;    /* queue_status: those that are being answered */
    struct list handovers; /* clients that are back: what they have not been given yet */
    uint32_t memfds;       /* descriptors of buffers that are kept for peers */
    bool no_memfds;        /* one could not be taken in: they are not agreed on any more */
    struct list ack_due;   /* engines that wait for an ACK */
    struct timer *ack_timer;
    bool ack_armed;
    struct events *events;
    struct ended *ended;             /* engine sets that have ended */
    uint64_t machine, pid_namespace; /* its own */
    uint64_t started;                /* ns since 1970 */
    bool python_differs;             /* engines of several Python versions were seen */
    bool told_no_room;               /* connections had to wait for descriptors */
    bool stopping, stopped;
    bool failed;   /* it stops because memory ran out */
    bool settling; /* just started again: engines of before may not be back yet */
    struct timer *settle_timer;
    struct timer *stop_timer;
    const char *stop_reason;
};

/* What the loop runs for: makes everything, listens, writes the files. */
int controller_start(struct controller *c, const struct options *opt, struct log *log,
                     struct err *e) CV_CHECK;
/* Says BYE to everybody; the loop ends when all links are closed, or after 0.7 s. */
void controller_stop(struct controller *c, const char *reason);
void controller_release(struct controller *c);
/* cancels.c: CANCEL, some of its ids at the end of each turn. cancels_turn: true, there is more. */
void cancels_add(struct controller *c, const struct sched_event *ev);
bool cancels_turn(struct controller *c);
void cancels_release(struct controller *c);
/* True: a line may be written; ret_skipped were not. */
bool quiet_ask(struct quiet *q, uint64_t now, uint32_t *ret_skipped);

#endif

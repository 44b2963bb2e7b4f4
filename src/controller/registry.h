/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who there is: engines by number and session, hosts and clients by session. Owns the structs and
 * their strings; links and connections belong to others. Numbers count up and are never given
 * twice, except to the successor of a dead engine; one that is asked for is given if it is free.
 * No I/O. */
#ifndef COVEY_CONTROLLER_REGISTRY_H
#define COVEY_CONTROLLER_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/list.h"
#include "base/ranges.h"
#include "wire/header.h"
#include "wire/hello.h"

#define REGISTRY_DEAD_KEPT 1024 /* dead engines that are remembered with their cause */

struct conn;
struct death;

/* Items [lo, hi) that an earlier controller had sent to an engine (orphan.h). */
struct orphan {
    uint64_t session, lo, hi;
    uint16_t attempt;
    bool running;
};

enum engine_state { ENGINE_UP, ENGINE_AWAY, ENGINE_DRAINING, ENGINE_DEAD };

struct engine {
    uint32_t number, incarnation, slot;
    enum engine_state state;
    uint64_t session, host_session, machine;
    uint64_t set;     /* hello.h: engine_set */
    const char *uuid; /* as registry.uuids has it */
    char *host;
    const char *python;  /* in the allocation of host */
    uint32_t died;       /* the incarnation whose death `cause` tells */
    uint32_t pid;        /* as it says */
    uint64_t pid_start;  /* field 22 of /proc/PID/stat if the process can be seen here, else 0 */
    uint64_t away_since; /* monotonic ns */
    char *away_why;      /* away: a sentence, or NULL */
    char *cause;         /* of its last death: CAUSE as JSON text; NULL: none yet */
    struct list node;    /* registry.engines or registry.dead */

    struct conn *conn; /* its own link, or that of the host that relays it; NULL when away */
    struct list via;   /* in the relaying conn's list */
    bool relayed;      /* conn is its host's */
    bool odd;          /* live, and of another Python than registry.python */
    bool leaving;      /* it said BYE */
    bool asked;        /* it was asked to leave: its end is planned */
    bool ended;        /* dead, and its process is known to be gone */
    uint64_t connects; /* hello.h: of its newest connection */
    uint64_t results;  /* RESULTs received on this connection: what ACK tells it */
    uint64_t acked;    /* the last ACK's count */
    uint64_t unacked_bytes;
    uint32_t ran; /* items whose RESULT of user code came; what EXIT's tasks_done has beyond it died
                     unsent */
    bool counted; /* ran counts from its first task on */
    struct list ack_node; /* in controller.ack_due when it is to be told */
    uint64_t resend_left; /* RESULTs that it sends again before what it holds is compared */
    struct held_task running, *unstarted;
    struct orphan *orphans;
    uint32_t nunstarted, norphans; /* how many of these two */
    struct death *death;           /* while it is unclear whether it has died */
};

struct host {
    uint64_t session, machine;
    uint32_t pid, slots;
    char *name;
    uint64_t connects; /* hello.h */
    struct conn *conn; /* NULL when its link is lost */
    struct list node;
};

struct sent {
    uint64_t seq, bytes;
    uint32_t count;
};

struct client {
    uint64_t session;
    uint32_t pid;
    char *host;
    const char *python; /* in the allocation of host */
    uint64_t connects;  /* hello.h */
    struct conn *conn;
    struct list node;
    struct sent *sent; /* small RESULTs not acknowledged on this connection: a ring */
    uint32_t sent_head, sent_n, sent_cap;
    uint64_t acked;     /* how many of them the client has acknowledged in all */
    struct sent *named; /* large ones, which are acknowledged by their ids; in the order sent */
    uint32_t named_n, named_cap;
    struct ranges
        bulky;  /* tasks with a large OUTPUT on the way, which their RESULT must not overtake */
    bool muted; /* reads too slowly: gets no OUTPUT */
    struct ranges unknown; /* ids that WELCOME named: it sends these again */
};

struct registry {
    struct list engines, dead, hosts, clients;
    uint32_t nengines, ndead, nhosts, nclients;
    uint32_t next_number;
    char *python;                      /* of the first live engine, NULL when there is none */
    uint32_t nodd;                     /* live engines of another one */
    struct hash by_number, by_session; /* engines, dead ones too */
    struct hash host_by_session, client_by_session;
    struct hash uuids; /* {number, incarnation} -> text */
};

void registry_init(struct registry *r);
void registry_release(struct registry *r);

/* A new engine with the number it asks for if that is free, else the next one. CV_ENOMEM. */
int registry_engine_add(struct registry *r, const struct hello *h, struct engine **ret) CV_CHECK;
/* The successor of a dead engine takes over its number: the struct is the same, with a new
 * incarnation. */
int registry_engine_renew(struct registry *r, struct engine *e, const struct hello *h,
                          uint32_t incarnation) CV_CHECK;
/* What a HELLO on a new link says about an engine that is known: pid, host, what it holds. */
int registry_engine_update(struct registry *r, struct engine *e, const struct hello *h) CV_CHECK;
/* The version that all live engines run, or NULL: there is none, or several are. */
const char *registry_python(const struct registry *r);
void registry_engine_dead(struct registry *r, struct engine *e, char *cause_take);
struct engine *registry_engine(const struct registry *r, uint32_t number); /* also dead ones */
struct engine *registry_engine_by_session(const struct registry *r, uint64_t session);
const char *registry_uuid(const struct registry *r, uint32_t number,
                          uint32_t incarnation); /* NULL: never seen */
/* Live engines in the order of their numbers: malloc'ed array. NULL when out of memory or none. */
struct engine **registry_engines_sorted(const struct registry *r, uint32_t *ret_n);
/* The engine sends and holds nothing more of its former connection. */
void registry_engine_forget_held(struct engine *e);

int registry_host_add(struct registry *r, const struct hello *h, struct host **ret) CV_CHECK;
struct host *registry_host(const struct registry *r, uint64_t session);
void registry_host_del(struct registry *r, struct host *h);

int registry_client_add(struct registry *r, const struct hello *h, struct client **ret) CV_CHECK;
struct client *registry_client(const struct registry *r, uint64_t session);
void registry_client_del(struct registry *r, struct client *c);
int client_sent_push(struct client *c, struct sent s) CV_CHECK;
int client_named_push(struct client *c, struct sent s) CV_CHECK;
bool client_named_pop(struct client *c, uint64_t seq, uint32_t count, struct sent *ret);
bool client_sent_pop(struct client *c, struct sent *ret);

#endif

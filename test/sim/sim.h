/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The simulated cluster: virtual time, one seed, one scheduler under test. A controller in
 * miniature (records, links) carries the scheduler's actions to simulated engines and clients over
 * links that delay, overtake and break. The oracle sees everything. Single thread. */
#ifndef COVEY_TEST_SIM_H
#define COVEY_TEST_SIM_H

#include "base/heap.h"
#include "sched/sched.h"

#define ENGINES 12
#define CLIENTS 3
#define ITEMS 400 /* of one client, at most */
#define PRIORITIES 7
#define US 1000ull
#define MS 1000000ull

enum msg_type {
    M_SEND,
    M_TAKE,
    M_INTERRUPT,
    M_ACK,
    M_BYE,
    M_STARTED,
    M_RESULT,
    M_GIVE_BACK,
    M_HELLO
};

struct msg {
    enum msg_type type;
    struct sched_id id;
    uint32_t count;
    uint16_t attempt;
    uint8_t status;
    uint64_t run_ns, serial;
    bool ran;
    struct sched_held *held; /* HELLO: held[0] is what runs; owned */
    uint32_t nheld, nresends;
};

enum happening_type {
    H_TO_ENGINE,
    H_TO_CONTROLLER,
    H_STEP,      /* an engine's task has run its time */
    H_NOTICE,    /* the controller sees that a link is cut */
    H_RECONNECT, /* an engine tries again */
    H_EXIT,      /* a host tells of a death */
    H_KILL,
    H_JOIN,
    H_CHAOS,
    H_COME,        /* a new engine */
    H_CLIENT,      /* a client does something */
    H_SUBMIT,      /* a client's SUBMIT arrives */
    H_CANCEL,      /* likewise */
    H_WORD,        /* a terminal word arrives at a client */
    H_CLIENT_BACK, /* a client is connected again */
    H_TICK,
};

struct happening {
    struct heap_node node;
    enum happening_type type;
    uint32_t who;  /* engine or client slot */
    uint64_t life; /* engine: its life; links: the connection: of another one it never happens */
    struct msg m;
    struct submit *submit;
    enum sched_cancel how;
    uint64_t kill_after;
};

/* What a client submitted in one call. */
struct submit {
    uint64_t lo;
    uint32_t count, retries, ntargets, ndeps;
    enum sched_mode mode;
    uint32_t targets[ENGINES];
    bool has_targets;
    struct sched_range deps[4];
    uint8_t dep_flags;
    bool after, follow; /* what deps are; both: the same for each */
    double timeout;
    int32_t priority;
    int refs;
};

struct item {
    struct submit *submit;
    uint64_t run_ns;
    uint8_t fails;                                       /* of 8 runs */
    bool kills;                                          /* the engine that runs it, sometimes */
    bool unmet;                                          /* on engines with an odd number */
    bool deaf;                                           /* to interrupts */
    bool accepted, ended, interrupted, cancelled, known; /* known: the client has its result */
    uint8_t status;
    uint32_t where, runs, may_run, may_fail, errors, free_losses;
    uint64_t unmet_at; /* engines (by number, modulo 64) that said so */
    uint16_t attempt;  /* of the last SEND */
    bool sent;
};

struct client {
    uint64_t session;
    uint64_t next;
    struct item items[ITEMS];
    struct submit submits[ITEMS];
    uint32_t nsubmits;
    bool connected, paused;
    uint32_t unsent[PRIORITIES]; /* items that any engine may have and none was sent */
    uint64_t link, last_up, last_down;
};

struct held {
    struct sched_id id;
    uint32_t count;
    uint16_t attempt;
};

struct node {
    uint32_t number, incarnation;
    bool used, alive, connected;
    uint64_t life, link,
        run; /* of this process, connection, item: what is due for an earlier one never happens */
    uint64_t last_up, last_down; /* when the last message of each direction arrives */
    struct held queue[4096];
    uint32_t nqueue;
    bool running, interrupted, crashing;
    bool reordered; /* a TASK overtook another: the oldest need not have run first */
    struct held now;
    uint64_t started;
    struct held forbidden[64]; /* INTERRUPTs that came before their TASK */
    uint32_t nforbidden;
    struct msg *unacked;
    uint32_t nunacked, capunacked;
    uint64_t serial, finished; /* RESULTs made; items run to their end */
    /* the controller's side */
    bool c_connected, draining;
    uint64_t c_link;
    uint64_t c_serial, c_finished;
    uint32_t c_resends;
};

struct sim {
    uint64_t seed, rng, now, steps, max_steps, calm_at, next_life, next_link;
    struct heap heap;
    struct sched *s;
    struct sched_actions actions;
    struct node nodes[ENGINES];
    struct client clients[CLIENTS];
    uint32_t nclients, next_number;
    bool calm, healthy; /* calm: no faults at all; healthy: no more of them */
    bool even;          /* calm, and nothing but equal tasks: must be spread evenly */
    uint64_t even_ns, even_from, last_word;
    bool story;            /* print */
    struct sched_id about; /* what the story is about; session 0: everything */
    const char *broken;
    struct sched_id broken_id;
    uint64_t tick_at;
};

/* --- chance and time --- */
uint64_t sim_random(struct sim *m);
uint64_t sim_below(struct sim *m, uint64_t n);
bool sim_chance(struct sim *m, uint32_t percent);
uint64_t sim_delay(struct sim *m); /* of a message */
struct happening *sim_at(struct sim *m, uint64_t at, enum happening_type type, uint32_t who);

/* --- oracle --- */
void sim_fail(struct sim *m, struct sched_id id, const char *what);
void sim_tell(struct sim *m, struct sched_id id, uint32_t count, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
struct client *client_of(struct sim *m, uint64_t session);
struct item *sim_item(struct sim *m, struct sched_id id);

void oracle_accepted(struct client *c, struct item *it);
void oracle_send(struct sim *m, const struct sched_action *a);
void oracle_result(struct sim *m, struct sched_id id, const struct msg *g, uint32_t engine);
void oracle_deliver(struct sim *m, const struct sched_action *a);

/* --- controller --- */
void sim_event(struct sim *m, const struct sched_event *ev);
void controller_message(struct sim *m, struct node *n, struct msg *g);
void controller_submit(struct sim *m, struct client *c, struct submit *b);
bool controller_outcome(void *arg, struct sched_id id, uint8_t *status, uint32_t *engine);
void to_engine(struct sim *m, struct node *n, const struct msg *g);
void to_controller(struct sim *m, struct node *n, struct msg *g);

/* --- engines --- */
void node_message(struct sim *m, struct node *n, struct msg *g);
void node_step(struct sim *m, struct node *n);
void node_join(struct sim *m, struct node *n, uint32_t number, uint32_t incarnation);
void node_cut(struct sim *m, struct node *n);
void node_reconnect(struct sim *m, struct node *n);
void node_crash(struct sim *m, struct node *n, bool drop_link, bool known);
void node_exit(struct sim *m, struct node *n, struct msg *g);
void node_clear(struct node *n);

/* --- clients --- */
void client_act(struct sim *m, struct client *c);
void client_word(struct sim *m, struct client *c, const struct msg *g);
void client_cut(struct sim *m, struct client *c);
void sim_pause(struct sim *m, struct client *c, bool pause);
void client_reconnect(struct sim *m, struct client *c);

#endif

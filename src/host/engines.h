/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The engines of this machine: one slot for each. A slot's engine is started (forked by the zygote,
 * or as one Python process), registers, dies, is told, and may be started again under its number.
 * On the loop's thread. Owns the processes, their status pages and the host's ends of their pipes.
 *
 *   EMPTY -> ASKED -> STARTING -> UP -> (dead) EMPTY | PAUSED -> ASKED ...
 */
#ifndef COVEY_HOST_ENGINES_H
#define COVEY_HOST_ENGINES_H

#include <jansson.h>
#include "base/log.h"
#include "host/death.h"
#include "net/loop.h"
#include "proc/reap.h"

struct engines;

struct engines_config {
    uint32_t n;
    uint32_t number; /* the first slot's wish, WIRE_ENGINE_NONE: any */
    bool restart;
    bool single;          /* one Python process without a zygote */
    bool process_manager; /* it keeps the session, the environment and all descriptors */
    const char *python, *module, *host;
    json_t *params;       /* PARAMS without what differs by slot; borrowed */
    json_t *environments; /* an object {NAME: text} for each slot; borrowed */
    struct loop *loop;
    struct reaper *reaper;
    struct log *log;
    void (*registered)(void *arg, uint32_t number);
    /* d is valid during the call. last: no engine runs and none will be started. */
    void (*died)(void *arg, const struct death *d, bool last);
    void *arg;
};

int engines_new(struct engines **ret, const struct engines_config *c, struct err *e) CV_CHECK;
/* Starts warming up what can be before it is known where the controller is. */
int engines_prepare(struct engines *g, struct err *e) CV_CHECK;
/* Starts all engines; endpoint is where they register. */
int engines_start(struct engines *g, const char *endpoint, struct err *e) CV_CHECK;
/* SIGTERM to all, SIGKILL after grace_ns; died(last) follows, unless none lives now (returns
 * false). because: what is told of their ends. */
bool engines_stop(struct engines *g, uint64_t grace_ns, const char *because);
/* kill(), because: told if it dies of that. A number without a living engine is CV_ENOENT. */
int engines_signal(struct engines *g, uint32_t number, int signum, const char *because,
                   struct err *e) CV_CHECK;
void engines_signal_all(struct engines *g, int signum);
/* SIGINT to those that run user code: how many. */
uint32_t engines_interrupt(struct engines *g);
/* Ends the engine with that number if it lives (SIGTERM, after grace_ns SIGKILL) and starts another
 * one under it. */
int engines_replace(struct engines *g, uint32_t number, const char *because, uint64_t grace_ns,
                    struct err *e) CV_CHECK;
uint32_t engines_alive(const struct engines *g);
/* Calls cb with the report of each engine that died with a number and has no successor yet: for a
 * controller that is back. */
void engines_each_report(struct engines *g,
                         void (*cb)(void *arg, uint32_t number, uint32_t incarnation,
                                    const char *json),
                         void *arg);
void engines_free(
    struct engines *g); /* kills what lives, sweeps what engines left behind; NULL is fine */

#endif

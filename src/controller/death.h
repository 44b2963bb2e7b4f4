/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When an engine is dead, and why. A lost link alone never means death: that comes from its host
 * (EXIT), from the process being gone where it runs on this machine and its host can't tell any
 * more, from the supervisor whose set has ended as a whole (ended.h), or from the scheduler after
 * the grace time. A death that is told waits until the engine's
 * own link has been read to its end, so that no result that is already on the way is taken for
 * lost. */
#ifndef COVEY_CONTROLLER_DEATH_H
#define COVEY_CONTROLLER_DEATH_H

#include "controller/conn.h"
#include "wire/msg.h"

/* EXIT from a host. */
void death_exit(struct controller *c, struct host *x, const struct msg *m);
/* The engine's link is lost (it is away by now). */
void death_link_lost(struct controller *c, struct engine *e);
/* The host's link is lost: those of its engines that are known to be gone will not be told by it.
 */
void death_host_lost(struct controller *c, uint64_t host_session);
/* A set has ended: those of it that are out of reach are dead. */
void death_set_ended(struct controller *c);
/* The engine is connected again, or for good forgotten. */
void death_cancel(struct engine *e);
/* The scheduler has given it up. */
void death_gave_up(struct controller *c, struct engine *e);
/* A successor has come before the host's word on the death. */
void death_succeeded(struct controller *c, struct engine *e);

/* Field 22 of /proc/PID/stat, 0 when there is no such process (a zombie counts as none). */
uint64_t death_pid_start(uint32_t pid);
/* Signals an engine on this machine. */
int death_signal(struct controller *c, struct engine *e, int signum, struct err *err) CV_CHECK;

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * From events to the scheduler to what is done in the world: every change of a task goes through
 * act(). */
#ifndef COVEY_CONTROLLER_ACT_H
#define COVEY_CONTROLLER_ACT_H

#include "controller/conn.h"
#include "wire/msg.h"

/* Hands ev to the scheduler and does what it decides, at once. CV_EINVAL, CV_ENOMEM (with e) for
 * what it refuses; CV_ECLOSED: memory was out in the middle of it, and the controller ends. */
int act(struct controller *c, const struct sched_event *ev, struct err *e) CV_CHECK;
/* The same for events that can't be refused. */
void act_must(struct controller *c, const struct sched_event *ev);
/* After a sched_handle() elsewhere: ends the controller if the scheduler is at its end. */
void act_check(struct controller *c, int code);
/* Starts the timer for the scheduler's next deadline. At the end of each turn. */
void act_arm(struct controller *c);

/* An end that the controller decides: told to the client and recorded. */
void act_end(struct controller *c, struct sched_id id, uint32_t count, uint8_t status,
             uint32_t engine, const char *ename, const char *cause, const char *evalue);
/* What was put into words last is not used again: what it said of an engine may be another's. */
void act_forget_words(struct controller *c);
/* Sends an ended record's result to its client (once more). */
void act_hand_over(struct controller *c, struct client *x, const struct store_record *r);
/* A message to a client that is connected. How much may wait for it is for those who call this:
 * backlog.h bounds results, output_printed() what is printed. */
void act_to_client(struct client *x, const struct header *h, const void *route, uint32_t route_len,
                   struct payload *p, int flags);
/* Has the engine's host signal it, or does so itself where it can. */
int act_signal(struct controller *c, struct engine *e, int signum, struct err *err) CV_CHECK;
/* The rest of sched's options: how a task that it forgot has ended. */
bool act_outcome(void *arg, struct sched_id id, uint8_t *ret_status, uint32_t *ret_engine);

#endif

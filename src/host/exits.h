/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reports of engines' ends that wait, so that an EXIT follows whatever else came from its engine:
 * until the engine's link to the relay here has ended, or half a second has passed (a child that it
 * forked may hold the link open). Used on the loop's thread; owns the reports. */
#ifndef COVEY_HOST_EXITS_H
#define COVEY_HOST_EXITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "net/loop.h"

struct exits;

struct exits_config {
    struct loop *loop;
    /* The report goes out. Must not call back. False: for want of memory it can't, for now. */
    bool (*send)(void *arg, uint32_t number, uint32_t incarnation, const char *json);
    bool (*linked)(void *arg, uint32_t number); /* more may come from the engine */
    bool (*is_up)(void *arg);                   /* the controller hears what is sent */
    void (*settled)(void *arg);                 /* exits_look(): no report waits for its time */
    void *arg;
};

int exits_new(struct exits **ret, const struct exits_config *c) CV_CHECK;
void exits_free(struct exits *x);

/* Keeps a report and looks; sends it at once where memory is short. member: another host's, whom
 * nobody here knows when the report is lost, so it also waits until the controller hears it. */
int exits_add(struct exits *x, uint32_t number, uint32_t incarnation, const char *json, size_t len,
              bool member) CV_CHECK;
/* Sends those whose engines have nothing more to say: after a link has ended, the controller is
 * back. */
void exits_look(struct exits *x);
/* Nothing is sent from now on but by exits_flush(). */
void exits_hold(struct exits *x);
/* Sends all: their engines have nothing more to say. */
void exits_flush(struct exits *x);

#endif

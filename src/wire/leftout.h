/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Large data that a hop has no memory for (a limit of address space: ulimit -v, a batch system's
 * h_vmem). Cutting the link would have it sent again, for ever. So the hop reads it and throws it
 * away, and the message goes on without buffers, with MSG_F_LEFT_OUT; whoever has to do with its
 * content ends the task with a MemoryError: an engine a TASK, the controller a RESULT, a client its
 * own RESULT or REPLY. */
#ifndef COVEY_WIRE_LEFTOUT_H
#define COVEY_WIRE_LEFTOUT_H

#include "wire/msg.h"

/* May a message of this type go on without its data? Of a BLOB those that begin with it do. */
bool left_out_may(uint8_t type);
/* Drops what is there of its data, and marks it. header.body_len stays, for the text below. */
void left_out_mark(struct msg *m);
/* The buffer of a RESULT with RESULT_REFUSED (or a REPLY) instead of what was left out. where: who
 * had no memory, "engine 3"; no character in it needs quoting in JSON. */
int left_out_words(struct payload **ret, const struct header *h, const char *where) CV_CHECK;
/* Likewise, as the content of m itself, whose status becomes RESULT_REFUSED. */
int left_out_end(struct msg *m, const char *where) CV_CHECK;

#endif

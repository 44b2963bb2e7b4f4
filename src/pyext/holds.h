/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Python buffers that C still reads. The last reference of a payload may go on the I/O thread,
 * which must not touch Python: it only moves the hold to the list of released ones and asks for a
 * pending call; that call, or the next method call, lets go of the Py_buffers with the GIL. */
#ifndef COVEY_PYEXT_HOLDS_H
#define COVEY_PYEXT_HOLDS_H

#include <stdbool.h>
#include "pyext/module.h"
#include "wire/payload.h"

struct holds;
struct hold;

struct holds *holds_new(void);    /* NULL: out of memory */
void holds_free(struct holds *h); /* drops the owner's reference; GIL held */
/* A payload over the n views. Takes them on success. GIL held. */
int holds_payload(struct holds *h, Py_buffer *views_take, uint32_t n, struct payload **ret,
                  struct hold **ret_hold) CV_CHECK;
void hold_name(struct hold *hold, uint64_t session, uint64_t lo, uint32_t count);
/* Whether a buffer of this id is still read. */
bool holds_has(struct holds *h, uint64_t session, uint64_t seq);
void holds_drain(struct holds *h); /* GIL held */

#endif

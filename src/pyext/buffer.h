/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Buffer: one slice of a received payload as a Python object, see buffer.c. */
#ifndef COVEY_PYEXT_BUFFER_H
#define COVEY_PYEXT_BUFFER_H

#include "pyext/module.h"
#include "wire/payload.h"

/* A tuple of Buffers, one for each of the payload's (NULL: none); each holds a reference. */
PyObject *buffer_tuple(struct module_state *st, struct payload *p);

#endif

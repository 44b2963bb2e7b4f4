/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Python dicts made into the wire's structs: HELLO of both halves, the route of a TASK. With the
 * GIL. */
#ifndef COVEY_PYEXT_PYDICT_H
#define COVEY_PYEXT_PYDICT_H

#include "base/buf.h"
#include "pyext/module.h"
#include "wire/hello.h"
#include "wire/route.h"

/* Keys as in _core.pyi; absent and None: unset. Numbers may be decimal text. -1: exception set. */
int pydict_hello(PyObject *dict, struct hello *ret);
/* Appends the encoded route to out: nothing for None and {}. An unknown key is a ValueError. */
int pydict_route(PyObject *dict, struct buf *out);
/* A sequence of str as malloc'ed strings. */
int pydict_strings(PyObject *seq, char ***ret, uint32_t *ret_n);

#endif

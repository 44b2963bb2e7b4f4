/* SPDX-License-Identifier: BSD-3-Clause
 *
 * From Python to C: arguments, ids, and sequences of buffers made into payloads. All with the GIL.
 */
#ifndef COVEY_PYEXT_PYIN_H
#define COVEY_PYEXT_PYIN_H

#include "net/pool.h"
#include "pyext/holds.h"
#include "pyext/module.h"
#include "wire/payload.h"

/* Binds METH_FASTCALL|METH_KEYWORDS arguments to the n names (the first `required` must be there;
 * from `keyword_only` on by name alone). Borrowed references; absent ones are NULL. -1: exception
 * set. */
int args_bind(const char *func, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
              const char *const *names, int n, int required, int keyword_only, PyObject **out);

/* NULL leaves *ret as it is. -1: exception set. */
int arg_u64(PyObject *o, uint64_t *ret);
int arg_u32(PyObject *o, uint32_t *ret);
/* seq, or (session, seq); an int means own_session. */
int arg_id(PyObject *o, uint64_t own_session, uint64_t *ret_session, uint64_t *ret_seq);

/* Payload of a sequence of objects with the buffer protocol (NULL and empty: *ret is NULL).
 * Buffers from REGION_MIN on are copied into regions of `pool`, if that is not NULL and has room
 * for all of them; then the others are copied, too. Else: together at most PYIN_COPY_MAX bytes are
 * copied; above that the objects are referenced by a hold in `holds` (if not NULL) for the ids [lo,
 * lo + count) that the caller sets with hold_name(). */
#define PYIN_COPY_MAX (64ull << 20)
int pyin_payload(PyObject *seq, struct holds *holds, struct pool *pool, struct payload **ret,
                 struct hold **ret_hold);

#endif

/* SPDX-License-Identifier: BSD-3-Clause
 *
 * From Python to C; see pyin.h. Copies above 1 MiB are made with the GIL released (the views pin
 * the memory). On failure a Python exception is set and nothing is kept. */
#include "pyext/pyin.h"

#include <stdlib.h>
#include <string.h>
#include "pyext/bigcopy.h"
#include "wire/header.h"

#define GIL_COPY_MAX (1u << 20)
#define VIEWS_STACK 8

static int find_name(PyObject *kw, const char *const *names, int n)
{
    for (int i = 0; i < n; i++) {
        if (PyUnicode_CompareWithASCIIString(kw, names[i]) == 0)
            return i;
    }
    return -1;
}

int args_bind(const char *func, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
              const char *const *names, int n, int required, int keyword_only, PyObject **out)
{
    if (nargs > keyword_only) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments, %zd given", func,
                     keyword_only, nargs);
        return -1;
    }
    for (int i = 0; i < n; i++)
        out[i] = i < nargs ? args[i] : NULL;
    Py_ssize_t nkw = kwnames ? PyTuple_Size(kwnames) : 0;
    for (Py_ssize_t k = 0; k < nkw; k++) {
        PyObject *kw = PyTuple_GetItem(kwnames, k);
        int i = find_name(kw, names, n);
        if (i < 0 || out[i]) {
            PyErr_Format(PyExc_TypeError, i < 0 ? "%s() has no argument %R" : "%s() got %R twice",
                         func, kw);
            return -1;
        }
        out[i] = args[nargs + k];
    }
    for (int i = 0; i < required; i++) {
        if (!out[i]) {
            PyErr_Format(PyExc_TypeError, "%s() misses its argument '%s'", func, names[i]);
            return -1;
        }
    }
    return 0;
}

int arg_u64(PyObject *o, uint64_t *ret)
{
    if (!o)
        return 0;
    unsigned long long v = PyLong_AsUnsignedLongLong(o);
    if (v == (unsigned long long)-1 && PyErr_Occurred())
        return -1;
    *ret = v;
    return 0;
}

int arg_u32(PyObject *o, uint32_t *ret)
{
    uint64_t v = *ret;
    if (arg_u64(o, &v))
        return -1;
    if (v > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the number does not fit in 32 bits");
        return -1;
    }
    *ret = (uint32_t)v;
    return 0;
}

int arg_id(PyObject *o, uint64_t own_session, uint64_t *ret_session, uint64_t *ret_seq)
{
    if (!PyTuple_Check(o)) {
        *ret_session = own_session;
        return arg_u64(o, ret_seq);
    }
    if (PyTuple_Size(o) != 2) {
        PyErr_SetString(PyExc_TypeError, "an id is seq or (session, seq)");
        return -1;
    }
    return arg_u64(PyTuple_GetItem(o, 0), ret_session) || arg_u64(PyTuple_GetItem(o, 1), ret_seq)
               ? -1
               : 0;
}

static int get_view(PyObject *o, Py_buffer *view)
{
    if (!PyObject_GetBuffer(o, view, PyBUF_SIMPLE))
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_BufferError) && !PyErr_ExceptionMatches(PyExc_ValueError))
        return -1;
    PyErr_Clear(); /* Fortran order is as good: only the bytes travel */
    return PyObject_GetBuffer(o, view, PyBUF_ANY_CONTIGUOUS);
}

/* Copies without the GIL, which the views outlive. */
static void fill(struct payload *p, const Py_buffer *views)
{
    PyThreadState *ts = p->total > GIL_COPY_MAX ? PyEval_SaveThread() : NULL;
    for (uint32_t i = 0; i < p->nbufs; i++) {
        if (views[i].len)
            big_copy(p->bufs[i].data, views[i].buf, (size_t)views[i].len);
    }
    if (ts)
        PyEval_RestoreThread(ts);
}

/* CV_ENOENT: nothing here is large enough, or the pool has no room for it. */
static int pool_views(struct pool *pool, const Py_buffer *views, uint32_t n, struct payload **ret)
{
    uint64_t *lens = malloc(n * sizeof *lens);
    struct region **regions = calloc(n, sizeof *regions);
    int r = lens && regions ? CV_ENOENT : CV_ENOMEM;
    for (uint32_t i = 0; i < n && (r == CV_OK || r == CV_ENOENT); i++) {
        lens[i] = (uint64_t)views[i].len;
        if (lens[i] < REGION_MIN)
            continue;
        regions[i] = pool_get(pool, lens[i]);
        r = regions[i] ? CV_OK : CV_EAGAIN;
    }
    if (!r)
        r = payload_new_regions(ret, n, lens, regions);
    for (uint32_t i = 0; regions && i < n; i++)
        region_unref(regions[i]);
    free(regions);
    free(lens);
    if (!r)
        fill(*ret, views);
    return r == CV_EAGAIN ? CV_ENOENT : r;
}

static int copy_views(const Py_buffer *views, uint32_t n, uint64_t total, struct payload **ret)
{
    uint64_t stack[VIEWS_STACK], *lens = n <= VIEWS_STACK ? stack : malloc(n * sizeof *lens);
    if (!lens)
        return CV_ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        lens[i] = (uint64_t)views[i].len;
    int r;
    if (total <= WIRE_INLINE_MAX)
        r = payload_new_inline(ret, n, lens);
    else
        r = payload_new_large(ret, n, lens);
    if (lens != stack)
        free(lens);
    if (r)
        return r;
    fill(*ret, views);
    return CV_OK;
}

static int no_memory(void)
{
    PyErr_NoMemory();
    return -1;
}

int pyin_payload(PyObject *seq, struct holds *holds, struct pool *pool, struct payload **ret,
                 struct hold **ret_hold)
{
    *ret = NULL;
    if (ret_hold)
        *ret_hold = NULL;
    if (!seq)
        return 0;
    Py_ssize_t n = PySequence_Size(seq);
    if (n <= 0)
        return n ? -1 : 0;
    if (n > (Py_ssize_t)WIRE_BUFFERS_MAX) {
        PyErr_Format(PyExc_ValueError, "%zd buffers; a message takes at most %d", n,
                     WIRE_BUFFERS_MAX);
        return -1;
    }
    Py_buffer stack[VIEWS_STACK],
        *views = n <= VIEWS_STACK ? stack : malloc((size_t)n * sizeof *views);
    if (!views)
        return no_memory();
    int r = -1;
    Py_ssize_t got = 0;
    uint64_t total = 0;
    for (; got < n; got++) {
        PyObject *o = PySequence_GetItem(seq, got);
        int bad = !o || get_view(o, &views[got]);
        Py_XDECREF(o);
        if (bad)
            goto out;
        total += (uint64_t)views[got].len;
    }
    if (total + (uint64_t)n * 8 > WIRE_BODY_MAX) {
        PyErr_Format(PyExc_ValueError, "%llu bytes; a message takes at most %llu",
                     (unsigned long long)total, (unsigned long long)WIRE_BODY_MAX);
        goto out;
    }
    r = pool && total >= REGION_MIN ? pool_views(pool, views, (uint32_t)n, ret) : CV_ENOENT;
    if (r != CV_ENOENT) {
        ;
    } else if (total > PYIN_COPY_MAX && holds) {
        r = holds_payload(holds, views, (uint32_t)n, ret, ret_hold);
        if (!r)
            got = 0; /* the hold has them */
    } else {
        r = copy_views(views, (uint32_t)n, total, ret);
    }
    if (r)
        r = no_memory();
out:
    while (got > 0)
        PyBuffer_Release(&views[--got]);
    if (views != stack)
        free(views);
    return r;
}

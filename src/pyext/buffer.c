/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The Buffer type: a writable view on one slice of a payload. Holds a reference of the payload, or
 * of the slice's region alone, so the memory lives as long as any view on it (arrays made from it
 * included). Holds no Python
 * objects, so it is no business of the cycle collector. Any thread with the GIL. */
#include "pyext/buffer.h"

struct buffer {
    PyObject ob_base;
    struct payload *payload; /* NULL: all that is needed of it is the slice's region */
    struct slice slice;
};

static void buffer_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    struct buffer *b = (struct buffer *)self;
    if (b->payload)
        payload_unref(b->payload);
    else
        region_unref(b->slice.region);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static int buffer_get(PyObject *self, Py_buffer *view, int flags)
{
    struct buffer *b = (struct buffer *)self;
    return PyBuffer_FillInfo(view, self, b->slice.data, (Py_ssize_t)b->slice.len, 0, flags);
}

static Py_ssize_t buffer_len(PyObject *self)
{
    return (Py_ssize_t)((struct buffer *)self)->slice.len;
}

static PyObject *buffer_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<covey Buffer of %zd bytes>", buffer_len(self));
}

PyObject *buffer_tuple(struct module_state *st, struct payload *p)
{
    uint32_t n = p ? p->nbufs : 0;
    PyObject *t = PyTuple_New(n);
    if (!t)
        return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(st->buffer_type, Py_tp_alloc);
    for (uint32_t i = 0; i < n; i++) {
        struct buffer *b = (struct buffer *)alloc(st->buffer_type, 0);
        if (!b) {
            Py_DECREF(t);
            return NULL;
        }
        b->slice = p->bufs[i];
        if (!region_ref(b->slice.region))
            b->payload = payload_ref(p);
        PyTuple_SetItem(t, i, (PyObject *)b);
    }
    return t;
}

static PyType_Slot buffer_slots[] = {
    {Py_tp_dealloc, buffer_dealloc},
    {Py_tp_repr, buffer_repr},
    {Py_sq_length, buffer_len},
    {Py_bf_getbuffer, buffer_get},
    {Py_tp_doc, "Received memory: memoryview(b), writable, freed with its last view."},
    {0, NULL},
};

PyType_Spec buffer_spec = {
    .name = "covey._core.Buffer",
    .basicsize = sizeof(struct buffer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = buffer_slots,
};

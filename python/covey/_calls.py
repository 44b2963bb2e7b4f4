# SPDX-License-Identifier: BSD-3-Clause
"""Calls whose function is worth sending once: ``lv.apply_async(f, i)`` in a loop, chunks of a map.

Such a call has the function's stream (with that of a leading argument that is a function as well) as a buffer of its
own, in front; the links below send equal ones once. Bytes are what is shared: each task unpickles its own function,
defaults and closure, and what function and arguments have in common is one object there as it is here.
"""
from __future__ import annotations

import io
import pickle
import types
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from . import _byvalue, serialize

APPLY, CALL = 0, 3    # kinds of task
SHARED_MIN = 4 << 10  # LINK_BLOB_MIN: a smaller stream is sent with each call
SHARED_MAX = 8 << 20  # HEAD_MAX: a larger one has buffers that should lie beside it
_KNOWN_MAX = 1024

# By the id of a code object (or type), which is held here: 0 if such a function was worth it when it was called last,
# else the size of that call.
_known: dict[int, tuple[Any, int]] = {}


def _key(f: Any) -> Any:
    """What tells one function from others over many calls, though its closure may be another each time."""
    while type(f) is partial:
        f = f.func
    return getattr(f, "__code__", None) or type(f)


def pack_call(f: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> tuple[int, serialize.Packed]:
    """(kind of task, its buffers); raises as `serialize.pack_apply` does."""
    lead = 1 if args and type(args[0]) is types.FunctionType else 0
    small = -1  # not known
    if _known:
        small = _known.get(id(_key(args[0] if lead else f)), (None, -1))[1]
    if small:
        packed = serialize.pack_apply(f, args, kwargs)
        if len(packed) == 1 and len(packed[0]) < SHARED_MIN or serialize._dumper is serialize._dump_dill:
            return APPLY, packed
        size = _size(packed)
        if size < max(SHARED_MIN, 2 * small):
            return APPLY, packed
        if not SHARED_MIN <= _size(serialize._dumper((f, tuple(args[:lead])))) <= SHARED_MAX:
            _note(f, args, lead, size)
            return APPLY, packed
    shared = _pack_shared(f, args, kwargs or {}, lead)
    worth = shared is not None and SHARED_MIN <= len(shared[0]) <= SHARED_MAX
    if shared is not None:
        _note(f, args, lead, 0 if worth else _size(shared))
        if worth:
            return CALL, shared
    return APPLY, serialize.pack_apply(f, args, kwargs)  # or it says what can't travel


def _pack_shared(f: Any, args: Sequence[Any], kwargs: Mapping[str, Any], lead: int) -> serialize.Packed | None:
    large = serialize._large
    rest = tuple([large(a) for a in args[lead:]]), {k: large(v) for k, v in kwargs.items()}
    try:
        return serialize._dumper(rest, (f, tuple(args[:lead])))
    except Exception:  # any: __reduce__ is user code
        return None


def _size(packed: serialize.Packed) -> int:
    return sum([len(b) for b in packed])


def _note(f: Any, args: Sequence[Any], lead: int, size: int) -> None:
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    key = _key(args[0] if lead else f)
    _known[id(key)] = key, size


def unpack_call(buffers: Sequence[Any], ns: dict) -> tuple[Any, tuple, dict]:
    """(f, args, kwargs) of a CALL; like `serialize.unpack_apply`."""
    context = _byvalue.context
    before = context.ns
    context.ns = ns
    try:
        unpickler = pickle.Unpickler(io.BytesIO(b"".join(buffers[:2])), buffers=iter(buffers[2:]))
        f, first = unpickler.load()
        args, kwargs = unpickler.load()
        return f, first + args, kwargs
    finally:
        context.ns = before

# SPDX-License-Identifier: BSD-3-Clause
"""Values packed by themselves, under the names that programs know from ipyparallel: `can`, `uncan`, `serialize_object`.

Tasks do not need this module. It serves programs that store or send packed values themselves, and those that teach
ipyparallel a type of their own:

>>> can_map[Matrix] = CannedMatrix                 # a function or class: what it gives travels instead
>>> uncan_map[CannedMatrix] = lambda canned, ns: canned.get_object(ns)

An entry of `can_map` holds for tasks, too. Engines need the class, and the entry of `uncan_map` unless the class has `get_object`.
"""
from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import serialize
from ._byvalue import MAIN
from .serialize import Reference, can_map, uncan_map, use_cloudpickle, use_dill, use_pickle

__all__ = [
    "CannedObject", "CannedArray", "CannedBuffer", "CannedByteArray", "CannedBytes", "CannedClass", "CannedFunction", "CannedMemoryView",
    "CannedPartial", "Reference", "can", "can_class", "can_dict", "can_map", "can_sequence", "deserialize_object", "istype",
    "pack_apply_message", "serialize_object", "uncan", "uncan_dict", "uncan_map", "uncan_sequence", "unpack_apply_message", "use_cloudpickle",
    "use_dill", "use_pickle",
]


class CannedObject:
    """A value as one pickle stream; `buffers` are its large parts, which may travel beside it.

    A type of one's own derives from this one and overrides `get_object`.
    """

    def __init__(self, obj: Any) -> None:
        stream, *self.buffers = serialize.pack_value(obj)
        self.stream: bytes = bytes(stream)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "buffers": [bytes(b) if isinstance(b, memoryview) else b for b in self.buffers]}

    def get_object(self, g: dict | None = None) -> Any:
        """The value; functions of ``__main__`` get `g` as globals."""
        return serialize.unpack_value([self.stream, *map(_writable, self.buffers)], g)


class CannedFunction(CannedObject):
    """A function: its code, where it can't be imported."""


class CannedClass(CannedObject):
    """A class of ``__main__``, with its bases there."""


class CannedPartial(CannedObject):
    """A `functools.partial`."""

    def __init__(self, obj: functools.partial) -> None:
        large = serialize._large
        keywords = {k: large(v) for k, v in obj.keywords.items()}
        CannedObject.__init__(self, (obj.func, tuple([large(a) for a in obj.args]), keywords))

    def get_object(self, g: dict | None = None) -> functools.partial:
        """The partial."""
        function, args, keywords = CannedObject.get_object(self, g)
        return functools.partial(function, *args, **keywords)


class CannedArray(CannedObject):
    """A NumPy array: dtype and shape, and its memory as a buffer (arrays of objects are pickled)."""

    def __init__(self, obj: Any) -> None:
        import numpy

        self.dtype, self.shape = obj.dtype, obj.shape
        if obj.dtype.hasobject:
            CannedObject.__init__(self, obj)
        else:
            self.buffers = [memoryview(numpy.ascontiguousarray(obj).reshape(-1).view(numpy.uint8)) if obj.size else memoryview(b"")]

    def get_object(self, g: dict | None = None) -> Any:
        """The array, writable."""
        import numpy

        if self.dtype.hasobject:
            return CannedObject.get_object(self, g)
        return numpy.frombuffer(_writable(self.buffers[0]), dtype=self.dtype).reshape(self.shape)


class CannedBytes(CannedObject):
    """Bytes: the value is its buffer."""

    kind: type = bytes

    def __init__(self, obj: Any) -> None:
        self.buffers = [obj]

    def get_object(self, g: dict | None = None) -> Any:
        """The value."""
        return self.kind(self.buffers[0])


CannedBuffer = CannedBytes


class CannedByteArray(CannedBytes):
    """A bytearray."""

    kind = bytearray


class CannedMemoryView(CannedBytes):
    """A memoryview; it comes back as one of bytes."""

    kind = memoryview

    def __init__(self, obj: memoryview) -> None:
        self.buffers = [obj.cast("B") if obj.c_contiguous else memoryview(obj.tobytes())]


_KINDS: dict[type, type[CannedObject]] = {
    types.FunctionType: CannedFunction, functools.partial: CannedPartial, bytes: CannedBytes, bytearray: CannedByteArray,
    memoryview: CannedMemoryView}


def istype(obj: Any, check: Any) -> bool:
    """Whether `obj` is exactly of this type, or of one of these (subclasses don't count)."""
    return type(obj) in check if isinstance(check, (tuple, list, set, frozenset)) else type(obj) is check


def can(obj: Any) -> Any:
    """Packs what pickle can't take, or would copy, as a `CannedObject`; in lists, tuples, sets and dicts, too. All else stays."""
    t = type(obj)
    if t in can_map:
        return can_map[t](obj)
    if t in _KINDS:
        return _KINDS[t](obj)
    if t is dict:
        return can_dict(obj)
    if t in (list, tuple, set, frozenset):
        return can_sequence(obj)
    if isinstance(obj, type):
        return can_class(obj)
    if t.__name__ == "ndarray" and t.__module__ == "numpy":
        return CannedArray(obj)
    return CannedObject(obj) if t.__module__ in MAIN else obj


def can_class(obj: type) -> Any:
    """A class of ``__main__`` packed; another one as it is."""
    return CannedClass(obj) if obj.__module__ in MAIN else obj


def can_dict(obj: dict) -> dict:
    """A dict with its values packed."""
    return {k: can(v) for k, v in obj.items()}


def can_sequence(obj: Any) -> Any:
    """A list, tuple or set with its items packed."""
    return type(obj)([can(item) for item in obj])


def uncan(obj: Any, g: dict | None = None) -> Any:
    """The value of `can`; functions of ``__main__`` get `g` as globals."""
    t = type(obj)
    if t in uncan_map:
        return uncan_map[t](obj, g)
    if isinstance(obj, CannedObject):
        return obj.get_object(g)
    if t is dict:
        return uncan_dict(obj, g)
    return uncan_sequence(obj, g) if t in (list, tuple, set, frozenset) else obj


def uncan_dict(obj: dict, g: dict | None = None) -> dict:
    """The dict of `can_dict`."""
    return {k: uncan(v, g) for k, v in obj.items()}


def uncan_sequence(obj: Any, g: dict | None = None) -> Any:
    """The list, tuple or set of `can_sequence`."""
    return type(obj)([uncan(item, g) for item in obj])


def _canned_in(obj: Any) -> Iterator[CannedObject]:
    """The packed parts, in an order that is the same at both ends."""
    if isinstance(obj, CannedObject):
        yield obj
    elif type(obj) in (list, tuple, dict):
        for item in obj.values() if type(obj) is dict else obj:
            yield from _canned_in(item)


def serialize_object(obj: Any, buffer_threshold: int = 1024, item_threshold: int = 64) -> list:
    """One pickle stream and the buffers that are larger than `buffer_threshold` bytes.

    item_threshold : accepted; buffers are found however many items there are

    >>> len(serialize_object(np.ones(9999)))
    2
    """
    canned = can(obj)
    beside: list[Any] = []
    for part in _canned_in(canned):
        for i, buffer in enumerate(part.buffers):
            if memoryview(buffer).nbytes > buffer_threshold:
                beside.append(buffer)
                part.buffers[i] = None
            else:
                part.buffers[i] = bytes(buffer)
    stream = serialize.pack_value(canned)
    return [stream[0] if len(stream) == 1 else serialize._inline(stream), *beside]


def deserialize_object(buffers: Sequence[Any], g: dict | None = None) -> tuple[Any, list]:
    """(object, buffers that are left) of `serialize_object`."""
    canned = serialize.unpack_value(buffers[:1], g)
    left = list(buffers[1:])
    for part in _canned_in(canned):
        for i, buffer in enumerate(part.buffers):
            if buffer is None:
                part.buffers[i] = left.pop(0)
    return uncan(canned, g), left


def _writable(buffer: Any) -> Any:
    return bytearray(buffer) if memoryview(buffer).readonly else buffer


def pack_apply_message(f: Any, args: Sequence[Any], kwargs: Mapping[str, Any], buffer_threshold: int = 1024, item_threshold: int = 64) -> list:
    """The buffers of a call, as views send it. The thresholds are accepted: covey has its own."""
    return serialize.pack_apply(f, args, kwargs)


def unpack_apply_message(buffers: Sequence[Any], g: dict | None = None, copy: bool = True) -> tuple[Any, tuple, dict]:
    """(f, args, kwargs) of `pack_apply_message`."""
    return serialize.unpack_apply(buffers, {} if g is None else g)

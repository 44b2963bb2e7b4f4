# SPDX-License-Identifier: BSD-3-Clause
"""The commonest call, ``apply_async(f, i)``, put together from bytes that are there already.

A function of ``__main__`` that has no closure and no state of its own is, for pickle, determined by a few immutable objects: its
code, names, defaults. Its opcodes are kept under these (they are compared by identity, and held, so an id can't be another's); the
arguments' opcodes follow. That is one valid pickle stream, as the pickler itself would write it: the arguments are numbers, truth
values, None and at most one text, so their opcodes refer to nothing written before.
"""
from __future__ import annotations

import pickle
import types
from collections.abc import Callable, Sequence
from typing import Any

_KNOWN_MAX = 1024
_FRAGMENT_MAX = 4 << 10
_TEXT_MAX = 1 << 10
_ATOMS = frozenset({int, float, bool, type(None)})
_CONSTANTS = _ATOMS | {str, bytes}
_PROTO, _FRAME = b"\x80\x05", 0x95
_TAIL = b"}\x87."  # no keyword arguments; the tuple of three; stop

# By the code's id: the objects that determine the stream, and its opcodes.
_known: dict[int, tuple[types.CodeType, Any, str, str, str | None, bytes]] = {}


def _opcodes(stream: bytes) -> bytes:
    """A stream of one frame without its header and its end."""
    return stream[11:-1] if stream[2] == _FRAME else stream[2:-1]


def _of_function(f: types.FunctionType, dump: Callable[[Any], Sequence[Any]]) -> bytes | None:
    code = f.__code__
    known = _known.get(id(code))
    if known is not None and known[1] is f.__defaults__ and known[2] is f.__name__ and known[3] is f.__qualname__ \
            and known[4] is f.__doc__:
        return known[5]
    if any(type(d) not in _CONSTANTS for d in f.__defaults__ or ()):
        return None
    packed = dump(f)
    if len(packed) != 1 or len(packed[0]) > _FRAGMENT_MAX:
        return None
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    _known[id(code)] = (code, f.__defaults__, f.__name__, f.__qualname__, f.__doc__, _opcodes(packed[0]))
    return _known[id(code)][5]


def plain_call(f: Any, args: Sequence[Any], dump: Callable[[Any], Sequence[Any]]) -> bytes | None:
    """The stream of ``(f, args, {})``, or None where the pickler has to look; dump(f) gives a function's buffers."""
    if type(f) is not types.FunctionType or f.__module__ != "__main__" or f.__closure__ or f.__kwdefaults__ \
            or f.__dict__ or f.__annotations__:
        return None
    texts = 0
    for a in args:
        if type(a) not in _ATOMS:
            if type(a) is not str or texts or len(a) > _TEXT_MAX:
                return None
            texts = 1
    opcodes = _of_function(f, dump)
    if opcodes is None:
        return None
    return b"".join((_PROTO, opcodes, _opcodes(pickle.dumps(tuple(args), 5)), _TAIL))

# SPDX-License-Identifier: BSD-3-Clause
"""Which part of a call can't be packed: it is tried part by part, once packing the whole has failed."""
from __future__ import annotations

import pickle
import types
from collections.abc import Iterable, Sequence
from typing import Any, Callable

DEPTH = 12

Dump = Callable[[Any], Any]


def refusal(error: Exception, parts: Iterable[tuple[str, Any]], dump: Dump) -> Exception:
    """The error to raise for `error`, with the path of the smallest part that `dump` refuses. parts: what was packed, by name."""
    path = next((_find(obj, name, dump) for name, obj in parts if _fails(obj, dump)), None)
    if path is None:
        return error
    kind = type(error) if type(error) in (TypeError, AttributeError, pickle.PicklingError) else pickle.PicklingError
    advice = ". Send what it is made from, and make it on the other side" if "cannot pickle" in str(error) else ""
    return kind(f"can't send {path}: {error}{advice}")


def refused_item(error: Exception, f: Any, numbers: Sequence[int], parts: Sequence[Sequence[Any]], dump: Dump) -> Exception:
    """For a call of a map that could not be packed: names the item by its number in the map, not by its place in the message.

    parts : of each of the map's sequences the part that the call has; numbers : of the items in it
    """
    if error.__cause__ is None or not str(error).startswith("can't send"):
        return error
    items = ((f"item {n}, argument {k}", v) for k, part in enumerate(parts) for n, v in zip(numbers, part))
    named = refusal(error.__cause__, [("the function", f), *items], dump)  # type: ignore[arg-type]
    if named is error.__cause__:  # it is none of these
        return error
    named.__cause__ = error.__cause__
    return named


def _fails(obj: Any, dump: Dump) -> bool:
    try:
        dump(obj)
    except Exception:  # any: __reduce__ is user code
        return True
    return False


def _find(obj: Any, path: str, dump: Dump, depth: int = 0) -> str:
    for name, part in _parts(obj, path) if depth < DEPTH else ():
        if _fails(part, dump):
            return _find(part, name, dump, depth + 1)
    return path


def _parts(obj: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(obj, dict):
        return [(f"{path}[{k!r}]", v) for k, v in obj.items()]
    if isinstance(obj, (list, tuple)):
        return [(f"{path}[{i}]", v) for i, v in enumerate(obj)]
    if isinstance(obj, types.FunctionType):
        return _parts_of_function(obj, path)
    if isinstance(obj, (type, types.ModuleType)) or _says_itself(obj):
        return ()
    return [(f"{path}.{k}", v) for k, v in getattr(obj, "__dict__", {}).items()]


def _parts_of_function(f: types.FunctionType, path: str) -> Iterable[tuple[str, Any]]:
    cells = zip(f.__code__.co_freevars, f.__closure__ or ())
    names = f.__code__.co_varnames[:f.__code__.co_argcount]
    return [*((f"{path}'s variable {n!r}", c.cell_contents) for n, c in cells if _filled(c)),
            *((f"{path}'s default {n!r}", v) for n, v in zip(reversed(names), reversed(f.__defaults__ or ())))]


def _says_itself(obj: Any) -> bool:
    """Its class tells how it is packed, or why it is not."""
    return isinstance(type(obj).__reduce__, types.FunctionType)


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents
    except ValueError:
        return False
    return True

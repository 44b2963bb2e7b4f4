# SPDX-License-Identifier: BSD-3-Clause
"""How Python values travel: objects to lists of buffers and back.

What is packed becomes a list of bytes-like objects: one pickle stream (protocol 5) and behind it the
large buffers that the stream names (numpy arrays, bytes, memoryviews from 8 KiB up, at no copy).

What travels how:

=============================== ===========================================================
a function of a module          by name: the engine imports it
a function of ``__main__``      by value: code, defaults, closure; on the engine its globals are
(notebook, script), a lambda,   the engine's namespace, so ``v['a'] = 5; v.apply(lambda: a)`` is 5
anything ``@interactive``
a class of ``__main__``         by value, unless the receiver's ``__main__`` defines that name itself
arrays, bytes, memoryview       as they lie in memory; received arrays are always writable
all else                        by pickle, or by cloudpickle where pickle can't
=============================== ===========================================================

Nothing live is ever cached: every task unpickles its own function, defaults, closure and arguments.
How functions and classes are taken apart and put together is in `_byvalue`. All functions may be called from any thread.
"""
from __future__ import annotations

import io
import json
import pickle
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable

from ._byvalue import (
    CACHED, MAIN, OUT_OF_BAND, PROTOCOL, by_name, context, fill_main_class, main_class, reduce_array, reduce_cached,
    reduce_function, reduce_memoryview, with_slots,
)
from . import _culprit
from ._culprit import refusal
from ._plaincall import plain_call

if TYPE_CHECKING:
    from .canning import can, deserialize_object, pack_apply_message, serialize_object, uncan, unpack_apply_message  # noqa: F401

__all__ = [
    "Packed", "PrePickled", "Reference", "pack_apply", "unpack_apply", "pack_value", "unpack_value", "pack_map",
    "unpack_map", "pack_values", "unpack_values", "pack_error", "resolve_references", "use_pickle",
    "use_cloudpickle", "use_dill", "interactive", "can", "uncan", "can_map", "uncan_map", "serialize_object",
    "deserialize_object", "pack_apply_message", "unpack_apply_message",
]

_CANNING = frozenset({"can", "uncan", "serialize_object", "deserialize_object", "pack_apply_message", "unpack_apply_message"})

can_map: dict[Any, Callable[[Any], Any]] = {}         # types that programs pack their own way (canning)
uncan_map: dict[Any, Callable[[Any, Any], Any]] = {}

BUFFERS_MAX = 60_000      # buffers beside a stream; a message takes 65,535
EXCEPTION_MAX = 64 << 10  # a pickled exception larger than this stays at home


class Packed(list):
    """The buffers of one packed object.

    ``by_value`` tells that a function's code is in it, so the receiver needs the same Python x.y;
    ``shared``: how many of its first buffers other tasks are likely to have as well.
    """

    __slots__ = ("by_value",)
    by_value: bool
    shared = 0


class SharedPacked(Packed):
    """Its first buffer is a function's stream, which links send once (if it is large enough to be worth it)."""

    __slots__ = ()
    shared = 1


class PrePickled:
    """A value that is pickled once, now, and sent as those bytes each time it is used.

    >>> big = PrePickled({"weights": [1, 2, 3]})
    >>> view.apply(f, big)                          # f gets the dict
    """

    def __init__(self, obj: Any) -> None:
        self.buffers = [bytes(b) for b in pack_value(obj)]

    def __reduce__(self) -> tuple:
        return _unpack_prepickled, tuple(self.buffers)


def _unpack_prepickled(*buffers: bytes) -> Any:
    return _loads([buffers[0], *map(bytearray, buffers[1:])], context.ns)


class Reference:
    """Names a value in the engine's namespace: ``Reference("x")`` as an argument is the engine's own x.

    expr : str
        any expression; it is evaluated on the engine. Allowed as the function, as an argument and
        inside lists, tuples and dicts.

    >>> v["a"] = 5
    >>> v.apply_sync(lambda x: x + 1, Reference("a"))
    [6, 6]
    """

    __slots__ = ("name",)

    def __init__(self, expr: str) -> None:
        if not isinstance(expr, str):
            raise TypeError(f"Reference takes the text of an expression, not {type(expr).__name__}")
        self.name = expr

    def __repr__(self) -> str:
        return f"<Reference: {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Reference, self.name))

    def __reduce__(self) -> tuple:
        return _reference, (self.name,)


def _reference(name: str) -> Any:
    """A reference becomes its value where a namespace is given (on engines) and itself elsewhere."""
    ns = context.ns
    return Reference(name) if ns is None else eval(name, ns)


def resolve_references(args: Sequence[Any], kwargs: Mapping[str, Any], ns: dict) -> tuple[list, dict]:
    """Replaces references among arguments that did not come through `unpack_apply` (which resolves its own)."""
    def one(x: Any) -> Any:
        return eval(x.name, ns) if isinstance(x, Reference) else x
    return [one(a) for a in args], {k: one(v) for k, v in kwargs.items()}


def interactive(f: Callable) -> Callable:
    """Makes a module's function behave as if typed at the prompt: by value, with the engine's globals.

    >>> @ipp.interactive
    ... def f(x):
    ...     return a * x          # the engine's `a`
    """
    if isinstance(f, types.FunctionType):
        main = sys.modules["__main__"].__dict__
        g = types.FunctionType(f.__code__, main, f.__name__, f.__defaults__, f.__closure__)
        g.__kwdefaults__ = f.__kwdefaults__
        g.__annotations__ = f.__annotations__
        g.__dict__.update(f.__dict__)
        g.__doc__ = f.__doc__
        f = g
    f.__module__ = "__main__"
    return f


# ---------------------------------------------------------------- the pickler


class _NeedCloud(Exception):
    """A class must travel by value: start again with the pickler that knows how."""


class _Large:
    """Bytes that should travel beside the stream (pickle itself would copy them into it)."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data

    def __reduce__(self) -> tuple:
        return type(self.data), (pickle.PickleBuffer(self.data),)


def _large(x: Any) -> Any:
    t = type(x)
    if (t is bytes or t is bytearray) and len(x) >= OUT_OF_BAND:
        return _Large(x)
    return x


def _large_within(x: Any) -> Any:
    """Like `_large`, one level deep: for pushed dicts and lists of pulled values."""
    t = type(x)
    if t is bytes or t is bytearray:
        return _large(x)
    if t is dict and len(x) <= 64:
        return {k: _large(v) for k, v in x.items()}
    if (t is list or t is tuple) and len(x) <= 64:
        return t([_large(v) for v in x])
    return x


def _reduce_by_map(obj: Any) -> Any:
    """A type of `can_map`: what its function gives travels, and is uncanned where it arrives."""
    canned = can_map[type(obj)](obj)
    return NotImplemented if canned is obj else (_uncan, (canned,))


def _uncan(canned: Any) -> Any:
    from .canning import uncan

    return uncan(canned, context.ns)


class _Pickler(pickle.Pickler):
    by_value = False

    def reducer_override(self, obj: Any) -> Any:
        t = type(obj)
        if t is types.FunctionType:
            if by_name(obj):
                return NotImplemented
            self.by_value = True
            return reduce_function(obj)
        if t is memoryview:
            return reduce_memoryview(obj)
        if t is CACHED:
            return reduce_cached(obj)
        if t.__name__ == "ndarray" and t.__module__ == "numpy":
            return reduce_array(obj)
        if isinstance(obj, type) and obj.__module__ in MAIN:
            raise _NeedCloud
        return _reduce_by_map(obj) if t in can_map else NotImplemented


def _cloud_pickler() -> type:
    """The pickler for what plain pickle can't: cloudpickle's with the same rules for functions first."""
    global _CloudPickler
    if _CloudPickler is None:
        import cloudpickle

        class CloudPickler(cloudpickle.Pickler):
            by_value = False

            def reducer_override(self, obj: Any) -> Any:
                t = type(obj)
                if t is types.FunctionType:
                    if by_name(obj):
                        return NotImplemented
                    self.by_value = True
                    return reduce_function(obj)
                if t is memoryview:
                    return reduce_memoryview(obj)
                if t is CACHED:
                    return reduce_cached(obj)
                if t.__name__ == "ndarray" and t.__module__ == "numpy":
                    return reduce_array(obj)
                if t in can_map:
                    return _reduce_by_map(obj)
                r = super().reducer_override(obj)
                if isinstance(obj, type) and isinstance(r, tuple):
                    self.by_value = True
                    if obj.__module__ in MAIN and len(r) == 6:
                        make, args, state, _, _, fill = r
                        return main_class, (obj.__qualname__, make, with_slots(obj, args)), (state, fill), None, None, fill_main_class
                return r

        _CloudPickler = CloudPickler
    return _CloudPickler


_CloudPickler: type | None = None


def _dump(kind: type, obj: Any, head: Any = None) -> Packed:
    """One stream, then the large buffers. With `head` its stream comes first, all its bytes inside; both are one
    pickler's, so what they have in common is one object for the receiver too."""
    packed = Packed() if head is None else SharedPacked()
    packed.append(None)
    inside = head is not None

    def beside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if inside or raw.nbytes < OUT_OF_BAND or len(packed) > BUFFERS_MAX:
            return True
        packed.append(raw)
        return False

    out = io.BytesIO()
    pickler = kind(out, PROTOCOL, buffer_callback=beside)
    if head is not None:
        pickler.dump(head)
        packed[0] = out.getvalue()
        packed.append(None)
        inside = False
        out.seek(0)
        out.truncate()
    pickler.dump(obj)
    packed[packed.shared] = out.getvalue()
    packed.by_value = pickler.by_value
    return packed


def _dump_default(obj: Any, head: Any = None) -> Packed:
    try:
        return _dump(_Pickler, obj, head)
    except Exception:  # any: __reduce__ is user code
        return _dump(_cloud_pickler(), obj, head)


def _dump_cloudpickle(obj: Any, head: Any = None) -> Packed:
    import cloudpickle

    class Plain(cloudpickle.Pickler):
        by_value = True
    return _dump(Plain, obj, head)


def _dump_dill(obj: Any) -> Packed:
    import dill  # type: ignore[import-not-found]

    packed = Packed([dill.dumps(obj, protocol=PROTOCOL)])
    packed.by_value = True
    return packed


def _dill_loads(data: Any, **kwargs: Any) -> Any:
    """dill gives functions globals by a name that only dill knows; the rest it reads as pickle does."""
    import dill  # type: ignore[import-not-found]

    return dill.loads(data, **kwargs)


_dumper: Callable[..., Packed] = _dump_default


def use_pickle() -> None:
    """Back to covey's own way (pickle, code by value, cloudpickle where needed). See `use_cloudpickle`."""
    global _dumper
    _dumper = _dump_default


def use_cloudpickle() -> None:
    """Packs all with cloudpickle: functions carry the globals that they use.

    Switches this process alone; `DirectView.use_cloudpickle` does it on engines too.
    """
    global _dumper
    import cloudpickle  # noqa: F401  (fail here, not at the first task)
    _dumper = _dump_cloudpickle


def use_dill() -> None:
    """Packs all with dill (``pip install dill``). Switches this process alone."""
    global _dumper
    import dill  # type: ignore[import-not-found]  # noqa: F401
    _dumper = _dump_dill


def _loads(buffers: Sequence[Any], ns: dict | None) -> Any:
    before = context.ns
    context.ns = ns
    loads = pickle.loads if _dumper is not _dump_dill else _dill_loads
    try:
        if len(buffers) == 1:
            return loads(buffers[0])
        return loads(buffers[0], buffers=buffers[1:])
    finally:
        context.ns = before


# ---------------------------------------------------------------- calls and values

_SIMPLE = frozenset({int, float, bool, complex, str, type(None)})


def _is_plain(f: Any, args: Sequence[Any]) -> bool:
    """Pickle itself does right by this call: nothing in it needs the pickler's hook."""
    for a in args:
        if type(a) not in _SIMPLE:
            return False
    t = type(f)
    return t is types.FunctionType and by_name(f) or t is types.BuiltinFunctionType and isinstance(
        f.__self__, types.ModuleType)


def pack_apply(f: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Packed:
    """Packs a call. Raises TypeError or PicklingError that names the part that can't travel (``args[1]['lock']``)."""
    if not kwargs and _dumper is _dump_default:
        stream = plain_call(f, args, _dump_default)
        by_value = stream is not None
        if stream is None and _is_plain(f, args):
            stream = pickle.dumps((f, tuple(args), {}), PROTOCOL)
        if stream is not None:
            packed = Packed((stream,))
            packed.by_value = by_value
            return packed
    args = tuple([_large(a) for a in args])
    kwargs = {k: _large(v) for k, v in kwargs.items()} if kwargs else {}
    try:
        return _dumper((f, args, kwargs))
    except Exception as e:
        parts = [("the function", f), *((f"args[{i}]", a) for i, a in enumerate(args)),
                 *((f"kwargs[{k!r}]", v) for k, v in kwargs.items())]
        raise refusal(e, parts, _dumper) from e


def unpack_apply(buffers: Sequence[Any], ns: dict) -> tuple[Any, tuple, dict]:
    """(f, args, kwargs) of a packed call; functions by value get `ns` as globals, references their values in it."""
    return _loads(buffers, ns)


def pack_value(obj: Any) -> Packed:
    """Packs one value."""
    if type(obj) in _SIMPLE and _dumper is _dump_default:  # the same stream, without a pickler of ours
        packed = Packed((pickle.dumps(obj, PROTOCOL),))
        packed.by_value = False
        return packed
    try:
        return _dumper(_large_within(obj))
    except Exception as e:
        raise refusal(e, [("the value", obj)], _dumper) from e


def unpack_value(buffers: Sequence[Any], ns: dict | None = None) -> Any:
    """The value of `pack_value`. Without `ns` functions by value get this process's ``__main__``."""
    return _loads(buffers, ns)



def _pack_items(streams: Iterable[Sequence[Any]], first: list) -> Packed:
    """One stream that names the items' streams, then all their buffers; `first` goes in front."""
    index: list[Any] = []
    rest: list[Any] = []
    by_value = False
    for s in streams:
        by_value = by_value or getattr(s, "by_value", False)
        if len(s) == 1:
            index.append(s[0])
        elif len(rest) + len(s) > BUFFERS_MAX:
            index.append(_inline(s))
        else:
            index.append((s[0], len(s) - 1))
            rest += s[1:]
    packed = (SharedPacked if first else Packed)([*first, pickle.dumps(tuple([_plain(e) for e in index]), PROTOCOL), *rest])
    packed.by_value = by_value
    return packed


def _plain(entry: Any) -> Any:
    if type(entry) is bytes:
        return entry
    if type(entry) is tuple:
        return bytes(entry[0]), entry[1]
    return bytes(entry)


def _item_buffers(buffers: Sequence[Any]) -> Iterator[Sequence[Any]]:
    at = 1
    for entry in pickle.loads(buffers[0]):
        if type(entry) is tuple:
            stream, n = entry
            yield [stream, *buffers[at:at + n]]
            at += n
        else:
            yield (entry,)


def refused_item(error: Exception, f: Any, numbers: Sequence[int], parts: Sequence[Sequence[Any]]) -> Exception:
    """The error of a map's call that could not be packed, with the number of the item that is at fault (see `_culprit`)."""
    return _culprit.refused_item(error, f, numbers, parts, _dumper)


def pack_map(f: Any, items: Iterable[tuple], first: int = 0) -> Packed:
    """Packs one function and a range of calls: `items` are the tuples of their positional arguments, `first` the number of the first."""
    try:
        function = _dumper(f)
    except Exception as e:
        raise refusal(e, [("the function", f)], _dumper) from e
    if len(function) > 1:  # its buffers would have no place: inline them
        function = Packed([_inline(function)])
        function.by_value = True
    simple, dumps = _SIMPLE, pickle.dumps

    def streams() -> Iterator[Sequence[Any]]:
        for i, args in enumerate(items):
            if all([type(a) in simple for a in args]):
                yield (dumps(args, PROTOCOL),)
                continue
            try:
                yield _dumper(tuple([_large(a) for a in args]))
            except Exception as e:
                raise refusal(e, ((f"item {first + i}, argument {k}", a) for k, a in enumerate(args)), _dumper) from e

    packed = _pack_items(streams(), [function[0]])
    packed.by_value = packed.by_value or function.by_value
    return packed


def _inline(packed: Sequence[Any]) -> bytes:
    """One stream with the buffers inside."""
    return pickle.dumps(_Inlined([bytes(b) for b in packed]), PROTOCOL)


class _Inlined:
    def __init__(self, buffers: list[bytes]) -> None:
        self.buffers = buffers

    def __reduce__(self) -> tuple:
        return _unpack_prepickled, tuple(self.buffers)


def unpack_map(buffers: Sequence[Any], ns: dict) -> Iterator[tuple[Any, tuple]]:
    """(f, args) of each item in turn, unpickled as it is asked for, the function anew each time."""
    function = buffers[:1]
    for item in _item_buffers(buffers[1:]):
        yield _loads(function, ns), _loads(item, ns)


def pack_item(buffers: Sequence[Any], i: int) -> Packed:
    """The call of one item of `pack_map`'s, as a range of one."""
    item = list(_item_buffers(buffers[1:]))[i]
    return _pack_items([[bytes(b) for b in item]], [bytes(buffers[0])])


def pack_values(values: Iterable[Sequence[Any]]) -> Packed:
    """The RESULT of a range: joins what `pack_value` gave for each of its items, in order."""
    return _pack_items(values, [])


def unpack_values(buffers: Sequence[Any], ns: dict | None = None) -> list:
    """The values of `pack_values`, in order."""
    return [_loads(item, ns) for item in _item_buffers(buffers)]


def split_values(buffers: Sequence[Any]) -> list[Sequence[Any]]:
    """The packed values of `pack_values`, each for `unpack_value`."""
    return list(_item_buffers(buffers))


def pack_error(exc: BaseException, engine_info: Mapping[str, Any], tb_lines: Sequence[str]) -> list[bytes]:
    """An exception for `error.unpack_error`: JSON for people, then the exception itself if it can travel.

    engine_info : {"engine_uuid", "engine_id", "method"}
    tb_lines : the formatted traceback
    """
    try:
        evalue = str(exc)
    except Exception as e:
        evalue = f"<no text: str() raised {type(e).__name__}>"
    body = {"ename": type(exc).__name__, "evalue": evalue, "traceback": [str(t) for t in tb_lines],
            "engine_info": dict(engine_info)}
    buffers = [json.dumps(body, default=str).encode("utf-8", "backslashreplace")]
    try:
        stream = _dumper(exc)
        if len(stream) == 1 and len(stream[0]) <= EXCEPTION_MAX:
            buffers.append(stream[0])
    except Exception:
        pass  # people still get name, text and traceback
    return buffers


def __getattr__(name: str) -> Any:
    """The names of `canning`, which engines can do without."""
    if name in _CANNING:
        from . import canning

        return getattr(canning, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

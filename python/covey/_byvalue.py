# SPDX-License-Identifier: BSD-3-Clause
"""What travels by value, in both directions: how a pickler takes functions, classes, arrays and views apart (``reduce_…``), and what
the receiver's unpickler calls to put them together. Which of these is used when is `serialize`'s matter.

Code objects and their bytes are the only things that are kept here; nothing live is. Any thread.
"""
from __future__ import annotations

import functools
import marshal
import os
import pickle
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

PROTOCOL = 5
OUT_OF_BAND = 8 << 10       # buffers from this size on travel beside the stream
CAPTURE_WARNING = 1 << 20   # a function that carries more than this is worth a word
PYTHON = (sys.version_info.major << 8) | sys.version_info.minor

MAIN = ("__main__", "__mp_main__")
_CODE_CACHE = 4096

# ---------------------------------------------------------------- code objects

_code_bytes: dict[int, tuple[types.CodeType, bytes]] = {}  # by id; the strong reference keeps the id true
_code_objects: dict[bytes, types.CodeType] = {}


def _dump_code(code: types.CodeType) -> bytes:
    hit = _code_bytes.get(id(code))
    if hit is not None:
        return hit[1]
    blob = marshal.dumps(code, 2)  # version 4 depends on reference counts: not the same bytes twice
    if len(_code_bytes) >= _CODE_CACHE:
        _code_bytes.clear()
    _code_bytes[id(code)] = (code, blob)
    return blob


def _load_code(blob: bytes) -> types.CodeType:
    code = _code_objects.get(blob)
    if code is None:
        code = marshal.loads(blob)
        if len(_code_objects) >= _CODE_CACHE:
            _code_objects.clear()
        _code_objects[blob] = code
    return code


def _global_names(code: types.CodeType, into: set[str]) -> set[str]:
    into.update(code.co_names)
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            _global_names(c, into)
    return into


# ---------------------------------------------------------------- what the receiver calls


class _Context(threading.local):
    ns: dict | None = None  # the namespace that functions by value get


context = _Context()
_received: "weakref.WeakSet[type]" = weakref.WeakSet()  # classes that came by value


def _function(python: int, blob: bytes, name: str, ncells: int = 0, module: str | None = None,
              globs: dict | None = None) -> types.FunctionType:
    """A function by value; its cells are empty until `_fill_function`."""
    if python != PYTHON:
        raise TypeError(
            f"the function {name!r} travelled as Python {python >> 8}.{python & 255} code and this is Python "
            f"{PYTHON >> 8}.{PYTHON & 255}; put it in a module that both can import, or send a string of code")
    if module is None:
        g = context.ns
        if g is None:
            g = sys.modules["__main__"].__dict__
    elif globs is None:
        __import__(module)
        g = sys.modules[module].__dict__
    elif module in sys.modules:
        g = sys.modules[module].__dict__
    else:
        g = globs
        g.setdefault("__name__", module)
        g.setdefault("__builtins__", __builtins__)
    cells = tuple([types.CellType() for _ in range(ncells)]) if ncells else None
    f = types.FunctionType(_load_code(blob), g, name, None, cells)
    f.__module__ = module or "__main__"
    return f


def _fill_function(f: types.FunctionType, state: tuple) -> None:
    defaults, kwdefaults, cells, annotations, doc, attrs, qualname, globs = state
    f.__defaults__ = defaults
    f.__kwdefaults__ = kwdefaults
    for cell, value in zip(f.__closure__ or (), cells):
        if value is not _Empty:
            cell.cell_contents = value
    if annotations:
        f.__annotations__ = annotations
    f.__doc__ = doc
    if attrs:
        f.__dict__.update(attrs)
    f.__qualname__ = qualname
    if globs:
        for name, value in globs.items():
            f.__globals__.setdefault(name, value)


class _Empty:
    """Stands for the content of a cell that has none."""


def _lookup_main(qualname: str) -> Any:
    ns = context.ns
    obj: Any = (sys.modules["__main__"].__dict__ if ns is None else ns).get(qualname.split(".")[0])
    for part in qualname.split(".")[1:]:
        obj = getattr(obj, part, None)
    return obj


def main_class(qualname: str, make: Callable, args: tuple) -> type:
    """A class of the sender's `__main__`: the receiver's own of that name, else one made from what was sent."""
    have = _lookup_main(qualname)
    if isinstance(have, type) and have not in _received:
        return have
    cls = make(*args)
    _received.add(cls)
    return cls


def fill_main_class(cls: type, state: tuple) -> None:
    """Gives a class that was made here what was sent for it; the receiver's own keeps what it has."""
    if cls in _received:
        state[1](cls, state[0])


def _memoryview(buf: Any, fmt: str, shape: tuple) -> memoryview:
    m = memoryview(buf).cast("B")
    return m if fmt == "B" and len(shape) == 1 else m.cast(fmt, shape)  # type: ignore[call-overload]


# ---------------------------------------------------------------- what the sender takes apart


def reduce_memoryview(m: memoryview) -> tuple:
    """As a buffer that pickle need not copy where it is contiguous."""
    data: Any = m if m.c_contiguous else m.tobytes()
    return _memoryview, (pickle.PickleBuffer(data), m.format, m.shape)


class _Borrowed:
    """Shows a read-only array's memory as writable, so that the receiver's copy is. Nothing writes here."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__array_interface__ = dict(array.__array_interface__,
                                        data=(array.__array_interface__["data"][0], False))


def reduce_array(a: Any) -> Any:
    """A NumPy array such that its copy can be written and large ones go without a copy; NotImplemented where NumPy's own way does that."""
    if a.dtype.hasobject:
        return NotImplemented
    if a.nbytes < OUT_OF_BAND:
        return NotImplemented if a.flags.writeable else a.copy().__reduce_ex__(PROTOCOL)
    if not (a.flags.c_contiguous or a.flags.f_contiguous):
        return a.copy(order="C").__reduce_ex__(PROTOCOL)
    if not a.flags.writeable:
        numpy = sys.modules["numpy"]
        a = numpy.asarray(_Borrowed(a)).view(a.dtype)
        return a.__reduce_ex__(PROTOCOL)
    return NotImplemented


def _installed(module: types.ModuleType | None) -> bool:
    """Engines can import this module as well: it belongs to Python or to an installed package."""
    file = getattr(module, "__file__", None)
    return module is not None and (
        file is None or "site-packages" in file or "dist-packages" in file
        or file.startswith((sys.base_prefix, sys.prefix)))


_warned: dict[int, tuple[types.CodeType, set[str]]] = {}  # by the code's id, which is held


def _warn_capture(f: types.FunctionType, name: str, value: Any) -> None:
    """Once for a function's variable, however often it is packed: a call may try several ways."""
    size = getattr(value, "nbytes", None)
    if not isinstance(size, int):
        size = sys.getsizeof(value, 0)
    if size <= CAPTURE_WARNING:
        return
    if len(_warned) >= _CODE_CACHE:
        _warned.clear()
    names = _warned.setdefault(id(f.__code__), (f.__code__, set()))[1]
    if name not in names:
        warnings.warn(
            f"the function {f.__qualname__!r} carries {name!r} ({size / 2**20:.0f} MiB) with each task; "
            f"push it once (view.push({{{name!r}: …}})) and pass Reference({name!r})", stacklevel=_callers_level())
        names.add(name)  # not where the warning is made an error


def _callers_level() -> int:
    """The stacklevel of the program's line: the first that is not covey's."""
    here = os.path.dirname(__file__)
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == here:
        frame, level = frame.f_back, level + 1
    return level


def reduce_function(f: types.FunctionType) -> tuple:
    """A function by value: its code, defaults, closure, and the globals that it uses unless it is of `__main__` or of an installed module."""
    code = f.__code__
    module: str | None = f.__module__
    globs = None
    if module is None or module in MAIN:
        module = None
    elif not _installed(sys.modules.get(module)):
        globs = {n: f.__globals__[n] for n in _global_names(code, set()) if n in f.__globals__}
    closure = f.__closure__
    cells: tuple = ()
    if closure:
        values = []
        for name, cell in zip(code.co_freevars, closure):
            try:
                values.append(cell.cell_contents)
            except ValueError:
                values.append(_Empty)
            else:
                _warn_capture(f, name, values[-1])
        cells = tuple(values)
    args: tuple = (PYTHON, _dump_code(code), f.__name__)
    if closure or module:
        args += (len(cells), module)
        if globs is not None:
            args += ({},)
    if (closure is None and f.__defaults__ is None and f.__kwdefaults__ is None and not globs
            and not f.__dict__ and not f.__annotations__ and f.__qualname__ == f.__name__
            and f.__doc__ is _code_doc(code)):
        return _function, args
    if f.__defaults__:
        names = code.co_varnames[:code.co_argcount][-len(f.__defaults__):]
        for name, value in zip(names, f.__defaults__):
            _warn_capture(f, name, value)
    state = (f.__defaults__, f.__kwdefaults__, cells, f.__annotations__, f.__doc__, f.__dict__ or None,
             f.__qualname__, globs)
    return _function, args, state, None, None, _fill_function


def with_slots(cls: type, args: tuple) -> tuple:
    """What cloudpickle makes a class from, and its slots: where they are ordinary attributes, an instance can't go back to
    the class that has them."""
    slots = cls.__dict__.get("__slots__")
    if not slots or len(args) != 6:  # none: a NamedTuple, which lets nobody set them; more: an Enum
        return args
    kind, name, bases, namespace, *rest = args
    return kind, name, bases, {**namespace, "__slots__": slots}, *rest


CACHED = type(functools.lru_cache(len))  # what functools' caches make of a function: pickle would write its name alone


def reduce_cached(f: Any) -> Any:
    """A cached function like the one in it; its cache is empty where it arrives, for each task."""
    return NotImplemented if by_name(f) else (_cached, (f.__wrapped__, f.cache_parameters()))


def _cached(f: Callable, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(f)


def _code_doc(code: types.CodeType) -> str | None:
    first = code.co_consts[0] if code.co_consts else None
    return first if isinstance(first, str) else None


def by_name(f: Any) -> bool:
    """The receiver can import this function."""
    module = f.__module__
    if module is None or module in MAIN:
        return False
    obj: Any = sys.modules.get(module)
    qualname = f.__qualname__
    if "." not in qualname:
        return getattr(obj, qualname, None) is f
    for part in qualname.split("."):
        obj = getattr(obj, part, None)
    return obj is f

# SPDX-License-Identifier: BSD-3-Clause
"""What can go wrong, as exceptions.

An exception raised on an engine arrives as a `RemoteError`, several at once as a `CompositeError`.
Both can be caught as what they were there:

>>> try:
...     view.apply_sync(lambda: 1 / 0)
... except ZeroDivisionError as e:          # e is a RemoteError as well
...     print(e.engine_info["engine_id"], e.original)
"""
from __future__ import annotations

import builtins
import importlib.util
import json
import pickle
import re
import sys
import traceback as _traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, NoReturn

TimeoutError = builtins.TimeoutError

__all__ = [
    "IPythonError", "KernelError", "EngineError", "NoEnginesRegistered", "TaskAborted", "TaskTimeout", "LostTask",
    "TaskRefused", "ResultExpired", "NoData", "UnmetDependency", "ImpossibleDependency", "DependencyTimeout", "InvalidDependency", "RemoteError",
    "CompositeError", "AlreadyDisplayedError", "TaskRejectError", "TimeoutError", "CancelledError",
    "collect_exceptions", "wrap_exception", "unwrap_exception", "unpack_error",
]


class IPythonError(Exception):
    """Base of all that covey raises for reasons of its own."""


class KernelError(IPythonError):
    """Something about engines or tasks."""


class EngineError(KernelError):
    """An engine died, or there is none of that number; the text says why."""


class NoEnginesRegistered(KernelError):
    """The call needs an engine and there is none."""


class TaskAborted(KernelError):
    """The task was taken from the queue by ``abort()`` before it started."""


class TaskTimeout(KernelError):
    """The task did not start within its ``timeout``."""


class LostTask(KernelError):
    """The controller lost the task and it could not be sent again."""


class TaskRefused(KernelError):
    """The controller did not take the task: no such engine, another Python version, a limit."""


class ResultExpired(KernelError, KeyError):
    """The controller kept the result for a while and does not have it any more; docs/records.md says how long."""


class NoData(KernelError):
    """The controller keeps no records (``--nodb``), or can't read them now."""


class TaskRejectError(KernelError):
    """An engine would not run the task."""


class UnmetDependency(KernelError):
    """Raised on an engine by a dependency that does not hold there; the task goes to another engine."""


class ImpossibleDependency(UnmetDependency):
    """The dependency can't be met any more."""


class DependencyTimeout(ImpossibleDependency):
    """The dependency was not met in time."""


class InvalidDependency(ImpossibleDependency):
    """The dependency names a task that does not exist."""


# Types that are not mixed in: they mean something to the caller's own machinery, or (the last two) are shown by what they hold.
_NEVER_MIXED = (StopIteration, StopAsyncIteration, builtins.TimeoutError, CancelledError, AttributeError, SyntaxError, BaseExceptionGroup)
_mixed: dict[tuple[type, type], type] = {}


def _mix(base: type, kind: type | None) -> type:
    """A subclass of `base` that `except kind` catches."""
    if (kind is None or not issubclass(kind, Exception) or issubclass(kind, _NEVER_MIXED) or issubclass(base, kind)
            or kind is Exception):
        return base
    if issubclass(kind, RemoteError):
        return base
    cls = _mixed.get((base, kind))
    if cls is None:
        try:
            cls = type(base.__name__, (base, kind), {"__module__": base.__module__, "_base": base,
                                                     "__doc__": base.__doc__})
        except Exception:  # layouts that don't go together, a class that wants no subclasses
            cls = base
        if len(_mixed) < 1024:
            _mixed[base, kind] = cls
    return cls


def _made(base: type, kind: type | None, *args: Any) -> Any:
    """An error of `base` that `except kind` catches, unless a class of that kind can't be made or set up like this."""
    try:
        return _mix(base, kind)(*args)
    except Exception:  # any: __new__ and __setattr__ are user code
        return base(*args)


def _known(ename: str) -> type | None:
    """The exception class of that name in Python or here."""
    kind = globals().get(ename) or getattr(builtins, ename, None)
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else None


def _hint(ename: str, evalue: str) -> str | None:
    """What to do about errors that have a usual remedy."""
    if ename == "TaskRefused" and ("of Python" in evalue or "runs Python" in evalue):
        return ("Code travels as bytecode, which differs between Python versions. Put the function into a module that engines can import, "
                "or send its text: `view.execute(...)`; or run this program with the engines' Python.")
    quoted = evalue.split("'")
    name = quoted[1] if len(quoted) > 2 else ""
    if ename == "NameError" and name:
        main = sys.modules["__main__"].__dict__
        if name not in main or name.startswith("__"):  # __file__: the engine's would be another
            return None
        value = main[name]
        if isinstance(value, type(sys)):
            what = value.__name__ if value.__name__ == name else f"{value.__name__} as {name}"
            return (f"{name!r} is imported here, not on the engine. Import it there: `%px import {what}`, or "
                    f"`with view.sync_imports(): import {value.__name__}`, or inside the function.")
        return (f"{name!r} exists here, not on the engine. Send it: `view.push({{{name!r}: {name}}})`, or pass it as "
                f"an argument, or let functions carry what they use: `view.use_cloudpickle()`.")
    if ename in ("ModuleNotFoundError", "ImportError") and name:
        try:
            spec = importlib.util.find_spec(name.split(".")[0])
        except (ImportError, ValueError, AttributeError):
            spec = None
        if spec is None:
            return None
        where = spec.origin or ", ".join(spec.submodule_search_locations or ()) or "this Python"
        return (f"{name!r} can be imported here ({where}), not on the engine: install it there, or let engines look "
                f"where you do: `rc[:].sync_path()`.")
    return None


class RemoteError(KernelError):
    """An exception raised on an engine.

    ename, evalue : str
        its type's name and its text; also ``args``
    traceback : str
        the engine's traceback
    engine_info : dict
        ``{"engine_uuid", "engine_id", "method"}``
    original : BaseException or None
        the engine's exception object, if it could travel
    cause : dict or None
        of an `EngineError`: why the engine died (signal, code, stderr, …)

    It can be pickled, and caught by the type it had on the engine.
    """

    _base: type

    def __init__(self, ename: str, evalue: str, traceback: str | Sequence[str] = "",
                 engine_info: Mapping[str, Any] | None = None) -> None:
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback if isinstance(traceback, str) else "\n".join(traceback)
        self.engine_info: dict[str, Any] = dict(engine_info or {})
        self.args = (ename, evalue)
        self.original: BaseException | None = None
        self.cause: dict[str, Any] | None = None

    @property
    def hint(self) -> str | None:
        """What to do, for errors that have a usual remedy."""
        return _hint(self.ename, self.evalue)

    def __reduce__(self) -> tuple:
        return _remake, (self.ename, self.evalue, self.traceback, self.engine_info, self.cause, _kept(self.original))

    def _where(self) -> str:
        info = self.engine_info
        if info.get("engine_id") is None:
            return "[Engine Exception]"
        return f"[{info['engine_id']}:{info.get('method', '')}]"

    def __str__(self) -> str:
        text = f"{self._where()} {self.ename}: {self.evalue}"
        hint = self.hint
        return f"{text}\n{hint}" if hint else text

    def __repr__(self) -> str:
        engine = self.engine_info.get("engine_id")
        at = f"[{engine}]" if engine is not None else ""
        return f"<RemoteError{at}:{self.ename}({self.evalue})>"

    def render_traceback(self) -> list[str]:
        """The engine's traceback as lines, under one that names the engine."""
        lines = [self._where()] + (self.traceback.splitlines() if self.traceback else [f"{self.ename}: {self.evalue}"])
        hint = self.hint
        return lines + [hint] if hint else lines

    _render_traceback_ = render_traceback  # asked for by IPython

    def print_traceback(self, excid: int | None = None) -> None:
        """Prints the engine's traceback."""
        print("\n".join(self.render_traceback()))


def _kept(original: BaseException | None) -> bytes | None:
    if original is None:
        return None
    try:
        return pickle.dumps(original)
    except Exception:
        return None


def _remake(ename: str, evalue: str, traceback: str, engine_info: dict, cause: dict | None = None,
            original: bytes | None = None) -> RemoteError:
    exc: BaseException | None = None
    if original is not None:
        from .serialize import unpack_value

        try:
            value = unpack_value([original])
            exc = value if isinstance(value, BaseException) else None
        except Exception:
            pass  # its class is not known here: name and text must do
    kind = type(exc) if exc is not None else _known(ename)
    error = _made(RemoteError, kind, ename, evalue, traceback, engine_info)
    error.original = exc
    error.cause = cause
    return error


def unpack_error(buffers: Sequence[Any]) -> RemoteError:
    """The RemoteError of a failed task's buffers (docs/protocol.md: JSON, then perhaps the exception)."""
    body = json.loads(bytes(buffers[0]))
    info = body.get("engine_info")
    if info is None:
        info = {"engine_uuid": None, "engine_id": body.get("engine"), "method": body.get("method", "")}
    cause = body.get("cause")
    evalue = body.get("evalue") or ""
    if isinstance(cause, dict):
        text = cause.get("text")
        if text and text not in evalue:
            evalue = f"{evalue}: {text}" if evalue else text
        stderr = (cause.get("stderr") or "").rstrip()
        if stderr:
            evalue += "\nlast lines of its stderr:\n" + "\n".join("    " + s for s in stderr.splitlines()[-12:])
    return _remake(body.get("ename") or "KernelError", evalue, "\n".join(body.get("traceback") or ()), info,
                   cause if isinstance(cause, dict) else None, bytes(buffers[1]) if len(buffers) > 1 else None)


def _as_tuple(error: RemoteError) -> tuple[str, str, str, dict]:
    return error.ename, error.evalue, error.traceback, error.engine_info


def _as_error(entry: Any) -> RemoteError:
    if isinstance(entry, RemoteError):
        return entry
    ename, evalue, traceback, info = entry
    return _remake(ename, evalue, traceback, info or {})


# What differs between engines although the error is the same: numbers of cells (colours may stand around them), addresses of objects.
_PASSING = re.compile(r"(?<=In\[)\d+(?=\])|(?<=<ipython-input-)\d+(?=-)|(?<= at )0x[0-9a-f]{6,}")


def likeness(error: RemoteError) -> tuple[str, str, str]:
    """Equal for errors that read alike, whichever engine they are of."""
    return error.ename, _PASSING.sub("", error.evalue), _PASSING.sub("", error.traceback)


_RUN = 4       # so many engines in a row are a range: 0-3
_PLACES = 100  # ranges and engines named in front of a traceback


def _ranges(numbers: Sequence[int]) -> list[str]:
    """Sorted numbers as texts: '0-15', or each by itself where few follow one another."""
    texts: list[str] = []
    at = 0
    while at < len(numbers):
        end = at + 1
        while end < len(numbers) and numbers[end] == numbers[end - 1] + 1:
            end += 1
        if end - at >= _RUN:
            texts.append(f"{numbers[at]}-{numbers[end - 1]}")
        else:
            texts += [str(n) for n in numbers[at:end]]
        at = end
    return texts


def _places(errors: Sequence[RemoteError]) -> str:
    """Where they were raised: '[0-15:execute]'."""
    engines: dict[str, set[int]] = {}
    for e in errors:
        if isinstance(e.engine_info.get("engine_id"), int):
            engines.setdefault(str(e.engine_info.get("method", "")), set()).add(e.engine_info["engine_id"])
    places = [f"{text}:{method}" for method, numbers in engines.items() for text in _ranges(sorted(numbers))]
    if not places:
        places = [errors[0]._where()[1:-1]]
    if len(places) > _PLACES:
        places[_PLACES:] = [f"… and {len(places) - _PLACES} more"]
    return f"[{', '.join(places)}]"


def _unnamed(errors: Sequence[RemoteError]) -> int:
    """How many of these errors `_places` does not name: all but one for each engine."""
    return len(errors) - len({(e.engine_info.get("method"), e.engine_info.get("engine_id")) for e in errors})


class CompositeError(RemoteError):
    """What several engines or tasks raised in one call.

    elist : list of (ename, evalue, traceback, engine_info)
    ``e.raise_exception(i)`` raises the i-th alone; equal ones are shown once.
    If all are of one type, ``except`` of that type catches this too.
    """

    tb_limit = 4  # how many different tracebacks are shown

    def __new__(cls, msg: str = "", elist: Sequence[Any] = ()) -> "CompositeError":
        kinds = {_kind_of(e) for e in elist}
        kind = kinds.pop() if len(kinds) == 1 else None
        mixed = _mix(cls, kind) if cls is CompositeError else cls
        # OSError must make its own; MemoryError's would make nothing but a MemoryError
        for new in (super(CompositeError, mixed).__new__, BaseException.__new__):
            try:
                return new(mixed)
            except Exception:  # any: it may be user code
                continue
        return super().__new__(cls)

    def __init__(self, msg: str = "", elist: Sequence[Any] = ()) -> None:
        self.msg = msg
        self.errors = [_as_error(e) for e in elist]
        self.elist = [_as_tuple(e) for e in self.errors]
        RemoteError.__init__(self, "CompositeError", msg, "", {})
        self.args = (msg, self.elist)

    def __reduce__(self) -> tuple:
        return CompositeError, (self.msg, self.errors)

    def __len__(self) -> int:
        return len(self.errors)

    def _groups(self) -> list[list[RemoteError]]:
        groups: dict[tuple, list[RemoteError]] = {}
        for e in self.errors:
            groups.setdefault(likeness(e), []).append(e)
        return list(groups.values())

    def __str__(self) -> str:
        groups = self._groups()
        lines = [self.msg]
        lines += [f"{_places(g)}: {g[0].ename}: {g[0].evalue}" for g in groups[:self.tb_limit]]
        lines += self._more(groups)
        hints = dict.fromkeys(g[0].hint for g in groups[:self.tb_limit])
        return "\n".join(lines + [hint for hint in hints if hint])

    def _more(self, groups: list[list[RemoteError]]) -> list[str]:
        """What the lines before have not named: whole groups, and of a group all but one for each engine."""
        hidden: dict[str, int] = {}
        for i, group in enumerate(groups):
            n = _unnamed(group) if i < self.tb_limit else len(group)
            if n:
                hidden[group[0].ename] = hidden.get(group[0].ename, 0) + n
        kinds = f" ({', '.join(f'{n} {ename}' for ename, n in hidden.items())})" if len(hidden) > 1 else ""
        return [f"... {sum(hidden.values())} more exceptions{kinds} ..."] if hidden else []

    def __repr__(self) -> str:
        return f"CompositeError({len(self.errors)})"

    def render_traceback(self, excid: int | None = None) -> list[str]:
        """The tracebacks as lines, equal ones once; of the `excid`-th exception alone if given."""
        if excid is not None:
            return self._pick(excid).render_traceback()
        groups = self._groups()
        lines: list[str] = []
        for group in groups[:self.tb_limit]:
            lines.append(_places(group))
            lines += [*group[0].render_traceback()[1:], ""]
        return lines[:-1] + self._more(groups)

    def _render_traceback_(self) -> list[str]:
        return self.render_traceback()

    def print_traceback(self, excid: int | None = None) -> None:
        """Prints the tracebacks, or the one of the `excid`-th exception."""
        print("\n".join(self.render_traceback(excid)))

    def _pick(self, excid: int) -> RemoteError:
        try:
            return self.errors[excid]
        except IndexError:
            raise IndexError(f"there is no exception {excid}: this error holds {len(self.errors)}") from None

    def raise_exception(self, excid: int = 0) -> NoReturn:
        """Raises the `excid`-th exception alone."""
        raise self._pick(excid)


def _kind_of(entry: Any) -> type | None:
    """The type that this error alone can be caught by."""
    e = _as_error(entry)
    kind = type(e.original) if e.original is not None else _known(e.ename)
    return kind if kind is not None and isinstance(e, kind) else None


class AlreadyDisplayedError(RemoteError):
    """Raised by ``%px`` for errors whose output has been shown as it came."""

    def __init__(self, original_error: RemoteError) -> None:
        self.original_error = original_error
        self.n = len(getattr(original_error, "errors", ())) or 1
        RemoteError.__init__(self, original_error.ename, original_error.evalue, original_error.traceback,
                             original_error.engine_info)

    def __reduce__(self) -> tuple:
        return AlreadyDisplayedError, (self.original_error,)

    def __repr__(self) -> str:
        return f"<AlreadyDisplayedError: {self.n} error{'s' if self.n != 1 else ''}>"

    __str__ = __repr__

    def render_traceback(self) -> list[str]:
        """One line: the tracebacks have been shown."""
        return [f"{self.n} error{'s' if self.n != 1 else ''}"]

    _render_traceback_ = render_traceback


def collect_exceptions(results: Any, method: str = "unspecified") -> Any:
    """Returns results (a list or a dict of them), or raises a CompositeError if exceptions are among them."""
    values = list(results.values()) if isinstance(results, Mapping) else list(results)
    errors = [v for v in values if isinstance(v, BaseException)]
    if not errors:
        return results
    remote = [e if isinstance(e, RemoteError) else _wrap_local(e) for e in errors]
    flat = [x for e in remote for x in (e.errors if isinstance(e, CompositeError) else [e])]
    raise CompositeError(f"one or more exceptions raised in: {method}", flat)


def _wrap_local(exc: BaseException) -> RemoteError:
    error = _made(RemoteError, type(exc), type(exc).__name__, str(exc), "".join(_traceback.format_exception(exc)), {})
    error.original = exc
    return error


def wrap_exception(engine_info: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The exception that is being handled, as a dict for JSON; `unwrap_exception` makes a RemoteError of it."""
    kind, value, tb = sys.exc_info()
    return {"status": "error", "ename": kind.__name__ if kind else "", "evalue": str(value),
            "traceback": _traceback.format_exception(kind, value, tb), "engine_info": dict(engine_info or {})}


def unwrap_exception(content: Mapping[str, Any]) -> RemoteError:
    """The RemoteError of `wrap_exception`'s dict."""
    return _remake(content["ename"], content["evalue"], "".join(content.get("traceback") or ()),
                   dict(content.get("engine_info") or {}))

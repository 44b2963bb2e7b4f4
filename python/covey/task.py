# SPDX-License-Identifier: BSD-3-Clause
"""One task as its client sees it: its id, what is known about it, its result once it is asked for.

A Task is shared by all AsyncResults that show it. Its RESULT is taken off the C side on first need
and unpickled in the thread that asks. Metadata is made when somebody looks.
"""
from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
import traceback
import types
from typing import TYPE_CHECKING, Any

from . import error, serialize
from .util import from_ns

if TYPE_CHECKING:
    from ._tasktable import TaskTable

__all__ = ["Metadata", "ExecuteReply", "Task"]

# Numbers of src/wire/header.h.
TASK, RESULT, OUTPUT, COMM, CANCEL, EVENT, BYE = 3, 5, 7, 8, 9, 15, 24
APPLY, EXECUTE, MAP, CALL = 0, 1, 2, 3
DIRECT, BROADCAST, SILENT, LATE, KILL, ABORT = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6
OK, FAILED, ABORTED, CANCELLED = 0, 1, 2, 3
ENGINE_NONE = 0xFFFFFFFF
STDOUT, STDERR, DISPLAY, UPDATE_DISPLAY, CLEAR, EXECUTE_RESULT, EXECUTE_INPUT, DATA = range(1, 9)


def msg_id(session: int, seq: int) -> str:
    """The text of an id, as people and programs see it."""
    return f"{session:016x}_{seq}"


def parse_msg_id(text: str) -> tuple[int, int]:
    """(session, seq); ValueError for what is no id."""
    session, _, seq = text.partition("_")
    if len(session) != 16 or not seq.isdigit():
        raise ValueError(f"not a msg_id: {text!r}")
    return int(session, 16), int(seq)


_joining = threading.Lock()  # held while pieces of output become one text


def _after_fork() -> None:
    global _joining
    _joining = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class Metadata(dict):
    """What is known about a task: a dict with these keys and no others, which are attributes too.

    msg_id, label : str
    submitted, received : datetime in UTC, by the client's clock; None while it has not happened
    started, completed : datetime in UTC, by the engine's clock
    engine_id : int; engine_uuid : str
    status : 'ok', 'error', 'aborted', … or None
    stdout, stderr : str, also while the task runs; of a flood the first 64 MiB, and a line that says so
    outputs : list of display data; data : dict of `publish_data`
    execute_input, execute_result : of ``execute``
    error : the RemoteError of a failed task
    """

    _keys = ("msg_id", "submitted", "started", "completed", "received", "engine_uuid", "engine_id", "follow", "after",
             "status", "execute_input", "execute_result", "error", "stdout", "stderr", "outputs", "data", "label",
             "is_broadcast", "is_coalescing")
    _pieces: dict[str, list[str]] | None = None  # output that nobody has looked at yet, by stream
    _lengths: dict[str, int] | None = None  # of what has come, by stream
    _most = 64 * 2**20  # characters of a stream that are kept

    def __init__(self, **known: Any) -> None:
        dict.__init__(self, {k: None for k in self._keys})
        dict.update(self, stdout="", stderr="", outputs=[], data={}, is_broadcast=False, is_coalescing=False)
        dict.update(self, known)

    def __getattr__(self, key: str) -> Any:
        if key in self:
            return self[key]
        raise AttributeError(key)

    def __setattr__(self, key: str, value: Any) -> None:
        if key not in self:
            raise AttributeError(key)
        self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self:
            raise KeyError(key)
        self._join()
        if self._lengths is not None:
            self._lengths.pop(key, None)
        dict.__setitem__(self, key, value)

    def _add_text(self, key: str, text: str) -> None:
        """Appends output; joined only when somebody looks, so that a long one costs no more than its length. A flood is cut, and says so."""
        with _joining:
            if self._pieces is None:
                self.__dict__["_pieces"] = {}
            if self._lengths is None:
                self.__dict__["_lengths"] = {}
            had = self._lengths.get(key, 0)  # type: ignore[union-attr]
            self._lengths[key] = had + len(text)  # type: ignore[index]
            if had + len(text) > self._most:
                if had > self._most:
                    return
                text = text[:self._most - had] + f"\n[covey: more than {self._most:,} characters were printed; what follows is not kept here]\n"
            self._pieces.setdefault(key, []).append(text)  # type: ignore[union-attr]

    def _join(self) -> None:
        if self._pieces is not None:
            with _joining:
                for key, pieces in (self._pieces or {}).items():
                    dict.__setitem__(self, key, dict.__getitem__(self, key) + "".join(pieces))
                self.__dict__.pop("_pieces", None)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __reduce__(self) -> tuple:
        return _metadata, (dict(self),)


def _joined(name: str) -> Any:
    method = getattr(dict, name)

    @functools.wraps(method)
    def look(self: Metadata, *args: Any) -> Any:
        self._join()
        return method(self, *args)
    return look


for _name in ("__getitem__", "__iter__", "__eq__", "__ne__", "__repr__", "__or__", "__ror__", "get", "items", "values", "copy"):
    setattr(Metadata, _name, _joined(_name))


def _metadata(items: dict) -> Metadata:
    return Metadata(**items)


def out_text(text: str, engine: Any, number: Any) -> str:
    """A cell's value with its label, ``Out[engine:number]: …``, which is red where IPython has colours."""
    ip = sys.modules.get("IPython")
    shell = ip.get_ipython() if ip is not None else None
    label = f"Out[{engine}:{'' if number is None else number}]: "
    if shell is not None and str(getattr(shell, "colors", "nocolor")).lower() != "nocolor":
        label = f"\x1b[0;31m{label}\x1b[0m"
    return label + ("\n" if "\n" in text and not text.startswith("\n") else "") + text


class ExecuteReply:
    """What ``execute`` gives for one engine: its output and the value of the cell's last expression.

    execution_count : int
    source : str
    data : dict of MIME type to representation; metadata : the task's `Metadata`

    The metadata's keys are attributes and items (``reply.stdout``, ``reply['outputs']``). In a
    notebook the reply shows as the value would, text with its label (``Out[engine:number]: …``).
    """

    def __init__(self, source: str, content: bytes | dict, task: Any) -> None:
        """content : the engine's reply, in JSON or read already; task : what has the `metadata`, made when it is asked for"""
        self.source = source
        self._reply = content
        self._task = task

    @property
    def _content(self) -> dict:
        if not isinstance(self._reply, dict):
            self._reply = json.loads(self._reply)
        return self._reply

    @property
    def execution_count(self) -> int | None:
        """The cell's number."""
        return self._content.get("execution_count")

    @property
    def metadata(self) -> Metadata:
        """The task's `Metadata`."""
        return self._task.metadata

    def __reduce__(self) -> tuple:
        return ExecuteReply, (self.source, self._content, types.SimpleNamespace(metadata=self.metadata))

    @property
    def execute_result(self) -> dict | None:
        """What its last expression's value looked like: {'data', 'metadata', 'execution_count'}; None without one."""
        return self.metadata["execute_result"]

    @property
    def data(self) -> dict:
        """That value's MIME bundle, by type."""
        return (self.execute_result or {}).get("data", {})

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self.metadata[key]
        except KeyError:
            raise AttributeError(key) from None

    def __getitem__(self, key: str) -> Any:
        return self.metadata[key]

    def __repr__(self) -> str:
        text = self.data.get("text/plain", "")
        if len(text) > 32:
            text = text[:29] + "..."
        return f"<ExecuteReply[{self.execution_count}]: {text}>"

    def display(self) -> None:
        """Shows it in IPython: rich in a notebook, else ``Out[engine:number]: text``."""
        from IPython.display import publish_display_data

        data, metadata = self._repr_mimebundle_()
        publish_display_data(data, metadata)

    def _repr_pretty_(self, p: Any, cycle: bool) -> None:
        text = self.data.get("text/plain", "")
        if text:
            p.text(out_text(text, self.metadata["engine_id"], self.execution_count))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        result = self.execute_result or {}
        data = dict(result.get("data", {}))
        if data.get("text/plain"):
            data["text/plain"] = out_text(data["text/plain"], self.metadata["engine_id"], self.execution_count)
        return data, result.get("metadata", {})

    def _mime(self, mime: str) -> Any:
        data = self.data.get(mime)
        metadata = (self.execute_result or {}).get("metadata", {}).get(mime)
        return (data, metadata) if data is not None and metadata else data

    def _repr_html_(self) -> Any:
        return self._mime("text/html")

    def _repr_latex_(self) -> Any:
        return self._mime("text/latex")

    def _repr_json_(self) -> Any:
        return self._mime("application/json")

    def _repr_javascript_(self) -> Any:
        return self._mime("application/javascript")

    def _repr_png_(self) -> Any:
        return self._mime("image/png")

    def _repr_jpeg_(self) -> Any:
        return self._mime("image/jpeg")

    def _repr_svg_(self) -> Any:
        return self._mime("image/svg+xml")


_NAMES = {OK: "ok", FAILED: "error", ABORTED: "aborted", CANCELLED: "cancelled"}


class Task:
    """See the module. `key` names it to the C side: its seq, or (session, seq) of another client's."""

    polled = False  # its result is asked for, not sent here

    __slots__ = ("client", "seq", "key", "kind", "label", "submitted", "target", "source", "record", "_value", "_error",
                 "_metadata", "broadcast", "after", "follow", "__weakref__")

    def __init__(self, client: TaskTable, seq: int, kind: int, label: str | None, submitted: int,
                 target: int | None = None, source: str = "") -> None:
        self.client = client
        self.seq = self.key = seq
        self.kind = kind
        self.label = label
        self.submitted = submitted
        self.target = target
        self.source = source
        self.record: tuple | None = None  # of _core.Client.take()
        self._value: Any = None
        self._error: error.RemoteError | None = None
        self._metadata: Metadata | None = None
        self.broadcast = False
        self.after: Any = None
        self.follow: Any = None

    @property
    def msg_id(self) -> str:
        """Its id, as text."""
        return msg_id(self.client._session, self.seq)

    def done(self) -> bool:
        """The result has come; true at any moment, without waiting."""
        return self.record is not None or self.client._core.done(self.key)

    def fetch(self) -> bool:
        """Takes the result off the C side if it has come; tells whether."""
        if self.record is None:
            self.client._fetch((self,))
        return self.record is not None

    def give_up(self) -> None:
        """Nobody waits for its result any more: whoever else has this task finds it cancelled."""
        now = time.time_ns()
        self._value = (None,)
        self._error = error._remake("CancelledError", "the task was cancelled by this client", "", self._engine_info())
        self.record = (CANCELLED, 0, ENGINE_NONE, 0, self.submitted, 0, 0, now, (), self.seq, 1)
        if self._metadata is not None:
            self._stamp(self._metadata)

    @property
    def failed(self) -> bool:
        """The result has come and is an error."""
        return self.fetch() and self.record[0] != OK  # type: ignore[index]

    def outcome(self) -> tuple[Any, error.RemoteError | None]:
        """(value, None) or (None, error); the result must have come."""
        if self._error is None and self._value is None:
            value, failure = self._decode()
            with self.client._lock:
                if self._error is None and self._value is None:
                    self._value, self._error = (value,), failure
            if failure is not None and self._metadata is not None:
                self._metadata["error"] = failure
        return self._value[0], self._error

    def _decode(self) -> tuple[Any, error.RemoteError | None]:
        record = self.record
        assert record is not None
        status, buffers = record[0], record[8]
        if status != OK:
            try:
                failure = error.unpack_error(buffers)
            except (ValueError, IndexError, AttributeError) as e:
                failure = error.RemoteError("KernelError", f"the task failed (status {status}) and its error can't be "
                                            f"read: {e}", "", self._engine_info())
            info = failure.engine_info
            if info.get("engine_uuid") is None and info.get("engine_id") is not None:
                info.update(self._engine_info())
            return None, failure
        try:
            if self.kind == EXECUTE:
                return ExecuteReply(self.source, bytes(buffers[0]), self), None
            if self.kind == MAP:
                return serialize.unpack_value(self.client._items(record)[self.seq - record[9]]), None
            return serialize.unpack_value(buffers), None
        except Exception as e:
            return None, self._unreadable(e)

    def _unreadable(self, e: Exception) -> error.RemoteError:
        kind = type(e).__name__
        what = ("import or define here what it needs" if isinstance(e, (ImportError, AttributeError)) else
                "return something simpler")
        failure = error._made(
            error.RemoteError, type(e), kind, f"the result has arrived but can't be unpickled here: {e}; {what}",
            "".join(traceback.format_exception(e)), self._engine_info())
        failure.original = e
        return failure

    def _engine_info(self) -> dict[str, Any]:
        engine = self.record[2] if self.record else ENGINE_NONE
        if engine == ENGINE_NONE:
            return {"engine_uuid": None, "engine_id": None, "method": "execute" if self.kind == EXECUTE else "apply"}
        return {"engine_uuid": self.client._uuid_of(engine), "engine_id": engine,
                "method": "execute" if self.kind == EXECUTE else "apply"}

    @property
    def metadata(self) -> Metadata:
        """What is known about it, made when it is asked for."""
        md = self._the_metadata()
        if md["error"] is None and self.record is not None and self.record[0] != OK:
            md["error"] = self.outcome()[1]
        return md

    def _the_metadata(self) -> Metadata:
        """One for all threads: another one may be filing output. Unpickles nothing, as locks are held here."""
        md = self._metadata
        if md is not None:
            return md
        with self.client._lock:
            if self._metadata is None:
                md = Metadata(msg_id=self.msg_id, submitted=from_ns(self.submitted), label=self.label,
                              is_broadcast=self.broadcast, after=self.after, follow=self.follow)
                if self.target is not None:
                    md["engine_id"], md["engine_uuid"] = self.target, self.client._uuid_of(self.target)
                if self.record is not None:
                    self._stamp_times(md)
                self._metadata = md
            return self._metadata

    def _stamp(self, md: Metadata) -> None:
        self._stamp_times(md)
        if self.record[0] != OK:  # type: ignore[index]
            md["error"] = self.outcome()[1]

    def _stamp_times(self, md: Metadata) -> None:
        record = self.record
        assert record is not None
        status, _, engine, _, submitted, started, completed, received = record[:8]
        md["status"] = _NAMES.get(status, "error")
        if engine != ENGINE_NONE:
            md["engine_id"], md["engine_uuid"] = engine, self.client._uuid_of(engine)
        if submitted:
            md["submitted"] = from_ns(submitted)
        md["started"], md["completed"], md["received"] = from_ns(started), from_ns(completed), from_ns(received)

    def output(self, kind: int, buffers: Any) -> None:
        """One OUTPUT of this task has come."""
        md = self._the_metadata()
        if kind == STDOUT or kind == STDERR:
            md._add_text("stdout" if kind == STDOUT else "stderr", b"".join(map(bytes, buffers)).decode("utf-8", "replace"))
        elif kind == DATA:
            try:
                md["data"].update(serialize.unpack_value(buffers))
            except Exception as e:
                md["data"]["error"] = repr(e)
        else:
            content = json.loads(bytes(buffers[0]))
            if kind == DISPLAY:
                md["outputs"].append(content)
            elif kind == UPDATE_DISPLAY:
                self._update_display(md, content)
            elif kind == CLEAR:
                md["stdout"] = md["stderr"] = ""
                md["outputs"].clear()
            elif kind == EXECUTE_RESULT:
                md["execute_result"] = content
            elif kind == EXECUTE_INPUT:
                md["execute_input"] = content.get("code")

    @staticmethod
    def _update_display(md: Metadata, content: dict) -> None:
        display = (content.get("transient") or {}).get("display_id")
        for output in md["outputs"]:
            if display and (output.get("transient") or {}).get("display_id") == display:
                output.update(data=content.get("data", {}), metadata=content.get("metadata", {}))

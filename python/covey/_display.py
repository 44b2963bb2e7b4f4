"""How an engine's output leaves it: the streams, the display hook, the display publisher, comms.

Everything here hands bytes to one *sink*, an object with the two methods of `covey._core.Engine`
that matter for output::

    output(kind, buffers)            # kind: OUTPUT_* below, buffers: bytes-like objects
    comm(session, seq, buffers)      # a COMM message: JSON, then binary buffers

so that the order in which a program prints, displays and draws is the order in which the client
sees it: the C side empties the capture pipes (what C code and child processes wrote) before each
of these. Until an engine is connected there is no sink; the streams then write to the captured
descriptors themselves, where the host can read them if the engine dies while it starts.
"""
from __future__ import annotations

import base64
import builtins
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from traitlets import Any as AnyTrait

STDOUT = 1
STDERR = 2
DISPLAY = 3
UPDATE_DISPLAY = 4
CLEAR = 5
EXECUTE_RESULT = 6
EXECUTE_INPUT = 7
DATA = 8


class Sink(Protocol):
    """What takes an engine's output; `covey._core.Engine` or a test's list."""

    def output(self, kind: int, buffers: Sequence[Any]) -> None: ...
    def comm(self, session: int, seq: int, buffers: Sequence[Any]) -> None: ...


class Outlet:
    """The one place that knows whether there is a sink.

    `link` is None before the engine is connected and in children that a task forked: those write
    to the descriptors 1 and 2, which the engine captures, because the link belongs to the engine.
    """

    def __init__(self) -> None:
        self.link: Sink | None = None
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.link = None

    def send(self, kind: int, buffers: Sequence[Any]) -> None:
        """Sends one OUTPUT. Without a link, streams go to their descriptor and the rest is dropped."""
        link = self.link
        if link is not None:
            link.output(kind, buffers)
        elif kind in (STDOUT, STDERR):
            for data in buffers:
                _write_all(kind, data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


class _StreamBuffer(io.RawIOBase):
    """The binary side of an `EngineStream` (`sys.stdout.buffer`): what is written joins the text of the stream."""

    def __init__(self, outlet: Outlet, kind: int) -> None:
        super().__init__()
        self._outlet = outlet
        self._kind = kind

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        if chunk:
            self._outlet.send(self._kind, [chunk])
        return len(chunk)

    def fileno(self) -> int:
        return self._kind


class EngineStream(io.TextIOBase):
    """An engine's sys.stdout or sys.stderr.

    Text goes to the client a line at a time, in order with all that C code and child processes
    wrote before. `fileno()` is the real descriptor, which is captured too, so handing the stream
    to `subprocess` works. It is never a terminal, and `close()` does nothing.
    """

    def __init__(self, outlet: Outlet, kind: int) -> None:
        super().__init__()
        self._outlet = outlet
        self._kind = kind
        self.name = "<stdout>" if kind == STDOUT else "<stderr>"
        self.mode = "w"
        self.buffer = _StreamBuffer(outlet, kind)
        self.line_buffering = True
        self.write_through = True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    @property
    def newlines(self) -> None:  # type: ignore[override]
        return None

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            try:
                data = text.encode()
            except UnicodeEncodeError:  # lone surrogates
                data = text.encode("utf-8", "backslashreplace")
            self._outlet.send(self._kind, (data,))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        """What was written goes out now. Without it, a line that has not ended waits for the rest for up to 0.2 s."""
        self._outlet.send(self._kind, ())

    def close(self) -> None:
        """Nothing: code that closes sys.stdout must not silence the tasks after it."""

    def fileno(self) -> int:
        return self._kind

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def reconfigure(self, **_options: Any) -> None:
        """Accepted and ignored: the encoding is UTF-8 and lines go out as they end."""


def _encode_binary(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    return value


def _jsonable(value: Any) -> Any:
    """For `json.dumps(default=)`: bytes as base64, NumPy scalars by item(), the rest by repr()."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _encode_binary(value)
    item = getattr(value, "item", None)
    if callable(item):
        try:
            return item()
        except (TypeError, ValueError):
            pass
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return tolist()
    return repr(value)


def dump_json(value: Any) -> bytes:
    """JSON text of a display or comm message, UTF-8, without spaces; unknown objects by repr()."""
    return json.dumps(value, default=_jsonable, separators=(",", ":")).encode()


def encode_bundle(data: dict[str, Any]) -> dict[str, Any]:
    """A MIME bundle with binary values (PNG, JPEG, PDF) in base64, as the notebook wants them."""
    return {mime: _encode_binary(value) for mime, value in data.items()}


class EngineDisplayHook(DisplayHook):
    """Sends the value of a cell's last expression as an OUTPUT of kind EXECUTE_RESULT.

    `_`, `__`, `Out` are kept as in any IPython. JSON: {"data", "metadata", "execution_count"}.
    """

    outlet = AnyTrait()
    shown: bytes | None = None  # what was sent last, until the cell's end

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        if format_dict:
            body = {"data": encode_bundle(format_dict), "metadata": md_dict or {}, "execution_count": self.prompt_count}
            self.shown = dump_json(body)
            self.outlet.send(EXECUTE_RESULT, [self.shown])

    def take_shown(self) -> bytes | None:
        """What the cell that has ended showed as its value."""
        shown, self.shown = self.shown, None
        return shown

    def keep(self, count: int) -> None:
        """How many values `Out` keeps (InteractiveShell.cache_size); fewer than three are none, as in IPython."""
        self.cache_size = count if count >= 3 else 0
        self.do_full_cache = int(self.cache_size > 0)

    def finish_displayhook(self) -> None:
        self._is_active = False

    def flush(self) -> None:
        """Lets go of all results. IPython's collects garbage besides, before its reset has emptied the namespace: that frees nothing of it,
        and takes a tenth of a second where pandas is loaded."""
        namespace, hidden = self.shell.user_ns, self.shell.user_ns_hidden
        for number in range(1, self.prompt_count + 1):
            namespace.pop(f"_{number}", None)
            hidden.pop(f"_{number}", None)
        namespace.get("_oh", {}).clear()
        self._ = self.__ = self.___ = ""
        if not hasattr(builtins, "_"):  # gettext's
            namespace.update({"_": "", "__": "", "___": ""})

    def log_output(self, format_dict: dict[str, Any]) -> None:
        pass


class EngineDisplayPublisher(DisplayPublisher):
    """Sends what `display()` shows. JSON: {"data", "metadata", "transient"}; clear: {"wait"}.

    `register_hook(f)`: f gets each message {"header": {"msg_type"}, "content"} and returns it, or
    None to keep it (ipywidgets.Output and IPython's capture rely on this).
    """

    outlet = AnyTrait()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hooks: list[Callable[[dict[str, Any]], dict[str, Any] | None]] = []

    def publish(self, data: dict[str, Any], metadata: dict[str, Any] | None = None, source: Any = None, *,
                transient: dict[str, Any] | None = None, update: bool = False, **_ignored: Any) -> None:
        self._validate_data(data, metadata)
        content = {"data": encode_bundle(data), "metadata": metadata or {}, "transient": transient or {}}
        if self._pass_hooks("update_display_data" if update else "display_data", content):
            self.outlet.send(UPDATE_DISPLAY if update else DISPLAY, [dump_json(content)])

    def clear_output(self, wait: bool = False) -> None:
        content = {"wait": bool(wait)}
        if self._pass_hooks("clear_output", content):
            self.outlet.send(CLEAR, [dump_json(content)])

    def register_hook(self, hook: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        self._hooks.append(hook)

    def unregister_hook(self, hook: Callable[[dict[str, Any]], dict[str, Any] | None]) -> bool:
        try:
            self._hooks.remove(hook)
        except ValueError:
            return False
        return True

    def _pass_hooks(self, msg_type: str, content: dict[str, Any]) -> bool:
        if self._hooks:
            message: dict[str, Any] | None = {"header": {"msg_type": msg_type}, "content": content, "msg_type": msg_type}
            for hook in list(self._hooks):
                message = hook(message)  # type: ignore[arg-type]
                if message is None:
                    return False
        return True


def install_comms(outlet: Outlet, task_id: Callable[[], tuple[int, int]]) -> Any:
    """Makes the `comm` package (widgets) talk through the link; returns its manager, None without it.

    `task_id()` gives (session, seq) of the task that runs or ran last: who opens a comm there is
    who gets its messages. A COMM's first buffer is JSON: {"msg_type": "comm_open"|"comm_msg"|
    "comm_close", "content": {"comm_id", "data", ...}, "metadata"}; binary buffers follow.
    """
    try:
        import comm
        from comm.base_comm import BaseComm, CommManager
    except ImportError:
        return None

    class EngineComm(BaseComm):
        """One end of a widget's connection; the other end is in the client's notebook."""

        _task: tuple[int, int] | None = None

        def publish_msg(self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None,
                        **keys: Any) -> None:
            if self._task is None:
                self._task = task_id()
            link = outlet.link
            if link is None:
                return
            content = {"comm_id": self.comm_id, "data": data if data is not None else {}, **keys}
            message = {"msg_type": msg_type, "content": content, "metadata": metadata or {}}
            link.comm(*self._task, [dump_json(message), *[memoryview(b).cast("B") for b in buffers or ()]])

    manager = CommManager()
    comm.create_comm = EngineComm
    comm.get_comm_manager = lambda: manager
    return manager


def receive_comm(manager: Any, buffers: Sequence[Any]) -> None:
    """Hands a COMM that came from the client to the comm it names; one that is closed is ignored."""
    message = json.loads(bytes(buffers[0]))
    message["buffers"] = [memoryview(b) for b in buffers[1:]]
    handler = getattr(manager, message.get("msg_type", ""), None)
    if handler is not None and message["msg_type"] in ("comm_open", "comm_msg", "comm_close"):
        handler(None, None, message)


def install_streams(outlet: Outlet) -> None:
    """Puts the engine's streams in place of sys.stdout and sys.stderr.

    The originals (sys.__stdout__, sys.__stderr__) stay usable: they write to the captured
    descriptors, line by line.
    """
    for original in (sys.__stdout__, sys.__stderr__):
        if original is not None:
            original.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.stdout = EngineStream(outlet, STDOUT)  # type: ignore[assignment]
    sys.stderr = EngineStream(outlet, STDERR)  # type: ignore[assignment]

# SPDX-License-Identifier: BSD-3-Clause
"""Showing engines' output: as it comes (`Streamer`) and afterwards (`display_outputs`)."""
from __future__ import annotations

import re
import sys
import uuid
from typing import TYPE_CHECKING, Any

from .task import CLEAR, DISPLAY, EXECUTE_RESULT, STDERR, STDOUT, UPDATE_DISPLAY, ExecuteReply, Task, out_text
from .util import notebook

if TYPE_CHECKING:
    from .asyncresult import AsyncResult


def _shell() -> Any:
    ip = sys.modules.get("IPython")
    return ip.get_ipython() if ip is not None else None


def show(content: dict, engine: Any, name: str = "output", update: bool = False, labelled: bool = True) -> None:
    """One display of an engine: rich in a kernel, else its text; the label is left out behind another of that engine."""
    data = content.get("data", {})
    if _shell() is None:
        text = data.get("text/plain", "")
        print(f"[{name}:{engine}]" + ("\n" if "\n" in text else " ") + text)
        return
    from IPython.display import publish_display_data

    if labelled:
        print(f"[{name}:{engine}]")
    transient = {k: v for k, v in (content.get("transient") or {}).items() if k == "display_id"}
    publish_display_data(data=data, metadata=content.get("metadata") or {}, transient=transient, update=update)


def show_result(content: dict, engine: Any) -> None:
    """The value of a cell's last expression, as ``Out[engine:number]: …``; rich forms are kept."""
    data = dict(content.get("data", {}))
    data["text/plain"] = out_text(data.get("text/plain", ""), engine, content.get("execution_count"))
    if _shell() is None:
        print(data["text/plain"])
        return
    from IPython.display import publish_display_data

    publish_display_data(data=data, metadata=content.get("metadata") or {})


_LINES = re.compile(r"[^\n]*\n|[^\n]+")


def _left(line: str) -> str:
    """What a carriage return leaves of a line: what was written behind it, if something was."""
    return line.rstrip("\r").rpartition("\r")[2]


def _is_rewritten(line: str) -> bool:
    """It has a carriage return that is no part of its end: a progress bar."""
    return "\r" in (line[:-1].rstrip("\r") if line.endswith("\n") else line)


class Streamer:
    """Prints the output of an AsyncResult's tasks when it comes. Called by whoever pumps the client, one at a time.

    A line that is written again and again (a progress bar) is changed where it stands: in a notebook, where it is a display of
    its own, always; in a terminal, as long as no other stream has its turn.
    """

    def __init__(self, ar: AsyncResult) -> None:
        self.ar = ar
        self.tasks: set[Any] = {t.key for t in ar._tasks}
        self.several = len(ar._tasks) > 1
        self._notebook = notebook()
        self._label: tuple | None = None  # the stream whose turn it is: (engine, kind)
        self._prefix = ""  # the label, if it stands in the line that has not ended
        self._width = 0  # of what stands behind it
        self._open = False  # that line has something in it
        self._bars: dict[tuple, str] = {}  # stream → its line that is written again, as long as that has not ended
        self._displays: dict[tuple, str] = {}  # in a notebook: the display it is in

    def start(self) -> None:
        """Shows what has come before; the client's lock is held, so nothing comes twice or is missed."""
        for t in self.ar._tasks:
            md = t._metadata
            if md is None:
                continue
            for kind, key in ((STDOUT, "stdout"), (STDERR, "stderr")):
                if md[key]:
                    self._text(t, kind, md[key])
            for content in md["outputs"]:
                self._end_text()
                show(content, self._engine(t))
            if md["execute_result"]:
                self._end_text()
                show_result(md["execute_result"], self._engine(t))

    @staticmethod
    def _engine(t: Task) -> Any:
        return "?" if t.metadata["engine_id"] is None else t.metadata["engine_id"]

    def output(self, t: Task, kind: int, text: str, content: dict) -> None:
        if kind in (STDOUT, STDERR):
            self._text(t, kind, text)
        elif kind == UPDATE_DISPLAY and self._notebook:
            show(content, self._engine(t), update=True, labelled=False)  # it changes what has a label
        elif kind in (DISPLAY, UPDATE_DISPLAY):
            self._end_text()
            show(content, self._engine(t), update=kind == UPDATE_DISPLAY)
        elif kind == EXECUTE_RESULT:
            self._end_text()
            show_result(content, self._engine(t))
        elif kind == CLEAR and not self.several and _shell() is not None:  # else it would take the others' output along
            from IPython.display import clear_output

            clear_output(wait=bool(content.get("wait")))
            self._displays.clear()

    def _text(self, t: Task, kind: int, text: str) -> None:
        label = (self._engine(t), kind)
        if label not in self._bars and "\r" not in text:
            self._plain(label, text)
            return
        for line in _LINES.findall(text):
            if label in self._bars or _is_rewritten(line):
                self._bar(label, line)
            else:
                self._plain(label, line.replace("\r", ""))

    def _plain(self, label: tuple, text: str) -> None:
        stream = self._turn_to(label)
        if self._prefix and not self._open and text.count("\n") > 1:
            stream.write("\n")
        stream.write(text)
        stream.flush()
        tail = text.rpartition("\n")[2]
        if "\n" in text:
            self._prefix, self._width = "", 0
        self._width += len(tail)
        self._open = self._width > 0

    def _bar(self, label: tuple, line: str) -> None:
        """A line that is written again, or more of it."""
        raw = self._bars.get(label, "") + line.removesuffix("\n")
        left = _left(raw)
        text = left.rstrip(" ")
        if self._notebook:
            self._show_bar(label, text)
        else:
            self._write_bar(label, text, line.endswith("\n"))
        if line.endswith("\n"):
            self._bars.pop(label, None)
            self._displays.pop(label, None)
        else:
            self._bars[label] = left + ("\r" if raw.endswith("\r") else "")

    def _show_bar(self, label: tuple, text: str) -> None:
        from IPython.display import publish_display_data

        update = label in self._displays
        if not update:
            self._end_text()
            self._displays[label] = uuid.uuid4().hex
        publish_display_data({"text/plain": self._name(label) + text if text else ""}, {}, update=update,
                             transient={"display_id": self._displays[label]})

    def _write_bar(self, label: tuple, text: str, ends: bool) -> None:
        stream = self._turn_to(label)
        if self._open:
            stream.write("\r" + self._prefix + text + " " * (self._width - len(text)))
        else:
            stream.write(text)
        self._width, self._open = len(text), True
        if ends:
            stream.write("\n")
            self._prefix, self._width, self._open = "", 0, False
        stream.flush()

    @staticmethod
    def _name(label: tuple) -> str:
        return f"[{'stdout' if label[1] == STDOUT else 'stderr'}:{label[0]}] "

    def _turn_to(self, label: tuple) -> Any:
        """The file of a stream, with its label written if it was not its turn."""
        stream = sys.stdout if label[1] == STDOUT else sys.stderr
        if label != self._label:
            self._end_text()
            self._label, self._prefix = label, self._name(label)
            stream.write(self._prefix)
        return stream

    def _end_text(self) -> None:
        """What follows is no text of the stream that was shown last: its line ends, and its next one has a label again."""
        if self._label is not None and self._open:
            (sys.stdout if self._label[1] == STDOUT else sys.stderr).write("\n")
        self._label, self._prefix, self._width, self._open = None, "", 0, False

    def close(self) -> None:
        self._end_text()


def _print_stream(name: str, t: Task, alone: bool) -> None:
    text = t.metadata[name]
    if not text:
        return
    file = sys.stdout if name == "stdout" else sys.stderr
    if "\r" in text:  # progress bars: how they ended
        text = "\n".join(map(_left, text.split("\n")))
    end = "" if text.endswith("\n") else "\n"
    if alone:
        file.write(text + end)
        return
    file.write(f"[{name}:{Streamer._engine(t)}] " + ("\n" if "\n" in text.rstrip("\n") else "") + text + end)
    file.flush()


def _result(t: Task, value: Any) -> None:
    """The value of a cell's last expression; what calls return is not output."""
    if isinstance(value, ExecuteReply) and value.execute_result:
        show_result(value.execute_result, Streamer._engine(t))


def display_outputs(ar: AsyncResult, groupby: str, result_only: bool) -> None:
    """See `AsyncResult.display_outputs`."""
    ar.wait_for_output()
    ar._client._pump()
    tasks = ar._tasks
    values = ar.get(return_exceptions=True)
    values = [values] if ar._single else list(values) if len(values) == len(tasks) else [None] * len(tasks)
    results = [(t, v) for t, v in zip(tasks, values) if not isinstance(v, BaseException)]
    if result_only:
        for t, v in results:
            _result(t, v)
    elif groupby == "engine":
        for t in tasks:
            _print_stream("stdout", t, ar._single)
            _print_stream("stderr", t, ar._single)
            for i, content in enumerate(t.metadata["outputs"]):
                show(content, Streamer._engine(t), labelled=i == 0)
            for rt, v in results:
                if rt is t:
                    _result(t, v)
    else:
        for name in ("stdout", "stderr"):
            for t in tasks:
                _print_stream(name, t, ar._single)
        if groupby == "order":
            deepest = max((len(t.metadata["outputs"]) for t in tasks), default=0)
            ordered = [(t, t.metadata["outputs"][i]) for i in range(deepest) for t in tasks
                       if i < len(t.metadata["outputs"])]
        else:
            ordered = [(t, content) for t in tasks for content in t.metadata["outputs"]]
        last = None
        for t, content in ordered:
            show(content, Streamer._engine(t), labelled=t is not last)
            last = t
        for t, v in results:
            _result(t, v)

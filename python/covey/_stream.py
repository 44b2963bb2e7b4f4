# SPDX-License-Identifier: BSD-3-Clause
"""Showing engines' output: as it comes (`Streamer`) and afterwards (`display_outputs`)."""
from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .task import CLEAR, DISPLAY, EXECUTE_RESULT, STDERR, STDOUT, UPDATE_DISPLAY, ExecuteReply, Task, out_text

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


class Streamer:
    """Prints the output of an AsyncResult's tasks when it comes. Called by whoever pumps the client, one at a time."""

    def __init__(self, ar: AsyncResult) -> None:
        self.ar = ar
        self.tasks: set[Any] = {t.key for t in ar._tasks}
        self.several = len(ar._tasks) > 1
        self._last: dict[Any, bool] = {}  # stream → its last text ended a line
        self._label: tuple | None = None

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
        elif kind in (DISPLAY, UPDATE_DISPLAY):
            self._end_text()
            show(content, self._engine(t), update=kind == UPDATE_DISPLAY)
        elif kind == EXECUTE_RESULT:
            self._end_text()
            show_result(content, self._engine(t))
        elif kind == CLEAR and _shell() is not None:
            from IPython.display import clear_output

            clear_output(wait=bool(content.get("wait")))

    def _text(self, t: Task, kind: int, text: str) -> None:
        stream = sys.stdout if kind == STDOUT else sys.stderr
        if "\r" in text:  # a progress bar: its last state per line
            text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
        label = (self._engine(t), kind)
        if label != self._label:
            self._end_text()
            stream.write(f"[{'stdout' if kind == STDOUT else 'stderr'}:{label[0]}] ")
            self._label = label
            if text.count("\n") > 1:
                stream.write("\n")
        stream.write(text)
        stream.flush()
        self._last[label] = text.endswith("\n")

    def _end_text(self) -> None:
        """What follows is no text of the stream that was shown last: its line ends, and its next one has a label again."""
        if self._label is not None and not self._last.get(self._label, True):
            (sys.stdout if self._label[1] == STDOUT else sys.stderr).write("\n")
        self._label = None

    def close(self) -> None:
        self._end_text()


def _print_stream(name: str, t: Task, alone: bool) -> None:
    text = t.metadata[name]
    if not text:
        return
    file = sys.stdout if name == "stdout" else sys.stderr
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

# SPDX-License-Identifier: BSD-3-Clause
"""What an AsyncResult tells beside its result: metadata, times, progress, output."""
from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from datetime import datetime
from typing import Any

from .task import Metadata, Task
from .util import compare_datetimes, limit_of, progress, utcnow


class ResultFacts:
    """The base of AsyncResult, which has the tasks and knows whether they are done."""

    _client: Any
    _tasks: list[Task]
    _fname: str
    _single: bool
    _was_cancelled: bool

    @property
    def metadata(self) -> Any:
        """The task's `Metadata`, or the list of them; filled as things happen."""
        self._client._pump()
        for t in self._tasks:
            t.fetch()
        return self._tasks[0].metadata if self._single else [t.metadata for t in self._tasks]

    def _metadata_of(self, key: str) -> Any:
        md = self.metadata
        return md[key] if self._single else [m[key] for m in md]

    def __getattr__(self, key: str) -> Any:
        if key in Metadata._keys:
            return self._metadata_of(key)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {key!r}")

    @property
    def data(self) -> Any:
        """What tasks gave to `publish_data` so far: a dict, or a list of them."""
        return self._metadata_of("data")

    @property
    def progress(self) -> int:
        """How many items are finished, of ``len(ar)``."""
        return sum(size for t, size in zip(self._tasks, self._item_counts()) if t.done())

    def _item_counts(self) -> list[int]:
        return [1] * len(self._tasks)

    @property
    def elapsed(self) -> float:
        """Seconds since submission, until now or until the last result came."""
        if self.ready() and not self._was_cancelled:
            return self.wall_time
        return compare_datetimes(utcnow(), min(t.metadata["submitted"] for t in self._tasks))

    @property
    def serial_time(self) -> float:
        """Seconds of work, summed over tasks. TimeoutError until all results have come."""
        if not self.ready():
            raise self._late(None)
        self._finish()
        return sum(compare_datetimes(m["completed"], m["started"])
                   for m in [t.metadata for t in self._tasks] if m["completed"] and m["started"])

    @property
    def wall_time(self) -> float:
        """Seconds from the first submission to the last result. TimeoutError until all results have come."""
        if not self.ready():
            raise self._late(None)
        self._finish()
        return self.timedelta([t.metadata["submitted"] for t in self._tasks],
                              [t.metadata["received"] for t in self._tasks])

    def timedelta(self, start: Any, end: Any, start_key: Callable = min, end_key: Callable = max) -> float:
        """Seconds between two stamps or lists of them: ``ar.timedelta(ar.submitted, ar.received)``."""
        first = start if isinstance(start, datetime) else start_key(start)
        last = end if isinstance(end, datetime) else end_key(end)
        return compare_datetimes(last, first)

    # ------------------------------------------------ for people

    def wait_interactive(self, interval: float = 0.1, timeout: float | None = -1, widget: bool | None = None,
                         return_when: str = ALL_COMPLETED) -> None:
        """Waits with a progress bar: items done, rate, time left, how many failed. Ctrl-C leaves the tasks running.

        interval : seconds between updates; timeout : seconds, no error if it passes
        widget : True for a notebook's bar, False for text; by default whatever fits
        """
        limit = limit_of(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        total = len(self)
        bar = progress(total=total, unit="tasks", desc=self._fname, widget=widget)
        seen: set[int] = set()
        failed = 0
        try:
            while True:
                ended = self.ready()  # before they are counted: the bar's last word is the end
                counts = self._item_counts()
                for i, t in enumerate(self._tasks):
                    if i not in seen and t.fetch():
                        seen.add(i)
                        failed += t.failed
                bar.update(sum(counts[i] for i in seen) - bar.n)
                away = self._client._away_text(self._pending())
                note = [f"{failed} failed"] if failed else []
                bar.set_postfix_str(", ".join(note + ([away] if away else [])), refresh=False)
                bar.refresh()
                if ended or return_when == FIRST_EXCEPTION and failed or return_when == FIRST_COMPLETED and seen:
                    break
                left = interval if deadline is None else min(interval, deadline - time.monotonic())
                if left <= 0:
                    break
                self._client._core.wait([t.key for t in self._pending()], left)
                self._client._pump()
        finally:
            bar.close()
        if self.ready() and not self._was_cancelled:
            self._finish()

    @contextlib.contextmanager
    def stream_output(self) -> Iterator[None]:
        """Prints the tasks' output as it comes, starting with what has come already.

        >>> with ar.stream_output():
        ...     ar.wait()
        """
        from ._stream import Streamer

        streamer = Streamer(self)
        self._client._add_streamer(streamer)
        try:
            yield
        finally:
            self._client._pump()
            self._client._remove_streamer(streamer)
            streamer.close()

    def display_outputs(self, groupby: str = "type", result_only: bool = False) -> None:
        """Shows what the tasks printed and displayed, and the values of cells (`execute`).

        groupby : 'type' (all stdout, then all stderr, then outputs), 'engine', or 'order' (outputs of all
        engines one by one). One task's text comes without labels. Errors are
        not raised here. TimeoutError if results are missing.
        """
        from ._stream import display_outputs

        if groupby not in ("type", "engine", "order"):
            raise ValueError(f"groupby is 'type', 'engine' or 'order', not {groupby!r}")
        if not self.ready():
            raise self._late(None)
        display_outputs(self, groupby, result_only)

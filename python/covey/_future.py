# SPDX-License-Identifier: BSD-3-Clause
"""What makes an AsyncResult a `concurrent.futures.Future`, for those who need one.

Nothing of it exists until somebody registers a callback or waits from outside (`concurrent.futures.wait`, asyncio): then `_watch`
makes a condition and has the client's dispatcher thread settle it. The state changes only under that condition.
"""
from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

log = logging.getLogger("covey")

_PENDING, _FINISHED, _CANCELLED = "PENDING", "FINISHED", "CANCELLED_AND_NOTIFIED"


class WatchedFuture(Future):
    """The base of AsyncResult, which says when results have come (`ready`) and takes them over (`_finish`)."""

    _client: Any
    _tasks: list[Any]
    _was_cancelled: bool
    _return_exceptions: bool
    _guard: threading.Condition | None

    def ready(self) -> bool:
        """All results have come."""
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError

    def _watch(self) -> None:
        client = self._client
        with client._lock:
            if self._guard is not None:
                return
            self._foreign: list[Any] = []
            self._callbacks: list[Callable[[Any], Any]] = []
            self._told = _CANCELLED if self._was_cancelled else _FINISHED if self.ready() else _PENDING
            self._guard = threading.Condition()
        if self._told == _PENDING:
            client._watch(self)

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        if self._guard is None:
            self._watch()
        return self._guard  # type: ignore[return-value]

    @property
    def _state(self) -> str:  # type: ignore[override]
        """Changes only under `_condition`, as `concurrent.futures.wait` relies on."""
        if self._guard is None:
            self._watch()
        return self._told

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        if self._guard is None:
            self._watch()
        return self._foreign

    @property
    def _done_callbacks(self) -> list[Any]:  # type: ignore[override]
        if self._guard is None:
            self._watch()
        return self._callbacks

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Calls ``fn(ar)`` when all results have come: on the client's dispatcher thread, or now if they have."""
        with self._condition:
            if self._told == _PENDING:
                self._callbacks.append(fn)
                return
        self._call(fn)

    def _call(self, fn: Callable[[Any], Any]) -> None:
        try:
            fn(self)
        except Exception:
            log.exception("callback %r of %r raised", fn, self)
        except SystemExit:  # ends a program, not the thread that tells the others
            if threading.current_thread() is not self._client._dispatcher:
                raise
            log.exception("callback %r of %r raised", fn, self)

    def _settle(self) -> None:
        """Tells foreign waiters and callbacks; any number of times, once in effect."""
        if self._guard is None or self._told != _PENDING or not (self._was_cancelled or self.ready()):
            return
        failed = False
        if not self._was_cancelled:
            self._finish()
            failed = not self._return_exceptions and any(t.failed for t in self._tasks)
        with self._guard:
            if self._told != _PENDING:
                return
            self._told = _CANCELLED if self._was_cancelled else _FINISHED
            for w in self._foreign:
                if self._was_cancelled:
                    w.add_cancelled(self)
                elif failed:
                    w.add_exception(self)
                else:
                    w.add_result(self)
            self._guard.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        for fn in callbacks:
            self._call(fn)

    def set_running_or_notify_cancel(self) -> bool:
        """Whether it was not cancelled (asked by executors)."""
        return not self._was_cancelled

    def set_result(self, result: Any) -> None:
        """RuntimeError: results come from engines."""
        raise RuntimeError("an AsyncResult gets its result from engines")

    def set_exception(self, exception: BaseException | None) -> None:
        """RuntimeError: results come from engines."""
        raise RuntimeError("an AsyncResult gets its result from engines")

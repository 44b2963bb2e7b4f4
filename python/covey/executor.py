# SPDX-License-Identifier: BSD-3-Clause
"""A view as a `concurrent.futures.Executor`, and the lazy map behind it."""
from __future__ import annotations

import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from . import serialize
from .asyncresult import AsyncResult
from .task import ABORT, Task

if TYPE_CHECKING:
    from .view import View

__all__ = ["ViewExecutor", "LazyMapIterator"]


class LazyMapIterator:
    """Results of ``imap``: submits as results are taken, so inputs may be endless. ``cancel()`` ends it.

    max_outstanding : how many tasks may be under way ('auto': as many as engines; 0: no limit)

    An error of the input is raised after the results of what was submitted before.
    """

    def __init__(self, view: View, f: Callable, inputs: Iterator[tuple], ordered: bool, max_outstanding: int | None,
                 return_exceptions: bool) -> None:
        self._view = view
        self._f = f
        self._inputs: Iterator[tuple] | None = inputs
        self._ordered = ordered
        self._limit = max_outstanding
        self._return_exceptions = return_exceptions
        self._under_way: deque[AsyncResult] = deque()
        self._input_error: BaseException | None = None
        self._taken = 0
        self._fill()

    def _fill(self) -> None:
        while self._inputs is not None and (self._limit is None or len(self._under_way) < self._limit):
            try:
                args: tuple = ()
                args = next(self._inputs)
                self._under_way.append(self._view.apply_async(self._f, *args))
                self._taken += 1
            except StopIteration:
                self._inputs = None
            except Exception as e:
                self._inputs, self._input_error = None, serialize.refused_item(e, self._f, (self._taken,), [(a,) for a in args])

    def __iter__(self) -> LazyMapIterator:
        return self

    def __next__(self) -> Any:
        self._fill()
        if not self._under_way:
            error, self._input_error = self._input_error, None
            if error is not None:
                raise error
            raise StopIteration
        if self._ordered:
            ar = self._under_way.popleft()
        else:
            ar = self._first()
            self._under_way.remove(ar)
        ar.wait()
        self._fill()
        return ar.get(return_exceptions=self._return_exceptions)

    def _first(self) -> AsyncResult:
        client = self._view.client
        while True:
            for ar in self._under_way:
                if ar.ready():
                    return ar
            client._wait([t for ar in self._under_way for t in ar._tasks], None, 1)

    def cancel(self) -> None:
        """Submits no more and cancels what is under way."""
        self._inputs = None
        for ar in self._under_way:
            ar.cancel()
        self._under_way.clear()


class ViewExecutor(Executor):
    """A `concurrent.futures.Executor` over a view: ``submit`` is apply_async, ``map`` is imap.

    >>> with rc.executor() as ex:
    ...     print(ex.submit(pow, 2, 10).result())
    ...     print(list(ex.map(abs, [-1, -2])))

    `shutdown` waits for what was submitted; it never stops engines.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self._submitted: weakref.WeakSet[Task] = weakref.WeakSet()  # those whose futures nobody has kept, too
        self._closed = False

    @property
    def _max_workers(self) -> int:
        return len(self.view)

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> AsyncResult:  # type: ignore[override]
        """Runs ``fn(*args, **kwargs)`` on an engine; an AsyncResult, which is a Future."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        ar = self.view.apply_async(fn, *args, **kwargs)
        self._submitted.update(ar._tasks)
        return ar

    def map(self, fn: Callable, *iterables: Iterable, timeout: float | None = None, chunksize: int = 1,
            **kwargs: Any) -> Iterator:
        """Submits all at once, as executors do; results in order. (The view's `imap` is lazy.)"""
        if timeout is not None:
            warnings.warn("timeout is ignored by ViewExecutor.map", stacklevel=2)
        if self.view._balanced:
            kwargs.setdefault("max_outstanding", 0)
            lazy = self.view.imap(fn, *iterables, **kwargs)
            self._submitted.update(t for ar in lazy._under_way for t in ar._tasks)  # type: ignore[attr-defined]
            return lazy
        results = self.view.map_async(fn, *iterables, **kwargs)
        self._submitted.update(getattr(results, "_tasks", ()))
        return iter(results)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more; waits for what was submitted, whoever still has its futures. Engines stay."""
        self._closed = True
        client = self.view.client
        pending = [t for t in list(self._submitted) if not t.done()]
        if cancel_futures:
            client._send_cancel(pending, ABORT, 0)
        if wait and pending:
            client._wait(pending, None, None)

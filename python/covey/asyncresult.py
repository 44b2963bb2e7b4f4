# SPDX-License-Identifier: BSD-3-Clause
"""Results that are not there yet.

An AsyncResult is a `concurrent.futures.Future`. Making one costs microseconds: it is a list of
tasks, and asks the C side about them. Only when somebody registers a callback or waits from outside
(`concurrent.futures.wait`, asyncio) is it *watched*: the client's dispatcher thread then resolves
it and runs its callbacks.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError
from itertools import chain
from typing import TYPE_CHECKING, Any

from . import error
from ._facts import ResultFacts
from ._future import WatchedFuture
from .map import Map, is_array
from .task import ABORT, KILL, Metadata, Task
from .util import limit_of

if TYPE_CHECKING:
    from ._jobs import Jobs

__all__ = ["AsyncResult", "AsyncMapResult", "AsyncHubResult", "ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]

_FOREVER = 86400 * 365 * 10  # programs import this
_AWAY_AFTER = 2.0  # seconds until whoever waits hears of engines that are away


class AsyncResult(ResultFacts, WatchedFuture):
    """The result of one call on one or several engines, now or later.

    >>> ar = view.apply_async(f, x)
    >>> ar.ready()                      # has it come?
    >>> ar.get(timeout=5)               # wait for it; TimeoutError if it takes longer (seconds)
    >>> ar.stdout, ar.engine_id         # what is known about the task (or tasks: then lists)
    >>> await ar                        # in asyncio

    A call on one engine given by number has one result; on several (or ``[0]``) a list of them.
    Errors are raised by `get` as RemoteError (one task) or CompositeError (several).
    ``cancel()`` gives up the result and interrupts the task, ``abort()`` only takes it off the queue.
    """

    owner: bool
    _bare = False  # parts of a map whose tasks give bare values: shown as lists of one
    _unseen = 0  # results that the dispatcher has yet to hear of

    def __init__(self, client: Jobs, tasks: Iterable[Task] | None = None, fname: str = "unknown",
                 single: bool = False, owner: bool = True, return_exceptions: bool = False) -> None:
        # Future.__init__ is not called: what it makes is made by _watch() for those that need it.
        self._client = client
        self._tasks = tasks if type(tasks) is list else list(tasks or ())
        if self._tasks and type(self._tasks[0]) is str:  # programs give ids
            self._tasks = client._tasks_or_hub(self._tasks)  # type: ignore[arg-type]
        self._fname = fname
        self._single = single
        self.owner = owner
        self._return_exceptions = return_exceptions
        self._finished = False
        self._was_cancelled = False
        self._guard: threading.Condition | None = None  # made by _watch()
        self._all_done = False

    # ------------------------------------------------ what it is

    @property
    def msg_ids(self) -> list[str]:
        """The tasks' ids."""
        return [t.msg_id for t in self._tasks]

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        if self._was_cancelled:
            state = "cancelled"
        elif not self.ready():
            away = self._client._away_text(self._pending())
            state = f"pending, {away}" if away else "pending"
        else:
            state = "finished" if self.successful() else "failed"
        return f"<{type(self).__name__}({self._fname}): {state}>"

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *Metadata._keys})

    def __reduce__(self) -> tuple:
        client = self._client
        return _rejoin, (type(self), client._connection_for_pickle(), self.msg_ids, self._pickled_state())

    def _pickled_state(self) -> dict[str, Any]:
        return {"fname": self._fname, "single": self._single, "return_exceptions": self._return_exceptions}

    # ------------------------------------------------ has it come?

    def ready(self) -> bool:
        """All results have come."""
        if not self._all_done:
            pending = self._pending()
            if pending and not (len(pending) > 1 and self._client._core.done_count(
                    [t.key for t in pending]) == len(pending) or len(pending) == 1 and pending[0].done()):
                return self._was_cancelled
            self._all_done = True
        return True

    def _pending(self) -> list[Task]:
        return [] if self._all_done else [t for t in self._tasks if t.record is None]

    def done(self) -> bool:
        """All results have come, or it was cancelled."""
        return self._was_cancelled or self.ready()

    def running(self) -> bool:
        """It was submitted and its result has not come."""
        return not self.done()

    def cancelled(self) -> bool:
        """`cancel` succeeded."""
        return self._was_cancelled

    def successful(self) -> bool:
        """No task failed. RuntimeError before `ready`."""
        if not self.ready():
            raise RuntimeError("cannot check successful() before the results are ready")
        if self._was_cancelled:
            return False
        return not any(t.failed for t in self._tasks)

    # ------------------------------------------------ waiting

    def _wait_for(self, timeout: float | None, n: int | None = None) -> bool:
        """Waits until n of the tasks (all) have results. Says within 2 s if engines are away."""
        tasks = self._pending()
        have = len(self._tasks) - len(tasks)
        if n is not None:
            n = n - have
            if n <= 0:
                return True
        elif not tasks:
            return True
        return self._client._wait(tasks, timeout, n)

    def wait(self, timeout: float | None = -1, return_when: str | None = None) -> Any:
        """Waits at most `timeout` seconds (None, negative: for ever).

        Returns whether all results have come. With `return_when` (ALL_COMPLETED, FIRST_EXCEPTION,
        FIRST_COMPLETED) it returns as `concurrent.futures.wait` does: the sets (done, pending), of
        one AsyncResult for each task.
        """
        timeout = limit_of(timeout)
        if return_when is None or return_when == ALL_COMPLETED:
            if not self._was_cancelled and self._wait_for(timeout):
                self._finish()
        elif return_when == FIRST_COMPLETED:
            self._wait_for(timeout, 1)
        elif return_when == FIRST_EXCEPTION:
            self._wait_first_exception(timeout)
        else:
            raise ValueError(f"return_when is ALL_COMPLETED, FIRST_EXCEPTION or FIRST_COMPLETED, not {return_when!r}")
        if return_when is None:
            return self.ready()
        done: set[AsyncResult] = set()
        pending: set[AsyncResult] = set()
        for ar in self.split():
            (done if ar.ready() else pending).add(ar)
        return done, pending

    def _wait_first_exception(self, timeout: float | None) -> bool:
        """Until one task has failed or all have ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._was_cancelled:
            ended = 0
            for t in self._tasks:
                if t.failed:
                    return True
                ended += t.record is not None
            if ended == len(self._tasks):
                return True
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._wait_for(left, ended + 1):
                return False
        return True

    def wait_for_output(self, timeout: float | None = -1) -> bool:
        """Waits for results and all output that came before them; returns whether they have come."""
        return bool(self.wait(timeout))

    @property
    def sent(self) -> bool:
        """The arguments' memory is not read any more (S4: small ones at once)."""
        return all(t.record is not None or self._client._core.flushed(t.key) for t in self._tasks)

    def wait_for_send(self, timeout: float | None = -1) -> None:
        """Waits until `sent`; TimeoutError after `timeout` seconds."""
        limit = limit_of(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        pause = 0.0005
        while not self.sent:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"not sent after {limit} s")
            self._client._core.wait([t.key for t in self._tasks], pause)
            pause = min(0.02, pause * 2)

    # ------------------------------------------------ results

    def _finish(self) -> None:
        """All results have come: take them over, once."""
        if self._finished:
            return
        self._client._fetch([t for t in self._tasks if not t.polled])
        self._finished = self._all_done = True
        self._client._resolved(self._tasks, self.owner)
        if self._guard is not None:
            self._client._settle_later(self)

    def _late(self, timeout: float | None) -> TimeoutError:
        away = self._client._away_text(self._pending())
        return TimeoutError("the result is not ready" + (f" after {timeout:g} s" if timeout else "")
                            + (f": {away}" if away else ""))

    def get(self, timeout: float | None = None, return_exceptions: bool | None = None,
            return_when: str | None = None) -> Any:
        """The result, or the list of results.

        timeout : seconds; None, negative: for ever. TimeoutError if it takes longer.
        return_exceptions : put errors in the result's place instead of raising them
        return_when : FIRST_EXCEPTION raises as soon as one task has failed

        A failed task raises RemoteError (which can be caught by its type on the engine), several a
        CompositeError. Ctrl-C here leaves the tasks running. May be called again and again.
        """
        if return_exceptions is None:
            return_exceptions = self._return_exceptions
        if return_when == FIRST_COMPLETED:
            import warnings

            warnings.warn("FIRST_COMPLETED means nothing to get(): use wait()", stacklevel=2)
        if self._was_cancelled:
            raise CancelledError()
        if not self._finished:
            limit = limit_of(timeout)
            if self._single and not self._tasks[0].polled and self._guard is None:
                if not self._get_one(limit):
                    raise self._late(limit)
            elif return_when == FIRST_EXCEPTION and not return_exceptions:
                if not self._wait_first_exception(limit):
                    raise self._late(limit)
                if not self.ready():
                    error.collect_exceptions([e for t in self._tasks if t.failed and (e := t.outcome()[1]) is not None], self._fname)
            elif not self._wait_for(limit):
                raise self._late(limit)
            if self._was_cancelled:
                raise CancelledError()
            self._finish()
        return self._results(return_exceptions)

    def _get_one(self, limit: float | None) -> bool:
        """The common case, short: wait for one task and take it over."""
        client, task = self._client, self._tasks[0]
        if task.record is None and not client._core.done(task.key):
            if not client._wait((task,), limit, None):
                return False
            if self._was_cancelled:
                return True
        if self.owner and client._collect(task):
            self._finished = self._all_done = True
        return True

    def _results(self, return_exceptions: bool) -> Any:
        if self._single:
            value, failure = self._tasks[0].outcome()
            if failure is None:
                return value
            if return_exceptions:
                return failure
            raise failure.with_traceback(None)
        values = []
        failed = False
        for t in self._tasks:
            value, failure = t.outcome()
            failed = failed or failure is not None
            values.append(value if failure is None else failure)
        if failed and not return_exceptions:
            error.collect_exceptions([v for v in values if isinstance(v, error.RemoteError)], self._fname)
        return self._assemble(values)

    def _assemble(self, values: list[Any]) -> Any:
        return [[v] for v in values] if self._bare else values

    def result(self, timeout: float | None = None) -> Any:
        """`get`, under its name in `concurrent.futures`."""
        return self.get(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `get` would raise, or None."""
        try:
            self.get(timeout)
        except CancelledError:
            raise
        except error.RemoteError as e:
            return e
        return None

    @property
    def r(self) -> Any:
        """`get()`."""
        return self.get()

    def get_dict(self, timeout: float | None = -1) -> dict[int, Any]:
        """Results by engine. ValueError if an engine ran two of the tasks."""
        results = self.get(timeout)
        engines = [t.metadata["engine_id"] for t in self._tasks]
        twice = next((e for e in engines if engines.count(e) > 1), None)
        if twice is not None:
            raise ValueError(f"cannot build a dict: engine {twice} ran {engines.count(twice)} of these tasks")
        return dict(zip(engines, [results] if self._single else results))

    @property
    def result_dict(self) -> dict[int, Any]:
        """`get_dict()`."""
        return self.get_dict()

    def __getitem__(self, key: Any) -> Any:
        """``ar[0]``, ``ar[1:3]``: results that have come (TimeoutError otherwise); ``ar['stdout']``: metadata."""
        if isinstance(key, str):
            if key not in Metadata._keys:
                raise KeyError(key)
            return self._metadata_of(key)
        if not isinstance(key, (int, slice)):
            raise TypeError(f"an AsyncResult is indexed by int, slice or metadata key, not {type(key).__name__}")
        if not self.ready():
            raise self._late(None)
        results = self.get()
        return ([results] if self._single else results)[key]

    def __iter__(self) -> Iterator[Any]:
        """Results in order, each as soon as it is there; CompositeError where a task failed."""
        if self._single:
            raise TypeError("AsyncResult with a single result is not iterable")
        return self._iterate()

    def _iterate(self) -> Iterator[Any]:
        for t in self._tasks:
            if not t.fetch():
                self._client._wait([t], None, None)
                t.fetch()
            if self._was_cancelled:
                raise CancelledError()
            value, failure = t.outcome()
            if failure is not None and not self._return_exceptions:
                error.collect_exceptions([failure], self._fname)
            yield value if failure is None else failure
        self._finish()

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    # ------------------------------------------------ stopping

    def cancel(self, kill_after: float | None = None) -> bool:
        """Gives up the result at once: `get` raises CancelledError, and the tasks are unqueued or interrupted.

        kill_after : seconds
            kills the engine if its task has not ended by then. Without it engines always survive.

        Returns False if all results had come.
        """
        if self._was_cancelled:
            return True
        if self.ready():
            return False
        pending = [t for t in self._pending() if not t.done()]
        self._was_cancelled = True
        flags = 0 if kill_after is None else KILL
        self._client._send_cancel(pending, flags, 0 if kill_after is None else max(1, int(kill_after * 1e9)))
        self._client._give_up(pending)
        self._settle()
        return True

    def abort(self) -> None:
        """Takes the tasks that have not started off the queue; their result is TaskAborted. RuntimeError when done."""
        if self.ready():
            raise RuntimeError("cannot abort what has finished")
        self._client._send_cancel([t for t in self._pending() if not t.done()], ABORT, 0)

    def explain(self) -> list[dict[str, Any]]:
        """The story of each task as the controller knows it: state, engine, attempt and why it waits."""
        return [self._client._query("task", id=i) for i in self.msg_ids]

    # ------------------------------------------------ parts

    def split(self) -> tuple[AsyncResult, ...]:
        """One AsyncResult for each task; of a single task this one itself. Those of a map give lists."""
        if len(self._tasks) == 1:
            return (self,)
        return tuple([self._part(t) for t in self._tasks])

    def _part(self, task: Task) -> AsyncResult:
        part = AsyncResult(self._client, [task], self._fname, True, self.owner, self._return_exceptions)
        part._was_cancelled = self._was_cancelled
        return part

    @classmethod
    def join(cls, *async_results: Any) -> Any:
        """One AsyncResult of several (the reverse of `split`). ValueError for none, or of different clients."""
        if not async_results:
            raise ValueError("join takes at least one AsyncResult")
        first = async_results[0]
        if any(ar._client is not first._client for ar in async_results):
            raise ValueError("these AsyncResults belong to different clients")
        return cls(first._client, list(chain.from_iterable(ar._tasks for ar in async_results)), first._fname,
                   False, first.owner, first._return_exceptions)

    def _repr_pretty_(self, p: Any, cycle: bool) -> None:
        p.text(repr(self))


class AsyncMapResult(AsyncResult):
    """The results of a map: a list of one value for each item.

    >>> amr = lbv.map_async(f, range(1000), ordered=False)
    >>> for y in amr:                   # each as soon as it is there
    ...     print(y)
    >>> amr.get()                       # all, in the order of the items
    """

    def __init__(self, client: Jobs, tasks: Iterable[Task] | None = None, fname: str = "map",
                 sizes: list[int] | None = None, joiner: type[Map] | None = None, ordered: bool = True,
                 return_exceptions: bool = False, owner: bool = True) -> None:
        AsyncResult.__init__(self, client, tasks, fname, False, owner, return_exceptions)
        self._sizes = sizes      # items of each task; None: one
        self._joiner = joiner    # how the tasks' lists go together; None: each task gives a bare value
        self._ordered = ordered

    def _pickled_state(self) -> dict[str, Any]:
        return {"fname": self._fname, "sizes": self._sizes, "joiner": self._joiner, "ordered": self._ordered,
                "return_exceptions": self._return_exceptions}

    def _part(self, task: Task) -> AsyncResult:
        part = AsyncResult._part(self, task)
        part._single = False
        part._bare = self._joiner is None
        return part

    def __len__(self) -> int:
        return len(self._tasks) if self._sizes is None else sum(self._sizes)

    def _item_counts(self) -> list[int]:
        return [1] * len(self._tasks) if self._sizes is None else self._sizes

    def _assemble(self, values: list[Any]) -> Any:
        if self._joiner is None:
            return values
        if any(isinstance(v, error.RemoteError) for v in values):
            flat: list[Any] = []
            for v in values:
                flat += [v] if isinstance(v, error.RemoteError) else self._items_of(v)
            return flat
        return self._joiner.join_partitions(values)

    @staticmethod
    def _items_of(value: Any) -> list[Any]:
        return list(value) if isinstance(value, (list, tuple)) or is_array(value) else [value]

    @classmethod
    def join(cls, *async_results: Any) -> Any:
        """One AsyncMapResult of several."""
        if not async_results or not all(isinstance(ar, AsyncMapResult) for ar in async_results):
            return AsyncResult.join.__func__(AsyncResult, *async_results)  # type: ignore[attr-defined]
        first = async_results[0]
        sizes = None if first._sizes is None else list(chain.from_iterable(ar._sizes for ar in async_results))
        return cls(first._client, list(chain.from_iterable(ar._tasks for ar in async_results)), first._fname, sizes,
                   first._joiner, first._ordered, first._return_exceptions, first.owner)

    def __iter__(self) -> Iterator[Any]:
        """The items' values as they come: in order, or any order if the map was made with ``ordered=False``. CompositeError where one failed."""
        tasks = self._iterate_tasks() if self._ordered else self._iterate_as_done()
        for t in tasks:
            if self._was_cancelled:
                raise CancelledError()
            value, failure = t.outcome()
            if failure is not None:
                if not self._return_exceptions:
                    error.collect_exceptions([failure], self._fname)
                yield failure
            elif self._joiner is None:
                yield value
            else:
                yield from self._items_of(value)
        self._finish()

    def _iterate_tasks(self) -> Iterator[Task]:
        for t in self._tasks:
            if not t.fetch():
                self._client._wait([t], None, None)
                t.fetch()
            yield t

    def _iterate_as_done(self) -> Iterator[Task]:
        pending = self._tasks
        while pending:
            there = [t.fetch() for t in pending]
            done = [t for t, came in zip(pending, there) if came]
            pending = [t for t, came in zip(pending, there) if not came]
            yield from done
            if pending and not done:
                self._client._wait(pending, None, 1)
                if self._was_cancelled:
                    raise CancelledError()


class AsyncHubResult(AsyncResult):
    """The result of a task that another client submitted (or this one, long ago): asked of the controller."""

    _interval = 0.1  # seconds between questions

    def __init__(self, client: Jobs, ids: list[str], fname: str = "unknown", single: bool = False,
                 owner: bool = True, return_exceptions: bool = False) -> None:
        from ._hub import HubTask

        AsyncResult.__init__(self, client, [HubTask(client, i) for i in ids], fname, single, owner, return_exceptions)

    def ready(self) -> bool:
        if not self._all_done:
            self._all_done = all([t.fetch() for t in self._tasks])
        return self._all_done or self._was_cancelled

    def _wait_for(self, timeout: float | None, n: int | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        want = len(self._tasks) if n is None else n
        while sum([t.fetch() for t in self._tasks]) < want:
            left = self._interval if deadline is None else min(self._interval, deadline - time.monotonic())
            if left <= 0:
                return False
            self._client._core.wait_event(left)
            self._client._pump()
        return True

    def _iterate(self) -> Iterator[Any]:
        for t in self._tasks:
            self._client._wait([t], None, None)
            yield AsyncResult(self._client, [t], self._fname).get(return_exceptions=self._return_exceptions)[0]

    def abort(self) -> None:
        """Takes the tasks that have not started off the queue."""
        self._client.abort(self.msg_ids)


def _rejoin(kind: type, connection: Any, ids: list[str], state: dict[str, Any]) -> Any:
    """Unpickles an AsyncResult: in the process that made it, or in another one that connects for it."""
    from .client import Client

    client = Client._for_pickle(connection)
    single = state.pop("single", False)
    base = client._tasks_or_hub(ids)
    if kind is AsyncMapResult:
        return AsyncMapResult(client, base, owner=True, **state)
    if kind is AsyncHubResult:
        return AsyncHubResult(client, ids, state["fname"], single)
    return AsyncResult(client, base, single=single, **state)

# SPDX-License-Identifier: BSD-3-Clause
"""A client's tasks while they are under way: submitting, waiting, taking results, output, and the dispatcher thread.

`_lock` guards the tables and is held only for moments, never while user code runs or while waiting
(submitting may wait for room). What comes beside results is taken off the C side by `_pump`, in
whichever thread looks next; callbacks run on the dispatcher thread alone.
"""
from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from . import error, serialize
from .asyncresult import _AWAY_AFTER, AsyncResult
from .task import (BYE, CANCEL, COMM, ENGINE_NONE, EVENT, MAP, OUTPUT, RESULT, STDERR, STDOUT, Task, parse_msg_id)

_KEEP_BYTES = 16 << 20   # payloads kept for resubmit
_KEEP_COUNT = 20_000
_KEEP_EACH = 1 << 20
_BY_VALUE = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}  # the route of a call that has a function's code
_RECENT = 4096           # finished tasks that late output can still find
_SWEEP_MIN = 8192        # tasks whose results nobody has taken, before it is asked whether somebody can
_AWAY_AGAIN, _AWAY_AGAIN_MAX = 60.0, 600.0  # seconds after which who still waits is told again, and at most
_SWEEP_BYTES = 64 << 10  # larger results stay: the controller may have them no more


class TaskTable:
    """The part of `Client` that this module is about; the other parts are what it declares and does not define."""

    _core: Any
    _session: int
    _closed: bool
    _engines: dict[int, dict[str, Any]]
    results: Any
    metadata: Any
    max_queued_tasks = 1_000_000   # a call waits while so many tasks,
    max_queued_bytes = 1 << 30     # or bytes of their arguments, have no result: set either on the client or its class

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._live: dict[Any, Task] = {}
        self._sweep_at = _SWEEP_MIN  # so many in _live
        self._recent: dict[Any, weakref.ref[Task]] = {}      # two generations each: the older one is dropped whole
        self._recent_before: dict[Any, weakref.ref[Task]] = {}
        self._ranges: list[list[int]] = []
        self._kept_payloads: dict[int, tuple] = {}
        self._kept_before: dict[int, tuple] = {}
        self._kept_bytes = 0
        self._split: tuple[Any, list] = (None, [])
        self._link_down: tuple[str, float] | None = None
        self._waiting_for: dict[str, tuple[float, float]] = {}  # who is away: when to tell it, and how long after that again
        self._watchers: dict[Any, list[AsyncResult]] = {}
        self._to_settle: deque[Any] = deque()  # for the dispatcher: AsyncResults, and keys of tasks that have ended
        self._streamers: list[Any] = []
        self._unread: deque[tuple] = deque()  # events that are off the C side and not taken in yet
        self._taken: list[tuple[Task, tuple]] = []  # results likewise
        self._dispatcher: threading.Thread | None = None
        self._twins: Any = None

    def _event(self, event: dict[str, Any]) -> None:
        raise NotImplementedError

    def _ended(self, reason: str | None) -> None:
        raise NotImplementedError

    def _let_arrive(self, ids: Iterable[str]) -> None:
        raise NotImplementedError

    def _away_text(self, tasks: Sequence[Task], at_least: float = 0.0) -> str:
        raise NotImplementedError

    def _uuid_of(self, number: int) -> str | None:
        raise NotImplementedError

    # ------------------------------------------------ tasks

    def _submit(self, kind: int, flags: int, engine: int, count: int, route: dict[str, Any] | None,
                packed: serialize.Packed, label: str | None = None, source: str = "",
                targets: Sequence[int] | None = None) -> list[Task]:
        """One TASK message; its Tasks, one for each of `count` ids."""
        if label is None and not route:
            route = _BY_VALUE if packed.by_value else None
        elif label is not None or packed.by_value:
            route = dict(route) if route else {}
            if label is not None:
                route["label"] = label = str(label)
            if packed.by_value:
                route |= _BY_VALUE
        if len(self._live) >= self._sweep_at:
            self._sweep()
        now = time.time_ns()
        self._core.wait_room(self.max_queued_tasks, self.max_queued_bytes)  # before the lock: others go on
        with self._lock:
            try:
                seq = self._core.submit(kind, flags, engine, count, route, packed, packed.shared)
            except OSError:
                if self._closed:
                    raise RuntimeError("this client is closed") from None
                raise
            if count == 1:
                task = Task(self, seq, kind, label, now, None if engine == ENGINE_NONE else engine, source)
                self._live[seq] = task
                tasks = [task]
            else:
                names: Sequence[Any] = targets if targets is not None else [None] * count
                tasks = [Task(self, seq + i, kind, label, now, names[i], source) for i in range(count)]
                self._live.update([(t.seq, t) for t in tasks])
            ranges = self._ranges
            if ranges and ranges[-1][1] == seq:
                ranges[-1][1] = seq + count
            else:
                ranges.append([seq, seq + count])
            if len(packed) == 1 + packed.shared and kind != MAP:
                size = len(packed[0]) if len(packed) == 1 else len(packed[0]) + len(packed[1])
                if size <= _KEEP_EACH:
                    self._keep(seq, count, (seq, kind, flags, engine, route, source, packed.by_value, *packed), size)
        return tasks

    def _sweep(self) -> None:
        """Drops the results, but for large ones, that have come and whose AsyncResult is gone: who has the id gets them from the controller."""
        live = self._live
        with self._lock:
            self._fetch(list(live.values()))
            ended = {key: weakref.ref(task) for key, task in live.items()
                     if task.record is not None and sum([len(b) for b in task.record[8]]) < _SWEEP_BYTES}
            for key, ref in ended.items():
                del live[key]
                if (task := ref()) is not None:
                    live[key] = task
            self._sweep_at = max(_SWEEP_MIN, 4 * len(live))

    def _keep(self, seq: int, count: int, call: tuple, size: int) -> None:
        """Keeps small calls, oldest out first, so that `resubmit` needs no one. A flat tuple of numbers, texts and bytes is
        nothing that the garbage collector has to follow."""
        kept = self._kept_payloads
        for i in range(seq, seq + count):
            kept[i] = call
        self._kept_bytes += size
        if self._kept_bytes > _KEEP_BYTES >> 1 or len(kept) > _KEEP_COUNT >> 1:
            self._kept_before, self._kept_payloads, self._kept_bytes = kept, {}, 0

    def _fetch(self, tasks: Iterable[Task]) -> None:
        """Takes the results that have come off the C side. Who sees a task's record finds its output, too."""
        take, taken = self._core.take, self._taken
        fetched: list[Task] = []
        try:
            with self._lock:
                for t in tasks:
                    if t.record is None:
                        take(t.key, taken, t)
                if taken:
                    fetched = [t for t, _ in taken]
                    try:
                        self._pump()  # the output that came before them
                    finally:
                        self._hand_out()
        finally:
            for t in fetched:
                if t._metadata is not None and t.record is not None:
                    t._stamp(t._metadata)

    def _hand_out(self) -> None:
        """Tasks get their records; the lock is held. They are nowhere else: what Ctrl-C interrupts here is made up for next time."""
        for t, record in self._taken:
            t.record = record
        self._taken.clear()

    def _collect(self, task: Task) -> bool:
        """Takes the one task of an AsyncResult with all that comes with it, under one lock; False if it is not done."""
        with self._lock:
            if task.record is None:
                self._core.take(task.key, self._taken, task)
                if self._taken:
                    try:
                        self._read()
                    finally:
                        self._hand_out()
                if task.record is None:
                    return False
            if self._live.pop(task.key, None) is not None:
                self._recent[task.key] = weakref.ref(task)
                if len(self._recent) > _RECENT:
                    self._recent_before, self._recent = self._recent, {}
        if task._metadata is not None:
            task._stamp(task._metadata)
        return True

    def _items(self, record: tuple) -> list[Any]:
        """A range RESULT's packed values; the last one is remembered, as its items are asked for in a row."""
        which = (record[9], record[10], record[1])
        seen, items = self._split
        if seen != which:
            items = serialize.split_values(record[8])
            self._split = (which, items)
        return items

    def _resolved(self, tasks: Iterable[Task], owner: bool) -> None:
        """An AsyncResult has taken over the results of these tasks."""
        recent = self._recent
        with self._lock:
            for t in tasks:
                if self._live.pop(t.key, None) is not None:
                    recent[t.key] = weakref.ref(t)
            if len(recent) > _RECENT:
                self._recent_before, self._recent = recent, {}
        if not owner:
            for t in tasks:
                self.results[t.msg_id] = result_of(t)
                self.metadata[t.msg_id] = t.metadata

    def _task_of(self, key: Any) -> Task | None:
        task = self._live.get(key)
        if task is None:
            ref = self._recent.get(key) or self._recent_before.get(key)
            task = ref() if ref is not None else None
        return task

    def _forget(self, tasks: Iterable[Task]) -> None:
        """Nobody wants these results."""
        with self._lock:
            for lo, hi in spans(t.seq for t in tasks if not t.polled):
                self._core.forget(lo, hi - lo)
                for seq in range(lo, hi):
                    self._live.pop(seq, None)

    def _give_up(self, tasks: Iterable[Task]) -> None:
        """They are cancelled: nobody wants these results, and who else waits for them is told."""
        tasks = list(tasks)
        self._forget(tasks)
        with self._lock:
            watching = [ar for t in tasks for ar in self._watchers.pop(t.key, ())]
        for t in tasks:
            t.give_up()
        for ar in watching:
            self._settle_later(ar)

    def _send_cancel(self, tasks: Iterable[Task], flags: int, aux: int) -> None:
        sessions: dict[int, list[int]] = {}
        for t in tasks:
            session, seq = parse_msg_id(t.msg_id)
            sessions.setdefault(session, []).append(seq)
        for session, seqs in sessions.items():
            for lo, hi in spans(seqs):
                self._core.send(CANCEL, session=session, seq=lo, count=hi - lo, flags=flags, aux=aux)

    def _wait(self, tasks: Sequence[Task], timeout: float | None, n: int | None) -> bool:
        """Waits until n (None: all) of the tasks have results; says on stderr when that is because somebody is away."""
        core = self._core
        began = time.monotonic()
        deadline = None if timeout is None else began + timeout
        polled = any([t.polled for t in tasks])
        chunk = 0.1 if polled else _AWAY_AFTER
        keys = [t.key for t in tasks]
        while True:
            left = chunk if deadline is None else min(chunk, deadline - time.monotonic())
            if polled:
                if sum([t.fetch() for t in tasks]) >= (len(tasks) if n is None else n):
                    return True
                core.wait_event(max(0.0, left))
            elif core.wait(keys, max(0.0, left), n):
                return True
            self._pump()
            self._say_who_is_away(tasks, began)
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def _say_who_is_away(self, tasks: Sequence[Task], began: float) -> None:
        """On stderr, when somebody has been waited for for 2 s, be it in one call or in many short ones; again after a minute, two, four …"""
        away = self._away_text(tasks, _AWAY_AFTER / 4)  # who has died is away for a moment
        if away:
            subject = away.partition(" s")[0].rstrip("0123456789")
            due, pause = self._waiting_for.setdefault(subject, (began + _AWAY_AFTER, _AWAY_AGAIN))
            if (now := time.monotonic()) >= due:
                self._waiting_for[subject] = now + pause, min(2 * pause, _AWAY_AGAIN_MAX)
                print(away, file=sys.stderr)

    def _pump(self) -> None:
        """Takes in what came beside results: output, engines, results that somebody watches."""
        with self._lock:
            self._read()
        if self._to_settle and threading.current_thread() is not self._dispatcher:
            self._core.wake()

    def _read(self) -> None:
        """Takes in all events of `_core.Client.poll`; the lock is held. What comes behind one that fails is taken in next time."""
        unread = self._unread
        self._core.poll(unread)
        while unread:
            event = unread[0]
            again = event[0] != COMM  # by a KeyboardInterrupt; what is filed and what only changes tables may be taken in twice
            try:
                self._take_in(event)
                again = False
            except Exception:
                again = False
                raise
            finally:
                if not again:
                    self._drop(event)

    def _drop(self, event: tuple) -> None:
        """It is taken in; the lock is held. (A signal's handler may have done that meanwhile.)"""
        if self._unread and self._unread[0] is event:
            self._unread.popleft()

    def _take_in(self, event: tuple) -> None:
        type_, status, _, session, seq, engine, _, buffers = event
        key = seq if session == self._session else (session, seq)
        if type_ == OUTPUT:
            task = self._task_of(key)
            if task is not None:
                self._output(task, status, engine, buffers, event)
        elif type_ == COMM:
            self._comm(session, seq, engine, buffers)
        elif type_ == EVENT:
            self._event(json.loads(bytes(buffers[0])))
        elif type_ == RESULT:
            self._to_settle.append(key)
        elif type_ == BYE:
            self._ended(json.loads(bytes(buffers[0])).get("reason") if buffers else None)

    def _output(self, task: Task, kind: int, engine: int, buffers: Any, event: tuple) -> None:
        if task.target is None:
            task.target = engine
            if task._metadata is not None and task._metadata["engine_id"] is None:
                task._metadata.update(engine_id=engine, engine_uuid=self._uuid_of(engine))
        task.output(kind, buffers)
        self._drop(event)  # it is filed, once
        if self._streamers:
            self._stream(task, kind, buffers)

    def _comm(self, session: int, seq: int, engine: int, buffers: Any) -> None:
        """A widget's message from an engine (its twin is in this process, if this is a kernel's)."""
        if self._twins is None:
            from ._comms import CommTwins

            self._twins = CommTwins(self)  # type: ignore[arg-type]
        self._twins.receive(session, seq, engine, buffers)

    # ------------------------------------------------ the dispatcher

    def _start_dispatcher(self) -> None:
        with self._lock:
            if self._dispatcher is None or not self._dispatcher.is_alive():
                self._dispatcher = threading.Thread(target=_dispatch, args=(weakref.ref(self), self._core), daemon=True,
                                                    name="covey-dispatcher")
                self._dispatcher.start()

    def _watch(self, ar: AsyncResult) -> None:
        """The dispatcher settles `ar` when its results have come."""
        polled = [t for t in ar._tasks if t.polled]
        self._start_dispatcher()
        if polled:
            threading.Thread(target=self._watch_polled, args=(ar,), daemon=True, name="covey-hub-result").start()
            return
        keys = [t.key for t in ar._pending()]
        with self._lock:  # until it is counted, the dispatcher hears of none of them: others may watch the same tasks
            for key in keys:
                self._watchers.setdefault(key, []).append(ar)
            ar._unseen = len(keys) - self._core.done_count(keys)
        self._core.watch(keys)
        if self._core.done_count(keys) == len(keys):
            self._settle_later(ar)

    def _watch_polled(self, ar: AsyncResult) -> None:
        try:
            self._wait(ar._pending(), None, None)
        except OSError as e:  # the client was closed: nobody can be asked any more
            for t in ar._pending():
                t.lose(str(e))
        self._settle_later(ar)

    def _next_to_settle(self) -> Sequence[AsyncResult]:
        """Whom the next entry is about. On the dispatcher thread, which Ctrl-C does not reach."""
        entry = self._to_settle.popleft()
        if isinstance(entry, AsyncResult):
            return (entry,)
        with self._lock:
            return self._watchers.pop(entry, ())

    def _settle_later(self, ar: AsyncResult) -> None:
        ar._unseen = 0
        self._start_dispatcher()
        self._to_settle.append(ar)
        self._core.wake()

    def _stream(self, task: Task, kind: int, buffers: Any) -> None:
        text, content = "", {}
        if kind in (STDOUT, STDERR):
            text = b"".join(map(bytes, buffers)).decode("utf-8", "replace")
        elif kind != 8:
            content = json.loads(bytes(buffers[0]))
        for streamer in self._streamers:
            if task.key in streamer.tasks:
                streamer.output(task, kind, text, content)

    def _add_streamer(self, streamer: Any) -> None:
        self._start_dispatcher()
        with self._lock:
            self._pump()
            streamer.start()
            self._streamers.append(streamer)

    def _remove_streamer(self, streamer: Any) -> None:
        with self._lock:
            self._streamers.remove(streamer)

    # ------------------------------------------------ questions to the controller

    def _query_buffers(self, name: str, **arguments: Any) -> tuple[Any, Any]:
        body = json.dumps({"query": name, **arguments}, default=_jsonable).encode()
        try:
            seq = self._core.query(body)
        except OSError:
            if self._closed:
                raise OSError("this client is closed") from None
            raise
        told = False
        try:
            while not self._core.wait([seq], _AWAY_AFTER):
                self._pump()
                if self._link_down is not None and not told:
                    told = True
                    print(self._away_text([]), file=sys.stderr)
            record = self._core.take(seq)
        except BaseException:  # Ctrl-C: nobody waits for the answer any more
            self._core.forget(seq, 1)
            raise
        self._pump()
        buffers = record[8]
        answer = json.loads(bytes(buffers[0])) if buffers else {}
        if record[0] != 0 or "error" in answer:
            failure = answer.get("error", answer)
            raise error.unwrap_exception({"ename": failure.get("ename", "KernelError"),
                                          "evalue": failure.get("evalue", ""), "traceback": []})
        return answer.get("ok"), buffers[1:]

    def _query(self, name: str, **arguments: Any) -> Any:
        return self._query_buffers(name, **arguments)[0]


def result_of(task: Task) -> Any:
    """The value of a task that has ended, or its error."""
    task.fetch()
    value, failure = task.outcome()
    return value if failure is None else failure


def spans(seqs: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ranges [lo, hi) of numbers."""
    numbers = sorted(seqs)
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            yield numbers[start], numbers[i - 1] + 1
            start = i


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, (set, frozenset, range)):
        return list(value)
    raise TypeError(f"can't ask the controller about {type(value).__name__}: {value!r}")


def _pump_all(rc: TaskTable) -> None:
    """Takes in everything; what fails (a stream that is closed, a listener's own error) is shown and passed over."""
    before = -1
    while before != len(rc._unread):
        before = len(rc._unread)
        try:
            rc._pump()
            return
        except Exception:
            with contextlib.suppress(Exception):
                traceback.print_exc()


def _settle_safely(ar: AsyncResult) -> None:
    """Settles it; what fails on the way (a listener, what a callback raises) is shown, and the thread goes on.

    Tried twice: what fails first is, like in `_pump_all`, something else that came; the results are taken then.
    """
    for _ in range(2):
        try:
            ar._settle()
            return
        except BaseException:  # sys.exit() in a callback, too: others wait for this thread
            with contextlib.suppress(Exception):
                traceback.print_exc()


def _dispatch(client: "weakref.ref[TaskTable]", core: Any) -> None:
    """The dispatcher thread: settles watched results and takes in output. Ends with its client."""
    while True:
        try:
            core.wait_event(1.0)
        except (OSError, RuntimeError):
            return
        rc = client()
        if rc is None:
            return
        _pump_all(rc)
        while rc._to_settle:
            for ar in rc._next_to_settle():
                ar._unseen -= 1
                if ar._unseen <= 0:
                    _settle_safely(ar)
        if rc._closed and not rc._watchers:
            return
        del rc

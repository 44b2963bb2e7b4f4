# SPDX-License-Identifier: BSD-3-Clause
"""The Client: a connection to a cluster, its engines and its tasks.

Locks: `_lock` guards the tables of tasks and engines and is held only for moments, never while
user code runs or while waiting. Events (output, engines that come and go) are taken off the C side
by `_pump`, in whichever thread looks next; callbacks run on the dispatcher thread alone.
"""
from __future__ import annotations

import json
import operator
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import _connect, error, serialize
from .asyncresult import _AWAY_AFTER, AsyncHubResult, AsyncResult, _limit
from .task import (ABORT, BROADCAST, BYE, CANCEL, COMM, DIRECT, ENGINE_NONE, EVENT, MAP, OUTPUT, RESULT, STDERR,
                   STDOUT, Task, msg_id, parse_msg_id)
from .util import as_list, extract_dates, int_keys, interactive_session, plural, progress

if TYPE_CHECKING:
    from .executor import ViewExecutor
    from .view import BroadcastView, DirectView, LoadBalancedView

__all__ = ["Client"]

_KEEP_BYTES = 16 << 20   # payloads kept for resubmit
_KEEP_COUNT = 20_000
_KEEP_EACH = 1 << 20
_RECENT = 4096           # finished tasks that late output can still find

_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client._lock = threading.RLock()
        client._dispatcher = None


os.register_at_fork(after_in_child=_after_fork)


class _Cache(MutableMapping):
    """`rc.results`, `rc.metadata`: what was put there, and what live tasks can say."""

    def __init__(self, client: Client, look: Callable[[Task], Any], covers: Callable[[Task], bool]):
        self._client, self._look, self._covers = weakref.proxy(client), look, covers
        self._kept: dict[str, Any] = {}

    def _live(self, key: Any) -> Task | None:
        try:
            session, seq = parse_msg_id(key)
        except (ValueError, AttributeError):
            return None
        task = self._client._live.get(seq) if session == self._client._session else None
        return task if task is not None and self._covers(task) else None

    def __getitem__(self, key: str) -> Any:
        if key in self._kept:
            return self._kept[key]
        self._client._pump()
        task = self._live(key)
        if task is None:
            raise KeyError(key)
        return self._look(task)

    def __setitem__(self, key: str, value: Any) -> None:
        self._kept[key] = value

    def __delitem__(self, key: str) -> None:
        if self._kept.pop(key, self) is self:
            task = self._live(key)
            if task is None:
                raise KeyError(key)
            self._client._live.pop(task.seq, None)

    def __contains__(self, key: Any) -> bool:
        return key in self._kept or self._live(key) is not None

    def __iter__(self) -> Iterator[str]:
        seen = dict.fromkeys(self._kept)
        seen.update((t.msg_id, None) for t in list(self._client._live.values()) if self._covers(t))
        return iter(seen)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        for key in list(self):
            self.pop(key, None)

    def __repr__(self) -> str:
        return f"<{plural(len(self), 'entry') if len(self) == 1 else f'{len(self)} entries'}>"


def _result_of(task: Task) -> Any:
    task.fetch()
    value, failure = task.outcome()
    return value if failure is None else failure


class Client:
    """A connection to a cluster.

    >>> rc = ipp.Client()                       # the cluster of the default profile
    >>> rc = ipp.Client(profile="ssh")          # of another profile
    >>> rc = ipp.Client("/path/ipcontroller-client.json")
    >>> rc.ids                                  # the engines' numbers
    [0, 1, 2, 3]
    >>> rc[:]                                   # a DirectView of all engines; rc[0], rc[::2], rc[[1, 3]]
    >>> rc.load_balanced_view()                 # any engine that is free

    connection_info : path of a connection file, or its content as a dict
    url_file : another name for it
    profile, profile_dir, ipython_dir : where to look for the file otherwise
    cluster_id : of a cluster that was started with one
    timeout : seconds for the file to appear and the controller to answer (OSError, TimeoutError)
    cluster : the Cluster object that this client belongs to
    debug : print events

    All methods may be called from any thread. A client belongs to the process that made it: after
    a fork it raises in the child. Use it as a context manager, or `close` it.
    """

    block = False
    _closed = True

    def __init__(self, connection_info: str | os.PathLike | Mapping[str, Any] | None = None, *,
                 url_file: str | os.PathLike | None = None, profile: str | None = None,
                 profile_dir: str | None = None, ipython_dir: str | None = None, context: Any = None,
                 debug: bool = False, sshserver: str | None = None, sshkey: str | None = None,
                 password: str | None = None, paramiko: Any = None, timeout: float = 10,
                 cluster_id: str | None = None, cluster: Any = None, url_or_file: str | os.PathLike | None = None,
                 **unused: Any):
        self._pid = os.getpid()
        if url_or_file is not None:
            import warnings

            warnings.warn("url_or_file= is connection_info's old name", DeprecationWarning, stacklevel=2)
        source = connection_info if connection_info is not None else url_file if url_file is not None else url_or_file
        self.debug = debug
        self.cluster = cluster
        self.profile = profile or "default"
        config, self._source = self._find(source, profile, profile_dir, ipython_dir, cluster_id, timeout)
        server = sshserver or config.get("ssh")
        if sshserver:
            raise NotImplementedError(
                f"sshserver={sshserver!r}: connecting through ssh is not in this version; forward the controller's "
                f"port yourself (ssh -L PORT:127.0.0.1:PORT {server}) and put 127.0.0.1 as \"location\" in the file")
        for name in ("sshkey", "password", "paramiko", "context"):
            if locals()[name] is not None:
                unused[name] = locals()[name]
        if unused:
            print(f"Client: {', '.join(sorted(unused))} mean{'s' if len(unused) == 1 else ''} nothing here "
                  "and is ignored (there is no zmq; keys are in the connection file)", file=sys.stderr)
        self._lock = threading.RLock()
        self._live: dict[Any, Task] = {}
        self._recent: dict[Any, weakref.ref[Task]] = {}      # two generations each: the older one is dropped whole
        self._recent_before: dict[Any, weakref.ref[Task]] = {}
        self._ranges: list[list[int]] = []
        self._kept_payloads: dict[int, tuple] = {}
        self._kept_before: dict[int, tuple] = {}
        self._kept_bytes = 0
        self._split: tuple[Any, list] = (None, [])
        self._engines: dict[int, dict[str, Any]] = {}
        self._dead: dict[int, str] = {}
        self._deaths = 0
        self._link_down: tuple[str, float] | None = None
        self._watchers: dict[Any, list[AsyncResult]] = {}
        self._to_settle: deque[AsyncResult] = deque()
        self._streamers: list[Any] = []
        self._twins: Any = None
        self._listeners: list[Callable[[dict[str, Any]], None]] = []
        self._dispatcher: threading.Thread | None = None
        self.results = _Cache(self, _result_of, Task.done)
        self.metadata = _Cache(self, lambda t: (t.fetch(), t.metadata)[1], lambda t: True)
        self._core = _connect.connect(config, timeout)
        self._closed = False
        self._session: int = self._core.session
        self._boot_id = config["boot_id"]
        self._adopt(self._core.welcome)
        _clients.add(self)
        self._activate_magics()

    def _find(self, source: Any, profile: str | None, profile_dir: str | None, base: str | None,
              cluster_id: str | None, timeout: float) -> tuple[dict[str, Any], Any]:
        if isinstance(source, Mapping):
            return _connect.check(source, "the connection_info given"), dict(source)
        if source is not None:
            path = os.fspath(source)
            if "://" in path:
                raise ValueError(f"connection_info is the path of a connection file or a dict, not a url: {path!r}")
            return _connect.read_file(path), os.path.abspath(os.path.expanduser(path))
        folder = _connect.find_profile_dir(profile, profile_dir, base)
        path = _connect.connection_file(folder, cluster_id)
        _connect.wait_for_file(path, timeout)
        return _connect.read_file(path), path

    def _activate_magics(self) -> None:
        """The first client of an IPython session makes %px work, on all engines."""
        ip = sys.modules.get("IPython")
        shell = ip.get_ipython() if ip is not None else None
        manager = getattr(shell, "magics_manager", None)
        if manager is not None and "px" not in manager.magics["line"]:
            self.activate()

    def __repr__(self) -> str:
        if self._closed:
            return f"<{type(self).__name__}: closed>"
        away = self._away_text([])
        return f"<{type(self).__name__}: {plural(len(self.ids), 'engine')}{', ' + away if away else ''}>"

    # ------------------------------------------------ engines

    def _adopt(self, welcome: Mapping[str, Any]) -> None:
        now = {int(e["id"]): e for e in welcome.get("engines", ())}
        for number in self._engines.keys() - now.keys():
            self._dead.setdefault(number, f"engine {number} is gone")
            self._deaths += 1
        self._engines = now
        note = welcome.get("python")
        if note:
            print(note, file=sys.stderr)

    def _event(self, event: dict[str, Any]) -> None:
        name = event.get("event")
        if self.debug:
            print("covey:", event, file=sys.stderr)
        engines = self._engines
        if name in ("engine_joined", "engine_restarted"):
            engine = event["engine"]
            number = int(engine["id"])
            self._dead.pop(number, None)
            engines[number] = engine
            if name == "engine_restarted":
                print(f"engine {number} was restarted: its namespace is new", file=sys.stderr)
        elif name == "engine_away":
            engine = engines.get(int(event["id"]))
            if engine is not None:
                engine.update(state="away", away_since=time.time(), why=event.get("why"))
        elif name == "engine_back":
            engine = engines.get(int(event["id"]))
            if engine is not None:
                engine.update(state="up", away_since=None, why=None)
        elif name == "engine_died":
            number = int(event["id"])
            cause = event.get("cause") or {}
            if engines.pop(number, None) is not None:
                self._deaths += 1
            self._dead[number] = cause.get("text") or f"engine {number} died"
        elif name == "notice":
            print(event.get("text", ""), file=sys.stderr)
        elif name == "link_lost":
            self._link_down = (event.get("why") or "the link was cut", time.time())
        elif name == "link_back":
            self._link_down = None
            welcome = event.get("welcome")
            if isinstance(welcome, str):
                welcome = json.loads(welcome)
            if welcome:
                self._adopt(welcome)
        for listener in list(self._listeners):
            listener(event)

    def _uuid_of(self, number: int) -> str | None:
        engine = self._engines.get(number)
        return engine.get("uuid") if engine else None

    @property
    def ids(self) -> list[int]:
        """The engines' numbers, sorted. An engine whose link is cut stays; a dead one leaves."""
        self._pump()
        return sorted(self._engines)

    def __len__(self) -> int:
        """How many engines there are."""
        return len(self.ids)

    def __iter__(self) -> Iterator[DirectView]:
        """A view of each engine, in order."""
        for number in self.ids:
            yield self.direct_view(number)

    def __getitem__(self, key: Any) -> DirectView:
        """``rc[0]``, ``rc[-1]``, ``rc[1:3]``, ``rc[[0, 2]]``: a DirectView of these engines as they are now."""
        if isinstance(key, slice):
            return self.direct_view(self.ids[key])
        if isinstance(key, (str, bytes)) or key is None:
            raise TypeError(f"rc[…] takes engine numbers: an int, a slice or a list, not {type(key).__name__}")
        try:
            number = operator.index(key)
        except TypeError:
            return self.direct_view(self._numbers(key))
        ids = self.ids
        if number < 0:
            if number + len(ids) < 0:
                raise IndexError(f"rc[{number}]: there are only {plural(len(ids), 'engine')}")
            number = ids[number]
        return self.direct_view(self._known(number))

    def _known(self, number: int) -> int:
        if number not in self._engines:
            self._pump()
            if number not in self._engines:
                why = self._dead.get(number)
                raise IndexError(f"no engine {number}: {why}" if why else f"no engine {number}; there are {self.ids}")
        return number

    def _numbers(self, targets: Any) -> list[int]:
        if not isinstance(targets, Iterable):
            raise TypeError(f"targets are engine numbers or 'all', not {type(targets).__name__}")
        try:
            return [self._known(operator.index(t)) for t in targets]
        except TypeError:
            raise TypeError(f"targets are engine numbers (ints): {targets!r}") from None

    def _build_targets(self, targets: Any) -> list[int]:
        """Engine numbers of 'all', None, an int, a slice or a list."""
        if targets is None or isinstance(targets, str):
            if targets not in (None, "all"):
                raise TypeError(f"targets are engine numbers or 'all', not {targets!r}")
            ids = self.ids
            if not ids:
                raise error.NoEnginesRegistered("there are no engines: start some, and rc.wait_for_engines(n)")
            return ids
        if isinstance(targets, slice):
            return self.ids[targets]
        if isinstance(targets, Iterable):
            return self._numbers(targets)
        try:
            number = operator.index(targets)
        except TypeError:
            raise TypeError(f"targets are engine numbers or 'all', not {targets!r}") from None
        return [self.ids[number] if number < 0 else self._known(number)]

    def _check_alive(self, numbers: Iterable[int]) -> None:
        """EngineError for an engine that is dead, with the cause."""
        for number in numbers:
            if number not in self._engines:
                self._pump()
                if number not in self._engines:
                    why = self._dead.get(number, "there is no such engine")
                    raise error.EngineError(f"engine {number} can't be used: {why}")

    def _away_text(self, tasks: Sequence[Task]) -> str:
        """What keeps these tasks waiting: a link that is cut; '' if nothing is known to."""
        self._pump()
        if self._link_down is not None:
            why, since = self._link_down
            return f"waiting for the controller, away since {time.time() - since:.0f} s: {why}"
        away = [e for e in self._engines.values() if e.get("state") == "away"]
        if not away:
            return ""
        wanted = {t.target for t in tasks}
        waiting = [e for e in away if int(e["id"]) in wanted]
        if not waiting and None in wanted and len(away) == len(self._engines):
            waiting = away
        if not waiting:
            return ""
        texts = [f"engine {e['id']}, away since {time.time() - (e.get('away_since') or time.time()):.0f} s"
                 + (f": {e['why']}" if e.get("why") else "") for e in waiting[:3]]
        more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
        return f"waiting for {'; '.join(texts)}{more}"

    # ------------------------------------------------ tasks

    def _submit(self, kind: int, flags: int, engine: int, count: int, route: dict[str, Any] | None,
                packed: serialize.Packed, label: str | None = None, source: str = "",
                targets: Sequence[int] | None = None) -> list[Task]:
        """One TASK message; its Tasks, one for each of `count` ids."""
        if label is not None or packed.by_value:
            route = dict(route) if route else {}
            if label is not None:
                route["label"] = label
            if packed.by_value:
                route["python"] = f"{sys.version_info.major}.{sys.version_info.minor}"
        now = time.time_ns()
        with self._lock:
            try:
                seq = self._core.submit(kind, flags, engine, count, route, packed)
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
            if len(packed) == 1 and kind != MAP and len(packed[0]) <= _KEEP_EACH:
                self._keep(tasks, (kind, flags, engine, route, packed, source))
        return tasks

    def _keep(self, tasks: list[Task], payload: tuple) -> None:
        """Keeps small payloads, oldest out first, so that `resubmit` needs no one."""
        kept = self._kept_payloads
        for i, t in enumerate(tasks):
            kept[t.seq] = (i, payload)
        self._kept_bytes += len(payload[4][0])
        if self._kept_bytes > _KEEP_BYTES >> 1 or len(kept) > _KEEP_COUNT >> 1:
            self._kept_before, self._kept_payloads, self._kept_bytes = kept, {}, 0

    def _fetch(self, tasks: Iterable[Task]) -> None:
        """Takes the results that have come off the C side."""
        fetched = []
        take = self._core.take
        with self._lock:
            for t in tasks:
                if t.record is None:
                    record = take(t.key)
                    if record is not None:
                        t.record = record
                        fetched.append(t)
            if fetched:
                self._pump()  # the output that came before them
        for t in fetched:
            if t._metadata is not None:
                t._stamp(t._metadata)

    def _collect(self, task: Task) -> bool:
        """Takes the one task of an AsyncResult with all that comes with it, under one lock; False if it is not done."""
        with self._lock:
            if task.record is None:
                task.record = self._core.take(task.key)
                if task.record is None:
                    return False
            events = self._core.poll()
            if events:
                self._take_in(events)
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
                self.results[t.msg_id] = _result_of(t)
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
            for lo, hi in _spans(t.seq for t in tasks if not t.polled):
                self._core.forget(lo, hi - lo)
                for seq in range(lo, hi):
                    self._live.pop(seq, None)

    def _send_cancel(self, tasks: Iterable[Task], flags: int, aux: int) -> None:
        sessions: dict[int, list[int]] = {}
        for t in tasks:
            session, seq = parse_msg_id(t.msg_id)
            sessions.setdefault(session, []).append(seq)
        for session, seqs in sessions.items():
            for lo, hi in _spans(seqs):
                self._core.send(CANCEL, session=session, seq=lo, count=hi - lo, flags=flags, aux=aux)

    def _wait(self, tasks: Sequence[Task], timeout: float | None, n: int | None) -> bool:
        """Waits until n (None: all) of the tasks have results; says on stderr when that is because somebody is away."""
        core = self._core
        deadline = None if timeout is None else time.monotonic() + timeout
        polled = any([t.polled for t in tasks])
        chunk = 0.1 if polled else _AWAY_AFTER
        keys = [t.key for t in tasks]
        told = ""
        while True:
            left = chunk if deadline is None else min(chunk, deadline - time.monotonic())
            if polled:
                if sum([t.fetch() for t in tasks]) >= (len(tasks) if n is None else n):
                    return True
                core.wait_event(max(0.0, left))
            elif core.wait(keys, max(0.0, left), n):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self._pump()
            if left >= _AWAY_AFTER:
                away = self._away_text(tasks)
                subject = away.partition(" s")[0].rstrip("0123456789")
                if away and subject != told:
                    told = subject
                    print(away, file=sys.stderr)

    def _pump(self) -> None:
        """Takes in what came beside results: output, engines, results that somebody watches."""
        with self._lock:
            events = self._core.poll()
            if events:
                self._take_in(events)
        if self._to_settle and threading.current_thread() is not self._dispatcher:
            self._core.wake()

    def _take_in(self, events: list[tuple]) -> None:
        """Events of `_core.Client.poll`; the lock is held."""
        for type_, status, _, session, seq, engine, _, buffers in events:
            key = seq if session == self._session else (session, seq)
            if type_ == OUTPUT:
                task = self._task_of(key)
                if task is not None:
                    self._output(task, status, engine, buffers)
            elif type_ == COMM:
                self._comm(session, seq, engine, buffers)
            elif type_ == EVENT:
                self._event(json.loads(bytes(buffers[0])))
            elif type_ == RESULT:
                self._to_settle.extend(self._watchers.pop(key, ()))
            elif type_ == BYE:
                self._link_down = ("the controller is gone", time.time())

    def _output(self, task: Task, kind: int, engine: int, buffers: Any) -> None:
        if task.target is None:
            task.target = engine
            if task._metadata is not None and task._metadata["engine_id"] is None:
                task._metadata.update(engine_id=engine, engine_uuid=self._uuid_of(engine))
        task.output(kind, buffers)
        if self._streamers:
            self._stream(task, kind, buffers)

    def _comm(self, session: int, seq: int, engine: int, buffers: Any) -> None:
        """A widget's message from an engine (its twin is in this process, if this is a kernel's)."""
        if self._twins is None:
            from ._comms import CommTwins

            self._twins = CommTwins(self)
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
        with self._lock:
            for key in keys:
                self._watchers.setdefault(key, []).append(ar)
        ar._unseen = len(keys) - self._core.done_count(keys)
        self._core.watch(keys)
        if self._core.done_count(keys) == len(keys):
            self._settle_later(ar)

    def _watch_polled(self, ar: AsyncResult) -> None:
        try:
            self._wait(ar._pending(), None, None)
        except OSError:
            return
        self._settle_later(ar)

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
        while not self._core.wait([seq], _AWAY_AFTER):
            self._pump()
            if self._link_down is not None and not told:
                told = True
                print(self._away_text([]), file=sys.stderr)
        record = self._core.take(seq)
        buffers = record[8]
        answer = json.loads(bytes(buffers[0])) if buffers else {}
        if record[0] != 0 or "error" in answer:
            failure = answer.get("error", answer)
            raise error.unwrap_exception({"ename": failure.get("ename", "KernelError"),
                                          "evalue": failure.get("evalue", ""), "traceback": []})
        return answer.get("ok"), buffers[1:]

    def _query(self, name: str, **arguments: Any) -> Any:
        return self._query_buffers(name, **arguments)[0]

    # ------------------------------------------------ jobs

    @property
    def history(self) -> list[str]:
        """The ids of all tasks of this client, by submission."""
        return [msg_id(self._session, seq) for lo, hi in self._ranges for seq in range(lo, hi)]

    @property
    def outstanding(self) -> set[str]:
        """The ids of tasks whose results have not come."""
        with self._lock:
            tasks = list(self._live.values())
        return {t.msg_id for t in tasks if not t.done()}

    def _ids_of(self, jobs: Any, default: Iterable[str] | None = None) -> list[str]:
        """msg_ids of jobs: AsyncResults, ids, indices into `history`, or a list of such."""
        if jobs is None:
            return list(self.outstanding if default is None else default)
        ids: list[str] = []
        items = [jobs] if not isinstance(jobs, Iterable) or isinstance(jobs, (str, Future)) else jobs
        for job in items:
            if isinstance(job, AsyncResult):
                ids += job.msg_ids
            elif isinstance(job, str):
                ids.append(job)
            elif isinstance(job, int) or hasattr(job, "__index__"):
                ids.append(self.history[operator.index(job)])
            elif hasattr(job, "msg_ids"):
                ids += job.msg_ids
            elif hasattr(job, "msg_id"):
                ids.append(job.msg_id)
            else:
                raise TypeError(f"a job is an AsyncResult, a msg_id or an index into history, not {type(job).__name__}")
        return ids

    def _local(self, id: str) -> Task | None:
        """The Task of an id that is still known here."""
        try:
            session, seq = parse_msg_id(id)
        except ValueError:
            return None
        return self._task_of(seq if session == self._session else (session, seq))

    def _tasks_or_hub(self, ids: Iterable[str]) -> list[Task]:
        from ._hub import HubTask

        return [self._local(i) or HubTask(self, i) for i in ids]

    def wait(self, jobs: Any = None, timeout: float | None = -1) -> bool:
        """Waits for jobs (default: all that are outstanding), at most `timeout` seconds; tells whether all are done.

        jobs : an AsyncResult, Future, msg_id or index into `history`, or a list of these
        """
        limit = _limit(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        futures = [j for j in as_list(jobs) if isinstance(j, Future) and not isinstance(j, AsyncResult)]
        if futures:
            import concurrent.futures

            jobs = [j for j in as_list(jobs) if j not in futures]
            if concurrent.futures.wait(futures, limit).not_done:
                return False
        tasks = [t for i in self._ids_of(jobs) if (t := self._local(i)) is not None and t.record is None]
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return not tasks or self._wait(tasks, left, None)

    def wait_interactive(self, jobs: Any = None, interval: float = 1.0, timeout: float | None = -1.0,
                         widget: bool | None = None) -> None:
        """`wait` with a progress bar."""
        tasks = [t for i in self._ids_of(jobs) if (t := self._local(i)) is not None]
        AsyncResult(self, tasks, "tasks", owner=False).wait_interactive(interval, timeout, widget)

    def get_result(self, indices_or_msg_ids: Any = None, block: bool | None = None, owner: bool = True, *,
                   label: str | None = None) -> Any:
        """The AsyncResult of tasks: by msg_id, index into `history` (default -1), AsyncResult, a list of these, or label.

        Tasks of other clients are asked of the controller. ``block=True`` returns the result itself.
        """
        if label is not None:
            ids = [r["msg_id"] for r in self.db_query({"label": label}, keys=["msg_id"])]
            if not ids:
                raise KeyError(f"no task has the label {label!r}")
            single = False
        else:
            jobs = -1 if indices_or_msg_ids is None else indices_or_msg_ids
            single = isinstance(jobs, (str, int)) or isinstance(jobs, AsyncResult) and jobs._single
            ids = self._ids_of(jobs)
        local = [self._local(i) for i in ids]
        ar: AsyncResult
        if all(t is not None for t in local):
            ar = AsyncResult(self, local, "get_result", single, owner)  # type: ignore[arg-type]
        elif all(i in self.results._kept for i in ids):
            ar = _cached_result(self, ids, single, owner)
        else:
            ar = AsyncHubResult(self, ids, "get_result", single, owner)
        return ar.get() if (self.block if block is None else block) else ar

    def result_status(self, msg_ids: Any, status_only: bool = True) -> dict[str, Any]:
        """{'pending': [ids], 'completed': [ids]}; with ``status_only=False`` also {id: result}, raising if one failed."""
        ids = self._ids_of(msg_ids)
        status: dict[str, Any] = {"pending": [], "completed": []}
        elsewhere = []
        for i in ids:
            task = self._local(i)
            if task is not None:
                status["completed" if task.done() else "pending"].append(i)
            elif i in self.results._kept:
                status["completed"].append(i)
            else:
                elsewhere.append(i)
        if elsewhere:
            answer = self._query("result_status", ids=elsewhere)
            if answer.get("unknown"):
                raise error._remake("KeyError", f"no such task: {', '.join(answer['unknown'])}", "", {})
            status["pending"] += answer.get("pending", [])
            status["completed"] += answer.get("completed", [])
        if not status_only:
            for i in status["completed"]:
                status[i] = self.get_result(i, owner=False).get()
        return status

    def queue_status(self, targets: Any = "all", verbose: bool = False) -> dict[Any, Any]:
        """What engines have to do: {id: {'queue', 'tasks', 'completed'}, …, 'unassigned'}; of one int target its dict.

        verbose : lists of msg_ids instead of counts
        """
        wanted = None if targets is None or isinstance(targets, str) and targets == "all" else \
            self._build_targets(targets)
        answer = int_keys(self._query("queue_status", targets=wanted, verbose=verbose))
        if wanted is not None and not isinstance(targets, (Iterable, slice)):
            return answer[wanted[0]]
        return answer

    def hub_history(self) -> list[str]:
        """The ids of all tasks that the controller has records of, of all clients, by submission."""
        return self._query("history")

    def db_query(self, query: Mapping[str, Any], keys: Any = None) -> list[dict[str, Any]]:
        """The controller's records of tasks that match: ``rc.db_query({'label': {'$glob': 'a*'}}, keys='msg_id')``.

        keys : which fields (a str or a list; msg_id always comes). Dates are datetimes.
        """
        if isinstance(keys, str):
            keys = [keys]
        return [extract_dates(r) for r in self._query("db_query", where=dict(query), keys=keys)]

    def _chosen(self, jobs: Any, targets: Any) -> tuple[Any, list[int]]:
        if not _some(jobs) and not _some(targets):
            raise ValueError("say which: jobs= or targets=, or 'all'")
        ids = "all" if isinstance(jobs, str) and jobs == "all" else self._ids_of(jobs) if _some(jobs) else []
        return ids, self._build_targets(targets) if _some(targets) else []

    def purge_local_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """Drops results kept in this client: of jobs ('all'), or of engines. RuntimeError if one is still pending."""
        ids, engines = self._chosen(jobs, targets)
        pending = self.outstanding
        if ids == "all" and pending:
            raise RuntimeError(f"{plural(len(pending), 'task')} still pending: wait, or abort them")
        if ids != "all" and (busy := pending.intersection(ids)):
            raise RuntimeError(f"still pending: {', '.join(sorted(busy))}")
        for i in list(self.metadata):
            if ids == "all" or i in ids or engines and self.metadata[i]["engine_id"] in engines and i not in pending:
                self.results.pop(i, None)
                self.metadata.pop(i, None)
        for i in list(self.results):
            if ids == "all" or i in ids:
                self.results.pop(i, None)
        with self._lock:
            self._kept_payloads, self._kept_before, self._kept_bytes = {}, {}, 0

    def purge_hub_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """Drops the controller's records of jobs ('all': all that are finished) or of engines."""
        ids, engines = self._chosen(jobs, targets)
        self._query("purge", ids=ids, engines=engines)

    def purge_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """`purge_local_results` and `purge_hub_results`."""
        self.purge_local_results(jobs, targets)
        self.purge_hub_results(jobs, targets)

    def purge_everything(self) -> None:
        """Drops all results here and at the controller, and the history."""
        self.purge_results("all")
        with self._lock:
            self._ranges.clear()
            self._recent, self._recent_before = {}, {}

    def resubmit(self, indices_or_msg_ids: Any = None, metadata: Any = None, block: bool | None = None) -> Any:
        """Submits tasks again, as they were, under new ids; the AsyncResult of the new ones.

        Takes what `get_result` takes. KeyError if a task's arguments are kept neither here nor at the controller.
        """
        jobs = -1 if indices_or_msg_ids is None else indices_or_msg_ids
        single = isinstance(jobs, (str, int)) or isinstance(jobs, AsyncResult) and jobs._single
        tasks: list[Task] = []
        for i in self._ids_of(jobs):
            first, (kind, flags, engine, route, packed, source) = self._payload_of(i)
            route = dict(route or {})
            if flags & BROADCAST:  # one of a broadcast goes to its engine alone
                engine = route.pop("targets")[first]
                flags = flags & ~BROADCAST | DIRECT
            tasks += self._submit(kind, flags, engine, 1, route or None, packed, route.get("label"), source)
        ar = AsyncResult(self, tasks, "resubmit", single)
        return ar.get() if (self.block if block is None else block) else ar

    def _payload_of(self, id: str) -> tuple[int, tuple]:
        """(its place in the submit, that submit's arguments). KeyError if they are not kept any more."""
        try:
            session, seq = parse_msg_id(id)
        except ValueError:
            session, seq = 0, 0
        kept = (self._kept_payloads.get(seq) or self._kept_before.get(seq)) if session == self._session else None
        if kept is None:
            raise KeyError(f"the arguments of task {id} are not kept any more")
        return kept

    def abort(self, jobs: Any = None, targets: Any = None, block: bool | None = None) -> None:
        """Takes jobs (default: all outstanding) that have not started off the queue: they end as TaskAborted.

        targets : only those for these engines
        """
        ids = self._ids_of(jobs)
        tasks: list[Task] = []
        wanted = None if targets is None else set(self._build_targets(targets))
        for t in self._tasks_or_hub(ids):
            if (t.polled or not t.done()) and (wanted is None or t.target in wanted):
                tasks.append(t)
        self._send_cancel(tasks, ABORT, 0)
        if block if block is not None else self.block:
            self._wait(tasks, None, None)

    # ------------------------------------------------ views

    def direct_view(self, targets: Any = "all", **flags: Any) -> DirectView:
        """A view that runs calls on each of the targets. 'all' means all engines at the time of each call."""
        from .view import DirectView

        single = not isinstance(targets, (str, slice, Iterable)) and targets is not None
        if isinstance(targets, str) or targets is None:
            if targets not in (None, "all"):
                raise TypeError(f"targets are engine numbers or 'all', not {targets!r}")
            return DirectView(client=self, targets="all", **flags)
        numbers = self._build_targets(targets)
        return DirectView(client=self, targets=numbers[0] if single else numbers, **flags)

    def load_balanced_view(self, targets: Any = None, **flags: Any) -> LoadBalancedView:
        """A view that runs each call on one engine, whichever is free; `targets` limits the choice."""
        from .view import LoadBalancedView

        if targets is not None and not (isinstance(targets, str) and targets == "all"):
            targets = self._build_targets(targets)
        else:
            targets = None
        return LoadBalancedView(client=self, targets=targets, **flags)

    def broadcast_view(self, targets: Any = "all", is_coalescing: bool = False, **flags: Any) -> BroadcastView:
        """A DirectView of engines as they are now (every DirectView call to several engines is one message)."""
        from .view import BroadcastView

        view = BroadcastView(client=self, targets=self._build_targets(targets), **flags)
        view.is_coalescing = is_coalescing
        return view

    def executor(self, targets: Any = None) -> ViewExecutor:
        """A `concurrent.futures.Executor`: ``rc.executor().submit(f, x).result()``."""
        return self.load_balanced_view(targets).executor

    def activate(self, targets: Any = "all", suffix: str = "") -> DirectView:
        """Makes ``%px`` + suffix work on these engines; returns the (blocking) view."""
        view = self.direct_view(targets)
        view.block = True
        view.activate(suffix)
        return view

    # ------------------------------------------------ control

    def wait_for_engines(self, n: int | None = None, *, timeout: float | None = -1, block: bool = True,
                         interactive: bool | None = None, widget: bool | None = None) -> Any:
        """Waits until there are n engines (default: as many as the Cluster was asked for), with a progress bar.

        timeout : seconds; TimeoutError tells how many there are
        block : False returns a Future at once

        Raises EngineError if an engine dies meanwhile.
        """
        if n is None:
            n = getattr(self.cluster, "n", None)
            if n is None:
                raise TypeError("n is needed: this client knows no Cluster that says how many engines were asked for")
        if not block:
            future: Future = Future()

            def run() -> None:
                try:
                    future.set_result(self.wait_for_engines(n, timeout=timeout, interactive=False))
                except BaseException as e:
                    future.set_exception(e)
            threading.Thread(target=run, daemon=True, name="covey-wait-for-engines").start()
            return future
        limit = _limit(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        deaths, have = self._deaths, len(self)
        if have >= n:
            return None
        show = interactive_session() if interactive is None else interactive
        bar = progress(total=n, initial=have, desc="engines", unit="engine", widget=widget) if show else None
        try:
            while True:
                have = len(self)
                if bar is not None:
                    bar.update(have - bar.n)
                if have >= n:
                    return None
                if self._deaths > deaths:
                    raise error.EngineError(f"an engine died while waiting for {n} engines: "
                                            + "; ".join(list(self._dead.values())[-(self._deaths - deaths):]))
                failure = getattr(self.cluster, "_engine_failure", None)
                if failure:
                    raise error.EngineError(str(failure))
                if deadline is not None and time.monotonic() >= deadline:
                    away = self._away_text([])
                    raise TimeoutError(f"{have} of {n} engines after {limit:g} s{'; ' + away if away else ''}")
                self._core.wait_event(0.1 if deadline is None else max(0.0, min(0.1, deadline - time.monotonic())))
        finally:
            if bar is not None:
                bar.close()

    def send_signal(self, sig: int | str, targets: Any = None, block: bool | None = None) -> None:
        """Sends a signal (number or name) to engines: ``rc.send_signal('SIGINT')`` interrupts their tasks."""
        import signal

        if isinstance(sig, str):
            try:
                sig = signal.Signals[sig if sig.startswith("SIG") else f"SIG{sig}"]
            except KeyError:
                raise error._remake("ValueError", f"no such signal: {sig}", "", {}) from None
        self._query("signal", targets=self._build_targets(targets), signal=int(sig))

    def clear(self, targets: Any = None, block: bool | None = None) -> Any:
        """Empties engines' namespaces. ``block=False`` returns a Future."""
        view = self.direct_view("all" if targets is None else targets)
        return view.clear(block=self.block if block is None else block)

    def shutdown(self, targets: Any = "all", restart: bool = False, hub: bool = False,
                 block: bool | None = None) -> None:
        """Stops engines; with ``hub=True`` the controller as well (and closes this client)."""
        if restart:
            raise NotImplementedError("restart=True: use Cluster.restart_engines_sync()")
        everything = targets is None or isinstance(targets, str) and targets == "all"
        numbers = self.ids if everything else self._build_targets(targets)
        try:
            self._query("shutdown", targets=None if everything else numbers, restart=False, hub=hub)
        except (error.RemoteError, OSError):
            if not hub:  # the controller may be gone before it has answered
                raise
        if hub:
            self.close()
        elif block if block is not None else self.block:
            deadline = time.monotonic() + 10
            while set(numbers) & set(self.ids) and time.monotonic() < deadline:
                self._core.wait_event(0.1)

    def status(self) -> Any:
        """A table of engines and what they do; in notebooks as HTML."""
        from ._status import Status

        return Status(self)

    def spin(self) -> None:
        """Takes in what has come. Programs need not call it."""
        self._pump()

    def spin_thread(self, interval: float = 1) -> None:
        """Nothing: results come by themselves."""

    def stop_spin_thread(self) -> None:
        """Nothing: results come by themselves."""

    def close(self, linger: float | None = None) -> None:
        """Ends the connection; tasks that run go on. Twice is fine; in a forked child it does nothing."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self._core.close(1.0 if linger is None else linger)
        _clients.discard(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close(0)
        except Exception:
            pass  # the interpreter is ending

    # ------------------------------------------------ pickled AsyncResults

    def _connection_for_pickle(self) -> tuple[int, str, Any]:
        return self._session, self._boot_id, self._source

    @staticmethod
    def _for_pickle(connection: tuple[int, str, Any]) -> Client:
        session, boot_id, source = connection
        here = [c for c in list(_clients) if c._boot_id == boot_id and not c._closed]
        return next((c for c in here if c._session == session), here[0] if here else None) or Client(source)


def _some(what: Any) -> bool:
    """0 is a target; None and empty lists are not."""
    return what is not None and not (hasattr(what, "__len__") and len(what) == 0)


def _spans(seqs: Iterable[int]) -> Iterator[tuple[int, int]]:
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


def _cached_result(client: Client, ids: list[str], single: bool, owner: bool) -> AsyncResult:
    """An AsyncResult of what the client's caches hold."""
    tasks = []
    for i in ids:
        task = Task(client, parse_msg_id(i)[1], 0, None, 0)
        value = client.results[i]
        task.record = (1 if isinstance(value, error.RemoteError) else 0, 1, ENGINE_NONE, 0, 0, 0, 0, 0, (), task.seq, 1)
        task._value = (None if isinstance(value, error.RemoteError) else value,)
        task._error = value if isinstance(value, error.RemoteError) else None
        if i in client.metadata:
            task._metadata = client.metadata[i]
        tasks.append(task)
    return AsyncResult(client, tasks, "get_result", single, owner)


def _dispatch(client: "weakref.ref[Client]", core: Any) -> None:
    """The dispatcher thread: settles watched results and takes in output. Ends with its client."""
    while True:
        try:
            core.wait_event(1.0)
        except (OSError, RuntimeError):
            return
        rc = client()
        if rc is None:
            return
        rc._pump()
        while rc._to_settle:
            ar = rc._to_settle.popleft()
            ar._unseen -= 1
            if ar._unseen <= 0:
                ar._settle()
        if rc._closed and not rc._watchers:
            return
        del rc

# SPDX-License-Identifier: BSD-3-Clause
"""The Client: a connection to a cluster, its engines, views of them, and control.

What concerns tasks is in `_tasktable` (under way) and `_jobs` (afterwards); `Client` is all three.
"""
from __future__ import annotations

import json
import operator
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from . import _connect, error
from ._jobs import Cache, Jobs
from ._mixed import beside_covey
from ._tasktable import result_of
from .task import ExecuteReply, Metadata, Task  # noqa: F401  (programs import them from here)
from .util import interactive_session, limit_of, passed_on, plural, progress

if TYPE_CHECKING:
    from .executor import ViewExecutor
    from .view import BroadcastView, DirectView, LoadBalancedView

__all__ = ["Client"]

_named: set[str] = set()  # options that mean nothing here and were named: once is enough
_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()


def _not_needed(what: str) -> None:
    warnings.warn(f"{what} is not needed: results come by themselves", DeprecationWarning, stacklevel=3)


def _after_fork() -> None:
    for client in list(_clients):
        client._lock = threading.RLock()
        client._dispatcher = None


os.register_at_fork(after_in_child=_after_fork)
if _text := beside_covey():
    warnings.warn(_text, stacklevel=2)


class Client(Jobs):
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
    sshserver : "[user@]host[:port]" to go through where the controller can't be reached directly (default: the
        connection file's `ssh`). It is the user's OpenSSH (`ssh -W`) with ~/.ssh/config, agent and jump hosts
    sshkey : file with the private key for it
    password : for it, where there is no key
    timeout : seconds for the file to appear and the controller to answer (OSError, TimeoutError)
    controller_grace : seconds for which a controller that can't be reached any more is waited for; then tasks end with
        LostTask. Default: as long as it takes, since a cut cable is no death; whoever waits is told. A controller of
        this machine whose process has ended is given up after 12 s, and so is one whose cluster's `Cluster` made this client
        when the cluster was stopped
    cluster : the Cluster object that this client belongs to
    debug : print events

    Connecting is tried until `timeout` unless that is no use (a wrong key, a refusal). In a task,
    ``Client()`` connects to the cluster that runs it, if its client file is on the engine's machine.

    All methods may be called from any thread. A client belongs to the process that made it: after
    a fork it raises in the child. Use it as a context manager, or `close` it.
    """

    block = False
    curve_serverkey: None = None    # names that programs look at: there are no ZMQ sockets to encrypt
    curve_publickey: None = None
    curve_secretkey: None = None
    _closed = True
    _end: str | None = None  # why the link was given up
    _arrived = 0             # tasks up to this one are known to be at the controller

    def __init__(self, connection_info: str | os.PathLike | Mapping[str, Any] | None = None, *,
                 url_file: str | os.PathLike | None = None, profile: str | None = None,
                 profile_dir: str | None = None, ipython_dir: str | None = None, context: Any = None,
                 debug: bool = False, sshserver: str | None = None, sshkey: str | None = None,
                 password: str | None = None, paramiko: Any = None, timeout: float = 10,
                 cluster_id: str | None = None, cluster: Any = None, url_or_file: str | os.PathLike | None = None,
                 controller_grace: float | None = None, **unused: Any) -> None:
        self._pid = os.getpid()
        if url_or_file is not None:
            warnings.warn("url_or_file= is connection_info's old name", DeprecationWarning, stacklevel=2)
        source = connection_info if connection_info is not None else url_file if url_file is not None else url_or_file
        self.debug = debug
        self.cluster = cluster
        self.profile = profile or "default"
        config, self._source = self._find(source, profile, profile_dir, ipython_dir, cluster_id, timeout)
        ssh = _connect.ssh_way(sshserver or config.get("ssh"), sshkey, password)
        for name in ("paramiko", "context") if ssh else ("paramiko", "context", "sshkey", "password"):
            if locals()[name] is not None:
                unused[name] = locals()[name]
        new = sorted(unused.keys() - _named)
        if new:
            _named.update(new)
            print(f"Client: {', '.join(new)}: not needed here and ignored (there is no zmq; the key is in the "
                  "connection file)", file=sys.stderr)
        super().__init__()
        self._engines: dict[int, dict[str, Any]] = {}
        self._dead: dict[int, str] = {}
        self._deaths = 0
        self._listeners: list[Callable[[dict[str, Any]], None]] = []
        self.results = Cache(self, result_of, Task.done)
        self.metadata = Cache(self, lambda t: (t.fetch(), t.metadata)[1], lambda t: True, past=True)
        if controller_grace is not None and not 0 < controller_grace < 1e9:
            raise ValueError(f"controller_grace: a number of seconds above 0, not {controller_grace!r}")
        self._core = _connect.connect(config, timeout, path=self._source if isinstance(self._source, str) else None, **ssh)
        if controller_grace is not None:
            self._core.gives_up(controller_grace)
        self._closed = False
        self._session: int = self._core.session
        self._boot_id = config["boot_id"]
        self.session = _connect.SessionInfo(self._session, config["key"])
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
        if profile is profile_dir is base is cluster_id is None and (own := _connect.own_cluster()) is not None:
            return own
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

    def __reduce__(self) -> tuple:
        raise TypeError(f"a {type(self).__name__} (or a view of it) can't be pickled: send the path of its connection file, and make a new Client there")

    # ------------------------------------------------ engines

    def _adopt(self, welcome: Mapping[str, Any]) -> None:
        now = {int(e["id"]): e for e in welcome.get("engines", ())}
        for number in self._engines.keys() - now.keys():
            self._dead.setdefault(number, f"engine {number} is gone")
            self._deaths += 1
        self._engines = now
        for engine in now.values():
            self._note_away(engine)
        note = welcome.get("python")
        if note:
            print(note, file=sys.stderr)

    @staticmethod
    def _note_away(engine: dict[str, Any]) -> None:
        """From when on it is away, by this process's clock that nobody sets; None: it is not."""
        away = engine.get("away_for")
        engine["away_since"] = None if away is None else time.monotonic() - away

    def _event(self, event: dict[str, Any]) -> None:
        name = event.get("event")
        if self.debug:
            print("covey:", event, file=sys.stderr)
        engines = self._engines
        if name in ("engine_joined", "engine_restarted"):
            engine = event["engine"]
            number = int(engine["id"])
            self._dead.pop(number, None)
            self._note_away(engine)
            engines[number] = engine
            if name == "engine_restarted":
                print(f"engine {number} was restarted: its namespace is new", file=sys.stderr)
        elif name == "engine_away":
            engine = engines.get(int(event["id"]))
            if engine is not None:
                engine.update(state="away", away_since=time.monotonic(), why=event.get("why"), holds=event.get("holds"))
        elif name == "engine_back":
            engine = engines.get(int(event["id"]))
            if engine is not None:
                engine.update(state="up", away_since=None, why=None, holds=None)
            self._waiting_for.clear()
        elif name == "engine_died":
            number = int(event["id"])
            cause = event.get("cause") or {}
            if engines.pop(number, None) is not None and not cause.get("planned"):
                self._deaths += 1
            self._dead[number] = cause.get("text") or f"engine {number} died"
        elif name == "notice":
            print(event.get("text", ""), file=sys.stderr)
        elif name == "link_lost":
            self._link_down = (event.get("why") or "the link was cut", time.monotonic())
        elif name == "link_back":
            self._link_down = None
            self._waiting_for.clear()
            welcome = event.get("welcome")
            if isinstance(welcome, str):
                welcome = json.loads(welcome)
            if welcome:
                self._adopt(welcome)
        for listener in list(self._listeners):
            listener(event)

    def _ended(self, reason: str | None) -> None:
        """The link is given up: the controller has stopped, and with it went its engines."""
        why = reason or "the controller is gone"
        self._link_down = (why, time.monotonic())
        if self._closed:
            return
        self._end = why
        self._deaths += len(self._engines)
        self._dead.update(dict.fromkeys(self._engines, why))
        self._engines.clear()

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
        return self.direct_view(number)

    def _from_end(self, number: int) -> int:
        ids = self.ids
        if number + len(ids) < 0:
            raise IndexError(f"no engine {number}: there are only {plural(len(ids), 'engine')}")
        return ids[number]

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
                raise error.NoEnginesRegistered(f"there are no engines any more: {self._end}" if self._end else
                                                "there are no engines: start some, and rc.wait_for_engines(n)")
            return ids
        if isinstance(targets, slice):
            return self.ids[targets]
        if isinstance(targets, Iterable):
            return self._numbers(targets)
        try:
            number = operator.index(targets)
        except TypeError:
            raise TypeError(f"targets are engine numbers or 'all', not {targets!r}") from None
        return [self._from_end(number) if number < 0 else self._known(number)]

    def _check_alive(self, numbers: Iterable[int]) -> None:
        """EngineError for an engine that is dead, with the cause."""
        for number in numbers:
            if number not in self._engines:
                self._pump()
                if number not in self._engines:
                    why = self._dead.get(number, "there is no such engine")
                    raise error.EngineError(f"engine {number} can't be used: {why}")

    def _away_text(self, tasks: Sequence[Task], at_least: float = 0.0) -> str:
        """What keeps these tasks waiting: a link that has been cut for `at_least` seconds, or that there are no engines; '' if nothing is known to."""
        self._pump()
        now = time.monotonic()
        before = now - at_least
        if self._link_down is not None and (not at_least or self._link_down[1] <= before):
            why, since = self._link_down
            return f"waiting for the controller, away since {now - since:.0f} s: {why}"
        if not self._engines and any(t.target is None for t in tasks):
            return "waiting for engines: there are none; start some (`ipcluster engines`, `Cluster.start_engines`)"
        away = [e for e in list(self._engines.values())
                if e.get("state") == "away" and (not at_least or (e.get("away_since") or 0) <= before)]
        if not away:
            return ""
        wanted = {t.target for t in tasks}
        balanced = {t.key for t in tasks if t.target is None}
        waiting = [e for e in away if int(e["id"]) in wanted
                   or any(key in balanced for lo, hi in e.get("holds") or () for key in range(lo, hi))]
        if not waiting and None in wanted and len(away) == len(self._engines):
            waiting = away
        if not waiting:
            return ""
        texts = [f"engine {e['id']}, away since {now - (e.get('away_since') or now):.0f} s"
                 + (f": {e['why']}" if e.get("why") else "") for e in waiting[:3]]
        more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
        return f"waiting for {'; '.join(texts)}{more}"

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

    def become_dask(self, targets: Any = "all", port: int = 0, nanny: bool = False,
                    scheduler_args: dict[str, Any] | None = None, **worker_args: Any) -> Any:
        """Starts a Dask scheduler on the first of the engines and a worker on each; a `distributed.Client` of it.

        port : of the scheduler; 0: any
        nanny : workers are processes of their own, which Dask can restart
        scheduler_args : for `distributed.LocalCluster`; worker_args : for `distributed.Worker` (nthreads=1 by default)
        """
        from . import dask

        return dask.become_dask(self, targets, port, nanny, scheduler_args, **worker_args)

    def stop_dask(self, targets: Any = "all") -> None:
        """Ends the engines' Dask workers, and the scheduler."""
        from . import dask

        dask.stop_dask(self, targets)

    become_distributed, stop_distributed = become_dask, stop_dask

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

        Raises EngineError if an engine dies meanwhile; one whose host was asked to stop or to start it again is not meant.
        """
        if n is None:
            n = getattr(self.cluster, "n", None)
            if n is None:
                raise TypeError("n is needed: this client knows no Cluster that says how many engines were asked for")
        if not block:
            future: Future = Future()

            future.set_running_or_notify_cancel()  # nobody ends the wait: a cancel() is refused

            def run() -> None:
                try:
                    future.set_result(self.wait_for_engines(n, timeout=timeout, interactive=False))
                except BaseException as e:
                    future.set_exception(e)
            threading.Thread(target=run, daemon=True, name="covey-wait-for-engines").start()
            return future
        limit = limit_of(timeout)
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
                if self._end:
                    raise error.EngineError(f"no engines will come any more: {self._end}")
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

    def send_signal(self, sig: int | str, targets: Any = None, block: bool | None = None) -> Future | None:
        """Sends a signal (number or name) to engines: ``rc.send_signal('SIGINT')`` interrupts their tasks; 0 sends none.

        The controller has passed it on when this returns; unless `block` it returns a Future, which is done.
        """
        import signal

        if isinstance(sig, str):
            try:
                sig = signal.Signals[sig if sig.startswith("SIG") else f"SIG{sig}"]
            except KeyError:
                raise error._remake("ValueError", f"no such signal: {sig}", "", {}) from None
        numbers = self._build_targets(targets)
        if sig != 0:
            self._query("signal", targets=numbers, signal=int(sig))
        if self.block if block is None else block:
            return None
        return passed_on()

    def clear(self, targets: Any = None, block: bool | None = None) -> Any:
        """Empties engines' namespaces. Unless `block` it returns a Future."""
        return self.direct_view("all" if targets is None else targets).clear(block=self.block if block is None else block)

    def shutdown(self, targets: Any = "all", restart: bool = False, hub: bool = False,
                 block: bool | None = None) -> None:
        """Stops engines; with ``hub=True`` the controller as well (and closes this client).

        restart : True starts them again, each under its number and with a new namespace
        block : wait until they have ended (with restart: until they are back), at most 10 s (30 s)
        """
        if restart and hub:
            raise ValueError("restart=True is for engines: a controller that is stopped (hub=True) can't start them again")
        everything = targets is None or isinstance(targets, str) and targets == "all"
        numbers = self.ids if everything else self._build_targets(targets)
        before = {number: self._uuid_of(number) for number in numbers}
        try:
            self._query("shutdown", targets=None if everything else numbers, restart=restart, hub=hub)
        except (error.RemoteError, OSError):
            if not hub:  # the controller may be gone before it has answered
                raise
        if hub:
            self.close()
        elif block if block is not None else self.block:
            deadline = time.monotonic() + (30 if restart else 10)
            while (left := self._not_yet(before, restart)) and time.monotonic() < deadline:
                self._core.wait_event(0.1)
            if left and restart:
                raise TimeoutError(f"engines {left} are not back after 30 s")

    def _not_yet(self, before: Mapping[int, str | None], restart: bool) -> list[int]:
        """Which of these engines (number → uuid) have not ended, or are not back after a restart."""
        ids = self.ids
        if restart:
            return [number for number, uuid in before.items() if number not in ids or self._uuid_of(number) == uuid]
        return [number for number in before if number in ids]

    def status(self) -> Any:
        """A table of engines and what they do; in notebooks as HTML."""
        from ._status import Status

        return Status(self)

    def spin(self) -> None:
        """Takes in what has come. Programs need not call it."""
        _not_needed("spin()")
        self._pump()

    def spin_thread(self, interval: float = 1) -> None:
        """Nothing: results come by themselves."""
        _not_needed("spin_thread()")

    def stop_spin_thread(self) -> None:
        """Nothing: results come by themselves."""
        _not_needed("stop_spin_thread()")

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

    def _let_arrive(self, ids: Iterable[str]) -> None:
        """Tasks of other clients of this process reach the controller before what this one sends next, which names them."""
        named: dict[str, int] = {}
        for id in ids:
            session, _, seq = id.partition("_")
            if session != self.session.session and seq.isdigit():
                named[session] = max(int(seq), named.get(session, 0))
        for other in list(_clients) if named else ():
            if named.get(other.session.session, 0) > other._arrived and other._link_down is None and not other._closed:
                other._arrive()

    def _arrive(self) -> None:
        """What was submitted is at the controller, if that answers soon: an answer comes behind it."""
        last = self._ranges[-1][1] - 1 if self._ranges else 0
        try:
            seq = self._core.query(b'{"query": "result_status", "ids": []}')
        except OSError:  # its link was given up meanwhile
            return
        try:
            if self._core.wait([seq], 2.0):
                self._arrived = last
        finally:
            self._core.forget(seq, 1)

    # ------------------------------------------------ pickled AsyncResults

    @staticmethod
    def _for_pickle(connection: tuple[int, str, Any]) -> Client:
        session, boot_id, source = connection
        here = [c for c in list(_clients) if c._boot_id == boot_id and not c._closed]
        return next((c for c in here if c._session == session), here[0] if here else None) or Client(source)

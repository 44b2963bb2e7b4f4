# SPDX-License-Identifier: BSD-3-Clause
"""Views: how engines are addressed. A `DirectView` runs a call on each of its engines, a `LoadBalancedView` on one that is free.

A DirectView's call to several engines is one message to the controller, whatever their number.
"""
from __future__ import annotations

import bisect
import contextlib
import copy
import operator
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from . import _remote, error, serialize
from ._flags import ScheduledFlags
from ._imports import sync_imports
from .asyncresult import AsyncMapResult, AsyncResult
from .decorators import ParallelFunction, RemoteFunction, getname, parallel, remote
from .executor import LazyMapIterator, ViewExecutor
from ._calls import pack_call
from .map import Map, by_name, sliceable
from .task import BROADCAST, DIRECT, ENGINE_NONE, EXECUTE, MAP, SILENT, Task, msg_id

if TYPE_CHECKING:
    from .client import Client

__all__ = ["View", "DirectView", "LoadBalancedView", "BroadcastView"]

_RANGE_MAX = 256        # items of a map in one message
_RANGE_BYTES = 4 << 20  # about
_RANGES_PER_ENGINE = 16 # so that engines finish together


class View(ScheduledFlags):
    """What all views can do. Views are cheap: make as many as you like.

    Flags (``set_flags``, ``temp_flags``, or attributes):
    block : calls wait and return results instead of AsyncResults
    track : accepted; small arguments are copied at once, `AsyncResult.wait_for_send` tells of large ones
    targets : the engines
    label : stored with the tasks and their records, as text
    """

    _flag_names: frozenset[str] = frozenset({"block", "track", "targets", "label"})
    _balanced = False

    def __init__(self, client: Client, targets: Any = None, **flags: Any) -> None:
        self.client = client
        self.block: bool = client.block
        self.track = False
        self.label: str | None = None
        self._targets = targets
        self._ranges: list[list[int]] = []
        self.set_flags(**flags)

    @property
    def targets(self) -> Any:
        """The engines: an int, a list, 'all', or (load-balanced) None for any."""
        return self._targets

    @targets.setter
    def targets(self, targets: Any) -> None:
        self._targets = targets

    def __repr__(self) -> str:
        text = str(self._targets) if self._targets is not None else "all"
        if len(text) > 16:
            text = text[:12] + "...]"
        return f"<{type(self).__name__} {text}>"

    def __len__(self) -> int:
        """How many engines it addresses."""
        targets = self._targets
        if targets is None or isinstance(targets, str):
            return len(self.client)
        if isinstance(targets, slice):
            return len(self.client.ids[targets])
        return len(targets) if isinstance(targets, Sized) else 1

    # ------------------------------------------------ flags

    def set_flags(self, **flags: Any) -> Any:
        """Sets flags; returns the view: ``v.set_flags(label='a').apply_async(f)``. KeyError for an unknown one."""
        for name in flags:
            if name not in self._flag_names:
                raise KeyError(f"no such flag: {name!r} (there are {', '.join(sorted(self._flag_names))})")
        before = {name: getattr(self, name) for name in flags}
        try:
            for name, value in flags.items():
                setattr(self, name, value)
        except Exception:
            for name, value in before.items():
                setattr(self, name, value)
            raise
        return self

    @contextlib.contextmanager
    def temp_flags(self, **flags: Any) -> Iterator[None]:
        """Sets flags for the with-block: ``with v.temp_flags(block=True): …``"""
        before = {name: getattr(self, name) for name in self._flag_names}
        self.set_flags(**flags)
        try:
            yield
        finally:
            self.set_flags(**before)

    def _with(self, **flags: Any) -> Any:
        """This view with other flags, for one call: other threads go on with its own. Its tasks are this view's."""
        if not flags:
            return self
        return copy.copy(self).set_flags(**flags)

    def _labelled(self, label: str | None) -> Any:
        return self if label is None else self._with(label=label)

    # ------------------------------------------------ bookkeeping

    def _noted(self, tasks: Sequence[Task]) -> None:
        if self._after is not None or self._follow is not None:
            for t in tasks:
                t.after, t.follow = self._after, self._follow
        lo, hi = tasks[0].seq, tasks[-1].seq + 1
        ranges = self._ranges
        if ranges and ranges[-1][1] == lo:
            ranges[-1][1] = hi
        else:
            ranges.append([lo, hi])

    @property
    def history(self) -> list[str]:
        """The ids of this view's tasks, by submission."""
        return [msg_id(self.client._session, seq) for lo, hi in self._ranges for seq in range(lo, hi)]

    @property
    def outstanding(self) -> set[str]:
        """The ids of this view's tasks whose results have not come."""
        ranges = sorted(self._ranges)  # threads may have noted them out of order
        with self.client._lock:
            tasks = list(self.client._live.values())

        def mine(seq: int) -> bool:
            at = bisect.bisect_right(ranges, seq, key=operator.itemgetter(0))
            return at > 0 and seq < ranges[at - 1][1]
        return {t.msg_id for t in tasks if mine(t.seq) and not t.done()}

    @property
    def results(self) -> Any:
        """The client's results."""
        return self.client.results

    def spin(self) -> None:
        """Takes in what has come. Programs need not call it."""
        self.client.spin()

    def wait(self, jobs: Any = None, timeout: float | None = -1) -> bool:
        """Waits for jobs (default: this view's), at most `timeout` seconds; tells whether all are done."""
        return self.client.wait(self.outstanding if jobs is None else jobs, timeout)

    def abort(self, jobs: Any = None, targets: Any = None, block: bool | None = None) -> Future | None:
        """Takes jobs (default: this view's) that have not started off the queue: they end as TaskAborted."""
        return self.client.abort(self.outstanding if jobs is None else jobs, targets, block)

    def queue_status(self, targets: Any = None, verbose: bool = False) -> dict:
        """`Client.queue_status` of this view's engines."""
        return self.client.queue_status(self._own(targets), verbose)

    def purge_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """`Client.purge_results`."""
        self.client.purge_results(jobs, targets)

    def shutdown(self, targets: Any = None, restart: bool = False, hub: bool = False, block: bool | None = None) -> None:
        """Stops this view's engines."""
        self.client.shutdown(self._own(targets), restart, hub, self.block if block is None else block)

    def get_result(self, indices_or_msg_ids: Any = None, block: bool | None = None, owner: bool = False) -> Any:
        """`Client.get_result`; an int is an index into this view's history."""
        jobs = -1 if indices_or_msg_ids is None else indices_or_msg_ids
        if isinstance(jobs, int):
            jobs = self.history[jobs]
        return self.client.get_result(jobs, block, owner)

    def _own(self, targets: Any) -> Any:
        if targets is not None:
            return targets
        return "all" if self._targets is None else self._targets

    # ------------------------------------------------ calls

    def _send_call(self, f: Any, args: tuple, kwargs: dict, place: Any = None) -> list[Task]:
        """Submits one call; `place` overrides the targets."""
        raise NotImplementedError

    def _is_single(self, place: Any = None) -> bool:
        raise NotImplementedError

    def _apply(self, f: Any, args: tuple, kwargs: dict, block: bool | None = None, targets: Any = None,
               name: str | None = None) -> Any:
        tasks = self._send_call(f, args, kwargs, targets)
        ar = AsyncResult(self.client, tasks, name or getname(f), self._is_single(targets))
        return ar.get() if (self.block if block is None else block) else ar

    def apply(self, __f: Callable, /, *args: Any, **kwargs: Any) -> Any:
        """Runs ``f(*args, **kwargs)`` on the engines; the result if `block`, else an AsyncResult.

        >>> rc[0].apply(pow, 2, 10).get()
        1024
        """
        return self._apply(__f, args, kwargs)

    def apply_async(self, __f: Callable, /, *args: Any, **kwargs: Any) -> AsyncResult:
        """`apply`, never waiting; an AsyncResult."""
        return AsyncResult(self.client, self._send_call(__f, args, kwargs), getname(__f), self._is_single())

    def apply_sync(self, __f: Callable, /, *args: Any, **kwargs: Any) -> Any:
        """`apply`, always waiting for the result: of several engines the list of results.

        >>> rc[:].apply_sync(os.getpid)
        [4711, 4712]
        """
        return self.apply_async(__f, *args, **kwargs).get()

    def map(self, f: Callable, *sequences: Iterable, **kwargs: Any) -> Any:
        """Like Python's `map`, on engines."""
        raise NotImplementedError

    def map_async(self, f: Callable, *sequences: Iterable, **kwargs: Any) -> Any:
        """`map`, never waiting: an AsyncMapResult, which can be iterated at once."""
        if "block" in kwargs:
            raise TypeError("map_async does not take a keyword argument 'block'")
        return self.map(f, *sequences, block=False, **kwargs)

    def map_sync(self, f: Callable, *sequences: Iterable, **kwargs: Any) -> Any:
        """`map`, waiting: the list of results."""
        if "block" in kwargs:
            raise TypeError("map_sync does not take a keyword argument 'block'")
        return self.map(f, *sequences, block=True, **kwargs)

    def _nothing_mapped(self, name: str, block: bool) -> Any:
        """What a map of no items gives: a list, also if it does not wait. Programs compare it with []."""
        return []

    def imap(self, f: Callable, *sequences: Iterable, **kwargs: Any) -> Iterator:
        """`map` as an iterator."""
        return iter(self.map_async(f, *sequences, **kwargs))

    def remote(self, block: bool | None = None, **flags: Any) -> Callable[[Callable], RemoteFunction]:
        """Decorator: calls of the function run on this view. ``block=None`` follows the view."""
        return remote(self, block=block, **flags)

    def parallel(self, dist: str = "b", block: bool | None = None, **flags: Any) -> Callable[[Callable], ParallelFunction]:
        """Decorator: the function's arguments are cut into parts, one for each engine."""
        return parallel(self, dist=dist, block=block, **flags)

    @property
    def executor(self) -> ViewExecutor:
        """This view as a `concurrent.futures.Executor`."""
        return ViewExecutor(self)


class DirectView(View):
    """Engines by number: a call runs on each of them, and ``view['x']`` is their variable x.

    >>> dv = rc[:]
    >>> dv["a"] = 5
    >>> dv.apply_sync(lambda: a + 1)
    [6, 6]
    >>> dv.scatter("part", range(10)); dv.gather("part").get()

    ``rc[0]`` gives bare values, ``rc[[0]]`` and ``rc[:]`` lists.

    Flags beside those of all views:
    after, follow : tasks that must have ended first; with ``follow`` on the same engine, else ImpossibleDependency
    timeout : seconds in which the task must have been sent to its engine, else TaskTimeout
    retries : how often it may be tried again, on the same engine, when it raises; when that dies it has failed
    """

    _flag_names = View._flag_names | {"after", "follow", "timeout", "retries"}

    def _numbers(self, targets: Any = None) -> list[int]:
        targets = self._targets if targets is None else targets
        if type(targets) is int and targets >= 0:
            numbers = [targets]
        elif type(targets) is list and all([type(n) is int for n in targets]):
            numbers = targets
        else:
            if not (numbers := self.client._build_targets(targets)):
                raise self._no_engines(targets)
            return numbers
        self.client._pump()  # a death is heard of here, with its cause
        engines = self.client._engines
        for n in numbers:
            if n not in engines:
                if targets is not self._targets:
                    return self.client._build_targets(targets)
                self.client._check_alive(numbers)
        if not numbers:
            raise self._no_engines(targets)
        return numbers

    def _no_engines(self, targets: Any) -> error.NoEnginesRegistered:
        client = self.client
        why = "its client is closed" if client._closed else client._end or "there were none when it was made: rc.wait_for_engines(n), then rc[:]"
        return error.NoEnginesRegistered(f"this view has no engines (targets are {targets!r}): {why}")

    def _is_single(self, place: Any = None) -> bool:
        targets = self._targets if place is None else place
        return not isinstance(targets, (str, slice)) and not isinstance(targets, Iterable)

    def _send(self, kind: int, flags: int, packed: serialize.Packed, place: Any, label: str | None,
              source: str = "") -> list[Task]:
        numbers = self._numbers(place)
        label = self.label if label is None else label
        if len(numbers) == 1:
            tasks = self.client._submit(kind, flags | DIRECT, numbers[0], 1, self._route, packed, label, source)
        else:
            route = {"targets": list(numbers)}
            if self._route:
                route.update(self._route)
            tasks = self.client._submit(kind, flags | BROADCAST, ENGINE_NONE, len(numbers), route, packed, label, source,
                                        numbers)
        self._noted(tasks)
        return tasks

    def _send_call(self, f: Any, args: tuple, kwargs: dict, place: Any = None) -> list[Task]:
        kind, packed = pack_call(f, args, kwargs)
        return self._send(kind, 0, packed, place, None)

    def execute(self, code: str, silent: bool = True, targets: Any = None, block: bool | None = None,
                label: str | None = None) -> AsyncResult:
        """Runs a string of code in the engines' namespaces; always returns an AsyncResult (of ExecuteReply).

        silent : False counts it as a cell: it has a number, and its last expression's value is shown
        block : wait, and raise what the code raised
        Magics and cell syntax are allowed.
        """
        if not isinstance(code, str):
            raise TypeError(f"code must be text, not {type(code).__name__}")
        packed = serialize.Packed([code.encode("utf-8", "surrogatepass")])
        packed.by_value = False
        tasks = self._send(EXECUTE, SILENT if silent else 0, packed, targets, label, code)
        ar = AsyncResult(self.client, tasks, "execute", self._is_single(targets))
        if self.block if block is None else block:
            ar.get()
        return ar

    def run(self, filename: str | os.PathLike, targets: Any = None, block: bool | None = None,
            label: str | None = None) -> AsyncResult:
        """Runs a local file on the engines, in their namespaces."""
        with open(os.path.expanduser(filename), encoding="utf-8") as f:
            code = f.read()
        return self.execute(code + "\n", targets=targets, block=block, label=label)

    # ------------------------------------------------ namespaces

    def push(self, ns: Mapping[str, Any], targets: Any = None, block: bool | None = None,
             track: bool | None = None) -> Any:
        """Sets variables on the engines: ``v.push({'a': 5})``. Names like 'a.b' set attributes."""
        if not isinstance(ns, dict):
            raise TypeError(f"push takes a dict of names, not {type(ns).__name__}")
        for name in ns:
            if not isinstance(name, str):
                raise TypeError(f"names are str, not {type(name).__name__}")
        names = {k: serialize._large(v) for k, v in ns.items()}
        return self._apply(_remote.push, (names,), {}, block, targets, "push")

    def update(self, ns: Mapping[str, Any]) -> Any:
        """`push` of a dict."""
        return self.push(ns)

    def pull(self, names: Any, targets: Any = None, block: bool | None = None) -> Any:
        """Values of the engines' variables (any expression): of one name, or of a list of names a list."""
        if not isinstance(names, str):
            if not isinstance(names, (list, tuple, set)) or not all(isinstance(n, str) for n in names):
                raise TypeError("names are a str or a list of str")
            names = list(names)
        return self._apply(_remote.pull, (names,), {}, block, targets, "pull")

    def get(self, key_s: Any) -> Any:
        """`pull`, waiting."""
        return self.pull(key_s, block=True)

    def __getitem__(self, key: Any) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def clear(self, targets: Any = None, block: bool | None = None) -> Any:
        """Empties the engines' namespaces; unless `block` the AsyncResult."""
        ar = self._apply(_remote.clear, (), {}, False, targets, "clear")
        if not (self.block if block is None else block):
            return ar
        ar.get()
        return None

    def scatter(self, key: str, seq: Sequence, dist: str = "b", flatten: bool = False, targets: Any = None,
                block: bool | None = None, track: bool | None = None) -> Any:
        """Cuts a sequence into a part for each engine, which becomes its variable `key`.

        dist : 'b' contiguous blocks (the first ones longer), 'r' round robin
        flatten : a part of one item becomes that item

        >>> v.scatter("rank", rc.ids, flatten=True)
        """
        numbers = self._numbers(targets)
        cutter = by_name(dist)
        (seq,) = sliceable([seq], False)
        tasks: list[Task] = []
        for p, number in enumerate(numbers):
            part = cutter.get_partition(seq, p, len(numbers))
            if flatten and len(part) == 1:
                part = part[0]
            tasks += self._send_call(_remote.push, ({key: serialize._large(part)},), {}, number)
        ar = AsyncResult(self.client, tasks, "scatter", False)
        if self.block if block is None else block:
            ar.get()
            return None
        return ar

    def gather(self, key: str, dist: str = "b", targets: Any = None, block: bool | None = None) -> Any:
        """Puts the parts that engines have under `key` together: lists, tuples and arrays are joined."""
        tasks = self._send_call(_remote.pull, (key,), {}, self._numbers(targets))
        ar = AsyncMapResult(self.client, tasks, "gather", None, by_name(dist))
        return ar.get() if (self.block if block is None else block) else ar

    # ------------------------------------------------ maps

    def map(self, f: Callable, *sequences: Iterable, block: bool | None = None,  # type: ignore[override]
            track: bool = False, return_exceptions: bool = False, label: str | None = None) -> Any:
        """Like Python's `map`: each engine gets one contiguous part of the sequences.

        return_exceptions : an engine's error takes the place of its part's results
        """
        if not sequences:
            raise TypeError("map() needs at least one sequence")
        function = ParallelFunction(self._labelled(label), f, block=self.block if block is None else block,
                                    return_exceptions=return_exceptions)
        return function.map(*sequences)

    # ------------------------------------------------ imports and set-up

    def sync_imports(self, local: bool = True, quiet: bool = False) -> contextlib.AbstractContextManager[None]:
        """Imports in the with-block happen on the engines too.

        >>> with v.sync_imports():
        ...     import numpy as np
        importing numpy on engine(s)
        """
        if not local:
            raise NotImplementedError("sync_imports(local=False): use v.execute('import …')")
        return sync_imports(self, sys._getframe(1), quiet)

    @property
    def importer(self) -> Any:
        """``with v.importer: import numpy``: `sync_imports` without options."""
        return sync_imports(self, sys._getframe(1), False)

    def sync_path(self) -> Any:
        """Engines get this process's working directory and sys.path, where these exist for them."""
        path = [os.path.abspath(p) for p in sys.path if p != ""]
        return self._apply(_remote.adopt_path, (os.getcwd(), ["", *path]), {}, True)

    def upload(self, filename: str | os.PathLike, remote_path: str | None = None) -> Any:
        """Copies a local file to the engines' machines; their paths. Default: the same name in their directory."""
        filename = os.path.expanduser(filename)
        with open(filename, "rb") as f:
            data = f.read()
        mode = os.stat(filename).st_mode & 0o777
        return self._apply(_remote.write_file, (remote_path or os.path.basename(filename), data, mode), {}, True)

    def _use(self, name: str) -> Any:
        getattr(serialize, f"use_{name}")()
        return self._apply(_remote.use_serializer, (name,), {}, None, None, f"use_{name}")

    def use_dill(self) -> Any:
        """Packs all with dill, here and on the engines (``pip install dill`` on both)."""
        return self._use("dill")

    def use_cloudpickle(self) -> Any:
        """Packs all with cloudpickle, here and on the engines: functions carry the globals that they use."""
        return self._use("cloudpickle")

    def use_pickle(self) -> Any:
        """Back to covey's own way of packing, here and on the engines."""
        return self._use("pickle")

    def activate(self, suffix: str = "") -> None:
        """Makes ``%px`` + suffix (and ``%%px``, ``%pxresult``, ``%autopx``) work on this view."""
        ip = sys.modules.get("IPython")
        shell = ip.get_ipython() if ip is not None else None
        if shell is None:
            warnings.warn("magics need an IPython session", stacklevel=2)
            return
        from .magics import ParallelMagics

        shell.register_magics(ParallelMagics(shell, self, suffix))


class BroadcastView(DirectView):
    """A DirectView of fixed engines. Every DirectView sends one message to all its engines, so it adds nothing.

    is_coalescing : accepted; results always come one by one, so that no error is lost
    """

    _flag_names = DirectView._flag_names | {"is_coalescing"}
    is_coalescing = False

    def _nothing_mapped(self, name: str, block: bool) -> Any:
        return [] if block else AsyncMapResult(self.client, [], name)

    def _send(self, kind: int, flags: int, packed: serialize.Packed, place: Any, label: str | None,
              source: str = "") -> list[Task]:
        tasks = super()._send(kind, flags, packed, place, label, source)
        for t in tasks:
            t.broadcast = True
        return tasks


class LoadBalancedView(View):
    """Each call runs on one engine, whichever is free first.

    >>> lv = rc.load_balanced_view()
    >>> lv.map_sync(f, range(1000))
    >>> with lv.temp_flags(after=ar, retries=2): lv.apply(g)

    Flags beside those of all views:
    after : tasks that must have ended first (msg_id, AsyncResult, `Dependency`, or a list)
    follow : run on the engine where these ran
    timeout : seconds in which the task must have started, else TaskTimeout
    retries : how often it may be tried again on another engine when it fails or its engine dies
    priority : higher ones first (int; equal ones in order)
    """

    _flag_names = View._flag_names | {"after", "follow", "timeout", "retries", "priority"}
    _balanced = True

    def __init__(self, client: Client, targets: Any = None, **flags: Any) -> None:
        super().__init__(client, targets, **flags)
        self._reroute()

    def _route_more(self) -> dict[str, Any]:
        return {} if self._targets is None else {"targets": list(self._targets)}

    @property
    def targets(self) -> Any:
        """Engines to choose from; None: any."""
        return self._targets

    @targets.setter
    def targets(self, targets: Any) -> None:
        if targets is None or isinstance(targets, str) and targets == "all":
            self._targets = None
        else:
            self._targets = self.client._build_targets(targets)
        self._reroute()

    def _is_single(self, place: Any = None) -> bool:
        return True

    def _send_call(self, f: Any, args: tuple, kwargs: dict, place: Any = None) -> list[Task]:
        kind, packed = pack_call(f, args, kwargs)
        return self._send(kind, 1, packed)

    def _send(self, kind: int, count: int, packed: serialize.Packed) -> list[Task]:
        tasks = self.client._submit(kind, 0, ENGINE_NONE, count, self._route, packed, self.label)
        self._noted(tasks)
        return tasks

    def map(self, f: Callable, *sequences: Iterable, block: bool | None = None,  # type: ignore[override]
            chunksize: int | None = 1, ordered: bool = True, return_exceptions: bool = False, label: str | None = None) -> Any:
        """Like Python's `map`: each call on an engine that is free.

        chunksize : calls in one task. With 1 (or None, or 0) each item is a task of its own; they still travel together.
        ordered : False lets iteration give results as they come
        return_exceptions : errors take their results' place

        Ends with the shortest sequence. Returns an AsyncMapResult, or the list if `block`.
        """
        if not sequences:
            raise TypeError("map() needs at least one sequence")
        chunksize = chunksize or 1  # programs divide, and get 0 for few items
        if chunksize < 1:
            raise ValueError(f"chunksize can't be negative: {chunksize}")
        block = self.block if block is None else block
        view = self._labelled(label)
        if chunksize == 1:
            tasks, sizes, joiner = view._map_ranges(f, sequences), None, None
        else:
            tasks, sizes = view._map_chunks(f, sequences, chunksize)
            joiner = Map
        if not tasks:
            return self._nothing_mapped(getname(f), block)
        ar = AsyncMapResult(self.client, tasks, getname(f), sizes, joiner, ordered, return_exceptions)
        return ar.get() if block else ar

    def _map_chunks(self, f: Callable, sequences: Sequence[Iterable], size: int) -> tuple[list[Task], list[int]]:
        parts = sliceable(sequences, True)
        n = min(len(p) for p in parts)
        tasks: list[Task] = []
        sizes: list[int] = []
        for i in range(0, n, size):
            stop = min(n, i + size)
            chunk = [p[i:stop] for p in parts]
            try:
                tasks += self._send_call(_remote.map_chunk, (f, chunk), {})
            except Exception as e:
                raise serialize.refused_item(e, f, range(i, stop), chunk)
            sizes.append(stop - i)
        return tasks, sizes

    def _map_ranges(self, f: Callable, sequences: Sequence[Iterable]) -> list[Task]:
        """One message for many items, each of which is a task of its own (for each item, if it has a timeout)."""
        items = list(zip(*sequences))
        engines = max(1, len(self))
        size = max(1, min(_RANGE_MAX, len(items) // (engines * _RANGES_PER_ENGINE)))
        if self._timeout is not None:
            size = 1  # each has its own time: a range that was begun goes on
        tasks: list[Task] = []
        at = 0
        while at < len(items):
            part = items[at:at + size]
            if len(part) == 1:
                try:
                    tasks += self._send_call(f, part[0], {})
                except Exception as e:
                    raise serialize.refused_item(e, f, (at,), [(a,) for a in part[0]])
            else:
                packed = serialize.pack_map(f, part, at)
                tasks += self._send(MAP, len(part), packed)
                total = sum([len(b) for b in packed])
                if total > _RANGE_BYTES:
                    size = max(1, size * _RANGE_BYTES // total)
            at += len(part)
        return tasks

    def imap(self, f: Callable, *sequences: Iterable, ordered: bool = True,  # type: ignore[override]
             max_outstanding: Any = "auto", return_exceptions: bool = False) -> LazyMapIterator:
        """A lazy map: takes inputs as results are taken, so they may be endless.

        max_outstanding : tasks under way at most; 'auto': as many as engines; 0: submit all at once

        >>> next(lv.imap(f, itertools.count()))
        """
        if not sequences:
            raise TypeError("imap() needs at least one sequence")
        limit = len(self) if max_outstanding == "auto" else int(max_outstanding)
        return LazyMapIterator(self, f, zip(*sequences), ordered, max(1, limit) if max_outstanding != 0 else None,
                               return_exceptions)

    def register_joblib_backend(self, name: str = "ipyparallel", make_default: bool = False) -> None:
        """joblib runs its tasks on this view: ``Parallel(backend=name)``."""
        from .joblib import register

        register(name, make_default, view=self)

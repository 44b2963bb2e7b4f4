# SPDX-License-Identifier: BSD-3-Clause
"""A client's tasks after the fact: history, results again, records of the controller, purging, resubmitting."""
from __future__ import annotations

import base64
import operator
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from . import error, serialize
from ._tasktable import TaskTable
from .asyncresult import AsyncHubResult, AsyncResult
from .task import ABORT, BROADCAST, DIRECT, ENGINE_NONE, EXECUTE, MAP, Metadata, Task, msg_id, parse_msg_id
from .util import as_list, int_keys, limit_of, passed_on, plural


class Cache(MutableMapping):
    """`rc.results`, `rc.metadata`: what was put there, and what live tasks can say.

    past : asks the client about those of its tasks that are no longer in it
    """

    def __init__(self, client: Jobs, look: Callable[[Task], Any], covers: Callable[[Task], bool], past: bool = False) -> None:
        self._client, self._look, self._covers, self._past = weakref.proxy(client), look, covers, past
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
        if task is not None:
            return self._look(task)
        if self._past:
            return self._client._past_metadata(key)
        raise KeyError(key)

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

    def pop(self, key: str, *default: Any) -> Any:
        """Takes an entry out, of those that are in it."""
        if key not in self and default:
            return default[0]
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        for key in list(self):
            self.pop(key, None)

    def __repr__(self) -> str:
        return f"<{plural(len(self), 'entry') if len(self) == 1 else f'{len(self)} entries'}>"


class Jobs(TaskTable):
    """The part of `Client` that this module is about."""

    block: bool
    _boot_id: str
    _source: Any  # the connection file's path, or its content

    def _connection_for_pickle(self) -> tuple[int, str, Any]:
        return self._session, self._boot_id, self._source

    def _build_targets(self, targets: Any) -> list[int]:
        raise NotImplementedError

    # ------------------------------------------------ jobs

    def _past_metadata(self, key: str) -> Metadata:
        """Of a task of this client whose AsyncResult has taken it over; an empty one when that is gone, too."""
        try:
            session, seq = parse_msg_id(key)
        except (ValueError, AttributeError):
            raise KeyError(key) from None
        if session != self._session or not any(lo <= seq < hi for lo, hi in self._ranges):
            raise KeyError(key)
        task = self._task_of(seq)
        return task.metadata if task is not None else Metadata(msg_id=key)

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
        limit = limit_of(timeout)
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

        Tasks of other clients are asked of the controller. block : wait until the results have come.
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
        if self.block if block is None else block:
            ar.wait()
        return ar

    def _asyncresult_from_jobs(self, jobs: Any, single: bool = False, owner: bool = False) -> AsyncResult:
        """`get_result` under a name that programs use."""
        ar = self.get_result(jobs, block=False, owner=owner)
        ar._single = single and len(ar.msg_ids) == 1
        return ar

    def result_status(self, msg_ids: Any, status_only: bool = True) -> dict[str, Any]:
        """{'status': 'ok', 'pending': [ids], 'completed': [ids]}; with ``status_only=False`` also {id: result}, raising if one failed."""
        ids = self._ids_of(msg_ids)
        status: dict[str, Any] = {"status": "ok", "pending": [], "completed": []}
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
            self._let_arrive(elsewhere)
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

        keys : which fields (a str or a list; msg_id always comes). Default, and of an empty list: all but ``buffers`` and ``result_buffers``.
        Dates are datetimes, buffers lists of bytes. docs/records.md lists fields and operators.
        """
        if isinstance(keys, str):
            keys = [keys]
        elif keys is not None:
            keys = list(keys) or None
        return _read_records(self._query("db_query", where=dict(query), keys=keys))

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
        """Submits tasks again, as they were, under new ids; the AsyncResult of the new ones, a list in any case.

        Takes what `get_result` takes, tasks of other clients, too. block : wait until the results have come. A RemoteError (KeyError) if a task's arguments are
        not kept any more.
        """
        jobs = -1 if indices_or_msg_ids is None else indices_or_msg_ids
        ids = self._ids_of(jobs)
        self._let_arrive(ids)
        calls = [self._call_of(i) for i in ids]  # all, before one runs
        tasks = [self._submit(kind, flags, engine, 1, route, packed, (route or {}).get("label"), source)[0]
                 for kind, flags, engine, route, packed, source in calls]
        self._query("resubmitted", ids={i: t.msg_id for i, t in zip(ids, tasks)})
        ar = AsyncResult(self, tasks, "resubmit")
        if self.block if block is None else block:
            ar.wait()
        return ar

    def _call_of(self, id: str) -> tuple:
        """(kind, flags, engine, route, packed, source) of the one task; KeyError if its arguments are not kept any more."""
        try:
            session, seq = parse_msg_id(id)
        except ValueError:
            session, seq = 0, 0
        kept = (self._kept_payloads.get(seq) or self._kept_before.get(seq)) if session == self._session else None
        if kept is None:
            return self._call_at_controller(id)
        first, kind, flags, engine, route, source, by_value, *buffers = kept
        packed = (serialize.SharedPacked if len(buffers) > 1 else serialize.Packed)(buffers)
        packed.by_value = by_value
        route = dict(route or {})
        if flags & BROADCAST:  # one of a broadcast goes to its engine alone
            engine = route.pop("targets")[seq - first]
            flags = flags & ~BROADCAST | DIRECT
        return kind, flags, engine, route or None, packed, source

    def _call_at_controller(self, id: str) -> tuple:
        call, buffers = self._query_buffers("call", id=id)
        route = dict(call["route"])
        kind, flags, engine = call["kind"], call["flags"], ENGINE_NONE
        if call["mode"]:
            if call["engine"] is None:
                raise error._remake("KeyError", f"task {id} is one of a broadcast and has not ended", "", {})
            flags, engine = flags | DIRECT, call["engine"]
        if kind == MAP:
            packed = serialize.pack_item(buffers, call["item"])
        else:
            packed = serialize.Packed([bytes(b) for b in buffers])
        packed.by_value = "python" in route
        source = str(packed[0], "utf-8", "replace") if kind == EXECUTE else ""
        return kind, flags, engine, route or None, packed, source

    def abort(self, jobs: Any = None, targets: Any = None, block: bool | None = None) -> Future | None:
        """Takes jobs (default: all outstanding) that have not started off the queue: they end as TaskAborted.

        targets : only those for these engines
        block : wait until the jobs have ended; else it returns a Future, which is done
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
            return None
        return passed_on()


def _dated(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Reads the time in a group of fields."""
    def read(group: dict[str, Any]) -> dict[str, Any]:
        if group.get(key):
            group[key] = datetime.fromisoformat(group[key])
        return group
    return read


def _read_buffers(buffers: list[str]) -> list[bytes]:
    return [base64.b64decode(b) for b in buffers]


# of the fields that JSON can't say: times and bytes
_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("submitted", "started", "completed", "received"), datetime.fromisoformat),
    "header": _dated("date"), "result_header": _dated("date"), "result_metadata": _dated("started"),
    "buffers": _read_buffers, "result_buffers": _read_buffers}


def _read_records(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What JSON can't say, in place. All records of an answer have the same fields; there may be a million."""
    for key in _READERS.keys() & (records[0] if records else ()):
        read = _READERS[key]
        for record in records:
            if record[key]:
                record[key] = read(record[key])
    return records


def _some(what: Any) -> bool:
    """0 is a target; None and empty lists are not."""
    return what is not None and not (hasattr(what, "__len__") and len(what) == 0)


def _cached_result(client: Jobs, ids: list[str], single: bool, owner: bool) -> AsyncResult:
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

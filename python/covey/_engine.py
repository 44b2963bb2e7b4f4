"""The engine: takes tasks off its link and runs them, one after the other, on the main thread.

    next → begin → run user code → end → pack → result

`begin` and `end` bound what belongs to the task: the status page says what runs, an interrupt
raises KeyboardInterrupt only there, and what is printed belongs to it. Nothing a task does ends
the loop: SystemExit and KeyboardInterrupt are results like any error. Two things end it: BYE
(asked to leave; exit code 0) and SIGTERM (exit code 1). The process then ends by Python's normal
way, so users' atexit functions run.

Between tasks the thread sleeps in C, or, while something asynchronous is pending (a task made by
a cell, a server, a widget), turns the shell's event loop. During a call (`apply`, `map`) no loop
runs, so `asyncio.run` works there.
"""
from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from covey import serialize
from covey._calls import unpack_call
from covey._display import EXECUTE_INPUT, dump_json, receive_comm
from covey.error import UnmetDependency

if TYPE_CHECKING:
    from covey._shell import ZMQInteractiveShell

MSG_TASK = 3
MSG_COMM = 8
MSG_BYE = 24
F_SILENT = 1 << 3
APPLY, EXECUTE, MAP, CALL = 0, 1, 2, 3
OK, ERROR, ABORTED, UNMET = 0, 1, 2, 8

CELL_VALUE_MAX = 1 << 20  # a cell's value is in its result too, for the records, unless it is larger
CELL_OK = b'{"status": "ok", "execution_count": %d, "user_expressions": {}, "payload": []}'  # the usual reply, ready-made
BATCH_ITEMS = 64
BATCH_NS = 5_000_000

own_cluster: dict[str, str] | None = None  # in an engine: profile_dir, cluster_id, boot_id; for a Client in a task

EXIT_ASKED, EXIT_TERMINATED, EXIT_NOT_REGISTERED = 0, 128 + signal.SIGTERM, 255


class Engine:
    """One engine: its link (`covey._core.Engine`, or in tests an object like it) and its shell."""

    def __init__(self, link: Any, shell: ZMQInteractiveShell) -> None:
        self.link = link
        self.shell = shell
        self.leaving: int | None = None
        self.in_call = False    # a call of call_between_tasks() runs user code: SIGINT is for it
        self._calls: deque[Callable[[], Any]] = deque()
        self._idle = False      # the loop turns between tasks
        self._pid = os.getpid()
        self._queued: deque[tuple[Any, ...]] = deque()  # the first is at work: it leaves when it is done

    # The loop.

    def install_signals(self) -> None:
        """SIGINT interrupts the task it is meant for; SIGTERM makes the engine leave."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.siginterrupt(signal.SIGINT, True)

    def _on_interrupt(self, signum: int, frame: Any) -> None:
        if self.link.interrupted() or self.in_call:
            raise KeyboardInterrupt

    # Calls of the engine's own threads (a bound kernel's).

    def call_between_tasks(self, call: Callable[[], Any]) -> None:
        """Has the main thread make a call before its next task. From any thread."""
        self._calls.append(call)
        self.shell.event_loop().call_soon_threadsafe(self._leave_idle)

    def _leave_idle(self) -> None:
        if self._idle:  # else user code turns the loop, and calls are looked for when it is done
            self.shell.event_loop().stop()

    def interrupt_call(self) -> None:
        """Raises KeyboardInterrupt in such a call, if one runs user code. From any thread."""
        if self.in_call:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _on_terminate(self, signum: int, frame: Any) -> None:
        self.leaving = EXIT_TERMINATED
        raise SystemExit(EXIT_TERMINATED)

    def run(self) -> int:
        """Runs tasks until asked to leave; returns the exit code."""
        try:
            while self.leaving is None:
                try:
                    self._work()
                except BaseException as error:
                    self._not_a_task_s(error)
        except SystemExit:
            if self.leaving is None:
                raise
        finally:
            self.shell.end_cells()
        return self.leaving if self.leaving is not None else EXIT_ASKED

    def _work(self) -> None:
        """Until asked to leave, or something is raised that is no task's."""
        handlers = {APPLY: self._apply, EXECUTE: self._execute, MAP: self._map,
                    CALL: partial(self._apply, unpack=unpack_call)}
        shell, kernel = self.shell, self.shell.kernel
        item: Any
        while self.leaving is None:
            if not self._queued:
                self._wait()
            while self._calls:
                self._guard(self._calls.popleft())
            if not self._queued:
                continue
            item = self._queued[0]
            kind_of_message, kind, flags, session, seq, count, attempt, first, buffers = item
            if kind_of_message == MSG_TASK:
                if kind != EXECUTE:
                    shell.end_cells()
                kernel.current_task = (session, seq)
                handlers[kind](flags, session, seq, count, attempt, first, buffers)
                self._queued.popleft()
                item = buffers = None  # received memory goes back now, not when the next task comes
            elif kind_of_message == MSG_COMM:
                self._queued.popleft()
                shell.end_cells()
                self._comm(buffers)
            elif kind_of_message == MSG_BYE:
                self.leaving = EXIT_ASKED

    def _wait(self) -> None:
        """Until there is something in `_queued`, or a call to make."""
        if not self.shell.loop_has_work():
            self.link.next(None, self._queued)
            return
        self.shell.end_cells()
        if self._calls:
            self.link.next(0, self._queued)
            return
        loop = self.shell.event_loop()
        loop.add_reader(self.link.fileno(), loop.stop)
        self._idle = True
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):  # of a background task: not ours to obey
            if self.leaving is not None:
                raise
        finally:
            self._idle = False
            loop.remove_reader(self.link.fileno())
        self.link.next(0, self._queued)

    def _not_a_task_s(self, error: BaseException) -> None:
        """What the handler of a signal raised outside of tasks (an alarm that a task has left behind) is printed, and the engine goes on.

        It may have struck while a task's result was made: then it is that of all that have begun and have none. What else is left
        of the message is done now; `begin` says what is not.
        """
        self._check_fork(error)
        self._check_leaving()
        if isinstance(error, Exception) and _is_our_own(error):
            raise error
        begun = self.link.begun()
        if not begun:
            self.shell.showtraceback()
            return
        self.link.end()
        for left in range(begun - 1, -1, -1):
            self._fail(error, "apply", skip=left)

    # Kinds of task.

    def _apply(self, flags: int, session: int, seq: int, count: int, attempt: int, first: int,
               buffers: Sequence[Any], unpack: Callable[..., Any] = serialize.unpack_apply) -> None:
        link, shell = self.link, self.shell
        if not link.begin(session, seq, attempt):  # what is raised there is no task's
            return
        try:
            if shell.has_callbacks():
                value = self._call(lambda: unpack(buffers, shell.user_ns))
            else:
                f, args, kwargs = unpack(buffers, shell.user_ns)
                value = f(*args, **kwargs)
                del f, args, kwargs  # a task's arguments end with it
            link.end()
        except BaseException as error:
            self._check_fork(error)
            link.end()
            self._check_leaving()
            self._fail(error, "apply")
            return
        try:
            packed = serialize.pack_value(value)
        except BaseException as error:  # a __reduce__ of the user's may even say sys.exit()
            self._check_leaving()
            self._fail(error, "apply")
            return
        try:
            link.result(OK, packed)
        except (ValueError, MemoryError) as error:
            self._fail(_too_large(error, packed), "apply")

    def _call(self, unpack: Any) -> Any:
        """A call inside the shell's events: somebody listens (inline figures, autoreload)."""
        self.shell.before_call()
        try:
            f, args, kwargs = unpack()
            return f(*args, **kwargs)
        finally:
            self.shell.after_call()

    def _execute(self, flags: int, session: int, seq: int, count: int, attempt: int, first: int,
                 buffers: Sequence[Any]) -> None:
        link, shell = self.link, self.shell
        silent = bool(flags & F_SILENT)
        error: BaseException | None = None
        lines: list[str] = []
        number = shell.execution_count
        if not link.begin(session, seq, attempt):
            return
        try:
            source = str(buffers[0], "utf-8")
            if not silent:
                link.output(EXECUTE_INPUT, [dump_json({"code": source, "execution_count": number})])
            shell.displayhook.take_shown()  # what others showed: a frontend's cell, a task's run_cell()
            result, lines = shell.run(source, silent)
            error = result.error_before_exec or result.error_in_exec
            link.end()
        except BaseException as e:
            self._check_fork(error or e)
            link.end()
            error, lines = e, []
        self._check_leaving()
        value = shell.displayhook.take_shown()
        if error is None:
            link.result(OK, [CELL_OK % number] if value is None or len(value) > CELL_VALUE_MAX else [CELL_OK % number, value])
            return
        self._fail(error, "execute", lines)
        if not silent:
            self._abort_queued(session)

    def _map(self, flags: int, session: int, seq: int, count: int, attempt: int, first: int,
             buffers: Sequence[Any]) -> None:
        link, shell, ns = self.link, self.shell, self.shell.user_ns
        unpack, function = serialize.unpack_value, buffers[:1]
        items = serialize.split_values(buffers[1:])
        batch: list[Any] = []
        since = 0  # when the oldest item of the batch began
        for i in range(count):
            if not batch:
                since = time.monotonic_ns()
            try:
                begun = link.begin(session, seq + i, attempt)
            except BaseException:
                self._flush(batch)
                raise
            if not begun:
                self._flush(batch)
                continue
            try:
                item = items[first + i]
                if shell.has_callbacks():
                    value = self._call(lambda: (unpack(function, ns), unpack(item, ns), {}))
                else:
                    value = unpack(function, ns)(*unpack(item, ns))
                link.end()
            except BaseException as error:
                self._check_fork(error)
                link.end()
                self._check_leaving()
                self._flush(batch, skip=1)
                self._fail(error, "apply")
                continue
            try:
                batch.append(serialize.pack_value(value))
            except BaseException as error:
                self._check_leaving()
                self._flush(batch, skip=1)
                self._fail(error, "apply")
            if len(batch) >= BATCH_ITEMS or time.monotonic_ns() - since > BATCH_NS:
                self._flush(batch)
        self._flush(batch)

    def _comm(self, buffers: Sequence[Any]) -> None:
        self._guard(partial(receive_comm, self.shell.kernel.comm_manager, buffers))

    def _guard(self, call: Callable[[], Any]) -> None:
        """Makes a call that runs user code outside a task. What it raises, sys.exit() too, is printed, and the engine goes on."""
        try:
            call()
        except BaseException as error:
            self._check_fork(error)
            self._check_leaving()
            self.shell.showtraceback()

    # How a task ends.

    def _check_leaving(self) -> None:
        if self.leaving is not None:
            raise SystemExit(self.leaving)

    def _check_fork(self, error: BaseException) -> None:
        """A child that a task forked ends where the task ends in it: the link is its parent's.

        sys.exit() gives its exit code; a child that comes back from the call (the link then refuses it) or
        raises ends with 1.
        """
        if os.getpid() == self._pid:
            return
        code = error.code if isinstance(error, SystemExit) else 1
        if not isinstance(error, SystemExit):
            traceback.print_exception(error)
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)

    def _flush(self, batch: list[Any], skip: int = 0) -> None:
        """Sends the results of a map's finished items; `skip`: the item begun last is not among them."""
        if batch:
            try:
                self.link.result(OK, serialize.pack_values(batch), len(batch), skip)
            except (ValueError, MemoryError):
                self._flush_each(batch, skip)
            batch.clear()

    def _flush_each(self, batch: list[Any], skip: int) -> None:
        """Results that are too large together: one by one, and one that is too large alone fails alone."""
        for left, value in zip(range(len(batch) - 1, -1, -1), batch):
            try:
                self.link.result(OK, serialize.pack_values([value]), 1, skip + left)
            except (ValueError, MemoryError) as error:
                self._fail(_too_large(error, value), "apply", skip=skip + left)

    def _fail(self, error: BaseException, method: str, lines: Sequence[str] | None = None, skip: int = 0) -> None:
        """Sends an exception as the result of the item begun last, or `skip` items before."""
        with contextlib.suppress(Exception):  # any: the exception's class is user code
            _cut_own_frames(error)
        status = UNMET if type(error) is UnmetDependency else ERROR
        if status == UNMET:  # an answer to the controller, which asks other engines: nobody reads where it came from
            lines = traceback.format_exception_only(error)
        elif not lines:
            lines = self.shell.traceback_of(error)
        kernel = self.shell.kernel
        info = {"engine_uuid": kernel.engine_uuid, "engine_id": kernel.engine_id, "method": method}
        self.link.result(status, serialize.pack_error(error, info, lines), 1, skip)

    def _abort_queued(self, session: int) -> None:
        """A cell failed: cells of the same client that are here already do not run."""
        n = 0
        while n < len(self._queued) and self._queued[-1][0] != MSG_BYE:
            n = len(self._queued)
            self.link.next(0, self._queued)
        failed, *others = self._queued
        keep = deque([failed])
        for item in others:
            kind_of_message, kind, _, owner, seq, _, attempt, _, _ = item
            if kind_of_message == MSG_TASK and kind == EXECUTE and owner == session:
                if self.link.begin(owner, seq, attempt):
                    self.link.end()
                    body = {"ename": "TaskAborted", "evalue": "an earlier cell failed on this engine",
                            "engine": self.shell.kernel.engine_id, "cause": None}
                    self.link.result(ABORTED, [json.dumps(body).encode()])
            else:
                keep.append(item)
        self._queued = keep


def _too_large(error: Exception, packed: Sequence[Any]) -> Exception:
    """The error of a result that can't be sent."""
    size = sum([memoryview(b).nbytes for b in packed]) / 2**20
    told = type(error)(f"the result ({size:.0f} MiB in {len(packed)} buffers) can't be sent: {error or 'no memory'}. Return less of it, or save "
                       "it and return its path, or keep it in a variable of the engine and pull parts of it")
    return told.with_traceback(None)


def _is_our_own(error: BaseException) -> bool:
    """It was raised by this package's code, not by code that runs in between."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb is not None and os.path.dirname(tb.tb_frame.f_code.co_filename) == os.path.dirname(__file__)


def _cut_own_frames(error: BaseException) -> None:
    """Drops our frames from the top of a traceback: it starts in the user's code."""
    here = os.path.dirname(__file__)
    tb = error.__traceback__
    while tb is not None and os.path.dirname(tb.tb_frame.f_code.co_filename) == here:
        tb = tb.tb_next
    if tb is not None:
        BaseException.with_traceback(error, tb)  # an assignment would ask a __setattr__ of the user's

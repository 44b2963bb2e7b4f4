# SPDX-License-Identifier: BSD-3-Clause
"""What a cluster runs, as launcher objects: `Cluster.controller`, `Cluster.engines`.

The supervisor launches; an object here is of the launcher's class (so `isinstance` and its traits hold), knows what the cluster
file says, and asks the supervisor for signals and stops. It can't be started. Its output outlives the log file, which an
orderly stop removes: the Cluster has the file held open before, and it is read when all has been written.
"""
from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from traitlets import Any as AnyTrait
from traitlets import Integer, Unicode

from ._launchers import BaseLauncher, ControllerLauncher, EngineLauncher, ProcessStateError
from ._supervisor import _runs

OUTPUT_MAX = 1 << 20    # bytes of output that are read and kept, from its end


class Process:
    """A process that is not our child: `pid`, and what its start time makes sure of."""

    def __init__(self, pid: int, start: int | None) -> None:
        self.pid = pid
        self._state = {"pid": pid, "pid_start": start}

    def __repr__(self) -> str:
        return f"<Process {self.pid}>"

    def is_running(self) -> bool:
        """Whether it runs (and is not another one of the same pid)."""
        return _runs(self._state)

    def poll(self) -> int | None:
        """None while it runs; -1 when it has ended (nobody but its parent knows the exit code)."""
        return None if self.is_running() else -1

    def wait(self, timeout: float | None = None) -> None:
        """Until it has ended; TimeoutError after `timeout` seconds."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.is_running() and not select.select([fd], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} still runs after {timeout:g} s")
        finally:
            os.close(fd)

    def send_signal(self, sig: int) -> None:
        """Sends a signal; nothing if it has ended."""
        if self.is_running():
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Supervised(BaseLauncher):
    """What the supervisor runs; the classes of `running_class` have a launcher's class behind this one."""

    id = ""
    n = Integer(1).tag(to_dict=True)
    pid = AnyTrait().tag(to_dict=True)
    job_id = Unicode("").tag(to_dict=True)
    process: Process | None = None
    _log_file = ""
    _log: BinaryIO | None = None
    _kept = ""
    _do_signal: Callable[[int], Any]
    _do_stop: Callable[[], Any]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(id={self.id!r}, n={self.n})>"

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Takes over what the cluster file says."""
        self.n = state.get("n") or 1
        self.pid = state.get("pid")
        self.job_id = state.get("job_id") or ""
        self._log_file = state.get("log") or ""
        if self.pid:
            self.process = Process(self.pid, state.get("pid_start"))
        if self.state == "before":
            self.notify_start(self.pid)

    def start(self, *_: Any) -> Any:
        """Refused: it runs."""
        raise ProcessStateError(f"{self.identifier} was started by its cluster: it is {self.state!r}")

    async def stop(self) -> Any:
        """Has the supervisor stop it."""
        import asyncio

        return await asyncio.to_thread(self._do_stop)

    def signal(self, sig: int) -> Any:
        """Has the supervisor send a signal: to engines, or to the controller."""
        return self._do_signal(int(sig))

    def poll(self) -> int | None:
        """None while it runs."""
        return None if self.running else -1

    def hold_output(self) -> None:
        """Holds the log file open, which may go, until the end."""
        if self._log is None:
            with contextlib.suppress(FileNotFoundError):
                self._log = open(self._log_file, "rb")

    def notify_stop(self, data: Any) -> Any:
        """It has ended: what it had written until then is its output."""
        if self._log is not None:
            self._kept = _tail(self._log)
            self._log.close()
            self._log = None
        return super().notify_stop(data)

    def get_output(self, remove: bool = False) -> str:
        """What it has written so far, the last MiB of it.

        remove : removes the log file
        """
        self.hold_output()
        if self._log is None:
            return self._kept
        text = _tail(self._log)
        if remove:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._log_file)
        return text


def _tail(file: BinaryIO) -> str:
    file.seek(max(0, os.fstat(file.fileno()).st_size - OUTPUT_MAX))
    return file.read().decode(errors="replace")


@functools.lru_cache
def running_class(launcher: type[BaseLauncher]) -> type[Supervised]:
    """The class of what such a launcher has started."""
    members = {"__doc__": f"What {launcher.__name__} has started.", "__module__": launcher.__module__}
    return type(launcher.__name__, (Supervised, launcher), members)


def launcher_class(name: Any, kind: str) -> type[BaseLauncher]:
    """The class of a launcher's name as the cluster file has it; the kind's base where the file does not say which."""
    from .launcher import find_launcher_class

    base = EngineLauncher if kind == "engine" else ControllerLauncher
    try:
        found = find_launcher_class(name, kind)
    except (ValueError, ImportError, AttributeError):
        return base
    return found if issubclass(found, BaseLauncher) else base


class RunningLaunchers:
    """A cluster's launcher objects, one for each thing that runs; those of what has ended are told so and dropped."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, int | None], Supervised] = {}

    def current(self, kind: str, states: Mapping[str, Mapping[str, Any]], make: Callable[[str], Supervised]) -> dict[str, Supervised]:
        """The objects of one kind ('engine', 'controller'), by the ids of `states`."""
        now: dict[str, Supervised] = {}
        for id, state in states.items():
            key = (kind, id, state.get("pid"))
            launcher = self._known.get(key)
            if launcher is None:
                launcher = self._known[key] = make(id)
                launcher.id = id
            launcher.adopt(state)
            now[id] = launcher
        self.drop(lambda key: key[0] == kind and self._known[key] not in now.values())
        return now

    def drop(self, ended: Callable[[tuple[str, str, int | None]], bool] = lambda key: True) -> None:
        """What has ended."""
        for key in [k for k in self._known if ended(k)]:
            launcher = self._known.pop(key)
            launcher.notify_stop({"identifier": launcher.identifier, "exit_code": None, "pid": key[2]})

    def hold_outputs(self) -> None:
        """Before log files go."""
        for launcher in self._known.values():
            launcher.hold_output()

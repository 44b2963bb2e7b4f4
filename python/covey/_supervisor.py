# SPDX-License-Identifier: BSD-3-Clause
"""The process `ipcluster start` as `Cluster` sees it: started or found, followed by its events, asked over its control socket."""
from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from typing import Any

from .error import EngineError
from .util import interactive_session, progress

STOP_TIMEOUT = 30.0     # seconds from asking the supervisor to stop until it is killed
CONTROL_TIMEOUT = 30.0  # seconds for one answer of the supervisor
STDERR_TAIL = 8192


class ClusterError(EngineError, RuntimeError):
    """A cluster or its engines did not start; the text has what failed and its last words."""


class _Supervisor:
    """The process `ipcluster start`: our child (then with its events), or one found by its cluster file.

    A daemon thread reads the events of our child, so that its pipe never fills, and reaps it; whoever waits
    sleeps on the condition. `state` is what the cluster file said last.
    """

    _stderr = -1

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.state: dict[str, Any] = {}
        self.asked = self.ready = 0
        self.failure: str | None = None
        self.cluster_file: str | None = None
        self._writing = ""
        self._ready_event = self._ended = False
        self._changed = threading.Condition()

    @classmethod
    def start(cls, args: list[str], load_profile: bool = True, cluster_file: str = "") -> _Supervisor:
        """Runs `ipcluster` with these arguments, in a session of its own. cluster_file: the one it will write."""
        from ._programs import program_argv

        self = cls()
        events, theirs = os.pipe()
        self._stderr = os.memfd_create("ipcluster-stderr")
        env = dict(os.environ, COVEY_EVENTS_FD=str(theirs))
        env.pop("IPP_PROFILE_DIR", None)
        env.pop("IPP_CLUSTER_ID", None)
        inherited = [theirs]
        if not load_profile:
            empty = os.memfd_create("covey-config")
            os.write(empty, b"{}")
            env["COVEY_CONFIG"] = f"/proc/self/fd/{empty}"
            inherited.append(empty)
        try:
            self.process = subprocess.Popen(program_argv("ipcluster", args), stdin=subprocess.DEVNULL, stdout=self._stderr,
                                            stderr=self._stderr, env=env, pass_fds=inherited, start_new_session=True)
        except BaseException:
            os.close(events)
            raise
        finally:
            for fd in inherited:
                os.close(fd)
        self.pid = self.process.pid
        self._writing = f"{cluster_file}.tmp.{self.pid}"
        threading.Thread(target=self._follow, args=(events,), daemon=True, name="covey-cluster-events").start()
        return self

    @classmethod
    def attach(cls, state: dict[str, Any]) -> _Supervisor:
        """One that runs already, as its cluster file describes it."""
        self = cls()
        self.state = state
        self.pid = int(state["pid"])
        self.asked = self.ready = sum(s.get("n") or 0 for s in (state.get("engines") or {}).values())
        self._ready_event = True
        return self

    # Events.

    def _follow(self, fd: int) -> None:
        with open(fd, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                with self._changed:
                    self._take(event)
                    self._changed.notify_all()
        with contextlib.suppress(OSError):  # there only if it was killed while it wrote
            os.unlink(self._writing)
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._reap()

    def _reap(self) -> None:
        """Waits for its end and takes its exit code: nobody else may be left who does. Popen says "runs" while another thread asks it, so who asks has the lock."""
        with contextlib.suppress(ChildProcessError):  # somebody was quicker
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.alive()

    def _take(self, event: dict[str, Any]) -> None:
        name = event.get("event")
        if name == "starting":
            self.asked = event.get("n") or 0
        elif name == "progress":
            self.ready, self.asked = event.get("ready") or 0, event.get("asked") or 0
        elif name == "ready":
            self.asked = self.ready = event.get("n") or 0
            self.cluster_file = event.get("cluster_file")
            self.state = (_read_cluster_file(self.cluster_file) if self.cluster_file else None) or self.state
            self.state.setdefault("client_file", event.get("client_file"))
            self._ready_event = True
        elif name == "engine_failed" and "controller" in event and self._ready_event:  # an ssh that ended while the cluster ran
            who = "the controller" if event["controller"] else "an engine"
            print(f"{who} failed: {(event.get('cause') or {}).get('text')}", file=sys.stderr, flush=True)
        elif name == "failed":
            stderr = (event.get("stderr") or "").strip()
            self.failure = event.get("why", "the cluster did not start") + (f"\n{stderr}" if stderr else "")

    def wait_ready(self, timeout: float, n: int | None) -> None:
        """Until all engines are ready, with a progress bar if somebody watches. ClusterError, TimeoutError."""
        deadline = time.monotonic() + timeout
        bar = None
        try:
            with self._changed:
                while not self._ready_event:
                    if self.failure is not None or self._ended:
                        raise ClusterError(self.failure or self._why_ended())
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError(f"{self.ready} of {self.asked or n} engines were ready after {timeout:g} s\n{self._tail()}")
                    self._changed.wait(min(left, 1.0))
                    if self.asked and bar is None and interactive_session() and not self._ready_event:
                        bar = progress(total=self.asked, desc="engines", unit="engine", leave=False)
                    if bar is not None:
                        bar.update(self.ready - bar.n)
        finally:
            if bar is not None:
                bar.close()

    def _why_ended(self) -> str:
        code = self._exit_code(5.0)
        return f"ipcluster ended with exit code {code}\n{self._tail()}".rstrip()

    def _exit_code(self, timeout: float) -> int | None:
        try:
            return self.process.wait(timeout) if self.process is not None else None
        except subprocess.TimeoutExpired:
            return None

    def _tail(self) -> str:
        """The last of what the supervisor wrote to its standard error."""
        if self._stderr < 0:
            return ""
        size = os.fstat(self._stderr).st_size
        return os.pread(self._stderr, STDERR_TAIL, max(0, size - STDERR_TAIL)).decode(errors="replace").strip()

    def wait_for_client_file(self, timeout: float, cluster_file: str) -> str:
        """The path of the client's connection file. A cluster that has only begun to start names it later, in its cluster file."""
        from ._connect import look_until, wait_for_file

        def named() -> bool:
            if not self.state.get("client_file"):
                self.state = _read_cluster_file(cluster_file) or self.state
            if not self.state.get("client_file") and not self.alive():
                raise ClusterError("the cluster ended before its controller had started (PROFILE/log/ has its last words)")
            return bool(self.state.get("client_file"))

        if not look_until(named, timeout):
            raise TimeoutError(f"the cluster's controller has not started after {timeout:g} s")
        path: str = self.state["client_file"]
        wait_for_file(path, timeout)
        return path

    # Control.

    def alive(self) -> bool:
        """Whether the process still runs (and is the one we mean)."""
        if self.process is None:
            return _runs(self.state)
        with self._changed:
            return self.process.poll() is None

    def ask(self, request: dict[str, Any], timeout: float = CONTROL_TIMEOUT) -> Any:
        """One request over the control socket; its `ok`. RuntimeError with the supervisor's `error`."""
        name = self.state.get("control")
        if not name:
            raise RuntimeError("the cluster file names no control socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(timeout)
            s.connect("\0" + name[1:] if name.startswith("@") else name)
            _check_peer(s)
            s.sendall(json.dumps(request).encode() + b"\n")
            with s.makefile("rb") as f:
                line = f.readline()
        if not line:
            raise RuntimeError(f"the supervisor closed the connection without an answer to {request['do']!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{request['do']}: {answer['error']}")
        return answer.get("ok")

    def end(self) -> None:
        """Tells it to stop everything and waits for nothing; who reads its events reaps it."""
        self._kill(signal.SIGTERM)

    def stop(self) -> None:
        """Asks it to stop everything and waits until it has ended; what does not listen is killed."""
        try:
            if self.alive():
                try:
                    for left in self.ask({"do": "stop"}, timeout=STOP_TIMEOUT) or []:
                        warnings.warn(left, RuntimeWarning, stacklevel=3)
                except (OSError, RuntimeError, ValueError):
                    self._kill(signal.SIGTERM)
                if not self._wait_end(STOP_TIMEOUT):
                    self._kill(signal.SIGKILL)
                    self._wait_end(5.0)
        finally:
            self._close_stderr()

    def _close_stderr(self) -> None:
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1

    def __del__(self) -> None:
        """One that ended by itself, or that was left running, was never stopped."""
        self._close_stderr()

    def _kill(self, signum: int) -> None:
        try:
            if self.process is not None:
                self.process.send_signal(signum)
            elif _runs(self.state):
                os.kill(self.pid, signum)
        except ProcessLookupError:
            pass

    def _wait_end(self, timeout: float) -> bool:
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            waiter = select.poll()
            waiter.register(fd, select.POLLIN)
            ended = not self.alive() or bool(waiter.poll(timeout * 1000))
        finally:
            os.close(fd)
        return ended and (self.process is None or self._exit_code(1.0) is not None)


def _check_peer(s: socket.socket) -> None:
    uid = int.from_bytes(s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
    if uid not in (os.getuid(), 0):
        raise PermissionError(f"the control socket belongs to another user (uid {uid})")


def _read_cluster_file(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as f:
            state = json.load(f)
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def _runs(state: Mapping[str, Any]) -> bool:
    """Whether the supervisor of a cluster file lives: its pid, started when the file says."""
    pid, start = state.get("pid"), state.get("pid_start")
    if not isinstance(pid, int):
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rsplit(b")", 1)[1].split()
    except OSError:
        return False
    if fields[0] in (b"Z", b"X"):
        return False
    return start is None or int(fields[19]) == int(start)

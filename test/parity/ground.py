# SPDX-License-Identifier: BSD-3-Clause
"""What checks stand on: a registry of rows, one cluster for many checks, and programs with a profile of their own."""
from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import covey as ipp
from covey._programs import program_argv

from ..waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
ROWS = Path(__file__).with_name("rows.txt")
CHECKS: dict[str, Callable[[Ground], None]] = {}
STATUSES = ("check", "told", "open", "none")
_SCRUBBED = ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID", "IPP_CONNECTION_INFO", "IPP_NONINTERACTIVE", "PYTHONSTARTUP", "COVEY_EVENTS_FD")


def row(*ids: str) -> Callable[[Callable[[Ground], None]], Callable[[Ground], None]]:
    """Says which rows a check is for."""
    def enter(check: Callable[[Ground], None]) -> Callable[[Ground], None]:
        for id in ids:
            assert id not in CHECKS, f"{id} has two checks"
            CHECKS[id] = check
        return check
    return enter


def rows() -> dict[str, tuple[str, str]]:
    """{id: (status, words)} of rows.txt."""
    found = {}
    for line in ROWS.read_text().splitlines():
        if line and not line.startswith("#"):
            id, status, words = line.split(None, 2)
            assert id not in found and status in STATUSES, line
            found[id] = (status, words)
    return found


def raises(kinds: Any, call: Callable, *args: Any, **kwargs: Any) -> BaseException:
    """The error of that kind that a call raises; anything else fails."""
    try:
        value = call(*args, **kwargs)
    except kinds as e:
        return e
    raise AssertionError(f"{getattr(call, '__name__', call)} gave {value!r} instead of {kinds}")


class Ground:
    """One cluster of two engines, and for each check a client of its own with clean engines: rc, v, e0, lv, b.

    After a check that failed there is a new cluster: what it left behind is not the next one's.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="parity-")))
        self.env = {k: v for k, v in os.environ.items() if k not in _SCRUBBED}
        self.env["IPYTHONDIR"] = str(self.folder / "ipython")
        os.environ["IPYTHONDIR"] = self.env["IPYTHONDIR"]
        self._n = 0
        self._trusted = True
        self._stack.callback(lambda: self._shared.stop_cluster_sync())
        self._begin()

    def _begin(self) -> None:
        self._shared = ipp.Cluster(n=2, cluster_id="")
        self._shared.start_cluster_sync()
        self.client_file = self._shared.client_file

    def close(self) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def for_check(self) -> Iterator[Ground]:
        """Sets rc, v, e0, lv, b and tmp for one check."""
        if not self._trusted:
            self._shared.stop_cluster_sync()
            self._begin()
        self._trusted = False   # until the check has ended well
        self._n += 1
        self.tmp = self.folder / str(self._n)
        self.tmp.mkdir()
        with contextlib.ExitStack() as stack:
            self.stack = stack
            self.rc = stack.enter_context(ipp.Client(self.client_file))
            self.rc.wait_for_engines(2, timeout=60, interactive=False)
            self.v, self.e0 = self.rc[:], self.rc[0]
            self.lv, self.b = self.rc.load_balanced_view(), self.rc.broadcast_view()
            self.v.clear(block=True)
            stack.callback(self._settle)
            yield self
        self._trusted = True

    def _settle(self) -> None:
        ipp.use_pickle()
        if not self.rc._closed and self.rc.outstanding:
            self.rc.get_result(list(self.rc.outstanding), block=False).cancel()

    def held(self, view: Any) -> tuple[Any, Callable[[], None]]:
        """An AsyncResult of tasks that have begun, and what lets them end."""
        def held(folder: str, go: str) -> None:
            import os
            import time
            open(os.path.join(folder, f"began-{os.getpid()}-{time.monotonic_ns()}"), "w").close()
            while not os.path.exists(go):
                time.sleep(0.01)
        began = list(self.tmp.glob("began-*"))
        go = self.tmp / f"go-{len(began)}"
        ar = view.apply_async(held, str(self.tmp), str(go))
        wait_until(lambda: len(list(self.tmp.glob("began-*"))) == len(began) + len(ar), what="the tasks' start")
        return ar, go.touch

    # ------------------------------------------------ programs

    def environment(self, name: str = "own", **more: str) -> dict[str, str]:
        """An environment with an empty IPYTHONDIR below this check's folder."""
        return {**self.env, "IPYTHONDIR": str(self.tmp / name), **more}

    def run(self, program: str, *args: str, env: dict[str, str] | None = None, timeout: float = 60, **kwargs: Any) -> subprocess.CompletedProcess:
        """Runs ipcluster, ipcontroller or ipengine to its end."""
        return subprocess.run(program_argv(program, args), env=env or self.environment(), capture_output=True, text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL, **kwargs)

    def start(self, program: str, *args: str, env: dict[str, str] | None = None, **kwargs: Any) -> subprocess.Popen:
        """Starts one that is ended after the check; its output goes to self.tmp / PROGRAM.log."""
        log = self.stack.enter_context(open(self.tmp / f"{program}.log", "ab"))
        process = subprocess.Popen(program_argv(program, args), env=env or self.environment(), stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, start_new_session=True, **kwargs)
        self.stack.callback(_end, process)
        return process

    def log(self, program: str) -> str:
        return (self.tmp / f"{program}.log").read_text()

    def python(self, source: str, *args: str, env: dict[str, str] | None = None, timeout: float = 60) -> str:
        """Runs Python that can import ipyparallel (compat/); what it printed."""
        env = dict(env or self.env)
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "compat"), *(p for p in sys.path if p)])
        done = subprocess.run([sys.executable, "-c", source, *args], env=env, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def cluster(self, n: int = 2, **kwargs: Any) -> ipp.Client:
        """A cluster of this check's own, stopped after it; its client."""
        kwargs.setdefault("profile_dir", str(self.tmp / "profile_own"))
        made = ipp.Cluster(n=n, **kwargs)
        self.stack.callback(made.stop_cluster_sync)
        rc = made.start_and_connect_sync()
        self.stack.callback(rc.close)
        return rc


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_check(ground: Ground, check: Callable[[Ground], None]) -> str | None:
    """None, or what went wrong."""
    try:
        with ground.for_check():
            check(ground)
    except Exception:
        return traceback.format_exc(limit=-3)
    return None

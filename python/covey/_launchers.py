# SPDX-License-Identifier: BSD-3-Clause
"""The base classes of launchers in Python (launcher.py), and those that run a process of this machine."""
from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import Dict, Float, Integer, List, Unicode, default
from traitlets.config.configurable import LoggingConfigurable

SIGTERM, SIGKILL, SIGINT = signal.SIGTERM, signal.SIGKILL, signal.SIGINT

engine_cmd_argv = ipengine_cmd_argv = [sys.executable, "-m", "covey.engine"]
controller_cmd_argv = ipcontroller_cmd_argv = [sys.executable, "-m", "covey.controller"]
ipcluster_cmd_argv = [sys.executable, "-m", "covey.cluster"]


class LauncherError(Exception):
    """A launcher could not do what it was asked."""


class ProcessStateError(LauncherError):
    """Asked for in the wrong state, such as a second start."""


class UnknownStatus(LauncherError):
    """Nobody knows whether it runs."""


class NotRunning(LauncherError):
    """What was to be found again has ended."""


class BaseLauncher(LoggingConfigurable):
    """What all launchers have. `state` goes from "before" over "running" to "after"."""

    environment = Dict(help="more variables for what is started").tag(config=True, to_dict=True)
    output_limit = Integer(100, help="lines of output that are shown at the end").tag(config=True)
    stop_timeout = Integer(60, help="seconds that a killed process may take").tag(config=True)
    work_dir = Unicode(".")
    profile_dir = Unicode("").tag(to_dict=True)
    cluster_id = Unicode("").tag(to_dict=True)
    identifier = Unicode("")
    state = Unicode("before").tag(to_dict=True)
    start_data = AnyTrait()
    stop_data = AnyTrait()

    @default("log")
    def _log_default(self) -> logging.Logger:
        return logging.getLogger("covey.launcher")

    @default("identifier")
    def _identifier_default(self) -> str:
        return "-".join(p for p in (self.__class__.__name__.lower(), self.cluster_id, str(os.getpid())) if p)

    def __init__(self, **traits: Any) -> None:
        self._stop_callbacks: list[Callable[[Any], Any]] = []
        super().__init__(**traits)

    @property
    def cluster_args(self) -> list[str]:
        """Options that say which cluster: what is started needs no more than these."""
        args = [f"--profile-dir={self.profile_dir}"] if self.profile_dir else []
        return args + ([f"--cluster-id={self.cluster_id}"] if self.cluster_id else [])

    @property
    def cluster_env(self) -> dict[str, str]:
        """Variables that say which cluster."""
        return {k: v for k, v in (("IPP_CLUSTER_ID", self.cluster_id), ("IPP_PROFILE_DIR", self.profile_dir)) if v}

    def get_env(self) -> dict[str, str]:
        """`cluster_env` and `environment`."""
        for name, value in self.environment.items():
            if "{i}" in value:
                raise LauncherError(f"environment[{name!r}] has {{i}}, which {type(self).__name__} can't fill in: set c.IPEngine.environment "
                                    "in ipengine_config.py, or take {i} out")
        return {**self.cluster_env, **self.environment}

    @property
    def args(self) -> list[str]:
        """The command line, as `find_args` makes it."""
        return self.find_args()

    @property
    def arg_str(self) -> str:
        """`args` as one text."""
        return shlex.join(self.args)

    @property
    def running(self) -> bool:
        """Whether it has started and not ended."""
        return self.state == "running"

    def find_args(self) -> list[str]:
        """The command line; subclasses say."""
        raise NotImplementedError(f"{type(self).__name__}.find_args() must say what is run")

    def start(self) -> Any:
        """Starts it; subclasses say how, and call `notify_start`."""
        raise NotImplementedError(f"{type(self).__name__}.start() must start it")

    def stop(self) -> Any:
        """Ends it; subclasses say how, and call `notify_stop`."""
        raise NotImplementedError(f"{type(self).__name__}.stop() must stop it")

    def signal(self, sig: int) -> Any:
        """Sends a signal; subclasses say how."""
        raise NotImplementedError(f"{type(self).__name__}.signal() must send a signal")

    def get_output(self, remove: bool = False) -> str:
        """What it has written, where that is kept."""
        return ""

    def on_stop(self, callback: Callable[[Any], Any]) -> None:
        """Calls it with `stop_data` at the end; at once if that was before."""
        if self.state == "after":
            callback(self.stop_data)
        else:
            self._stop_callbacks.append(callback)

    def notify_start(self, data: Any) -> Any:
        """It runs now."""
        self.start_data, self.state = data, "running"
        return data

    def notify_stop(self, data: Any) -> Any:
        """It has ended; tells who asked by `on_stop`, once."""
        if self.state != "after":
            self.stop_data, self.state = data, "after"
            callbacks, self._stop_callbacks = self._stop_callbacks, []
            for callback in callbacks:
                callback(data)
        return data

    def to_dict(self) -> dict[str, Any]:
        """The traits that are tagged `to_dict`."""
        return {name: getattr(self, name) for name in self.traits(to_dict=True)}

    @classmethod
    def from_dict(cls, d: dict[str, Any], **traits: Any) -> BaseLauncher:
        """One like that which `to_dict` described. NotRunning if it has ended."""
        known = cls.class_traits(to_dict=True)
        return cls(**{k: v for k, v in d.items() if k in known}, **traits)


class ControllerLauncher(BaseLauncher):
    """Launches a controller."""

    controller_cmd = List(list(controller_cmd_argv), help="the program").tag(config=True)
    controller_args = List([], help="its arguments").tag(config=True)
    connection_info_timeout = Float(60, help="seconds for the connection files").tag(config=True)


class EngineLauncher(BaseLauncher):
    """Launches engines."""

    engine_cmd = List(list(engine_cmd_argv), help="the program").tag(config=True)
    engine_args = List([], help="its arguments").tag(config=True)
    n = Integer(1).tag(to_dict=True)


ControllerMixin, EngineMixin, ClusterAppMixin = ControllerLauncher, EngineLauncher, BaseLauncher


# ------------------------------------------------ processes

class LocalProcessLauncher(BaseLauncher):
    """A process of this machine: `find_args()` run as a child. Subclasses give `cmd_and_args` or override `find_args`."""

    stop_seconds_until_kill = Integer(5, help="seconds from SIGTERM to SIGKILL").tag(config=True)
    poll_seconds = Integer(30).tag(config=True)
    cmd_and_args = List([])
    output_file = Unicode("", help="file for its output; none: ours").tag(to_dict=True)
    pid = Integer(-1).tag(to_dict=True)
    process: Any = None

    def find_args(self) -> list[str]:
        """`cmd_and_args`."""
        return self.cmd_and_args

    def start(self) -> Any:
        """Starts the process; a thread waits for its end."""
        if self.state != "before":
            raise ProcessStateError(f"{self.identifier} was started before: it is {self.state!r}")
        self.log.info("starting %s", self.arg_str)
        output = open(self.output_file, "ab") if self.output_file else None
        self.process = subprocess.Popen(self.args, env={**os.environ, **self.get_env()}, cwd=self.work_dir, stdin=subprocess.DEVNULL,
                                        stdout=output or sys.stderr, stderr=output or sys.stderr)
        if output is not None:
            output.close()
        self.pid = self.process.pid
        threading.Thread(target=self._wait, daemon=True).start()
        return self.notify_start(self.pid)

    def _wait(self) -> None:
        self.notify_stop({"exit_code": self.process.wait(), "pid": self.pid, "identifier": self.identifier})

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll() if self.process is not None else None

    def signal(self, sig: int) -> None:
        """Sends a signal to the process."""
        if self.process is not None:
            self.process.send_signal(sig)

    def stop(self) -> Any:
        """SIGTERM, after `stop_seconds_until_kill` SIGKILL."""
        if self.process is None:
            return None
        self.process.terminate()
        try:
            self.process.wait(self.stop_seconds_until_kill)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(self.stop_timeout)
        return self.stop_data

    def get_output(self, remove: bool = False) -> str:
        """The text of `output_file`."""
        if not self.output_file or not os.path.exists(self.output_file):
            return ""
        with open(self.output_file, errors="replace") as f:
            text = f.read()
        if remove:
            os.unlink(self.output_file)
        return text


class LocalControllerLauncher(LocalProcessLauncher, ControllerLauncher):
    """A controller on this machine."""

    def find_args(self) -> list[str]:
        """`controller_cmd`, which cluster, `controller_args`."""
        return [*self.controller_cmd, *self.cluster_args, *self.controller_args]


class LocalEngineLauncher(LocalProcessLauncher, EngineLauncher):
    """One engine on this machine."""

    def find_args(self) -> list[str]:
        """`engine_cmd`, which cluster, how many, `engine_args`."""
        return [*self.engine_cmd, *self.cluster_args, f"--n={self.n}", *self.engine_args]


class LocalEngineSetLauncher(LocalEngineLauncher):
    """Engines on this machine: one host for all of them."""

    delay = Float(0.1, help="accepted; engines don't wait for each other").tag(config=True)

    def start(self, n: int) -> Any:
        """Starts n engines."""
        self.n = n
        return super().start()


class MPILauncher(LocalProcessLauncher):
    """`mpi_cmd -n N mpi_args program program_args`."""

    mpi_cmd = List(["mpiexec"], help="the program that starts ranks").tag(config=True)
    mpi_args = List([], help="its arguments").tag(config=True)
    program = List([])
    program_args = List([])
    n = Integer(1)

    def find_args(self) -> list[str]:
        """The whole command line."""
        return [*self.mpi_cmd, "-n", str(self.n), *self.mpi_args, *self.program, *self.program_args]

    def start(self, n: int = 1) -> Any:
        """Starts n ranks."""
        self.n = n
        return super().start()


class MPIControllerLauncher(MPILauncher, ControllerLauncher):
    """A controller by mpiexec."""

    def find_args(self) -> list[str]:
        """The controller's program on one rank."""
        self.program, self.program_args = self.controller_cmd, [*self.cluster_args, *self.controller_args]
        return super().find_args()

    def start(self) -> Any:
        """Starts it."""
        return super().start(1)


class MPIEngineSetLauncher(MPILauncher, EngineLauncher):
    """Engines by mpiexec; an engine's number is its rank."""

    def find_args(self) -> list[str]:
        """One engine on each rank."""
        self.program, self.program_args = self.engine_cmd, [*self.cluster_args, "--n=1", *self.engine_args]
        return super().find_args()


MPIExecLauncher, MPIExecControllerLauncher, MPIExecEngineSetLauncher = MPILauncher, MPIControllerLauncher, MPIEngineSetLauncher

# SPDX-License-Identifier: BSD-3-Clause
"""Clusters from Python: `Cluster` starts `ipcluster start` and follows what it says.

>>> import covey as ipp
>>> with ipp.Cluster(n=4) as rc:            # up in half a second, leaves nothing behind
...     rc[:].apply_sync(os.getpid)

A `Cluster` launches nothing itself. It runs the supervisor (the program `ipcluster`), reads its events, one
JSON object a line, and asks it for more over its control socket. So a cluster that was started here can be
stopped by `ipcluster stop`, and one that was started by `ipcluster start` can be had by `Cluster.from_file`.

Every coroutine `x()` has a blocking twin `x_sync()`; it works in notebooks, too, where a loop is running.
A Cluster belongs to the process that made it: a forked child can neither use nor stop it.
"""
from __future__ import annotations

import atexit
import contextlib
import json
import logging
import operator
import os
import random
import re
import string
import sys
import time
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ._clusterasync import ClusterCoroutines
from ._clusterfiles import cluster_file_path, cluster_files, find_profile_dir, profile_name
from ._clustermanager import ClusterManager, clean_cluster_files
from ._supervisor import ClusterError, _read_cluster_file, _runs, _Supervisor
from .util import abbreviate_profile_dir

if TYPE_CHECKING:
    from ._running import RunningLaunchers, Supervised
    from .client import Client

__all__ = ["Cluster", "ClusterManager", "ClusterError", "clean_cluster_files"]


START_GRACE = 10.0      # seconds that the supervisor waits longer than we for engines: we say first what is missing


class Cluster(ClusterCoroutines):
    """A controller and its engines.

    n : how many engines (default: what this machine or its allocation has cores for)
    engines, controller : launcher of the engines and the controller: a name ('local', 'ssh', 'slurm' …), a dotted
        path, or a class; also as engine_launcher_class, controller_launcher_class
    profile, profile_dir : whose config is read and where the files lie (default: the profile of this IPython
        session, else profile_default)
    cluster_id : distinguishes clusters of a profile (default: a new one)
    controller_ip, controller_location, controller_args : --ip, --location and further arguments of ipcontroller
    delay : seconds between controller and engines; 0 is right here, the option is stock's
    engine_timeout : seconds for all engines to be there
    shutdown_atexit : False leaves the cluster running when this process ends
    load_profile : False ignores the profile's config files
    restart : True starts engines that died again, under their old numbers (their namespaces are new)
    gpus_per_engine : so many GPUs for each engine alone (CUDA_VISIBLE_DEVICES)
    config : traitlets Config or dict; its settings go on the command line of `ipcluster start`
    """

    def __init__(self, *, n: int | None = None, engines: Any = None, controller: Any = None, profile: str = "",
                 profile_dir: str | os.PathLike | None = None, cluster_id: str | None = None, cluster_file: str | None = None,
                 controller_args: Iterable[str] | None = None, controller_ip: str | None = None,
                 controller_location: str | None = None, delay: float | None = None, engine_timeout: float | None = None,
                 send_engines_connection_env: bool = True, shutdown_atexit: bool = True, load_profile: bool = True,
                 config: Mapping[str, Any] | None = None, parent: Any = None, log: logging.Logger | None = None,
                 log_level: int = logging.INFO, engine_launcher_class: Any = None, controller_launcher_class: Any = None,
                 restart: bool = False, gpus_per_engine: int | None = None) -> None:
        if engines is not None and engine_launcher_class is not None:
            raise TypeError("engines and engine_launcher_class are the same: give one")
        if controller is not None and controller_launcher_class is not None:
            raise TypeError("controller and controller_launcher_class are the same: give one")
        self._pid = os.getpid()
        self.profile_dir = find_profile_dir(profile, profile_dir)
        self.profile = profile_name(self.profile_dir)
        self.cluster_id = _new_cluster_id() if cluster_id is None else cluster_id
        self.cluster_file = cluster_file or cluster_file_path(self.profile_dir, self.cluster_id)
        self.load_profile = load_profile
        self.config = config if config is not None else getattr(parent, "config", None) or {}
        settings = self._settings()
        self.n: int | None = _checked_n(n if n is not None else settings.get("n"))
        self._launchers: dict[str, Any] = {
            "engine": engines or engine_launcher_class or settings.get("engine_launcher_class") or "local",
            "controller": controller or controller_launcher_class or settings.get("controller_launcher_class") or "local"}
        if any(name is not None for name in (engines, controller, engine_launcher_class, controller_launcher_class)):
            self._check_launchers()
        self._pickled: list[str] = []       # files of launcher classes that can't be imported
        self.controller_args = list(controller_args if controller_args is not None else settings.get("controller_args", []))
        self.controller_ip: str = controller_ip if controller_ip is not None else settings.get("controller_ip", "")
        self.controller_location: str = (
            controller_location if controller_location is not None else settings.get("controller_location", ""))
        self.delay: float = delay if delay is not None else settings.get("delay", 0.0)
        self.engine_timeout: float = engine_timeout if engine_timeout is not None else settings.get("engine_timeout", 60)
        self.send_engines_connection_env = send_engines_connection_env
        self.shutdown_atexit = shutdown_atexit
        self.restart = restart
        self.gpus_per_engine: int | None = gpus_per_engine if gpus_per_engine is not None else settings.get("gpus_per_engine")
        self.log_level = log_level
        self.log = log if log is not None else _make_log(f"{Cluster.__module__}.{self.cluster_id}", log_level)
        self._supervisor: _Supervisor | None = None
        self._launched: RunningLaunchers | None = None      # made when somebody asks what runs
        self._context_client: Client | None = None

    def _settings(self) -> dict[str, Any]:
        """The section Cluster of config= and, below it, of the profile's files."""
        settings: dict[str, Any] = {}
        names = ("ipcluster_config.py", "ipcluster_config.json", "ipython_config.py", "ipython_config.json")
        if self.load_profile and any(os.path.exists(os.path.join(self.profile_dir, name)) for name in names):
            from .config import load_config

            settings.update(load_config("ipcluster", self.profile_dir).get("Cluster", {}))
        settings.update(self._told().get("Cluster", {}))
        return settings

    def _told(self) -> dict[str, dict[str, Any]]:
        """config= as its values are, with what `append()` and its kin say."""
        if not self.config:
            return {}
        from .config import plain

        return plain(self.config, "ipcluster")

    # ------------------------------------------------ what it is

    @property
    def engine_launcher_class(self) -> type:
        """The class (covey.launcher) of what starts engines; may be set to a class or a name."""
        from .launcher import find_launcher_class

        return find_launcher_class(self._launchers["engine"], "engine")

    @engine_launcher_class.setter
    def engine_launcher_class(self, launcher: Any) -> None:
        self._launchers["engine"] = launcher

    @property
    def controller_launcher_class(self) -> type:
        """The class of what starts the controller; may be set to a class or a name."""
        from .launcher import find_launcher_class

        return find_launcher_class(self._launchers["controller"], "controller")

    @controller_launcher_class.setter
    def controller_launcher_class(self, launcher: Any) -> None:
        self._launchers["controller"] = launcher

    @property
    def controller(self) -> Supervised | None:
        """The running controller, an object of its launcher's class; None if there is none."""
        return self._what_runs("controller").get("controller")

    @property
    def engines(self) -> dict[str, Supervised]:
        """The engine sets, objects of their launcher's class, by id; empty when nothing runs."""
        return self._what_runs("engine")

    @property
    def engine_set(self) -> Supervised | None:
        """The first engine set, or None."""
        return next(iter(self.engines.values()), None)

    def _what_runs(self, kind: str) -> dict[str, Supervised]:
        from ._running import RunningLaunchers

        state = self._state()
        if self._launched is None:
            self._launched = RunningLaunchers()
        if state is None:
            self._launched.drop()
            return {}
        states = state.get("engines", {}) if kind == "engine" else {"controller": state.get("controller") or {}}
        return self._launched.current(kind, states, lambda id: self._describe(kind, id, states[id].get("class", "Local")))

    def _describe(self, kind: str, id: str, name: str) -> Supervised:
        """The launcher object of what runs."""
        from ._running import launcher_class, running_class

        asked = self._launchers[kind]
        cls = running_class(launcher_class(asked if isinstance(asked, type) else name, kind))
        launcher = cls(config=self._trait_config(), profile_dir=self.profile_dir, cluster_id=self.cluster_id)
        me = weakref.ref(self)
        if kind == "engine":
            launcher._do_signal = lambda sig: (c := me()) and c.signal_engines_sync(sig, id)
            launcher._do_stop = lambda: (c := me()) and c.stop_engines_sync(id)
        else:
            launcher._do_signal = lambda sig: launcher.process and launcher.process.send_signal(sig)
            launcher._do_stop = lambda: (c := me()) and c.stop_controller_sync()
        return launcher

    def _trait_config(self) -> Any:
        from traitlets.config import Config

        return self.config if isinstance(self.config, Config) else Config({k: dict(v) for k, v in self.config.items() if isinstance(v, Mapping)})

    @property
    def client_file(self) -> str | None:
        """Path of the client's connection file, once there is a controller."""
        return (self._state() or {}).get("client_file")

    @property
    def _engine_failure(self) -> str | None:
        return self._supervisor.failure if self._supervisor is not None else None

    def _state(self) -> dict[str, Any] | None:
        """What the cluster file says, None if nothing runs."""
        if self._supervisor is None or not self._supervisor.alive():
            return None
        return _read_cluster_file(self.cluster_file) or self._supervisor.state

    def __repr__(self) -> str:
        where = f"profile={self.profile!r}" if self.profile else f"profile_dir={abbreviate_profile_dir(self.profile_dir)!r}"
        fields = [f"cluster_id={self.cluster_id!r}", where]
        if self.controller is not None:
            fields.append("controller=<running>")
        if self.engines:
            fields.append(f"engine_sets={list(self.engines)}")
        supervisor = self._supervisor
        if supervisor is not None and supervisor.asked:
            fields.append(f"engines={supervisor.ready}/{supervisor.asked}")
        return f"<Cluster({', '.join(fields)})>"

    # ------------------------------------------------ start

    def start_controller_sync(self, **kwargs: Any) -> None:
        """Starts the controller alone. RuntimeError if it runs already."""
        self._start(0, kwargs)

    def start_cluster_sync(self, n: int | None = None) -> Cluster:
        """Starts controller and engines; returns this Cluster when all engines are ready.

        ClusterError says which engine failed, with its last words; nothing is left running then.
        """
        self._start(self.n if n is None else _checked_n(n), {})
        return self

    def start_engines_sync(self, n: int | None = None, engine_set_id: str | None = None, **kwargs: Any) -> str:
        """Starts further engines; returns the id of their set (default: the time, as text)."""
        running = self._running()
        request: dict[str, Any] = {"do": "start_engines", "id": engine_set_id or self._new_set_id(), **kwargs}
        n = self.n if n is None else _checked_n(n)
        if n is not None:
            request["n"] = n
        answer = running.ask(request)
        if self.n is None:
            self.n = n
        return str(answer.get("id", request["id"]) if isinstance(answer, dict) else request["id"])

    def _new_set_id(self) -> str:
        base = id = str(int(time.time()))
        count = 0
        while id in self.engines:
            count += 1
            id = f"{base}-{count}"
        return id

    def start_and_connect_sync(self, n: int | None = None, activate: bool = False) -> Client:
        """Starts the cluster and connects: a Client whose engines are all there.

        activate : also makes `%px` work on all engines
        """
        self.start_cluster_sync(n)
        rc = None
        try:
            rc = self.connect_client_sync()
            if self.n is not None:
                rc.wait_for_engines(self.n, timeout=self.engine_timeout, interactive=False)
        except BaseException:
            if rc is not None:
                rc.close()
            self.stop_cluster_sync()
            raise
        if activate:
            rc.activate()
        return rc

    def connect_client_sync(self, **kwargs: Any) -> Client:
        """A Client of this cluster; keywords as of `Client`. `rc.cluster` is this Cluster."""
        from .client import Client

        path = self._running().wait_for_client_file(self.engine_timeout, self.cluster_file)
        kwargs.setdefault("cluster", self)
        rc = Client(path, **kwargs)
        rc._core.ends_with(path)
        return rc

    # ------------------------------------------------ control and stop

    def stop_engines_sync(self, engine_set_id: str | None = None) -> None:
        """Stops one set of engines (KeyError if there is none of that id), or all."""
        if engine_set_id is not None and engine_set_id not in self.engines:
            raise KeyError(engine_set_id)
        if self._launched is not None:
            self._launched.hold_outputs()
        for id in [engine_set_id] if engine_set_id is not None else list(self.engines):
            self._running().ask({"do": "stop_engines", "id": id})

    def restart_engines_sync(self, engine_set_id: str | None = None) -> None:
        """Stops and starts a set of engines, or all: new processes, as many as before."""
        if engine_set_id is not None and engine_set_id not in self.engines:
            raise KeyError(engine_set_id)
        for id in [engine_set_id] if engine_set_id is not None else list(self.engines):
            self._running().ask({"do": "restart_engines", "id": id})

    def signal_engines_sync(self, signum: int, engine_set_id: str | None = None) -> None:
        """Sends a signal to the engines of a set, or to all."""
        if engine_set_id is not None and engine_set_id not in self.engines:
            raise KeyError(engine_set_id)
        for id in [engine_set_id] if engine_set_id is not None else list(self.engines):
            self._running().ask({"do": "signal_engines", "id": id, "signal": int(signum)})

    def stop_engine_sync(self, engine_id: int) -> None:
        """Not possible by launcher; `rc.shutdown(engine_id)` stops one engine."""
        raise NotImplementedError("use rc.shutdown(engine_id)")

    def restart_engine_sync(self, engine_id: int) -> None:
        """Not possible by launcher; `rc.shutdown(engine_id, restart=True)` restarts one engine."""
        raise NotImplementedError("use rc.shutdown(engine_id, restart=True)")

    def signal_engine_sync(self, engine_id: int, signum: int) -> None:
        """Not possible by launcher; `rc.send_signal(signum, engine_id)` signals one engine."""
        raise NotImplementedError("use rc.send_signal(signum, engine_id)")

    def stop_controller_sync(self) -> None:
        """Stops the controller, and with it all that hangs on it. Does nothing if none runs."""
        self.stop_cluster_sync()

    def stop_cluster_sync(self) -> None:
        """Stops engines, controller and supervisor; returns when all have ended. Does nothing if none runs."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None and self._pid == os.getpid():
            launched, self._launched = self._launched, None
            if launched is not None:
                launched.hold_outputs()
            supervisor.stop()
            if launched is not None:
                launched.drop()
            while self._pickled:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._pickled.pop())
            if not self._other_owner():
                self.remove_cluster_file()

    def _other_owner(self) -> bool:
        found = _read_cluster_file(self.cluster_file)
        return found is not None and _runs(found)

    # ------------------------------------------------ with

    def __enter__(self) -> Client:
        rc = self._context_client = self.start_and_connect_sync()
        return rc

    def __exit__(self, *_: Any) -> None:
        rc, self._context_client = self._context_client, None
        if rc is not None:
            rc.close()
        self.stop_cluster_sync()

    async def __aenter__(self) -> Client:
        rc = self._context_client = await self.start_and_connect()
        return rc

    async def __aexit__(self, *_: Any) -> None:
        rc, self._context_client = self._context_client, None
        if rc is not None:
            rc.close()
        await self.stop_cluster()

    # ------------------------------------------------ files

    @classmethod
    def from_file(cls, cluster_file: str | os.PathLike | None = None, *, profile: str = "",
                  profile_dir: str | os.PathLike | None = None, cluster_id: str = "", **kwargs: Any) -> Cluster:
        """A cluster that runs already: by default that of `ipcluster start` (its id is empty), else the only one of the profile.

        FileNotFoundError if there is none, or several without that one. It is not stopped when this process ends.
        """
        path = os.fspath(cluster_file) if cluster_file is not None else cls._file_of(find_profile_dir(profile, profile_dir), cluster_id)
        path = os.path.abspath(os.path.expanduser(path))
        state = _read_cluster_file(path)
        if state is None:
            raise FileNotFoundError(f"no cluster runs here: {path} is not there (`ipcluster list` shows those that run)")
        if isinstance(state.get("cluster"), dict) and "pid" not in state:
            raise FileNotFoundError(f"no cluster of covey's runs here: {path} is of ipyparallel's own programs (their `ipcluster stop` ends what runs)")
        if not _runs(state):
            raise FileNotFoundError(f"no cluster runs here: {path} is of one that has ended (`ipcluster clean` removes it)")
        return cls.from_dict(state, cluster_file=path, **kwargs)

    @staticmethod
    def _file_of(profile_dir: str, cluster_id: str) -> str:
        """The file of that cluster; where none has the empty id, of the only one that runs."""
        path = cluster_file_path(profile_dir, cluster_id)
        if cluster_id or os.path.exists(path):
            return path
        running = [f for f in cluster_files(profile_dir) if (state := _read_cluster_file(f)) is not None and _runs(state)]
        if len(running) > 1:
            ids = ", ".join(os.path.basename(f)[len("cluster-"):-len(".json")] for f in running)
            raise FileNotFoundError(f"several clusters run in {profile_dir}: name one by cluster_id ({ids})")
        return running[0] if running else path

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], **kwargs: Any) -> Cluster:
        """The cluster that `to_dict` described, if it still runs, else one that is not started; the end of this process stops neither."""
        kwargs.setdefault("profile_dir", state.get("profile_dir"))
        kwargs.setdefault("cluster_id", state.get("cluster_id", ""))
        kwargs.setdefault("shutdown_atexit", False)
        for kind, found in (("engines", next(iter((state.get("engines") or {}).values()), None)), ("controller", state.get("controller"))):
            name = found and (found.get("launcher") or found.get("class", "Python"))
            if name and name != "Python":       # one that was pickled: which class that was the file does not say
                kwargs.setdefault(kind, name)
        self = cls(**kwargs)
        if _runs(state):
            self._supervisor = _Supervisor.attach(dict(state))
        sets = state.get("engines") or {}
        if self.n is None and sets:
            self.n = sum(s.get("n") or 0 for s in sets.values()) or None
        return self

    def to_dict(self) -> dict[str, Any]:
        """What the cluster file has (docs/internals.md): enough to find the running cluster again."""
        return dict(self._state() or {"class": "covey.cluster.Cluster", "cluster_id": self.cluster_id,
                                      "profile_dir": self.profile_dir, "engines": {}})

    def write_cluster_file(self) -> None:
        """Writes `to_dict()` to `cluster_file` (mode 0600). The supervisor does so itself."""
        os.makedirs(os.path.dirname(self.cluster_file), exist_ok=True)
        temporary = f"{self.cluster_file}.{os.getpid()}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            json.dump(self.to_dict(), f)
        os.replace(temporary, self.cluster_file)

    def update_cluster_file(self) -> None:
        """Writes the cluster file if something runs, removes it if nothing does."""
        if self._state() is None:
            self.remove_cluster_file()
        else:
            self.write_cluster_file()

    def remove_cluster_file(self) -> None:
        """Removes the cluster file if it is there."""
        try:
            os.unlink(self.cluster_file)
        except FileNotFoundError:
            pass

    # ------------------------------------------------ the supervisor

    def _running(self) -> _Supervisor:
        if self._pid != os.getpid():
            raise RuntimeError("this Cluster belongs to the process that made it, not to its forked children")
        if self._supervisor is None or not self._supervisor.alive():
            raise RuntimeError("the cluster is not running: start_cluster() starts it")
        return self._supervisor

    def _arguments(self, n: int | None, extra: Mapping[str, Any]) -> list[str]:
        """The command line behind `ipcluster start`."""
        args = [f"--profile-dir={self.profile_dir}", f"--cluster-id={self.cluster_id}"]
        if n is not None:
            args.append(f"--n={n}")
        args.append(f"--engine-timeout={self.engine_timeout + START_GRACE:g}")
        if self.restart:
            args.append("--restart")
        if self.gpus_per_engine is not None:
            args.append(f"--gpus-per-engine={self.gpus_per_engine}")
        if self.shutdown_atexit:
            args.append(f"--parent-pid={os.getpid()}")
        for option, kind in (("engines", "engine"), ("controller", "controller")):
            value = self._launcher_name(kind)
            if value.lower() != "local":
                args.append(f"--{option}={value}")
        for option, value in (("ip", self.controller_ip), ("location", self.controller_location)):
            if value:
                args.append(f"--{option}={value}")
        for section, traits in self._told().items():
            if section != "Cluster":
                args += [f"--{section}.{trait}={_literal(value)}" for trait, value in traits.items()]
        rest = [*self.controller_args, *(f"--{k.replace('_', '-')}={v}" for k, v in extra.items())]
        return [*args, "--", *rest] if rest else args

    def _check_launchers(self) -> None:
        """UnknownLauncher for a name that is none, before anything is started. Paths of classes are looked up where they are used."""
        for option, kind in (("engines", "engine"), ("controller", "controller")):
            launcher = self._launchers[kind]
            if isinstance(launcher, type) or isinstance(launcher, str) and re.search("(?i)^local$|[.:@]|^win", launcher):
                continue  # (ipcluster says at once why there is no Windows HPC)
            from .launcher import UnknownLauncher, find_launcher_class

            try:
                find_launcher_class(str(launcher), kind)
            except ValueError as e:
                if not _others_path():
                    raise UnknownLauncher(f"{option}={launcher!r}: {e}") from None

    def _launcher_name(self, kind: str) -> str:
        """A launcher as the command line takes it: a name, a dotted path, MODULE:CLASS, or @FILE of a class that can't be imported."""
        launcher = self._launchers[kind]
        if not isinstance(launcher, type):
            return str(launcher)
        from .launcher import is_built_in

        if is_built_in(launcher):
            return launcher.__name__
        if launcher.__module__ != "__main__" and "<locals>" not in launcher.__qualname__:
            return f"{launcher.__module__}:{launcher.__qualname__}"
        import cloudpickle

        folder = os.path.join(self.profile_dir, "security")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, f"launcher-{self.cluster_id}-{kind}.pickle")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
            cloudpickle.dump(launcher, f)
        self._pickled.append(path)
        return "@" + path

    def _start(self, n: int | None, extra: Mapping[str, Any]) -> None:
        if self._pid != os.getpid():
            raise RuntimeError("this Cluster belongs to the process that made it, not to its forked children")
        if self._supervisor is not None and self._supervisor.alive():
            raise RuntimeError(f"the cluster is running already: {self!r}")
        self._check_launchers()
        supervisor = _Supervisor.start(["start", *self._arguments(n, extra)], self.load_profile, self.cluster_file)
        self._supervisor = supervisor
        if self.shutdown_atexit:
            _stop_at_exit.add(self)
        try:
            supervisor.wait_ready(self.engine_timeout, n)
        except BaseException:
            self.stop_cluster_sync()
            raise
        if supervisor.asked:
            self.n = supervisor.asked
        self.cluster_file = supervisor.cluster_file or self.cluster_file

    def __del__(self) -> None:
        """The garbage collector comes at any time and in any thread: it is not made to wait until all has stopped."""
        supervisor = getattr(self, "_supervisor", None)
        if supervisor is not None and self.shutdown_atexit and self._pid == os.getpid():
            self._supervisor = None
            supervisor.end()


_stop_at_exit: weakref.WeakSet[Cluster] = weakref.WeakSet()


@atexit.register
def _at_exit() -> None:
    for cluster in list(_stop_at_exit):
        if cluster.shutdown_atexit:
            cluster.stop_cluster_sync()


def _others_path() -> bool:
    """Whether a Python that is started now finds modules where this one does not look: PYTHONPATH was set meanwhile."""
    return any(p and os.path.abspath(p) not in sys.path for p in os.environ.get("PYTHONPATH", "").split(os.pathsep))


def _make_log(name: str, level: int) -> logging.Logger:
    """The Cluster's logger; in IPython it writes to standard output."""
    log = logging.getLogger(name)
    log.setLevel(level)
    ip = sys.modules.get("IPython")
    if ip is not None and ip.get_ipython() is not None and not log.handlers:
        log.addHandler(logging.StreamHandler(sys.stdout))
    return log


def _new_cluster_id() -> str:
    letters = random.SystemRandom().choices(string.ascii_lowercase + string.digits, k=4)
    return f"{int(time.time())}-{''.join(letters)}"


def _checked_n(n: Any) -> int | None:
    """A number of engines as Python's int; TypeError, ValueError for what is none."""
    if n is None:
        return None
    try:
        number = operator.index(n)
    except TypeError:
        raise TypeError(f"n is the number of engines, an int, not {type(n).__name__}: {n!r}") from None
    if number < 0:
        raise ValueError(f"n is the number of engines and can't be negative: {n!r}")
    return number


def _literal(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


if __name__ == "__main__":
    from covey._programs import ipcluster

    ipcluster()

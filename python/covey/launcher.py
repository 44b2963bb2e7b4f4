# SPDX-License-Identifier: BSD-3-Clause
"""Launchers in Python, for those who write their own: how a controller or engines are started, signalled, stopped.

The launchers that come with covey are C (`ipcluster start --engines=slurm`); their names here say which one is meant and
have its traits. A class of yours derives from one of them, is named by dotted path, by `MODULE:CLASS`, by an entry point of the
groups ``ipyparallel.engine_launchers`` and ``ipyparallel.controller_launchers``, or given to `Cluster` as an object, and
runs in a process of its own: ``python -m covey.launcher`` (`_launcheragent.py`), which the supervisor starts and asks.

`start()` (controllers) or `start(n)` (engines), `stop()` and `signal(number)` may be coroutines. `notify_start` and `notify_stop`
say what has happened; a launcher whose `state` is ``"after"`` has ended.
"""
from __future__ import annotations

import importlib
import os
import runpy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from traitlets import Dict, List, TraitError, Unicode

from ._batchlaunchers import (  # noqa: F401
    BatchClusterAppMixin,
    BatchControllerLauncher,
    BatchEngineSetLauncher,
    BatchSystemLauncher,
    HTCondorControllerLauncher,
    HTCondorEngineSetLauncher,
    HTCondorLauncher,
    LSFControllerLauncher,
    LSFEngineSetLauncher,
    LSFLauncher,
    PBSControllerLauncher,
    PBSEngineSetLauncher,
    PBSLauncher,
    SGEControllerLauncher,
    SGEEngineSetLauncher,
    SGELauncher,
    SlurmControllerLauncher,
    SlurmEngineSetLauncher,
    SlurmLauncher,
)
from ._launchers import (  # noqa: F401
    SIGINT,
    SIGKILL,
    SIGTERM,
    BaseLauncher,
    ClusterAppMixin,
    ControllerLauncher,
    ControllerMixin,
    EngineLauncher,
    EngineMixin,
    LauncherError,
    LocalControllerLauncher,
    LocalEngineLauncher,
    LocalEngineSetLauncher,
    LocalProcessLauncher,
    MPIControllerLauncher,
    MPIEngineSetLauncher,
    MPIExecControllerLauncher,
    MPIExecEngineSetLauncher,
    MPIExecLauncher,
    MPILauncher,
    NotRunning,
    ProcessStateError,
    UnknownStatus,
    controller_cmd_argv,
    engine_cmd_argv,
    ipcluster_cmd_argv,
    ipcontroller_cmd_argv,
    ipengine_cmd_argv,
)
from ._supervisor import ClusterError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class SSHLauncher(LocalProcessLauncher):
    """The names and traits of launching by ssh. Classes derived from it can't be run: the ssh launchers are C."""

    ssh_cmd = List(["ssh"]).tag(config=True)
    ssh_args = List([]).tag(config=True)
    hostname = Unicode("").tag(config=True)
    user = Unicode("").tag(config=True)
    location = Unicode("").tag(config=True)
    remote_profile_dir = Unicode("").tag(config=True)
    remote_python = Unicode("python3").tag(config=True)
    prologue = List([]).tag(config=True)
    to_send = List([]).tag(config=True)
    to_fetch = List([]).tag(config=True)

    def start(self, *_: Any) -> Any:
        """Refuses."""
        raise LauncherError(f"{type(self).__name__}: classes derived from the ssh launchers are not run; set traits in the config instead")


class SSHControllerLauncher(SSHLauncher, ControllerLauncher):
    """A controller by ssh."""


class SSHEngineLauncher(SSHLauncher, EngineLauncher):
    """An engine by ssh."""


class SSHEngineSetLauncher(SSHEngineLauncher):
    """Engines by ssh on the hosts of `engines`."""

    engines = Dict({}).tag(config=True)


class SSHProxyEngineSetLauncher(SSHLauncher, EngineLauncher):
    """Engines by `ipcluster engines` on another machine."""

    ipcluster_cmd = List([]).tag(config=True)
    ipcluster_args = List([]).tag(config=True)


_KINDS = {"controller": "ControllerLauncher", "engine": "EngineSetLauncher"}
_SHORT = {"local": "Local", "mpi": "MPI", "slurm": "Slurm", "pbs": "PBS", "sge": "SGE", "lsf": "LSF", "htcondor": "HTCondor",
          "ssh": "SSH", "sshproxy": "SSHProxy", "batch": "Batch"}
_STOCK = ("ipyparallel.cluster.launcher", "ipyparallel.apps.launcher", "IPython.parallel.apps.launcher", "covey.launcher")

all_launchers = [cls for cls in list(globals().values()) if isinstance(cls, type) and issubclass(cls, BaseLauncher)]


def is_built_in(cls: type) -> bool:
    """Whether the C programs have this launcher themselves."""
    return globals().get(cls.__name__) is cls and cls in all_launchers


class UnknownLauncher(ClusterError, TraitError):
    """A `Cluster` was asked for a launcher that there is not; ipyparallel raises TraitError."""


def find_launcher_class(name: str | type, kind: str | None = None) -> type:
    """The class of a launcher's name: a short one ('slurm'), a class's, a dotted path of any era, MODULE:CLASS, or an entry point.

    kind : 'engine' or 'controller'; short names need it
    """
    if isinstance(name, type):
        return name
    module, _, word = name.replace(":", ".").rpartition(".")
    if module and module not in _STOCK:
        return _import(module, word)
    lower = word.lower()
    if kind and f"{_SHORT.get(lower, '')}{_KINDS[kind]}" in globals() and lower in _SHORT:
        return globals()[_SHORT[lower] + _KINDS[kind]]
    for cls in all_launchers:
        if cls.__name__.lower() == lower:
            return cls
    found = _entry_points(kind)
    if lower in found:
        return found[lower].load()
    names = sorted({*_SHORT, *found})
    raise ValueError(f"there is no launcher {name!r}; there are {', '.join(names)}, and classes by their dotted path")


def _entry_points(kind: str | None) -> dict[str, EntryPoint]:
    import importlib.metadata

    groups = [f"ipyparallel.{k}_launchers" for k in ([kind] if kind else _KINDS)]
    return {e.name.lower(): e for g in groups for e in importlib.metadata.entry_points(group=g)}


def _import(module: str, name: str) -> type:
    value: Any = importlib.import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    if not isinstance(value, type):
        raise ValueError(f"{module}.{name} is a {type(value).__name__}, not a launcher's class")
    return value


def load_spec(spec: str, kind: str) -> type:
    """The class that a command line names: as `find_launcher_class` takes it, or @FILE, a pickled class."""
    if spec.startswith("@"):
        import cloudpickle

        with open(spec[1:], "rb") as f:
            return cloudpickle.load(f)
    path, _, name = spec.rpartition(":")
    if path.endswith(".py"):
        return runpy.run_path(os.path.abspath(path), run_name="__launcher__")[name]
    return find_launcher_class(spec, kind)


def abbreviate_launcher_class(cls: type) -> str:
    """The short name of a launcher, where it has one, else MODULE:CLASS."""
    if name := getattr(cls, "entrypoint_name", None):
        return name
    for short, word in _SHORT.items():
        if cls in (globals().get(word + kind) for kind in _KINDS.values()):
            return short
    for kind in _KINDS:
        for name, entry in _entry_points(kind).items():
            if entry.value == f"{cls.__module__}:{cls.__qualname__}":
                return name
    return f"{cls.__module__}:{cls.__qualname__}"


def _config_of(tree: Mapping[str, Any]) -> Any:
    from traitlets.config import Config

    return Config({cls: dict(traits) for cls, traits in tree.items() if isinstance(traits, Mapping)})


if __name__ == "__main__":
    from covey._launcheragent import main

    main()

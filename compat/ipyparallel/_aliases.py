# SPDX-License-Identifier: BSD-3-Clause
"""Where the modules of ipyparallel are in covey.

`import ipyparallel.client.view` gives the module `covey.view` itself, so there is one class of each name,
whichever way it was imported. Packages (client, engine …) are real; the modules in them come from this table.
"""
from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
from collections.abc import Callable, Sequence

ALIASES = {
    "client.asyncresult": "covey.asyncresult",
    "client.client": "covey.client",
    "client.futures": "covey.util",
    "client.magics": "covey.magics",
    "client.map": "covey.map",
    "client.remotefunction": "covey.decorators",
    "client.view": "covey.view",
    "client._joblib": "covey.joblib",
    "cluster.cluster": "covey.cluster",
    "cluster.launcher": "covey.launcher",
    "apps.launcher": "covey.launcher",
    "controller.dependency": "covey.dependency",
    "datapub": "covey.datapub",
    "engine.datapub": "covey.datapub",
    "error": "covey.error",
    "joblib": "covey.joblib",
    "serialize.canning": "covey.canning",
    "serialize.serialize": "covey.serialize",
    "util": "covey.util",
}

# Programs look at type(x).__module__ ('ipyparallel' in str(type(view))), and people at tracebacks. Classes whose instances travel
# to engines keep covey's path: an engine may have no ipyparallel.
MODULES = {
    "ipyparallel.client.client": "covey.client.Client covey.task.ExecuteReply covey.task.Metadata",
    "ipyparallel.client.view": "covey.view.View covey.view.DirectView covey.view.LoadBalancedView covey.view.BroadcastView"
                               " covey.executor.ViewExecutor covey.executor.LazyMapIterator",
    "ipyparallel.client.asyncresult": "covey.asyncresult.AsyncResult covey.asyncresult.AsyncMapResult covey.asyncresult.AsyncHubResult",
    "ipyparallel.client.remotefunction": "covey.decorators.RemoteFunction covey.decorators.ParallelFunction",
    "ipyparallel.cluster.cluster": "covey.cluster.Cluster covey.cluster.ClusterManager",
}

# What programs import from a module that is not its own there.
SHARED = {
    "covey.asyncresult": "progress utcnow compare_datetimes",
    "covey.client": "AsyncHubResult AsyncResult BroadcastView DirectView LoadBalancedView PrePickled Reference",
    "covey.decorators": "PrePickled",
    "covey.dependency": "AsyncResult can",
    "covey.view": "Dependency PrePickled dependent",
}


class _Alias:
    """Finds ipyparallel.X by the table and gives covey's module: finder and loader (the base classes in importlib.abc take 8 ms to import)."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name.startswith("ipyparallel.") and name[len("ipyparallel."):] in ALIASES:
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = importlib.import_module(ALIASES[name[len("ipyparallel."):]])


def install() -> None:
    """Makes the table work, once."""
    if not any(isinstance(f, _Alias) for f in sys.meta_path):
        sys.meta_path.append(_Alias())


def modules_later(package: str, *names: str) -> Callable[[str], types.ModuleType]:
    """A package's `__getattr__`: these of its modules are imported when somebody asks for them."""
    def find(name: str) -> types.ModuleType:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return find


def share_names() -> None:
    """Gives modules the names that programs take from them though they are others'."""
    import covey

    for module, names in SHARED.items():
        for name in names.split():
            setattr(importlib.import_module(module), name, getattr(covey if name in covey.__all__ else covey.util, name))


def rename_types() -> None:
    """Gives the classes that programs look at ipyparallel's module paths."""
    for module, paths in MODULES.items():
        for source, _, name in [path.rpartition(".") for path in paths.split()]:
            getattr(importlib.import_module(source), name).__module__ = module
    error = importlib.import_module("covey.error")
    for kind in [getattr(error, name) for name in error.__all__]:
        if isinstance(kind, type) and kind.__module__ == "covey.error":
            kind.__module__ = "ipyparallel.error"

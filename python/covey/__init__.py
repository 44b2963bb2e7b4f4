# SPDX-License-Identifier: BSD-3-Clause
"""Run Python on all your cores and machines from a notebook.

>>> import covey as ipp
>>> with ipp.Cluster(n=4) as rc:
...     print(rc[:].apply_sync(os.getpid))                    # on every engine
...     ar = rc.load_balanced_view().map_async(f, range(100)) # on whichever is free
...     ar.wait_interactive()
...     print(ar.get())
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import error, serialize, util
    from .asyncresult import (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, AsyncHubResult, AsyncMapResult,
                              AsyncResult)
    from .canning import (can, can_map, deserialize_object, pack_apply_message, serialize_object, uncan, uncan_map,
                          unpack_apply_message)
    from .client import Client
    from .cluster import Cluster, ClusterManager
    from .datapub import publish_data
    from .decorators import ParallelFunction, RemoteFunction, parallel, remote
    from .dependency import Dependency, depend, dependent, require
    from .error import *  # noqa: F403
    from .executor import ViewExecutor
    from .kernel import bind_kernel
    from .serialize import PrePickled, Reference, interactive, use_cloudpickle, use_dill, use_pickle
    from .task import ExecuteReply, Metadata
    from .view import BroadcastView, DirectView, LoadBalancedView, View

__version__ = "0.1.0"
version_info = (0, 1, 0)

# Everything is imported when it is used: an engine needs the serializer alone, and starts sooner for it.
_NAMES = {
    "asyncresult": "ALL_COMPLETED FIRST_COMPLETED FIRST_EXCEPTION AsyncHubResult AsyncMapResult AsyncResult",
    "canning": "can can_map deserialize_object pack_apply_message serialize_object uncan uncan_map unpack_apply_message",
    "client": "Client",
    "cluster": "Cluster ClusterManager",
    "datapub": "publish_data",
    "decorators": "ParallelFunction RemoteFunction parallel remote",
    "dependency": "Dependency depend dependent require",
    "error": "IPythonError KernelError EngineError NoEnginesRegistered TaskAborted TaskTimeout LostTask "
             "TaskRefused UnmetDependency ImpossibleDependency DependencyTimeout InvalidDependency RemoteError "
             "CompositeError AlreadyDisplayedError TaskRejectError TimeoutError CancelledError collect_exceptions "
             "wrap_exception unwrap_exception unpack_error",
    "executor": "ViewExecutor",
    "kernel": "bind_kernel",
    "serialize": "PrePickled Reference interactive use_cloudpickle use_dill use_pickle",
    "task": "ExecuteReply Metadata",
    "view": "BroadcastView DirectView LoadBalancedView View",
}
_LATER = {name: module for module, names in _NAMES.items() for name in names.split()}
_SUBMODULES = frozenset({*_NAMES, "config", "controller", "engine", "joblib", "magics", "map", "util"})
__all__ = [*_LATER, "register_joblib_backend"]


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LATER:
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
        return value
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_SUBMODULES})


def register_joblib_backend(name: str = "ipyparallel", make_default: bool = False) -> None:
    """joblib runs its tasks on engines: of the default cluster, or of one that is started for it."""
    from .joblib import register

    register(name, make_default)


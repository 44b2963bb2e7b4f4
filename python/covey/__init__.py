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

from . import error, serialize, util
from .asyncresult import (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, AsyncHubResult, AsyncMapResult,
                          AsyncResult)
from .client import Client
from .decorators import ParallelFunction, RemoteFunction, parallel, remote
from .dependency import Dependency, depend, dependent, require
from .error import *  # noqa: F403
from .executor import ViewExecutor
from .serialize import (PrePickled, Reference, can, can_map, deserialize_object, interactive, pack_apply_message,
                        serialize_object, uncan, uncan_map, unpack_apply_message, use_cloudpickle, use_dill,
                        use_pickle)
from .task import ExecuteReply, Metadata
from .view import BroadcastView, DirectView, LoadBalancedView, View

if TYPE_CHECKING:
    from .cluster import Cluster, ClusterManager

__version__ = "0.1.0"
version_info = (0, 1, 0)

# What is imported only when it is used: they cost time, or need more than a client does.
_LATER = {"Cluster": "cluster", "ClusterManager": "cluster", "publish_data": "datapub", "bind_kernel": "engine"}
_SUBMODULES = frozenset({"cluster", "magics", "engine", "config", "joblib", "datapub", "launcher"})


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LATER:
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_SUBMODULES})


def register_joblib_backend(name: str = "ipyparallel", make_default: bool = False) -> None:
    """joblib runs its tasks on engines: of the default cluster, or of one that is started for it."""
    from .joblib import register

    register(name, make_default)


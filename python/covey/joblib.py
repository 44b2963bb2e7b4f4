# SPDX-License-Identifier: BSD-3-Clause
"""joblib on a cluster: ``with joblib.parallel_backend('ipyparallel'): Parallel()(…)``."""
from __future__ import annotations

from typing import Any

import joblib
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

__all__ = ["IPythonParallelBackend", "register"]


class IPythonParallelBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs joblib's batches on a load-balanced view; without one on the default cluster, started if need be."""

    supports_retrieve_callback = False
    supports_return_generator = False
    default_n_jobs = -1

    def __init__(self, view: Any = None, **kwargs: Any) -> None:
        super().__init__(**{k: v for k, v in kwargs.items() if k in ("nesting_level", "inner_max_num_threads")})
        self._view = view
        self._owned: list[Any] = []

    @property
    def view(self) -> Any:
        """The view that tasks go to: the one given, the default cluster's, or that of a cluster started for it."""
        if self._view is None:
            from .cluster import Cluster

            try:
                cluster = Cluster.from_file()
                client = cluster.connect_client_sync()
            except FileNotFoundError:
                cluster = Cluster()
                client = cluster.start_and_connect_sync()
                self._owned.append(cluster)
            self._owned.insert(0, client)
            self._view = client.load_balanced_view()
        return self._view

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        return max(1, len(self.view))

    def configure(self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None,
                  **_: Any) -> int:
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def apply_async(self, func: Any, callback: Any = None) -> Any:
        ar = self.view.apply_async(func)
        if callback is not None:
            ar.add_done_callback(lambda f: callback(f.get()) if not f.cancelled() and f.exception() is None else None)
        return ar

    submit = apply_async

    def abort_everything(self, ensure_ready: bool = True) -> None:
        self.view.abort()

    def terminate(self) -> None:
        while self._owned:
            item = self._owned.pop(0)
            item.close() if hasattr(item, "close") else item.stop_cluster_sync()
            self._view = None


def register(name: str = "ipyparallel", make_default: bool = False, view: Any = None) -> None:
    """Makes the backend known to joblib under `name`."""
    if view is None:
        joblib.register_parallel_backend(name, IPythonParallelBackend, make_default=make_default)
    else:
        joblib.register_parallel_backend(name, lambda **kw: IPythonParallelBackend(view=view, **kw),
                                         make_default=make_default)

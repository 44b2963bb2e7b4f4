# SPDX-License-Identifier: BSD-3-Clause
"""Several clusters: `ClusterManager` finds those that run, `clean_cluster_files` removes files of those that have ended."""
from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ._clusterfiles import cluster_files, profile_dirs_of
from ._programs import program_argv
from ._supervisor import _read_cluster_file, _runs
from .util import abbreviate_profile_dir

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["ClusterManager", "clean_cluster_files"]


class ClusterManager:
    """The clusters of some profiles, by key ``profile:cluster_id``.

    log : logger of the clusters that it makes
    config : traitlets Config or dict for these
    """

    def __init__(self, *, log: logging.Logger | None = None, config: Any = None, parent: Any = None, **_traits: Any) -> None:
        self.log = log if log is not None else logging.getLogger(__name__)
        self.parent = parent
        self.config = config if config is not None else getattr(parent, "config", None)
        self._clusters: dict[str, Cluster] = {}

    @property
    def clusters(self) -> dict[str, Cluster]:
        """All clusters known, by key."""
        return self._clusters

    def _cluster_key(self, cluster: Cluster) -> str:
        return f"{cluster.profile or abbreviate_profile_dir(cluster.profile_dir)}:{cluster.cluster_id}"

    def load_clusters(self, *, profile_dirs: Iterable[str] | None = None, profile_dir: str | None = None,
                      profiles: Iterable[str] | None = None, profile: str | None = None,
                      init_default_clusters: bool = False) -> dict[str, Cluster]:
        """Looks for running clusters (default: in all profiles); those that have ended are dropped.

        init_default_clusters : adds a cluster that is not started, with the empty id, for each profile without one
        """
        from .cluster import Cluster

        for key, cluster in list(self._clusters.items()):
            if cluster._supervisor is not None and not cluster._supervisor.alive():
                del self._clusters[key]
        for folder in profile_dirs_of(profile_dirs, profile_dir, profiles, profile):
            for path in cluster_files(folder):
                state = _read_cluster_file(path)
                if state is None or not _runs(state):
                    continue
                cluster = Cluster.from_file(path, profile_dir=folder)
                self._clusters.setdefault(self._cluster_key(cluster), cluster)
            if init_default_clusters:
                cluster = Cluster(profile_dir=folder, cluster_id="")
                if not any(c.profile_dir == cluster.profile_dir for c in self._clusters.values()):
                    self._clusters.setdefault(self._cluster_key(cluster), cluster)
        return self._clusters

    def new_cluster(self, **kwargs: Any) -> tuple[str, Cluster]:
        """(key, a Cluster that is not started). KeyError if there is one of that key."""
        from .cluster import Cluster

        for name in ("config", "parent"):
            if getattr(self, name) is not None:
                kwargs.setdefault(name, getattr(self, name))
        cluster = Cluster(**kwargs)
        key = self._cluster_key(cluster)
        if key in self._clusters:
            raise KeyError(f"cluster {key} already exists")
        self._clusters[key] = cluster
        return key, cluster

    def get_cluster(self, key: str) -> Cluster:
        """The cluster of a key; KeyError if there is none."""
        return self._clusters[key]

    def remove_cluster(self, key: str) -> None:
        """Forgets a cluster (it is not stopped); KeyError if there is none."""
        del self._clusters[key]


def clean_cluster_files(profile_dirs: Iterable[str] | None = None, log: logging.Logger | None = None, force: bool = False) -> None:
    """``ipcluster clean`` for these profiles (default: all): removes logs, and files of clusters that have ended.

    force : stops clusters that run; without it they are left alone and ValueError names them
    """
    for folder in profile_dirs_of(profile_dirs, None, None, None):
        command = program_argv("ipcluster", ["clean", f"--profile-dir={folder}", *(["--force"] if force else [])])
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if log is not None and done.stderr:
            log.info("%s", done.stderr.rstrip())
        if done.returncode:
            raise ValueError(done.stderr.strip() or f"ipcluster clean ended with status {done.returncode}")

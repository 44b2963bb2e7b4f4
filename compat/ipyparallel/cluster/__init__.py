"""Cluster and ClusterManager; `python -m ipyparallel.cluster` runs the program `ipcluster`."""
from covey.util import abbreviate_profile_dir  # noqa: F401

from .._aliases import modules_later
from .cluster import Cluster, ClusterManager, clean_cluster_files  # noqa: F401

__getattr__ = modules_later(__name__, "launcher")

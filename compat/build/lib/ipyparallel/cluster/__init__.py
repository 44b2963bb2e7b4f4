"""Cluster and ClusterManager; `python -m ipyparallel.cluster` runs the program `ipcluster`."""
from .cluster import Cluster, ClusterManager, clean_cluster_files  # noqa: F401

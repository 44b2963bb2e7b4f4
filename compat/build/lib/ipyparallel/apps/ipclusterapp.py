"""The program `ipcluster` under its old module path, and its exit codes."""
from covey._programs import ipcluster as launch_new_instance  # noqa: F401

from ..cluster.app import ALREADY_STARTED, ALREADY_STOPPED, NO_CLUSTER  # noqa: F401
from ._profileapp import ProfileApplication


class IPClusterStart(ProfileApplication):
    """Writes ipcluster_config.py."""

    name = "ipcluster"
    examples_text = ("c.Cluster.n = 4", "c.Cluster.engine_launcher_class = 'local'", "c.Cluster.controller_ip = '*'",
                     "c.IPClusterStart.daemonize = True")


IPCluster = IPClusterApp = IPClusterStart

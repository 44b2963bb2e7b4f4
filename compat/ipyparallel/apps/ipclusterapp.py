"""The program `ipcluster` under its old module path, and its exit codes."""
import warnings

from covey._programs import ipcluster as launch_new_instance  # noqa: F401
from covey._programs import ipcluster as main  # noqa: F401

from ..cluster.app import ALREADY_STARTED, ALREADY_STOPPED, NO_CLUSTER  # noqa: F401
from ._profileapp import ProfileApplication


class IPClusterStart(ProfileApplication):
    """Writes ipcluster_config.py."""

    name = "ipcluster"
    command = ("ipcluster", "start")


IPCluster = IPClusterApp = IPClusterStart

if __name__ == "__main__":
    launch_new_instance()
warnings.warn("ipyparallel.apps.ipclusterapp is called ipyparallel.cluster.app today", DeprecationWarning, stacklevel=2)

"""The program `ipcontroller` under its old module path."""
import warnings

from covey._programs import ipcontroller as launch_new_instance  # noqa: F401
from covey._programs import ipcontroller as main  # noqa: F401

from ._profileapp import ProfileApplication


class IPController(ProfileApplication):
    """Writes ipcontroller_config.py."""

    name = "ipcontroller"


IPControllerApp = IPController

if __name__ == "__main__":
    launch_new_instance()
warnings.warn("ipyparallel.apps.ipcontrollerapp is called ipyparallel.controller.app today", DeprecationWarning, stacklevel=2)

"""The program `ipcontroller` under its old module path."""
from covey._programs import ipcontroller as launch_new_instance  # noqa: F401

from ._profileapp import ProfileApplication


class IPController(ProfileApplication):
    """Writes ipcontroller_config.py."""

    name = "ipcontroller"
    examples_text = ("c.IPController.ip = '*'", "c.IPController.location = 'node1'", "c.IPController.reuse_files = True")


IPControllerApp = IPController

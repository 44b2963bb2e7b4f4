"""The program `ipengine` under its old module path."""
from covey._programs import ipengine as launch_new_instance  # noqa: F401

from ._profileapp import ProfileApplication


class IPEngine(ProfileApplication):
    """Writes ipengine_config.py."""

    name = "ipengine"
    examples_text = ("c.IPEngine.startup_command = 'import numpy as np'", "c.IPEngine.timeout = 5.0",
                     "c.InteractiveShellApp.exec_lines = ['import os']", "c.InteractiveShellApp.extensions = ['autoreload']")


IPEngineApp = IPEngine

"""The program `ipengine` under its old module path."""
import warnings

from covey._programs import ipengine as launch_new_instance  # noqa: F401
from covey._programs import ipengine as main  # noqa: F401

from ._profileapp import ProfileApplication


class IPEngine(ProfileApplication):
    """Writes ipengine_config.py."""

    name = "ipengine"


IPEngineApp = IPEngine

if __name__ == "__main__":
    launch_new_instance()
warnings.warn("ipyparallel.apps.ipengineapp is called ipyparallel.engine.app today", DeprecationWarning, stacklevel=2)

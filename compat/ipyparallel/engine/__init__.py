"""The engine's module; `python -m ipyparallel.engine` runs the program `ipengine`."""
from covey.kernel import bind_kernel  # noqa: F401

from .._aliases import modules_later

__getattr__ = modules_later(__name__, "datapub")

"""The controller is a program; `python -m ipyparallel.controller` runs it."""
from .._aliases import modules_later

__getattr__ = modules_later(__name__, "dependency")

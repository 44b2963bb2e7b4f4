"""Client, views and results: the modules are covey's. `magics` is imported when it is asked for: it needs IPython."""
from .._aliases import modules_later
from . import asyncresult, client, map, remotefunction, view  # noqa: F401

__getattr__ = modules_later(__name__, "futures", "magics")

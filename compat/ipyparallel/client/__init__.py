"""Client, views and results: the modules are covey's. `magics` is imported when it is asked for: it needs IPython."""
from . import asyncresult, client, map, remotefunction, view  # noqa: F401


def __getattr__(name: str) -> object:
    if name == "magics":
        import importlib

        return importlib.import_module("ipyparallel.client.magics")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

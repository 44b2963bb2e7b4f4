"""Client, views and results: the modules are covey's."""
from . import asyncresult, client, magics, map, remotefunction, view  # noqa: F401

"""The engine's module; `python -m ipyparallel.engine` runs the program `ipengine`."""
from __future__ import annotations

from typing import Any


def bind_kernel(**_options: Any) -> None:
    """Opens a kernel connection file on an engine. Not in this version: NotImplementedError."""
    raise NotImplementedError("bind_kernel is not in this version of covey")

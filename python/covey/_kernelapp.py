# SPDX-License-Identifier: BSD-3-Clause
"""What libraries look for beside the shell to find themselves in a Jupyter kernel, on an engine, which loads no ipykernel.

tqdm.auto asks whether the module ipykernel.zmqshell is loaded (it then draws widgets); programs take
`Application.instance()`, or ipykernel's `IPKernelApp.instance()`, for its `kernel`, `log` or `id`.
"""
from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import types
from typing import TYPE_CHECKING, Any

from traitlets.config import Application

if TYPE_CHECKING:
    from ._shell import EngineKernel

ZMQSHELL = "ipykernel.zmqshell"


class _Unloaded(types.ModuleType):
    """Stands for ipykernel.zmqshell until somebody imports it. (Who looks through all modules for some name loads nothing.)"""

    def _load(self) -> types.ModuleType:
        if sys.modules.get(ZMQSHELL) is self:
            del sys.modules[ZMQSHELL]
        return importlib.import_module(ZMQSHELL)

    @property
    def __spec__(self) -> Any:
        """Each import statement asks for it."""
        return self._load().__spec__

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("ZMQ", "KernelMagics")):
            raise AttributeError(f"module {ZMQSHELL!r} has no attribute {name!r}")
        return getattr(self._load(), name)


class EngineApp(Application):
    """The application of an engine: `id` (the engine's number), `kernel`, `shell`, `log`."""

    name = "ipengine"

    def __init__(self, kernel: EngineKernel) -> None:
        super().__init__(log=logging.getLogger("covey.engine"))
        self.kernel = kernel
        self.shell = kernel.shell

    @property
    def id(self) -> int | None:
        return self.kernel.engine_id

    @property
    def __class__(self) -> type:  # type: ignore[override]
        """For isinstance(): an IPKernelApp where that is loaded, whose `instance()` asks."""
        loaded = sys.modules.get("ipykernel.kernelapp")
        return getattr(loaded, "IPKernelApp", EngineApp)


def look_like_a_kernel(kernel: EngineKernel) -> None:
    """Makes an engine's process look like a kernel's; in the warm interpreter, before any user code."""
    if importlib.util.find_spec("ipykernel") is not None:
        sys.modules.setdefault(ZMQSHELL, _Unloaded(ZMQSHELL))
    EngineApp.instance(kernel)

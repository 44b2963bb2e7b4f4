# SPDX-License-Identifier: BSD-3-Clause
"""The import name `ipyparallel` for covey: every name and submodule is covey's own.

>>> import ipyparallel as ipp
>>> rc = ipp.Cluster(n=4).start_and_connect_sync()
"""
from __future__ import annotations

import os

from covey._mixed import mixed

if _text := mixed(os.path.dirname(os.path.abspath(__file__))):
    raise ImportError(_text)

from . import _commands

_commands.run_asked()  # `python -m ipyparallel.cluster` needs nothing else of this package

import covey  # noqa: E402
from covey import *  # noqa: E402,F401,F403
from covey import register_joblib_backend  # noqa: E402,F401

from . import _aliases  # noqa: E402

_aliases.install()
_aliases.rename_types()
_aliases.share_names()

from . import apps, client, cluster, controller, engine, error, serialize, util  # noqa: E402,F401
from ._version import __version__, version_info  # noqa: E402,F401

__all__ = [*covey.__all__, "apps", "client", "cluster", "controller", "engine", "error", "serialize", "util", "register_joblib_backend", "version_info"]

_later = _aliases.modules_later(__name__, "traitlets")


def __getattr__(name: str) -> object:
    if name == "MultipleInstanceError":  # programs start sooner without traitlets
        from traitlets.config import MultipleInstanceError

        return MultipleInstanceError
    return getattr(covey, name) if hasattr(covey, name) else _later(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(covey)})

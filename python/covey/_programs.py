# SPDX-License-Identifier: BSD-3-Clause
"""The commands `ipcontroller`, `ipengine`, `ipcluster`: from pip's scripts to the C programs.

The programs lie in the package's folder `bin`. A binary can't know which Python it belongs to, so it
is told: `--python=` with the interpreter that runs this. They replace this process (`execv`), so
signals, exit codes and the process id are theirs.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

PROGRAMS = ("ipcontroller", "ipengine", "ipcluster")


def _where_installed(name: str) -> str:
    import importlib.resources  # takes a third of what starting a program does

    return str(importlib.resources.files("covey").joinpath("bin", name))


def program_path(name: str) -> str:
    """The full path of a program; FileNotFoundError says where it was looked for.

    COVEY_BIN names another folder (for builds that are not installed).
    """
    folder = os.environ.get("COVEY_BIN")
    if folder:
        path = os.path.join(folder, name)
    else:
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", name)
        if not os.path.exists(path):  # an editable install's may lie elsewhere
            path = _where_installed(name)
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"the program {name} is not at {path}: is covey installed (`pip install .`), or only its source on the path?")
    return path


def program_argv(name: str, args: Sequence[str] = ()) -> list[str]:
    """The command line that runs a program with this interpreter."""
    return [program_path(name), f"--python={sys.executable}", *args]


def _become(name: str, argv: Sequence[str] | None) -> NoReturn:
    try:
        command = program_argv(name, sys.argv[1:] if argv is None else list(argv))
    except FileNotFoundError as e:
        sys.exit(f"{name}: {e}")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def ipcontroller(argv: Sequence[str] | None = None) -> NoReturn:
    """Becomes the controller program."""
    _become("ipcontroller", argv)


def ipengine(argv: Sequence[str] | None = None) -> NoReturn:
    """Becomes the engine host program."""
    _become("ipengine", argv)


def ipcluster(argv: Sequence[str] | None = None) -> NoReturn:
    """Becomes the supervisor program."""
    _become("ipcluster", argv)

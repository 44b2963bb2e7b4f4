# SPDX-License-Identifier: BSD-3-Clause
"""For test suites that were written beside ipyparallel's own: a controller and engines of the profile `iptest`.

`setup()` starts them, `add_engines(n)` adds more, `teardown()` ends all. Functions of such test modules are
imported on engines too, so this module starts nothing when it is imported.
"""
from __future__ import annotations

import os
import subprocess

import covey
from covey._connect import ipython_dir
from covey._programs import program_argv

__all__ = ["add_engines", "launchers", "setup", "teardown"]

TIMEOUT = 30.0  # seconds for engines to be there
launchers: list[subprocess.Popen[bytes]] = []


def _start(program: str, *args: str) -> subprocess.Popen[bytes]:
    launchers.append(subprocess.Popen(program_argv(program, args)))
    return launchers[-1]


def _start_engine(profile: str) -> subprocess.Popen[bytes]:
    return _start("ipengine", f"--profile={profile}", "--InteractiveShell.colors=nocolor")


def setup() -> None:
    """A controller and one engine of the profile `iptest`."""
    profile = os.path.join(ipython_dir(), "profile_iptest")
    os.makedirs(profile, exist_ok=True)  # a Client waits for the file, not for the folder
    for role in ("client", "engine"):
        file = os.path.join(profile, "security", f"ipcontroller-{role}.json")
        if os.path.exists(file):
            os.unlink(file)
    _start("ipcontroller", "--profile=iptest", "--dictdb")
    _start_engine("iptest")  # it waits for its file
    with covey.Client(profile="iptest") as rc:
        rc.wait_for_engines(1, timeout=TIMEOUT, interactive=False)


def add_engines(n: int = 1, profile: str = "iptest", total: bool = False) -> list[subprocess.Popen[bytes]]:
    """Starts n engines (total: until there are n) and waits until they are there."""
    with covey.Client(profile=profile) as rc:
        have = len(rc)
        n = max(n - have, 0) if total else n
        started = [_start_engine(profile) for _ in range(n)]
        rc.wait_for_engines(have + n, timeout=TIMEOUT, interactive=False)
    return started


def teardown() -> None:
    """Ends what was started here, all at once."""
    for process in launchers:
        process.terminate()
    while launchers:
        process = launchers.pop()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

# SPDX-License-Identifier: BSD-3-Clause
"""For test suites that were written beside ipyparallel's own: a controller and engines of the profile `iptest`.

`setup()` starts them, `add_engines(n)` adds more, `teardown()` ends all. Functions of such test modules are
imported on engines too, so this module starts nothing when it is imported.
"""
from __future__ import annotations

import subprocess

import covey
from covey._programs import program_argv

launchers: list[subprocess.Popen[bytes]] = []


def setup() -> None:
    """A controller and one engine of the profile `iptest`."""
    launchers.append(subprocess.Popen(program_argv("ipcontroller", ["--profile=iptest"])))
    add_engines(1)


def add_engines(n: int = 1, profile: str = "iptest", total: bool = False) -> list[subprocess.Popen[bytes]]:
    """Starts n engines (total: until there are n) and waits until they are there."""
    with covey.Client(profile=profile) as rc:
        have = len(rc)
        n = max(n - have, 0) if total else n
        started = [subprocess.Popen(program_argv("ipengine", [f"--profile={profile}"])) for _ in range(n)]
        launchers.extend(started)
        rc.wait_for_engines(have + n, timeout=30, interactive=False)
    return started


def teardown() -> None:
    """Ends what was started here."""
    while launchers:
        process = launchers.pop()
        process.terminate()
        process.wait(10)

# SPDX-License-Identifier: BSD-3-Clause
"""Waiting for what other processes do, on a machine that may leave this one without a CPU for seconds."""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

PATIENCE = 4 if os.environ.get("COVEY_TEST_PRELOAD") else 1  # times each limit: a sanitizer makes all slower
PAUSE, MOST = 0.02, 1.0  # seconds between two looks; what a look counts at most, however long nothing ran here

T = TypeVar("T")


def looks(timeout: float) -> Iterator[None]:
    """Yields until `timeout` seconds are over, and once more then."""
    left = timeout * PATIENCE
    while True:
        began = time.monotonic()
        yield
        if left <= 0:
            return
        time.sleep(PAUSE)
        left -= min(time.monotonic() - began, MOST)


def wait_until(condition: Callable[[], T], timeout: float = 30.0, what: str = "the condition", said: Callable[[], str] | None = None) -> T:
    """Polls until condition() is true and returns its value; fails at the deadline, with what `said()` gives."""
    for _ in looks(timeout):
        if value := condition():
            return value
    raise AssertionError(f"{what} did not come true within {timeout * PATIENCE} s{': ' + said() if said else ''}")

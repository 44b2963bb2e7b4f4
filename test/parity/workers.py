# SPDX-License-Identifier: BSD-3-Clause
"""Runs checks in several processes, each with a ground of its own."""
from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import time
from collections.abc import Iterator
from typing import Any

from . import CHECKS, Ground, run_check


def work(todo: Any, done: Any) -> None:
    """A process with a ground of its own that takes checks until there are no more."""
    ground = Ground()
    try:
        while (ids := todo.get()) is not None:
            start = time.monotonic()
            problem = run_check(ground, CHECKS[ids[0]])
            done.put((ids, problem, time.monotonic() - start))
    finally:
        ground.close()


def run(some: list[list[str]]) -> Iterator[tuple[list[str], str | None, float]]:
    """Runs checks, by their rows, in as many processes as there are cpus; (rows, what went wrong, seconds) as they end."""
    spawn = multiprocessing.get_context("spawn")
    todo, done = spawn.Queue(), spawn.Queue()
    workers = [spawn.Process(target=work, args=(todo, done)) for _ in range(min(4, len(os.sched_getaffinity(0)), len(some)))]
    for ids in [*some, *(None for _ in workers)]:
        todo.put(ids)
    for w in workers:
        w.start()
    try:
        for _ in some:
            yield _next(done, workers)
    finally:
        for w in workers:
            w.join(60)


def _next(done: Any, workers: list[Any]) -> tuple[list[str], str | None, float]:
    while True:
        with contextlib.suppress(queue.Empty):
            return done.get(timeout=1)
        if not any(w.is_alive() for w in workers):
            raise RuntimeError(f"the processes of the checks have ended: {[w.exitcode for w in workers]}")

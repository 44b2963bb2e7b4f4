# SPDX-License-Identifier: BSD-3-Clause
"""Runs the processes that measure: one at a time, in turn, several rounds, and leaves nothing of them behind."""
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import machine

HERE = Path(__file__).resolve().parent
SILENCE = 240.0  # seconds that a measuring process may say nothing
GRACE = 20.0     # seconds it may take to end
# first guesses of seconds, for the estimate of what remains; replaced by what a job really took
GUESS = {"covey": 4, "covey-hwm1": 2, "covey-tls": 2, "own": 5, "own, slow": 120, "stock": 45, "dask": 20, "ray": 25, "ppe": 3}


@dataclass
class Job:
    """One process that measures: `rows` maps what it calls a figure to the ids of the rows that show it."""
    who: str
    n: int
    command: list
    rows: dict = field(default_factory=dict)
    once: bool = False  # in the first round only
    hung: bool = False  # was stopped: not tried again

    @property
    def name(self):
        return f"{self.who}, {self.n} engines" if self.n else self.who


class Values:
    """What was measured: {who: {row id: [a figure a round]}}, and what failed."""

    def __init__(self):
        self.figures, self.failures = {}, []

    def add(self, who, row, figure):
        self.figures.setdefault(who, {}).setdefault(row, []).append(figure)

    def fail(self, job, why):
        text = f"{job.name}: {why}"
        if text not in self.failures:
            self.failures.append(text)
            print(f"  {text}", file=sys.stderr)

    def summary(self):
        """{who: {row id: {"value": the median of the rounds, "rounds": […]}}}"""
        return {who: {row: {"value": statistics.median(xs), "rounds": xs} for row, xs in rows.items()} for who, rows in self.figures.items()}


class Folder:
    """A temporary folder that everything measured writes to: profiles, sessions, spill files."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="bench-")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def env(self):
        return dict(os.environ, IPYTHONDIR=f"{self.path}/ipython", TMPDIR=self.path, BENCH_SHORT_DIR=self.path,
                    DASK_TEMPORARY_DIRECTORY=f"{self.path}/dask", RAY_USAGE_STATS_ENABLED="0", PYTHONDONTWRITEBYTECODE="1")


def run_all(jobs, rounds, values):
    """Every job in every round; each round begins with another one, so that no one always runs first."""
    turns = [jobs[r % len(jobs):] + jobs[:r % len(jobs)] for r in range(rounds)]
    took, left = {}, [(r, job) for r, turn in enumerate(turns) for job in turn if r == 0 or not job.once]
    machine.adopt_orphans()
    with Folder() as folder:
        for i, (r, job) in enumerate(left):
            if job.hung:
                continue
            remaining = sum(took.get(j.name, GUESS.get(j.who, 10)) for _, j in left[i:])
            print(f"[{i + 1}/{len(left)}] round {r + 1}: {job.name} … about {_minutes(remaining)} left", file=sys.stderr, flush=True)
            start = time.monotonic()
            run_job(job, folder, values)
            took[job.name] = time.monotonic() - start


def _minutes(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def run_job(job, folder, values):
    """One process from start to end; its figures go to `values`, and so does why there are none."""
    with tempfile.TemporaryFile("w+", dir=folder.path) as noise:
        process = subprocess.Popen(job.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=noise, env=folder.env(),
                                   cwd=folder.path, start_new_session=True)
        finished = False
        try:
            finished = _follow(process, job, values)
        finally:
            _end(process)
        if not finished:
            noise.seek(0)
            last = [line for line in noise.read().splitlines() if line.strip()][-1:] or ["it said nothing"]
            values.fail(job, f"ended early: {last[0][:300]}")


def _follow(process, job, values):
    """Reads its lines until the end; True if it said that it was done."""
    finished = False
    os.set_blocking(process.stdout.fileno(), False)
    text = b""
    while select.select([process.stdout], [], [], SILENCE)[0]:
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            return finished
        *lines, text = (text + data).split(b"\n")
        for line in map(json.loads, lines):
            finished = finished or "done" in line
            _take(line, job, values)
    job.hung = True
    values.fail(job, f"said nothing for {SILENCE:.0f} s and was stopped")
    return True


def _take(line, job, values):
    """A figure may have parts, such as its p99: they are kept beside the first row of that name."""
    name, who = line.get("row"), "covey" if job.who.startswith(("covey", "own")) else job.who
    if "error" in line:
        values.fail(job, f"{name}: {line['error'][:300]}")
    elif name:
        for part in line.keys() - {"row"}:
            figure = name if part == "value" else f"{name}.{part}"
            rows = job.rows.get(figure) or ([f"{job.rows[name][0]}.{part}"] if name in job.rows else [])
            for row in rows:
                values.add(who, row, line[part])


def _end(process):
    """Ends the process and all that it left; Ctrl-C and SIGTERM wait until that is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        machine.end_all()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

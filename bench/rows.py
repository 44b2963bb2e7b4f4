# SPDX-License-Identifier: BSD-3-Clause
"""What is measured, in what unit it is shown, and the floor that covey has to reach."""
from dataclasses import dataclass

GB, MIB = 1e9, 1 << 20
PEERS = {"stock": "ipyparallel", "dask": "distributed", "ray": "ray", "ppe": ""}  # the name here: the package on PyPI


@dataclass(frozen=True)
class Floor:
    """`times` better than a peer's row, or a bound in the unit shown: at least for rates, at most for the others."""
    peer: str = ""
    times: float = 0.0
    bound: float = 0.0


@dataclass(frozen=True)
class Row:
    """A figure. `who` measures it: a key of peers.MAKERS (every peer measures the row `how`, too, if it can), or "own" (own.py)."""
    id: str
    label: str
    unit: str
    group: str
    floors: tuple = ()
    who: str = "covey"
    how: str = ""      # the key in measure.HOW or own.HOW; "key.part" is what is told beside it
    n: int = 2         # engines
    scale: float = 1.0  # what is measured (SI) times this is what is shown
    more: bool = True  # more is better
    long: bool = False  # only with --long
    slow: bool = False  # measured once, and left out of --quick unless --only names it
    theirs: str = ""   # the row's id at the peers, if they measure it once for several of ours


def stock(times):
    return Floor("stock", times)


def ppe(times):
    return Floor("ppe", times)


def at(bound):
    return Floor(bound=bound)


TASKS, DATA, LIFE, COST, MANY, LONG = "small tasks", "arrays", "start and memory", "cost of a task", "many engines", "long runs"

ROWS = (
    Row("many", "lb.apply_async of 4,000 no-ops", "tasks/s", TASKS, (stock(75), ppe(2.5)), how="many"),
    Row("many_hwm1", "… with hwm=1", "tasks/s", TASKS, (at(15_000),), who="covey-hwm1", how="many", theirs="many"),
    Row("map", "lb.map(chunksize=1) of 4,000", "items/s", TASKS, (stock(200),), how="map"),
    Row("direct", "one call, named engine, p50", "µs", TASKS, (ppe(1),), how="direct", scale=1e6, more=False),
    Row("balanced", "one call, balanced, p50", "µs", TASKS, (ppe(1),), how="balanced", scale=1e6, more=False),
    Row("execute_all_2", "execute on 2 engines, p50", "µs", TASKS, (stock(20),), how="execute_all", scale=1e6, more=False),
    Row("execute_all_16", "execute on 16 engines, p50", "µs", TASKS, (stock(20),), how="execute_all", n=16, scale=1e6, more=False),
    Row("push_one", "push 64 MiB to one engine", "GB/s", DATA, (stock(10),), how="push_one", scale=1 / GB),
    Row("push_read", "… every page read there", "GB/s", DATA, (stock(5),), how="push_read", scale=1 / GB),
    Row("pull_one", "pull 64 MiB from one engine", "GB/s", DATA, (stock(10),), how="pull_one", scale=1 / GB),
    Row("push_all_2", "push 64 MiB to 2, counted once", "GB/s", DATA, (stock(30),), how="push_all", scale=1 / GB),
    Row("push_all_16", "push 64 MiB to 16, counted once", "GB/s", DATA, (stock(30),), how="push_all", n=16, scale=1 / GB),
    Row("tls_push", "push 64 MiB, client over TLS", "GB/s", DATA, (at(0.9),), who="covey-tls", how="push_one", scale=1 / GB),
    Row("tls_pull", "pull 64 MiB, client over TLS", "GB/s", DATA, (at(0.9),), who="covey-tls", how="pull_one", scale=1 / GB),
    Row("start_2", "start 2 engines until usable", "s", LIFE, (stock(12),), how="start", more=False),
    Row("start_16", "start 16 engines until usable", "s", LIFE, (stock(12),), how="start", n=16, more=False),
    Row("memory_2", "idle cluster of 2 engines, PSS", "MiB", LIFE, how="memory", scale=1 / MIB, more=False),
    Row("memory_16", "idle cluster of 16 engines, PSS", "MiB", LIFE, (at(120),), how="memory", n=16, scale=1 / MIB, more=False),
    Row("controller_rss", "controller alone, RSS", "MiB", LIFE, (at(15),), "own", "controller_rss", scale=1 / MIB, more=False),
    Row("controller_start", "controller, exec to listening", "ms", LIFE, (at(30),), "own", "controller_start", scale=1e3, more=False),
    Row("cpu_task", "CPU of all processes per task", "µs", COST, (at(30),), "own", "cpu_task", scale=1e6, more=False),
    Row("cpu_controller", "… of the controller", "µs", COST, (at(6),), "own", "cpu_task.controller", scale=1e6, more=False),
    Row("queued_bytes", "controller's memory per queued task", "B", COST, (at(250),), "own", "queued_bytes", more=False, slow=True),
    Row("queued_rate", "rate with 1,000,000 queued", "of that with 1,000", COST, (at(0.9),), "own", "queued_rate", slow=True),
    Row("engines_bytes_1000", "controller's memory, each of 1,000", "B", MANY, (at(2048),), "own", "engines_1000", more=False, slow=True),
    Row("engines_bytes_10000", "… each of 10,000", "B", MANY, (at(2048),), "own", "engines_10000", more=False, slow=True),
    Row("engines_bytes_tls", "… each of 1,000 by TLS", "B", MANY, (at(24 << 10),), "own", "engines_1000_tls", more=False, slow=True),
    Row("engines_start", "10,000 engines registered", "s", MANY, (at(5),), "own", "engines_10000.start", more=False, slow=True),
    Row("engines_cpu_1000", "controller's CPU per task, 1,000", "µs", MANY, (), "own", "engines_1000.cpu", scale=1e6, more=False, slow=True),
    Row("engines_cpu_10000", "… with 10,000", "µs", MANY, (), "own", "engines_10000.cpu", scale=1e6, more=False, slow=True),
    Row("engines_idle", "… each of 10,000 idle, per second", "µs", MANY, (), "own", "engines_10000.idle", scale=1e6, more=False, slow=True),
    Row("flat_tasks", "memory grown over 10,000,000 tasks", "MiB", LONG, (at(8),), "own", "flat_tasks", scale=1 / MIB, more=False, long=True),
    Row("flat_stream", "memory grown over 100 GB streamed", "MiB", LONG, (at(8),), "own", "flat_stream", scale=1 / MIB, more=False, long=True),
)


def times_better(row, ours, theirs):
    """How many times better `ours` is; None without both."""
    if not ours or not theirs:
        return None
    return ours / theirs if row.more else theirs / ours


def floor_met(row, floor, ours, peers):
    """(met, sentence) of a floor; (None, …) when the peer was not measured."""
    if floor.peer:
        text = f"≥ {floor.times:g} × {floor.peer}" if row.more else f"≤ {floor.peer}" + (f" / {floor.times:g}" if floor.times != 1 else "")
        factor = times_better(row, ours, peers.get(floor.peer))
        return (None if factor is None else factor >= floor.times), text
    if row.more:
        return ours >= floor.bound, f"≥ {floor.bound:g}"
    return ours <= floor.bound, f"≤ {floor.bound:g}"

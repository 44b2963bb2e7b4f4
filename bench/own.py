# SPDX-License-Identifier: BSD-3-Clause
"""What covey costs, measured from outside its processes: CPU per task, memory per queued task, the controller alone, long runs.

usage: own.py ROW... [--quick]      (ROW: a key of HOW)
Run by bench.py; prints a JSON line for each figure, in SI units.
"""
import json
import os
import pickle
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import machine

import covey as ipp
from covey import _core
from covey._programs import program_argv

TASK_KIND_APPLY = 0


def noop(x=None):
    return x


def hold(path):
    """Keeps an engine busy until there is a byte for it in a named pipe."""
    with open(path, "rb", buffering=0) as f:
        f.read(1)


def say(**line):
    OUT.write(json.dumps(line) + "\n")
    OUT.flush()


@contextmanager
def cluster(n=2, **options):
    with ipp.Cluster(n=n, log_level=40, **options) as rc:
        rc.wait_for_engines(n)
        yield rc


@contextmanager
def lone_controller():
    """A controller with no one around it: (its process, seconds from exec to listening)."""
    with tempfile.TemporaryDirectory() as folder:
        told, tell = os.pipe()
        env = dict(os.environ, IPYTHONDIR=folder, COVEY_EVENTS_FD=str(tell))
        start = time.perf_counter()
        p = subprocess.Popen(program_argv("ipcontroller"), env=env, pass_fds=[tell], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(tell)
        try:
            if not select.select([told], [], [], 10)[0] or b'"listening"' not in os.read(told, 65536):
                raise RuntimeError("the controller did not say that it listens")
            yield p, time.perf_counter() - start
        finally:
            os.close(told)
            p.terminate()
            p.wait(10)


def controller_start(quick):
    seconds = []
    for _ in range(5 if quick else 15):
        with lone_controller() as (_, s):
            seconds.append(s)
    return {"value": statistics.median(seconds)}


def controller_rss(quick):
    with lone_controller() as (p, _):
        return {"value": machine.rss(p.pid)}


def cpu_by_role(rc):
    """CPU seconds so far of the client (this process), the controller, the engines and the rest."""
    controller = rc._query("status")["pid"]
    engines = set(rc[:].apply_sync(os.getpid))
    used = {"client": machine.cpu_seconds(os.getpid()), "controller": machine.cpu_seconds(controller), "engines": 0.0, "rest": 0.0}
    for pid in machine.descendants():
        if pid != controller:
            used["engines" if pid in engines else "rest"] += machine.cpu_seconds(pid)
    return used


def cpu_task(quick):
    """CPU per no-op of all processes; each role's share beside it."""
    k = 4000 if quick else 20000
    with cluster() as rc:
        submit = rc.load_balanced_view().apply_async

        def many():
            for result in [submit(noop, i) for i in range(k)]:
                result.get()

        many()
        before = cpu_by_role(rc)
        for _ in range(2):
            many()
        after = cpu_by_role(rc)
    parts = {role: (after[role] - before[role]) / 2 / k for role in after}
    return {"value": sum(parts.values()), **parts}


class Backlog:
    """Queues no-ops while the engines are held, and lets them go. Submits through the C client, whose memory a million tasks leave small."""

    def __init__(self, rc):
        self.rc, self.controller = rc, rc._query("status")["pid"]
        connection = json.load(open(json.load(open(rc.cluster.cluster_file))["client_file"]))
        self.core = _core.Client([e for e in connection["endpoints"] if e.startswith("unix:")], {"python": "%d.%d" % sys.version_info[:2]})
        self.core.connect(10)
        self.data = pickle.dumps((abs, (1,), {}), 5)
        self.folder = tempfile.TemporaryDirectory()
        self.pipe = os.path.join(self.folder.name, "pipe")
        os.mkfifo(self.pipe)
        self.release = os.open(self.pipe, os.O_RDWR)

    def queue(self, n):
        """Holds the engines and submits n tasks; returns when the controller has them all."""
        self.held = [self.rc[i].apply_async(hold, self.pipe) for i in self.rc.ids]
        self._controller_has(len(self.held))  # they come by another connection: nothing may overtake them
        submit = self.core.submit
        self.seqs = [submit(TASK_KIND_APPLY, 0, _core.ENGINE_NONE, 1, None, (self.data,)) for _ in range(n)]
        self._controller_has(n + len(self.held))

    def _controller_has(self, n):
        while self.rc._query("status")["tasks"] < n:
            time.sleep(0.005)

    def run(self):
        """Seconds from letting the engines go to the last result."""
        start = time.perf_counter()
        os.write(self.release, bytes(len(self.held)))
        self.core.wait(self.seqs, None)
        seconds = time.perf_counter() - start
        for seq in self.seqs:
            self.core.take(seq)
        for ar in self.held:
            ar.get()
        return seconds

    def close(self):
        self.core.close()
        os.close(self.release)
        self.folder.cleanup()


@contextmanager
def backlog():
    with cluster() as rc:
        b = Backlog(rc)
        try:
            yield b
        finally:
            b.close()


def queued_bytes(quick):
    """Growth of the controller's memory for each of so many queued no-ops, less their payload."""
    n = 100_000 if quick else 1_000_000
    with backlog() as b:
        b.queue(1000)
        b.run()
        before = machine.rss(b.controller)
        b.queue(n)
        each = (machine.rss(b.controller) - before) / n - len(b.data)
        b.run()
    return {"value": each}


def queued_rate(quick):
    """Tasks per second while a long queue drains, as a share of that of short ones."""
    n, short = (100_000 if quick else 1_000_000), 1000
    with backlog() as b:
        rates = []
        for _ in range(20 if quick else 100):
            b.queue(short)
            rates.append(short / b.run())
        b.queue(n)
        long = n / b.run()
    return {"value": long / statistics.median(rates), "per_s": long, "short_per_s": statistics.median(rates)}


def growth(rc, step, steps, warm):
    """Bytes by which all processes together grow in `steps` calls of `step` after the first `warm` of them. The controller's own share of
    them beside it."""
    pids, controller = [os.getpid(), *machine.descendants()], rc._query("status")["pid"]
    memory = lambda: (sum(machine.rss(pid) for pid in pids), machine.rss(controller))
    before = None
    for i in range(steps):
        step()
        if i + 1 == warm:
            before = memory()
        if i % max(1, steps // 20) == 0:
            say(alive=i / steps)
    after = memory()
    return {"value": after[0] - before[0], "controller": after[1] - before[1], "controller_base": before[1]}


def flat_tasks(quick):
    n, warm, batch = (300_000 if quick else 10_000_000), (160_000 if quick else 1_000_000), 20_000  # then the controller's records are full
    with cluster() as rc:
        submit = rc.load_balanced_view().apply_async

        def step():
            for result in [submit(noop, i) for i in range(batch)]:
                result.get()
            rc.purge_local_results("all")
        return {**growth(rc, step, n // batch, warm // batch), "tasks": n}


def flat_stream(quick):
    total, each = (5 if quick else 100) * 10**9, 16 << 20
    block = bytearray(os.urandom(1 << 20)) * (each >> 20)
    with cluster(controller_args=["--DictDB.record_limit=100"]) as rc:  # they are full before the first measure
        one = rc[rc.ids[0]]

        def step():
            if len(one.apply_sync(noop, block)) != each:
                raise ValueError("a block came back cut")
            rc.purge_local_results("all")
        steps = total // (2 * each)
        return {**growth(rc, step, steps, steps // 10), "bytes": total}


def engines(n, kind="unix"):
    """n simulated engines (test/scale): the controller's memory for each; beside it the seconds until all were registered,
    its CPU per no-op with all of them, and per engine and second when nothing happens."""
    def measure(quick):
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        from test.scale import rig

        many = n // 10 if quick else n
        with rig.Controller() as controller:
            with rig.Peers(controller) as first:
                first.ask(f"engines {kind} 50")  # what is made once is there
            rig.wait_until(lambda: rig.descriptors(controller.pid) < 50, 10, "the first engines' connections have not ended")
            before = controller.memory()
            with rig.Peers(controller) as peers:
                joined = peers.ask(f"engines {kind} {many}", 120)
                each = (controller.memory() - before) / many
                idle = cpu_of(controller.pid, lambda: time.sleep(0.5 if quick else 3))
                peers.ask("client unix")
                peers.ask("tasks 20000 4096")
                k = 20_000 if quick else 200_000
                busy = cpu_of(controller.pid, lambda: peers.ask(f"tasks {k} 4096", 120))
        return {"value": each, "start": joined["seconds"], "cpu": busy / k, "idle": idle / many / (0.5 if quick else 3)}
    return measure


def cpu_of(pid, f):
    """CPU seconds that a process uses while f() runs."""
    before = machine.cpu_seconds(pid)
    f()
    return machine.cpu_seconds(pid) - before


HOW = {"controller_start": controller_start, "controller_rss": controller_rss, "cpu_task": cpu_task,
       "queued_bytes": queued_bytes, "queued_rate": queued_rate, "flat_tasks": flat_tasks, "flat_stream": flat_stream,
       "engines_1000": engines(1000), "engines_10000": engines(10_000), "engines_1000_tls": engines(1000, "tls")}


def stopped(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    OUT = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    machine.end_with_parent()
    signal.signal(signal.SIGTERM, stopped)
    for row in (a for a in sys.argv[1:] if a != "--quick"):
        try:
            say(row=row, **HOW[row]("--quick" in sys.argv))
        except Exception as e:
            say(row=row, error=f"{type(e).__name__}: {e}")
    say(done=True)

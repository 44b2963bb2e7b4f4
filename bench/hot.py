# SPDX-License-Identifier: BSD-3-Clause
"""Where the CPU time of a task goes: µs per task of client, controller and engines, by library and by function.

usage: python bench/hot.py [many|map|direct|execute] [--seconds 5] [--top 12] [--python]
Samples all processes of a cluster with `perf record` (Debian: linux-perf) while tasks flow. The µs come from the
scheduler's count of CPU time, `perf` only shares them out. --python instead lists the Python functions of the client and of one
engine, by cProfile, whose own cost makes small functions look larger than they are.
"""
import argparse
import collections
import cProfile
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import machine  # noqa: E402

import covey as ipp  # noqa: E402

OURS = ("_core.abi3.so", "ipcontroller", "ipengine", "_tls.abi3.so")


def noop(x=None):
    return x


def start_profile():
    """On an engine: profiles its main thread from here on."""
    import builtins
    import cProfile

    builtins.hot_profile = cProfile.Profile()
    builtins.hot_profile.enable()


def end_profile(top):
    """On an engine: what start_profile() saw, as text."""
    import builtins
    import io
    import pstats

    builtins.hot_profile.disable()
    text = io.StringIO()
    pstats.Stats(builtins.hot_profile, stream=text).sort_stats("tottime").print_stats(top)
    del builtins.hot_profile
    return text.getvalue()


def works(rc):
    """{name: (function, how many tasks a call of it is)}"""
    balanced, one, everyone = rc.load_balanced_view(), rc[rc.ids[0]], rc[:]

    def many():
        for result in [balanced.apply_async(noop, i) for i in range(5000)]:
            result.get()

    def direct():
        for _ in range(500):
            one.apply_sync(noop, 1)

    def execute():
        for _ in range(50):
            everyone.execute("x=1", block=True)
    return {"many": (many, 5000), "map": (lambda: balanced.map_sync(noop, range(5000), chunksize=1), 5000), "direct": (direct, 500), "execute": (execute, 50)}


def roles_of(rc):
    """{pid: role} of this cluster's processes and of this one."""
    found = {pid: "rest" for pid in machine.descendants()}
    found.update((pid, "engines") for pid in rc[:].apply_sync(os.getpid))
    return {**found, rc._query("status")["pid"]: "controller", os.getpid(): "client"}


def library(dso):
    """The group in which a sample's object is counted."""
    name = os.path.basename(dso)
    if "kernel" in name or name.startswith("["):
        return "kernel"
    if name.startswith(("libpython", "python3", "_pickle", "_struct")):
        return "Python"
    return "covey's C" if name in OURS else "libc and others"


def samples(data, roles):
    """{role: Counter of (library, function)} of what perf recorded."""
    out = subprocess.run(["perf", "script", "-i", data, "-F", "pid,ip,sym,dso"], capture_output=True, text=True, check=True).stdout
    found = collections.defaultdict(collections.Counter)
    for line in out.splitlines():
        pid, _, *symbol, dso = line.split()
        role = roles.get(int(pid))
        if role:
            found[role][library(dso.strip("()")), " ".join(symbol)] += 1
    return found


def used(roles):
    seconds = collections.Counter()
    for pid, role in roles.items():
        seconds[role] += machine.cpu_seconds(pid)
    return seconds


def flow(work, seconds):
    """(tasks, seconds) of calling work for so long."""
    f, each = work
    tasks, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        f()
        tasks += each
    return tasks, time.perf_counter() - start


def sampled(roles, work, seconds):
    """(samples by role, CPU seconds by role, tasks, seconds) of a flow under perf."""
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "perf.data")
        command = ["perf", "record", "-q", "-F", "1997", "-o", data, "-p", ",".join(map(str, roles))]
        recorder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not (os.path.exists(data) and os.path.getsize(data)) and recorder.poll() is None:
                time.sleep(0.01)
            before = used(roles)
            tasks, wall = flow(work, seconds)
            after = used(roles)
        finally:
            recorder.send_signal(2)
            recorder.wait(20)
        return samples(data, roles), {role: after[role] - before[role] for role in after}, tasks, wall


def show(found, cpu, tasks, top):
    for role in ("client", "controller", "engines", "rest"):
        counts, us = found.get(role), 1e6 * cpu.get(role, 0) / tasks
        if not counts or us < 0.05:
            continue
        share = us / counts.total()
        libraries = collections.Counter()
        for (lib, _), n in counts.items():
            libraries[lib] += n
        print(f"\n{role}: {us:.1f} µs a task: " + ", ".join(f"{lib} {n * share:.1f}" for lib, n in libraries.most_common()))
        for (lib, function), n in counts.most_common(top):
            print(f"  {n * share:7.2f} µs  {lib:<16} {function}")


def python_functions(rc, work, o):
    profile, engine = cProfile.Profile(), rc[rc.ids[0]]
    engine.apply_sync(start_profile)
    tasks, wall = profile.runcall(flow, work, o.seconds)
    theirs = engine.apply_sync(end_profile, o.top)
    print(f"{o.work}: {tasks} tasks in {wall:.1f} s; the client:")
    pstats.Stats(profile).sort_stats("tottime").print_stats(o.top)
    print(f"engine {rc.ids[0]}:{theirs}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="?", default="many", choices=["many", "map", "direct", "execute"])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--top", type=int, default=12)
    parser.add_argument("-n", type=int, default=2, help="engines (default 2)")
    parser.add_argument("--python", action="store_true")
    o = parser.parse_args()
    if not o.python and not shutil.which("perf"):
        sys.exit("hot.py: there is no perf here (Debian: apt install linux-perf)")
    with ipp.Cluster(n=o.n, log_level=40) as rc:
        rc.wait_for_engines(o.n)
        work = works(rc)[o.work]
        work[0]()
        if o.python:
            python_functions(rc, work, o)
            return
        found, cpu, tasks, wall = sampled(roles_of(rc), work, o.seconds)
    print(f"{o.work}, {o.n} engines: {tasks / wall:,.0f} tasks/s while sampled; {1e6 * sum(cpu.values()) / tasks:.1f} µs CPU a task in all processes")
    show(found, cpu, tasks, o.top)


if __name__ == "__main__":
    main()

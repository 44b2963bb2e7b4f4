"""`make scale`: what many of everything does to covey. Prints a table, and JSON with --json; exit code 1 if a bound is broken.

usage: python -m test.scale.scale [--quick] [--only STEP,…] [--json FILE]      steps: engines strangers clients flat
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

import covey as ipp

from . import churn
from .rig import ROOT, Controller, Deaf, Peers, Strangers, cpu_seconds, memory

KIB = 1024
CROWDS = ("unix-idle=10000", "tcp-idle=10000", "unix-garbage=100", "tcp-garbage=100", "unix-half=100", "tcp-half=100",
          "unix-loris=100", "tcp-loris=100", "unix-wrong=100", "tcp-wrong=100", "tcp-tls=100",
          "unix-idle=10000 unix-garbage=100 deaf")


class Table:
    """What was measured, and which bounds were broken."""

    def __init__(self):
        self.rows, self.broken = {}, 0

    def row(self, name, value, unit, most=None):
        """A figure; `most`: its bound."""
        good = most is None or value <= most
        self.broken += not good
        self.rows[name] = {"value": value, "unit": unit, "most": most}
        bound = "" if most is None else f"   (at most {most:g}{'' if good else ': BROKEN'})"
        print(f"  {name:<66} {value:>12,.4g} {unit}{bound}", flush=True)


def engines(table, quick):
    """Simulated engines register, work, and are seen by a real client."""
    sizes = [("unix", 2), ("unix", 1000), ("tls", 1000), ("relay", 1000)] + ([] if quick else [("unix", 10000), ("tls", 10000), ("relay", 10000)])
    for kind, n in sizes:
        with Controller() as controller:
            with Peers(controller) as warm:
                warm.ask(f"engines {kind} 2")
            before, cpu = memory(controller.pid), cpu_seconds(controller.pid)
            with Peers(controller) as peers:
                name = f"{n:,} engines, {kind}"
                limit = {1000: 1, 10000: 5}.get(n)
                table.row(f"{name}: registered", peers.ask(f"engines {kind} {n}")["seconds"], "s", limit)
                if n > 2:
                    table.row(f"{name}: controller's CPU for each", (cpu_seconds(controller.pid) - cpu) / n * 1e6, "µs")
                    table.row(f"{name}: controller's memory for each", (memory(controller.pid) - before) / n / KIB, "KiB",
                              24 if kind == "tls" else 2)
                peers.ask("client unix")
                for _ in range(2):
                    rate = peers.ask(f"tasks {50_000 if quick else 200_000} {max(4096, 4 * n)}", 300)["per_second"]
                table.row(f"{name}: no-ops", rate, "1/s")
                table.row(f"{name}: one call for all of them", peers.ask("broadcast")["seconds"], "s")
                if kind == "unix" and n > 2:
                    start = time.perf_counter()
                    rc = ipp.Client(controller.client_file)
                    table.row(f"{name}: Client()", time.perf_counter() - start, "s")
                    start = time.perf_counter()
                    for _ in range(10):
                        ids = rc.ids
                    table.row(f"{name}: rc.ids", (time.perf_counter() - start) / 10, "s")
                    start = time.perf_counter()
                    rc[ids[-n:]].apply_sync(abs, -1)
                    table.row(f"{name}: rc[:].apply_sync", time.perf_counter() - start, "s")
                    rc.close()
                table.row(f"{name}: lost", peers.ask("count")["lost"], "engines", 0)


def strangers(table, quick):
    """Round trips of a client with and without strangers at the door, in turns; newcomers meanwhile. Strangers have a lower priority:
    they would have processors of their own."""
    rounds, trips = (3, 1000) if quick else (9, 5000)
    with Controller() as controller, Peers(controller) as peers:
        peers.ask("engines unix 2")
        peers.ask("client unix")
        peers.ask(f"roundtrips {trips}")
        without = []  # of all crowds' rounds so far: this machine's own noise is larger than what most crowds do
        for crowd in CROWDS:
            with_, enter = [], []
            for _ in range(rounds):
                without.append(peers.ask(f"roundtrips {trips}")["p99_us"])
                with ExitStack() as there:
                    there.enter_context(Strangers(controller, *crowd.replace(" deaf", "").split(), nice=10))
                    if crowd.endswith(" deaf"):
                        there.enter_context(Deaf(controller, 200_000))
                    time.sleep(0.7)
                    with_.append(peers.ask(f"roundtrips {trips}")["p99_us"])
                    peers.send(f"roundtrips {trips}")
                    with Peers(controller) as newcomer:
                        enter.append(newcomer.ask("client unix")["seconds"])
                        enter.append(newcomer.ask("client tls")["seconds"])
                    peers.answer()
            alone = statistics.median(without)
            table.row(f"{crowd}: a round trip's p99 without them (median)", alone, "µs")
            table.row(f"{crowd}: … with them, times that", statistics.median(with_) / alone, "", 3 if "loris" in crowd else 2)  # 5,000 bytes a second, each a wake-up
            table.row(f"{crowd}: a newcomer is in after (median)", statistics.median(enter), "s", 10)
        table.row("engines lost meanwhile", peers.ask("count")["lost"], "engines", 0)


def clients(table, quick):
    """Clients that come and go."""
    n = 100 if quick else 1000
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IPYTHONDIR"] = folder
        with ipp.Cluster(n=2, log_level=40,
                         # results that nobody fetches are kept on purpose, up to the limit
                         controller_args=["--nodb", "--DictDB.record_limit=100"]) as rc:
            rc.wait_for_engines(2)
            controller, file = rc._query("status")["pid"], str(rc._source)
            for how, each in ((churn.in_turn, n), (churn.in_threads, n), (churn.killed, n)):
                how(file, max(100, n // 5))
                before = churn.State(rc, controller, folder)
                start = time.perf_counter()
                how(file, each)
                seconds = time.perf_counter() - start
                churn.settle(rc, controller, before)
                grown = before.grown(churn.State(rc, controller, folder))
                table.row(f"{each} clients {how.__name__.replace('_', ' ')}: each", seconds / each * 1e3, "ms")
                table.row(f"{each} clients {how.__name__.replace('_', ' ')}: left behind", len(grown), "things", 0)
                for line in grown:
                    print("    " + line)


def flat_controller(table, quick):
    """The controller alone. It is warm when its records are full (100,000 that have ended) and their index has been squeezed once: the
    base is taken after the first 500,000 tasks."""
    step, steps = (150_000, 4) if quick else (500_000, 20)
    with Controller() as controller, Peers(controller) as peers:
        peers.ask("engines unix 2")
        peers.ask("client unix")
        seen = []
        for _ in range(steps):
            peers.ask(f"tasks {step} 20000", 600)
            seen.append(memory(controller.pid))
        table.row(f"controller after {step:,} simulated tasks", seen[0] / KIB ** 2, "MiB")
        table.row(f"… at most until {step * steps:,}, more than that", (max(seen) / seen[0] - 1) * 100, "%", 5)


def flat(table, quick):
    """10,000,000 tasks through a controller, 10,000,000 through a cluster, and 100 GB: by how much memory grew."""
    flat_controller(table, quick)
    command = [sys.executable, os.path.join(ROOT, "bench", "own.py"), "flat_tasks", "flat_stream", *(["--quick"] if quick else [])]
    p = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in p.stdout:
        said = json.loads(line)
        if "alive" in said:
            print(f"    {said['alive']:.0%}", flush=True)
        elif "value" in said:
            what = f"{said['tasks']:,} tasks" if "tasks" in said else f"{said['bytes'] / 1e9:g} GB"
            table.row(f"{what}: memory of all processes grew by", said["value"] / KIB ** 2, "MiB", 8)
            table.row("… the controller's by", said["controller"] / said["controller_base"] * 100, "%", 5)
    if p.wait():
        table.row("bench/own.py failed with", p.returncode, "", 0)


STEPS = {"engines": engines, "strangers": strangers, "clients": clients, "flat": flat}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(STEPS))
    parser.add_argument("--json")
    options = parser.parse_args()
    table = Table()
    for name in options.only.split(","):
        print(f"{name}: {STEPS[name].__doc__.splitlines()[0]}", flush=True)
        STEPS[name](table, options.quick)
    if options.json:
        with open(options.json, "w") as f:
            json.dump(table.rows, f, indent=1)
    print(f"{table.broken} bounds broken" if table.broken else "all bounds hold")
    return 1 if table.broken else 0


if __name__ == "__main__":
    sys.exit(main())

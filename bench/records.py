# SPDX-License-Identifier: BSD-3-Clause
"""Questions about a million task records, and what another client notices of them.

usage: python bench/records.py [--records 1000000] [--db sqlite]
Fills the controller's records with no-ops, asks each question a few times (the median; reading the answer is in it), and has a process of its
own make one call after the other meanwhile: its slowest call of each question, beside that of a second in which nobody asks.
"""
import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import machine  # noqa: E402

import covey as ipp  # noqa: E402

BATCH = 20_000
ROUNDS = 3


def ping(file, pipe):
    """One call after the other until the pipe says so; the slowest since it was last asked, in seconds."""
    with ipp.Client(file) as rc:
        engine, worst = rc[0], 0.0
        pipe.send("up")
        while True:
            start = time.perf_counter()
            engine.apply_sync(abs, -1)
            worst = max(worst, time.perf_counter() - start)
            if pipe.poll():
                if pipe.recv() == "stop":
                    return
                pipe.send(worst)
                worst = 0.0


def fill(rc, count):
    """No-ops that are done and recorded; the time when half of them were."""
    submit = rc.load_balanced_view().apply_async
    middle = None
    for lo in range(0, count, BATCH):
        for ar in [submit(abs, -i) for i in range(lo, min(lo + BATCH, count))]:
            ar.get()
        if middle is None and lo >= count / 2:
            middle = datetime.now(timezone.utc)
        rc.purge_local_results("all")
        print(f"\r{lo + BATCH:,} records", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return middle


def questions(rc, middle):
    """(name, question, keys)."""
    one = rc.db_query({"completed": {"$gt": middle, "$lt": middle + timedelta(seconds=1)}}, keys=["msg_id"])
    ids = [r["msg_id"] for r in one[:1000]]
    yield "one msg_id", {"msg_id": ids[0]}, None
    yield f"{len(ids)} msg_ids, $in", {"msg_id": {"$in": ids}}, ["msg_id", "completed"]
    yield "completed between, 20 ms", {"completed": {"$gt": middle, "$lt": middle + timedelta(milliseconds=20)}}, ["msg_id", "completed"]
    yield "completed None", {"completed": None}, None
    yield "label, no index, none", {"label": "nobody"}, None
    yield "stdout by $glob, no index, none", {"stdout": {"$glob": "*x*"}}, None
    yield "half of all, keys=['msg_id']", {"completed": {"$gt": middle}}, ["msg_id"]


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--records", type=int, default=1_000_000)
    args.add_argument("--db", choices=["sqlite", "memory"], default="sqlite")
    args = args.parse_args()
    os.environ["IPYTHONDIR"] = tempfile.mkdtemp(prefix="covey-records-")
    context = multiprocessing.get_context("spawn")
    with ipp.Cluster(n=2, log_level=40, controller_args=[f"--db={args.db}", f"--DictDB.record_limit={2 * args.records}"]) as rc:
        controller = rc._query("status")["pid"]
        here, there = context.Pipe()
        pinger = context.Process(target=ping, args=(str(rc._source), there))
        pinger.start()
        here.recv()

        def worst():
            here.send("ask")
            return here.recv() * 1e3

        middle = fill(rc, args.records)
        print(f"{'':36} {'rows':>9} {'wall, s':>8} {'CPU, s':>7} {'slowest call of another, ms':>28}")
        worst(), time.sleep(1)
        print(f"{'nothing asked, 1 s':36} {'':9} {'':8} {'':7} {worst():28.1f}")
        for name, where, keys in questions(rc, middle):
            times, cpu = [], machine.cpu_seconds(controller)
            worst()
            for _ in range(ROUNDS):
                start = time.perf_counter()
                found = len(rc.db_query(where, keys=keys))
                times.append(time.perf_counter() - start)
            slow, cpu = worst(), (machine.cpu_seconds(controller) - cpu) / ROUNDS
            print(f"{name:36} {found:9,} {statistics.median(times):8.3f} {cpu:7.3f} {slow:28.1f}", flush=True)
        here.send("stop")
        pinger.join(10)


if __name__ == "__main__":
    main()

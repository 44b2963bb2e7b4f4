# SPDX-License-Identifier: BSD-3-Clause
"""Questions about a million task records, and what another client notices of them.

usage: python bench/records.py [--records 1000000] [--db sqlite]
Fills the controller's records with no-ops and asks each question a few times (medians; reading the answer is in them): "alone", and "beside" a
process of its own that makes one call after the other, whose slowest call is shown, too, and that of a second in which nobody asks.
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
    """After each word but "stop" one call after the other until the next word; then the slowest is sent, in seconds."""
    with ipp.Client(file) as rc:
        engine = rc[0]
        pipe.send("up")
        while pipe.recv() != "stop":
            worst = 0.0
            while not pipe.poll():
                start = time.perf_counter()
                engine.apply_sync(abs, -1)
                worst = max(worst, time.perf_counter() - start)
            pipe.recv()
            pipe.send(worst)


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

        def meanwhile(f, *args):
            """What f returns, and the slowest call of the other client in ms while it ran."""
            here.send("go")
            answer = f(*args)
            here.send("enough")
            return answer, here.recv() * 1e3

        def ask(where, keys):
            """Seconds, the median; the controller's CPU in seconds; rows."""
            times, cpu = [], machine.cpu_seconds(controller)
            for _ in range(ROUNDS):
                start = time.perf_counter()
                found = len(rc.db_query(where, keys=keys))
                times.append(time.perf_counter() - start)
            return statistics.median(times), (machine.cpu_seconds(controller) - cpu) / ROUNDS, found

        middle = fill(rc, args.records)
        print(f"{'':36} {'rows':>9} {'alone, s':>8} {'CPU, s':>7} {'beside, s':>9} {'slowest call of another, ms':>28}")
        print(f"{'nothing asked, 1 s':36} {'':9} {'':8} {'':7} {'':9} {meanwhile(time.sleep, 1)[1]:28.1f}")
        for name, where, keys in questions(rc, middle):
            alone, cpu, found = ask(where, keys)
            (beside, _, _), slow = meanwhile(ask, where, keys)
            print(f"{name:36} {found:9,} {alone:8.3f} {cpu:7.3f} {beside:9.3f} {slow:28.1f}", flush=True)
        here.send("stop")
        pinger.join(10)


if __name__ == "__main__":
    main()

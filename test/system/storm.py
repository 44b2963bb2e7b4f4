"""Two clients, eight threads each, do everything at random to one cluster; clients are closed while their threads work.

usage: python -m test.system.storm CONNECTION_FILE SECONDS SEED
Prints a JSON line of what it did; exit status 1 and the reasons if a result is wrong, late or lost, a thread hangs, an
exception is none that the API names, or a descriptor or thread is left.
"""
import concurrent.futures
import contextlib
import faulthandler
import gc
import json
import os
import random
import sys
import threading
import time
import traceback
from collections import Counter

import covey as ipp

from ..waiting import looks

CLIENTS, THREADS = 2, 8
LATE = 60.0  # seconds for anything
FEW = 10  # calls are too few to prove anything: it goes on


def talk(i):
    print("item", i)
    return i


class Storm:
    """What all threads share: counts, and what went wrong."""

    def __init__(self, file, seed):
        self.file, self.seed = file, seed
        self.done, self.wrong = Counter(), []
        self.lock = threading.Lock()

    def count(self, what, n=1):
        with self.lock:
            self.done[what] += n

    def blame(self, text):
        with self.lock:
            self.wrong.append(text)


class Life:
    """One client's life: its threads work until `until`; maybe one of them closes it before."""

    def __init__(self, storm, number, until):
        self.storm, self.until = storm, until
        self.random = random.Random(f"{storm.seed}-{number}")
        self.rc = ipp.Client(storm.file)
        self.closes_early = self.random.random() < 0.5
        self.threads = [threading.Thread(target=self.work, args=[random.Random(f"{storm.seed}-{number}-{n}"), n], name=f"life {number}.{n}")
                        for n in range(THREADS)]
        for t in self.threads:
            t.start()

    # ------------------------------------------------ what a thread does

    def work(self, r, n):
        acts = [self.one, self.one, self.direct, self.many, self.cancel, self.abort, self.push, self.broadcast, self.query, self.output,
                self.callback, self.split, self.big]
        early = self.until - r.random() if n == 0 and self.closes_early else None
        while time.monotonic() < self.until:
            act = r.choice(acts)
            try:
                if early is not None and time.monotonic() > early:
                    self.rc.close()
                    self.storm.count("closed early")
                    early = None
                act(r)
                self.storm.count(act.__name__)
            except Exception as e:
                if self.rc._closed:
                    self.storm.count("refused: closed")
                    return
                self.storm.blame(f"{threading.current_thread().name}, {act.__name__}: {type(e).__name__}: {e}\n{traceback.format_exc()}")
                return

    def check(self, got, want):
        if got != want:
            raise AssertionError(f"{got!r:.200} instead of {want!r:.200}")

    def one(self, r):
        i = r.randrange(1 << 30)
        self.check(self.rc.load_balanced_view().apply_async(abs, -i).get(LATE), i)

    def direct(self, r):
        i = r.randrange(1 << 30)
        self.check(self.rc[r.choice(self.rc.ids)].apply_async(abs, -i).get(LATE), i)

    def many(self, r):
        n = r.randrange(1, 200)
        self.check(self.rc.load_balanced_view().map_async(abs, range(n), chunksize=r.choice([1, 1, 7])).get(LATE), list(range(n)))

    def cancel(self, r):
        ars = [self.rc.load_balanced_view().apply_async(time.sleep, r.choice([0, 0.01, 30])) for _ in range(r.randrange(1, 6))]
        for ar in ars:
            ar.cancel()
        for ar in ars:
            try:
                ar.get(LATE)
            except concurrent.futures.CancelledError:
                pass

    def abort(self, r):
        ars = [self.rc.load_balanced_view().apply_async(abs, -i) for i in range(r.randrange(1, 30))]
        if r.random() < 0.5:
            self.rc.abort(ars)
        else:
            for ar in ars:
                with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                    ar.abort()
        for i, ar in enumerate(ars):
            try:
                self.check(ar.get(LATE), i)
            except ipp.error.TaskAborted:
                pass

    def push(self, r):
        name, value = f"x{threading.get_ident()}", r.random()
        view = self.rc[:]
        view.push({name: value}, block=True)
        self.check(view.pull(name, block=True), [value] * len(view))

    def broadcast(self, r):
        view = self.rc.broadcast_view()
        self.check(view.apply_async(abs, -3).get(LATE), [3] * len(self.rc.ids))

    def query(self, r):
        ar = self.rc.load_balanced_view().apply_async(abs, -1)
        self.rc.queue_status()
        self.rc.result_status(ar.msg_ids)
        self.check(self.rc.get_result(ar.msg_ids, block=False).get(LATE), [1])
        repr(ar), repr(self.rc), self.rc.outstanding, self.rc.db_query({"msg_id": ar.msg_ids[0]}, keys=["msg_id", "completed"])

    def output(self, r):
        i = r.randrange(1000)
        ar = self.rc.load_balanced_view().apply_async(talk, i)
        self.check(ar.get(LATE), i)
        self.check(ar.stdout, f"item {i}\n")

    def callback(self, r):
        called = threading.Event()
        ar = self.rc.load_balanced_view().apply_async(abs, -2)
        ar.add_done_callback(lambda f: called.set())
        if not called.wait(LATE) and not self.rc._closed:
            raise AssertionError("a callback was not called")

    def split(self, r):
        n = r.randrange(1, 20)
        ar = self.rc.load_balanced_view().map_async(abs, range(n), ordered=False)
        self.check(sorted(ar), list(range(n)))

    def big(self, r):
        data = bytes([r.randrange(256)]) * r.randrange(1 << 20)
        self.check(self.rc.load_balanced_view().apply_async(lambda b: b[::-1], data).get(LATE), data)

    # ------------------------------------------------ its end

    def end(self):
        for t in self.threads:
            t.join(self.until + LATE + 30 - time.monotonic())
            if t.is_alive():
                self.storm.blame(f"{t.name} hangs")
                faulthandler.dump_traceback(all_threads=True)
        self.rc.close()
        self.storm.count("clients")


def left_over():
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def settled(before):
    """What is there when no more goes away of what is there beyond `before`."""
    for _ in looks(20):
        if (now := left_over()) <= before:
            break
    return now


def main():
    file, seconds, seed = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    faulthandler.enable()
    storm = Storm(file, seed)
    first = Life(storm, "first", time.monotonic() + 0.2)  # loads what is loaded on demand
    first.end()
    del first
    before = left_over()
    end, number = time.monotonic() + seconds, 0
    while (time.monotonic() < end or storm.done["one"] <= FEW) and not storm.wrong:
        until = min(max(end, time.monotonic() + 1), time.monotonic() + random.Random(f"{seed}-{number}").uniform(0.5, 4))
        lives = [Life(storm, number + n, until) for n in range(CLIENTS)]
        for life in lives:
            life.end()
        number += CLIENTS
        del lives, life
    after = settled(before)
    if after > before:
        storm.wrong.append(f"(descriptors, threads) were {before} and are {after}")
    print(json.dumps(storm.done), flush=True)
    for text in storm.wrong:
        print("WRONG:", text, file=sys.stderr)
    return 1 if storm.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

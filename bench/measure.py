# SPDX-License-Identifier: BSD-3-Clause
"""Measures one implementation once and prints a JSON line for each figure, in SI units (seconds, per second, bytes).

usage: measure.py PEER ENGINES ROW... [--quick]     (PEER: see peers.py; ROW: a key of HOW)
Run by bench.py with the interpreter of the environment that has the implementation.
"""
import json
import os
import signal
import statistics
import sys
import time
from types import SimpleNamespace

from machine import end_with_parent, pss_below

BULK = 64 << 20


def noop(x=None):
    """What every implementation runs. In __main__, as a user's function in a script or notebook is."""
    return x


def size(a):
    return len(a)


def touch(a):
    """Reads every page of an array."""
    return int(a[::4096].sum())


def say(**line):
    """A line to bench.py. Printing goes elsewhere: implementations talk, too."""
    OUT.write(json.dumps(line) + "\n")
    OUT.flush()


def timed(f, times, *args):
    """Seconds of each of `times` calls."""
    out = []
    for _ in range(times):
        start = time.perf_counter()
        f(*args)
        out.append(time.perf_counter() - start)
    return out


def startup(peer, quick):
    return {"value": peer.startup}


def memory(peer, quick):
    return {"value": pss_below()}


def latency(name):
    """p50 of one call after the other; p99 beside it."""
    def measure(peer, quick):
        f = getattr(peer, name)
        timed(f, 30)
        seconds = sorted(timed(f, 100 if quick else 300))
        return {"value": statistics.median(seconds), "p99": seconds[int(len(seconds) * 0.99)]}
    return measure


def rate(name):
    """Items per second, the better of two runs."""
    def measure(peer, quick):
        k = 1000 if quick else 4000
        f = getattr(peer, name)
        f(200)
        return {"value": k / min(timed(f, 2, k))}
    return measure


def bulk(name, pushes=True):
    """Bytes of the array per second, the best of four runs. What goes to several engines counts once."""
    def measure(peer, quick):
        import numpy

        a = numpy.random.default_rng(0).integers(0, 255, BULK >> 3 if quick else BULK, dtype=numpy.uint8)
        f = getattr(peer, name)
        if not pushes:
            peer.push_one(a)
            if len(f()) != a.nbytes:
                raise ValueError("an array came back cut")
        return {"value": a.nbytes / min(timed(f, 4, *([a] if pushes else [])))}
    return measure


HOW = {"start": startup, "memory": memory, "direct": latency("direct"), "balanced": latency("balanced"), "execute_all": latency("execute_all"),
       "many": rate("many"), "map": rate("map"), "push_one": bulk("push_one"), "push_read": bulk("push_read"),
       "pull_one": bulk("pull_one", pushes=False), "push_all": bulk("push_all")}


def main():
    from peers import MAKERS

    quick = "--quick" in sys.argv
    name, n, *rows = [a for a in sys.argv[1:] if a != "--quick"]
    peer = MAKERS[name](int(n), SimpleNamespace(noop=noop, size=size, touch=touch))
    try:
        for row in HOW:  # in its order: memory before arrays are held
            if row not in rows or row not in ("start", "memory") and not hasattr(peer, row):
                continue
            try:
                say(row=row, **HOW[row](peer, quick))
            except Exception as e:  # one row that fails does not cost the others
                say(row=row, error=f"{type(e).__name__}: {e}")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the second one would cut the end short
        peer.close()
    say(done=True)


def stopped(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    OUT = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    end_with_parent()
    signal.signal(signal.SIGTERM, stopped)
    main()

# SPDX-License-Identifier: BSD-3-Clause
"""Large arrays between a client and two engines of one machine, as memfds and (the same, without a pool) through sockets.

usage: python bench/large.py [MIB]
GB/s of the array, counted once; the best of six. "+sum": the engine reads every page of it in the same call.
"""
import functools
import os
import sys
import tempfile
import time

import numpy as np

os.environ["IPYTHONDIR"] = tempfile.mkdtemp()

import covey as ipp  # noqa: E402
from covey import _core  # noqa: E402


def best(f, *args):
    times = []
    for _ in range(6):
        t = time.perf_counter()
        f(*args)
        times.append(time.perf_counter() - t)
    return min(times)


def total(x):
    return int(x.view("u8").sum())


def rows(rc, a):
    one, every = rc[rc.ids[0]], rc[:]
    gb = a.nbytes / 1e9
    yield "push to one", gb / best(lambda: one.push({"a": a}, block=True))
    yield "push to two", gb / best(lambda: every.push({"a": a}, block=True))
    yield "push to one +sum", gb / best(lambda: one.apply_sync(total, a))
    yield "push to two +sum", gb / best(lambda: every.apply_sync(total, a))
    yield "pull from one", gb / best(lambda: one.pull("a", block=True))  # an engine's way is memfds in both columns


def main():
    a = np.random.default_rng(0).integers(0, 255, int(sys.argv[1] if len(sys.argv) > 1 else 64) << 20, dtype=np.uint8)
    b = a.copy()
    with ipp.Cluster(n=2, log_level=40) as rc:
        real = _core.Client
        _core.Client = functools.partial(real, memfd_bytes=0)
        with rc.cluster.connect_client_sync() as sockets:
            _core.Client = real
            gb = a.nbytes / 1e9
            print(f"{'memcpy':20} {gb / best(np.copyto, b, a):7.2f}\n{'sum here':20} {gb / best(total, a):7.2f}")
            print(f"{'':20} {'memfd':>7} {'sockets':>7}")
            for (what, fast), (_, slow) in zip(rows(rc, a), rows(sockets, a), strict=True):
                print(f"{what:20} {fast:7.2f} {slow:7.2f}")


if __name__ == "__main__":
    main()

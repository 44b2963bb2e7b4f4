"""What `covey._core` and the controller do without the Python package above them.

usage: python bench/core_bench.py [--controller PATH] [-n ENGINES] [--tasks N]
Starts an `ipcontroller` in a temporary folder and engines that unpickle a tuple and pickle its sum; prints
tasks per second (submit, wait, take), the time of one call (p50, p99), CPU per task of each process, and the rate
of large arguments and results.
"""
import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time

from covey import _core

ENGINE = """
import os, pickle, sys
from covey import _core
link = _core.Engine(sys.argv[1], {"uuid": str(os.getpid()), "python": "3.11"}, uid=os.getuid(), status_fd=-1, stdout_fd=-1, stderr_fd=-1)
link.connect(10)
while (item := link.next(None)) is None or item[0] != 24:
    if item and link.begin(item[3], item[4], item[6]):
        data = pickle.loads(item[8][0], buffers=item[8][1:])
        value = pickle.PickleBuffer(data) if len(item[8]) > 1 else sum(data)
        link.end()
        out = []
        link.result(0, [pickle.dumps(value, 5, buffer_callback=out.append), *out])
        item = data = value = None
"""


def controller(program, folder):
    """A started controller and its Unix endpoint."""
    env = dict(os.environ, IPYTHONDIR=folder)
    p = subprocess.Popen([program], env=env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = os.path.join(folder, "profile_default", "security", "ipcontroller-client.json")
    deadline = time.monotonic() + 10
    while not os.path.exists(path):
        assert time.monotonic() < deadline and p.poll() is None, "the controller did not start"
        time.sleep(0.01)
    with open(path) as f:
        return p, next(e for e in json.load(f)["endpoints"] if e.startswith("unix:"))


def cpu(pid):
    """Seconds of CPU that a process has used, by its threads' schedstat."""
    folder = f"/proc/{pid}/task"
    return sum(int(open(f"{folder}/{t}/schedstat").read().split()[0]) for t in os.listdir(folder)) / 1e9


def burst(client, n):
    """n no-ops at once; seconds."""
    data = pickle.dumps((1, 2), 5)
    t = time.perf_counter()
    seqs = [client.submit(0, 0, _core.ENGINE_NONE, 1, None, (data,)) for _ in range(n)]
    client.wait(seqs, None)
    for s in seqs:
        assert pickle.loads(client.take(s)[8][0]) == 3
    return time.perf_counter() - t


def calls(client, n):
    """Sorted seconds of n calls, one after the other."""
    data = pickle.dumps((1, 2), 5)
    times = []
    for _ in range(n):
        t = time.perf_counter()
        seq = client.submit(0, 0, _core.ENGINE_NONE, 1, None, (data,))
        client.wait([seq], None)
        assert pickle.loads(client.take(seq)[8][0]) == 3
        times.append(time.perf_counter() - t)
    return sorted(times)


def echo(client, size, n):
    """Seconds of the fastest of n round trips of so many bytes."""
    array = pickle.PickleBuffer(bytearray(os.urandom(1 << 20) * (size >> 20)))
    out = []
    data = pickle.dumps(array, 5, buffer_callback=out.append)
    best = 1e9
    for _ in range(n):
        t = time.perf_counter()
        seq = client.submit(0, 0, _core.ENGINE_NONE, 1, None, (data, *out))
        client.wait([seq], None)
        back = client.take(seq)[8]
        best = min(best, time.perf_counter() - t)
        assert len(back[1]) == size
        back = None
    return best


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--controller", default="ipcontroller")
    args.add_argument("-n", type=int, default=2)
    args.add_argument("--tasks", type=int, default=40_000)
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ctl, endpoint = controller(args.controller, folder)
        engines = [subprocess.Popen([sys.executable, "-c", ENGINE, endpoint]) for _ in range(args.n)]
        client = _core.Client([endpoint], {"python": "3.11"})
        client.connect(10)
        try:
            burst(client, 1000)
            processes = {"client": os.getpid(), "controller": ctl.pid, "engines": [e.pid for e in engines]}
            used = lambda: {k: sum(map(cpu, v)) if isinstance(v, list) else cpu(v) for k, v in processes.items()}
            before = used()
            seconds = sorted(burst(client, args.tasks) for _ in range(3))
            per_task = {k: (v - before[k]) / args.tasks / 3 * 1e6 for k, v in used().items()}
            print(f"burst of {args.tasks} no-ops: {args.tasks / seconds[1]:,.0f}/s (best {args.tasks / seconds[0]:,.0f})")
            print("CPU µs per task: " + ", ".join(f"{k} {v:.1f}" for k, v in per_task.items()))
            times = calls(client, 5000)
            print(f"one call: p50 {times[2500] * 1e6:.0f} µs, p99 {times[4950] * 1e6:.0f} µs")
            for mib in (1, 16, 64):
                s = echo(client, mib << 20, 5)
                print(f"{mib} MiB there and back: {s * 1e3:.2f} ms, {2 * (mib << 20) / s / 1e9:.2f} GB/s")
        finally:
            client.close()
            ctl.terminate()
            ctl.wait(10)
            for e in engines:
                e.kill()
                e.wait()


if __name__ == "__main__":
    main()

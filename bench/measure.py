"""Measures one implementation and prints one JSON object: the rows that bench.py puts side by side.

usage: measure.py covey|ipyparallel|processpool|dask|ray [-n ENGINES] [--quick]
Run it with the interpreter of the environment that has the implementation.
"""
import argparse
import json
import os
import statistics
import time
from pathlib import Path


def identity(x=None):
    """The no-op that every implementation runs."""
    return x


def touch(a):
    """Reads every page of an array and returns its size."""
    return int(a[::4096].sum() >= 0) and a.nbytes


def timed(f, times, *args):
    """Seconds of each of `times` calls."""
    out = []
    for _ in range(times):
        start = time.perf_counter()
        f(*args)
        out.append(time.perf_counter() - start)
    return out


def descendants():
    """Process ids below this one."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def pss_mib():
    """Proportional memory (MiB) and number of all processes below this one."""
    total, count = 0, 0
    for pid in descendants():
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        count += 1
    return total / 1024, count


class Parallel:
    """covey and stock: the same API under two names."""

    def __init__(self, module, n):
        import importlib

        self.ipp = importlib.import_module(module)
        self.cluster = self.ipp.Cluster(n=n, log_level=40)
        self.rc = self.cluster.start_and_connect_sync()
        self.rc.wait_for_engines(n)
        self.all, self.one, self.balanced = self.rc[:], self.rc[self.rc.ids[0]], self.rc.load_balanced_view()

    def call(self):
        self.one.apply_sync(identity, 1)

    def call_balanced(self):
        self.balanced.apply_sync(identity, 1)

    def call_all(self):
        self.all.execute("x = 1", block=True)

    def many(self, k):
        for result in [self.balanced.apply_async(identity, i) for i in range(k)]:
            result.get()

    def map(self, k):
        list(self.balanced.map_sync(identity, range(k), chunksize=1))

    def push(self, a):
        self.one.push({"a": a}, block=True)

    def push_and_read(self, a):
        self.one.apply_sync(touch, a)

    def pull(self):
        return self.one.pull("a", block=True)

    def push_all(self, a):
        self.all.push({"b": a}, block=True)

    def close(self):
        self.rc.close()
        self.cluster.stop_cluster_sync()


class ProcessPool:
    """concurrent.futures on the same number of processes."""

    def __init__(self, n):
        from concurrent.futures import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(n)
        list(self.pool.map(identity, range(10 * n)))

    def call(self):
        self.pool.submit(identity, 1).result()

    call_balanced = call

    def many(self, k):
        for future in [self.pool.submit(identity, i) for i in range(k)]:
            future.result()

    def map(self, k):
        list(self.pool.map(identity, range(k)))

    def close(self):
        self.pool.shutdown()


class Dask:
    """distributed's LocalCluster, a worker process an engine."""

    def __init__(self, n):
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None)
        self.client = Client(self.cluster)
        self.client.wait_for_workers(n)
        self.first = sorted(self.client.scheduler_info()["workers"])[:1]

    def call(self):
        self.client.submit(identity, 1, workers=self.first, pure=False).result()

    def call_balanced(self):
        self.client.submit(identity, 1, pure=False).result()

    def call_all(self):
        self.client.run(identity)

    def many(self, k):
        self.client.gather([self.client.submit(identity, i, pure=False) for i in range(k)])

    def map(self, k):
        self.client.gather(self.client.map(identity, range(k), pure=False))

    def push(self, a):
        self.held = self.client.scatter(a, workers=self.first, hash=False)

    def pull(self):
        return self.held.result()

    def push_all(self, a):
        self.client.scatter(a, broadcast=True, hash=False)

    def close(self):
        self.client.close()
        self.cluster.close()


class Ray:
    """Ray on one node; an actor stands for an engine."""

    def __init__(self, n):
        import ray

        self.ray = ray
        ray.init(num_cpus=n, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=2 << 30)

        @ray.remote(num_cpus=0)
        class Holder:
            def call(self, x=None):
                return x

            def put(self, a):
                self.a = a

            def get(self):
                return self.a

        self.function = ray.remote(identity)
        ray.get([self.function.remote(i) for i in range(4 * n)])
        self.actors = [Holder.remote() for _ in range(n)]
        ray.get([a.call.remote() for a in self.actors])

    def call(self):
        self.ray.get(self.actors[0].call.remote(1))

    def call_balanced(self):
        self.ray.get(self.function.remote(1))

    def call_all(self):
        self.ray.get([a.call.remote() for a in self.actors])

    def many(self, k):
        self.ray.get([self.function.remote(i) for i in range(k)])

    map = many

    def push(self, a):
        self.ray.get(self.actors[0].put.remote(a))

    def pull(self):
        return self.ray.get(self.actors[0].get.remote())

    def push_all(self, a):
        reference = self.ray.put(a)
        self.ray.get([x.put.remote(reference) for x in self.actors])

    def close(self):
        self.ray.shutdown()


def make(name, n):
    if name in ("covey", "ipyparallel"):
        return Parallel(name, n)
    return {"processpool": ProcessPool, "dask": Dask, "ray": Ray}[name](n)


def measure(name, n, quick):
    """All rows of one implementation; a row that it can't do is left out."""
    start = time.perf_counter()
    peer = make(name, n)
    rows = {"peer": name, "engines": n, "start_s": time.perf_counter() - start}
    try:
        time.sleep(0.2)  # let start-up work end before memory is read
        rows["idle_mib"], rows["processes"] = pss_mib()
        calls = 100 if quick else 400
        for row in ("call", "call_balanced", "call_all"):
            if hasattr(peer, row):
                timed(getattr(peer, row), 30)
                seconds = timed(getattr(peer, row), calls)
                rows[row + "_p50_ms"] = 1e3 * statistics.median(seconds)
                rows[row + "_p99_ms"] = 1e3 * sorted(seconds)[int(len(seconds) * 0.99)]
        k = 1000 if quick else 4000
        peer.many(200)
        rows["many_per_s"] = k / min(timed(peer.many, 3, k))
        rows["map_per_s"] = k / min(timed(peer.map, 3, k))
        if not quick and hasattr(peer, "push"):
            import numpy as np

            a = np.random.default_rng(0).integers(0, 255, 64 << 20, dtype=np.uint8)
            for row, args in (("push", (a,)), ("push_and_read", (a,)), ("pull", ()), ("push_all", (a,))):
                if hasattr(peer, row):
                    rows[row + "_GBps"] = a.nbytes / min(timed(getattr(peer, row), 4, *args)) / 1e9
    finally:
        peer.close()
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in rows.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["covey", "ipyparallel", "processpool", "dask", "ray"])
    parser.add_argument("-n", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    print(json.dumps(measure(options.peer, options.n, options.quick)))

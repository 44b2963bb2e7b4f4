# SPDX-License-Identifier: BSD-3-Clause
"""The implementations that are compared, each behind the same few methods.

Each starts in its constructor and sets `startup` to the seconds until it was usable; `close()` ends it. `work` holds the functions to run,
which live in the program's `__main__` as a user's would. A method that an implementation has no counterpart for is not there.
"""
import importlib
import json
import os
import tempfile
import time


class Parallel:
    """covey and stock: one API under two names. `hwm`: tasks an engine may hold; `tls`: the client comes by TCP though it is local."""

    def __init__(self, module, n, work, hwm=None, tls=False):
        start = time.perf_counter()
        self.ipp = importlib.import_module(module)
        self.work = work
        self.cluster = self.ipp.Cluster(n=n, log_level=40, **({"controller_args": [f"--hwm={hwm}"]} if hwm else {}))
        self.rc = self.cluster.start_and_connect_sync()
        self.rc.wait_for_engines(n)
        self.startup = time.perf_counter() - start
        if tls:
            self.rc.close()
            self.rc = self.ipp.Client(_without_unix(self.cluster.cluster_file))
            self.rc.wait_for_engines(n)
        self.everyone, self.one, self.balanced_view = self.rc[:], self.rc[self.rc.ids[0]], self.rc.load_balanced_view()

    def direct(self):
        self.one.apply_sync(self.work.noop, 1)

    def balanced(self):
        self.balanced_view.apply_sync(self.work.noop, 1)

    def execute_all(self):
        self.everyone.execute("x=1", block=True)

    def many(self, k):
        submit, noop = self.balanced_view.apply_async, self.work.noop
        for result in [submit(noop, i) for i in range(k)]:
            result.get()

    def map(self, k):
        list(self.balanced_view.map_sync(self.work.noop, range(k), chunksize=1))

    def push_one(self, a):
        self.one.push({"a": a}, block=True)

    def push_read(self, a):
        self.one.push({"a": a}, block=True)
        self.one.apply_sync(self.work.touch, self.ipp.Reference("a"))

    def pull_one(self):
        return self.one.pull("a", block=True)

    def push_all(self, a):
        self.everyone.push({"b": a}, block=True)

    def close(self):
        try:
            self.rc.close()
        finally:
            self.cluster.stop_cluster_sync()


def _without_unix(cluster_file):
    """A cluster's connection for clients, as another machine would have it: no Unix socket."""
    with open(cluster_file) as f:
        client_file = json.load(f)["client_file"]
    with open(client_file) as f:
        connection = json.load(f)
    return dict(connection, endpoints=[e for e in connection["endpoints"] if not e.startswith("unix:")])


class ProcessPool:
    """concurrent.futures on as many processes."""

    def __init__(self, n, work):
        from concurrent.futures import ProcessPoolExecutor

        start = time.perf_counter()
        self.work = work
        self.pool = ProcessPoolExecutor(n)
        list(self.pool.map(work.noop, range(n)))
        self.startup = time.perf_counter() - start

    def direct(self):
        self.pool.submit(self.work.noop, 1).result()

    balanced = direct

    def many(self, k):
        for future in [self.pool.submit(self.work.noop, i) for i in range(k)]:
            future.result()

    def map(self, k):
        list(self.pool.map(self.work.noop, range(k)))

    def close(self):
        self.pool.shutdown(cancel_futures=True)


class Dask:
    """distributed's LocalCluster: a worker process with one thread for each engine."""

    def __init__(self, n, work):
        start = time.perf_counter()
        from distributed import Client, LocalCluster

        self.work = work
        self.cluster = LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None, silence_logs=50)
        self.client = Client(self.cluster)
        self.client.wait_for_workers(n)
        self.startup = time.perf_counter() - start
        self.first = sorted(self.client.scheduler_info(n_workers=-1)["workers"])[:1]

    def direct(self):
        self.client.submit(self.work.noop, 1, workers=self.first, pure=False).result()

    def balanced(self):
        self.client.submit(self.work.noop, 1, pure=False).result()

    def execute_all(self):
        self.client.run(self.work.noop)

    def many(self, k):
        self.client.gather([self.client.submit(self.work.noop, i, pure=False) for i in range(k)])

    def map(self, k):
        self.client.gather(self.client.map(self.work.noop, range(k), pure=False))

    def _push(self, a, use):
        self.held = self.client.scatter(a, workers=self.first, hash=False)
        self.client.submit(use, self.held, pure=False).result()

    def push_one(self, a):
        self._push(a, self.work.size)

    def push_read(self, a):
        self._push(a, self.work.touch)

    def pull_one(self):
        return self.held.result()

    def push_all(self, a):
        self.client.scatter(a, broadcast=True, hash=False)

    def close(self):
        self.client.close()
        self.cluster.close()


class Ray:
    """Ray on one node; an actor stands for an engine that is addressed."""

    def __init__(self, n, work):
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        start = time.perf_counter()
        import ray

        self.ray = ray
        # Unix socket paths are short: not below a longer TMPDIR
        self.folder = tempfile.mkdtemp(prefix="ray", dir=os.environ.get("BENCH_SHORT_DIR"))
        ray.init(num_cpus=n, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=2 << 30, _temp_dir=self.folder)

        @ray.remote(num_cpus=0)
        class Holder:
            def noop(self, x=None):
                return x

            def put(self, a):
                self.a = a
                return len(a)

            def put_read(self, a):
                self.a = a
                return int(a[::4096].sum())

            def get(self):
                return self.a

        self.function = ray.remote(work.noop)
        ray.get([self.function.remote(i) for i in range(n)])
        self.startup = time.perf_counter() - start
        self.actors = [Holder.remote() for _ in range(n)]
        ray.get([a.noop.remote() for a in self.actors])

    def direct(self):
        self.ray.get(self.actors[0].noop.remote(1))

    def balanced(self):
        self.ray.get(self.function.remote(1))

    def execute_all(self):
        self.ray.get([a.noop.remote() for a in self.actors])

    def many(self, k):
        self.ray.get([self.function.remote(i) for i in range(k)])

    map = many

    def push_one(self, a):
        self.ray.get(self.actors[0].put.remote(a))

    def push_read(self, a):
        self.ray.get(self.actors[0].put_read.remote(a))

    def pull_one(self):
        return self.ray.get(self.actors[0].get.remote())

    def push_all(self, a):
        reference = self.ray.put(a)
        self.ray.get([x.put.remote(reference) for x in self.actors])

    def close(self):
        self.ray.shutdown()


MAKERS = {
    "covey": lambda n, work: Parallel("covey", n, work),
    "covey-hwm1": lambda n, work: Parallel("covey", n, work, hwm=1),
    "covey-tls": lambda n, work: Parallel("covey", n, work, tls=True),
    "stock": lambda n, work: Parallel("ipyparallel", n, work),
    "ppe": ProcessPool,
    "dask": Dask,
    "ray": Ray,
}

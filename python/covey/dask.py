# SPDX-License-Identifier: BSD-3-Clause
"""A Dask cluster on a covey cluster: `Client.become_dask` and `Client.stop_dask`.

The scheduler lives in a thread of the first engine, a worker in a thread of each (with ``nanny=True`` in a
process of its own), so Dask's tasks go on while engines run others. In an engine's namespace `distributed_worker` is its worker.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client

__all__ = ["become_dask", "stop_dask"]


def become_dask(client: Client, targets: Any = "all", port: int = 0, nanny: bool = False,
                scheduler_args: dict[str, Any] | None = None, **worker_args: Any) -> Any:
    """See `Client.become_dask`."""
    try:
        import distributed
    except ImportError as e:
        raise ImportError("become_dask needs dask.distributed, here and on the engines: pip install distributed") from e
    numbers: Sequence[int] = client._build_targets(targets)
    view = client[list(numbers)]
    options = dict(scheduler_args or {})
    options.setdefault("scheduler_port", options.pop("port", port))
    if "host" not in options and "ip" not in options and len({client._engines[n]["host"] for n in numbers}) > 1:
        options["host"] = "0.0.0.0"  # workers elsewhere must reach it; Dask's own default is loopback
    address = client[numbers[0]].apply_sync(_start_scheduler, options)
    try:
        view.apply_sync(_start_worker, address, nanny, worker_args)
        return distributed.Client(address)
    except BaseException:
        stop_dask(client, targets)
        raise


def stop_dask(client: Client, targets: Any = "all") -> None:
    """See `Client.stop_dask`."""
    view = client.direct_view(targets)
    view.apply_sync(_stop_worker)
    client.direct_view("all").apply_sync(_stop_scheduler)


# On the engines. What runs is kept on the shell's kernel, which lives as long as the engine.

def _kernel() -> Any:
    from IPython import get_ipython

    return get_ipython().kernel


def _start_scheduler(options: dict[str, Any]) -> str:
    from distributed import LocalCluster

    kernel = _kernel()
    running = getattr(kernel, "dask_scheduler", None)
    if running is not None:
        return running.scheduler_address
    options.setdefault("host", options.pop("ip", None))
    kernel.dask_scheduler = LocalCluster(n_workers=0, **{"dashboard_address": None, "silence_logs": False, **options})
    return kernel.dask_scheduler.scheduler_address


def _stop_scheduler() -> None:
    kernel = _kernel()
    running, kernel.dask_scheduler = getattr(kernel, "dask_scheduler", None), None
    if running is not None:
        running.close(timeout=5)


def _start_worker(address: str, nanny: bool, options: dict[str, Any]) -> None:
    from distributed import Nanny, Worker
    from distributed.utils import LoopRunner

    kernel = _kernel()
    if getattr(kernel, "dask_worker", None) is not None:
        return
    options = {"nthreads": 1, "name": f"engine-{kernel.engine_id}", **options}
    runner = LoopRunner()
    runner.start()

    async def start() -> Any:
        return await (Nanny if nanny else Worker)(address, **options)
    try:
        worker = runner.run_sync(start)
    except BaseException:
        runner.stop()
        raise
    kernel.dask_worker = (runner, worker)
    kernel.user_ns["distributed_worker"] = kernel.user_ns["dask_worker"] = worker


def _stop_worker() -> None:
    kernel = _kernel()
    running, kernel.dask_worker = getattr(kernel, "dask_worker", None), None
    if running is None:
        return
    for name in ("distributed_worker", "dask_worker"):
        kernel.user_ns.pop(name, None)
    runner, worker = running
    try:
        runner.run_sync(lambda: worker.close(timeout=5))
    finally:
        runner.stop()

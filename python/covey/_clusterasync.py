# SPDX-License-Identifier: BSD-3-Clause
"""The coroutines of `Cluster`: each runs its blocking twin in a thread, so the loop goes on meanwhile."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client
    from .cluster import Cluster


async def _in_thread(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(call, *args, **kwargs)


class ClusterCoroutines:
    """What `Cluster` is in asyncio."""

    async def start_controller(self, **kwargs: Any) -> None:
        """See `start_controller_sync`."""
        await _in_thread(self.start_controller_sync, **kwargs)

    async def start_engines(self, n: int | None = None, engine_set_id: str | None = None, **kwargs: Any) -> str:
        """See `start_engines_sync`."""
        return await _in_thread(self.start_engines_sync, n, engine_set_id, **kwargs)

    async def start_cluster(self, n: int | None = None) -> Cluster:
        """See `start_cluster_sync`."""
        return await _in_thread(self.start_cluster_sync, n)

    async def start_and_connect(self, n: int | None = None, activate: bool = False) -> Client:
        """See `start_and_connect_sync`."""
        rc = await _in_thread(self.start_and_connect_sync, n)
        if activate:
            rc.activate()
        return rc

    async def connect_client(self, **kwargs: Any) -> Client:
        """See `connect_client_sync`."""
        return await _in_thread(self.connect_client_sync, **kwargs)

    async def stop_engines(self, engine_set_id: str | None = None) -> None:
        """See `stop_engines_sync`."""
        await _in_thread(self.stop_engines_sync, engine_set_id)

    async def restart_engines(self, engine_set_id: str | None = None) -> None:
        """See `restart_engines_sync`."""
        await _in_thread(self.restart_engines_sync, engine_set_id)

    async def signal_engines(self, signum: int, engine_set_id: str | None = None) -> None:
        """See `signal_engines_sync`."""
        await _in_thread(self.signal_engines_sync, signum, engine_set_id)

    async def stop_engine(self, engine_id: int) -> None:
        """See `stop_engine_sync`."""
        self.stop_engine_sync(engine_id)

    async def restart_engine(self, engine_id: int) -> None:
        """See `restart_engine_sync`."""
        self.restart_engine_sync(engine_id)

    async def signal_engine(self, engine_id: int, signum: int) -> None:
        """See `signal_engine_sync`."""
        self.signal_engine_sync(engine_id, signum)

    async def stop_controller(self) -> None:
        """See `stop_controller_sync`."""
        await _in_thread(self.stop_controller_sync)

    async def stop_cluster(self) -> None:
        """See `stop_cluster_sync`."""
        await _in_thread(self.stop_cluster_sync)

# SPDX-License-Identifier: BSD-3-Clause
"""Widgets of engines in the client's notebook.

A widget that is made on an engine (`%px` a slider, tqdm.notebook in a task) opens a *comm* there. Its messages
come here as COMM; each comm gets a twin in this notebook's kernel, with the same id, and what the browser says to
the twin goes back to the engine. Without a kernel that has comms (scripts, plain IPython) nothing happens.

`receive` is called by whoever pumps the client; `send` by the kernel's main thread.
"""
from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .task import COMM

if TYPE_CHECKING:
    from .client import Client


def _kernel_comms() -> Any:
    """The module `comm`, if this is a kernel's process."""
    ip = sys.modules.get("IPython")
    shell = ip.get_ipython() if ip is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    try:
        import comm
    except ImportError:
        return None
    return comm


class CommTwins:
    """The twins of a client's engines' comms, by comm id."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._twins: dict[str, Any] = {}

    def receive(self, session: int, seq: int, engine: int, buffers: Sequence[Any]) -> None:
        """A message of an engine's comm: {"msg_type", "content", "metadata"}, then binary buffers."""
        comm = _kernel_comms()
        if comm is None:
            return
        message = json.loads(bytes(buffers[0]))
        content, binary = message["content"], [memoryview(b) for b in buffers[1:]]
        id, kind = content["comm_id"], message["msg_type"]
        twin = self._twins.get(id)
        if kind == "comm_open" and twin is None:
            self._client._start_dispatcher()  # messages must flow between cells, too
            twin = comm.create_comm(target_name=content.get("target_name") or "", target_module=content.get("target_module"), comm_id=id,
                                    data=content.get("data"), metadata=message.get("metadata"), buffers=binary)
            self._twins[id] = twin
            twin.on_msg(lambda m: self._send("comm_msg", id, session, seq, engine, m))
            twin.on_close(lambda m: self._closed(id, session, seq, engine, m))
        elif twin is not None and kind == "comm_msg":
            twin.send(data=content.get("data"), metadata=message.get("metadata"), buffers=binary)
        elif twin is not None and kind == "comm_close":
            del self._twins[id]
            twin.close(data=content.get("data"), metadata=message.get("metadata"), buffers=binary)

    def _closed(self, id: str, session: int, seq: int, engine: int, message: dict[str, Any]) -> None:
        if self._twins.pop(id, None) is not None:
            self._send("comm_close", id, session, seq, engine, message)

    def _send(self, kind: str, id: str, session: int, seq: int, engine: int, message: dict[str, Any]) -> None:
        """What the browser said, to the engine's comm."""
        body = {"msg_type": kind, "content": {"comm_id": id, "data": message.get("content", {}).get("data", {})},
                "metadata": message.get("metadata") or {}}
        self._client._core.send(COMM, session=session, seq=seq, count=1, engine=engine,
                                buffers=[json.dumps(body).encode(), *[bytes(b) for b in message.get("buffers") or ()]])

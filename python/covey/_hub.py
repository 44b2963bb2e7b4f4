# SPDX-License-Identifier: BSD-3-Clause
"""A task of which only the id is known: its result is asked of the controller."""
from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from . import error
from .task import ENGINE_NONE, EXECUTE, MAP, OK, Task, parse_msg_id
from .util import extract_dates

if TYPE_CHECKING:
    from ._jobs import Jobs

UNSENT_PATIENCE = 1.0  # seconds for a task of which only the id has come so far: its client is connected, and may be about to send it
_STATUS = {"ok": OK, "done": OK, "error": 1, "failed": 1, "aborted": 2, "cancelled": 3}


class HubTask(Task):
    """Like `Task`; its `record` comes from a QUERY."""

    polled = True
    __slots__ = ("id", "_unknown_since")

    def __init__(self, client: Jobs, id: str) -> None:
        Task.__init__(self, client, 0, 0, None, 0)
        self.id = id
        self._unknown_since: float | None = None
        try:
            self.seq = parse_msg_id(id)[1]
        except ValueError:
            pass  # the controller will say that it does not know it

    @property
    def msg_id(self) -> str:
        return self.id

    def done(self) -> bool:
        return self.fetch()

    def fetch(self) -> bool:
        if self.record is None:
            try:
                answer, buffers = self.client._query_buffers("result", id=self.id)
                if answer is False and self._is_too_late():
                    raise error._remake("KeyError", f"no task {self.id} is known here", "", {})
            except error.RemoteError as e:
                self._value, self._error = (None,), e
                self.record = (1, 1, ENGINE_NONE, 0, 0, 0, 0, 0, (), self.seq, 1)
                return True
            if answer is None or answer is False:
                return False
            self._adopt(answer, buffers)
        return True

    def _is_too_late(self) -> bool:
        """For a task that its client has not sent: whoever hands over an id at once may be quicker than the task itself, but not for long."""
        now = time.monotonic()
        if self._unknown_since is None:
            self._unknown_since = now
        return now - self._unknown_since > UNSENT_PATIENCE

    def lose(self, why: str) -> None:
        """Nobody can be asked any more: whoever waits finds it lost."""
        self._value = (None,)
        self._error = error._remake("LostTask", why, "", self._engine_info())
        self.record = (1, 1, ENGINE_NONE, 0, 0, 0, 0, 0, (), self.seq, 1)

    def _adopt(self, answer: dict[str, Any], buffers: Any) -> None:
        status = answer.get("status", 0)
        status = _STATUS.get(status, 1) if isinstance(status, str) else status
        engine = answer.get("engine")
        self.kind = {"execute": EXECUTE, "map": MAP}.get(answer.get("kind", ""), answer.get("kind") or 0)
        self.label = answer.get("label")
        self.source = answer.get("source") or ""
        self.record = (status, answer.get("attempt", 1), ENGINE_NONE if engine is None else engine, 0, 0, 0, 0, 0,
                       buffers, answer.get("first", self.seq), answer.get("count", 1))
        md = self.metadata
        stamps = extract_dates({k: answer.get(k) for k in ("submitted", "started", "completed", "received")})
        for key, stamp in stamps.items():
            md[key] = _stamp(stamp)
        md["received"] = md["received"] or md["completed"]
        for key in ("stdout", "stderr"):
            if answer.get(key):
                md[key] = answer[key]
        if self.kind == EXECUTE:
            md["execute_input"] = self.source
            if status == OK and len(buffers) > 1:
                md["execute_result"] = json.loads(bytes(buffers[1]))

    def _decode(self) -> Any:
        if self.kind == EXECUTE and self.record is not None and self.record[0] == OK:
            content = json.loads(bytes(self.record[8][0])) if self.record[8] else {}
            from .task import ExecuteReply

            return ExecuteReply(self.source, content, self), None
        return Task._decode(self)


def _stamp(value: Any) -> Any:
    from .util import from_ns

    return from_ns(int(value if value > 1e12 else value * 1e9)) if isinstance(value, (int, float)) else value

# SPDX-License-Identifier: BSD-3-Clause
"""The table of `Client.status`."""
from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client

_COLUMNS = ("engine", "host", "pid", "state", "running", "queued", "completed")


class Status:
    """A snapshot: prints as text, shows as HTML."""

    def __init__(self, client: Client) -> None:
        queue = client.queue_status()
        self.unassigned = queue.get("unassigned", 0)
        self.rows = []
        for number in client.ids:
            engine, counts = client._engines[number], queue.get(number, {})
            self.rows.append((number, engine.get("host", ""), engine.get("pid", ""), engine.get("state", ""),
                              counts.get("tasks", ""), counts.get("queue", ""), counts.get("completed", "")))

    def __repr__(self) -> str:
        table = [_COLUMNS, *self.rows]
        widths = [max(len(str(row[i])) for row in table) for i in range(len(_COLUMNS))]
        lines = ["  ".join(str(c).ljust(w) for c, w in zip(row, widths)).rstrip() for row in table]
        return "\n".join([*lines, f"{self.unassigned} tasks wait for an engine"])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{c}</th>" for c in _COLUMNS)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in self.rows)
        return (f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
                f"<p>{self.unassigned} tasks wait for an engine</p>")

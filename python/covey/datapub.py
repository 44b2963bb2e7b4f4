# SPDX-License-Identifier: BSD-3-Clause
"""`publish_data`: values from a running task to the client that waits for it."""
from __future__ import annotations

from typing import Any

from .serialize import pack_value

OUTPUT_DATA = 8


def publish_data(data: dict[str, Any]) -> None:
    """On an engine: updates ``ar.data`` of the client's AsyncResult, while the task runs.

    >>> def work(n):
    ...     from covey.datapub import publish_data
    ...     for i in range(n):
    ...         publish_data({"done": i})
    >>> ar = view.apply_async(work, 10)
    >>> ar.data
    {'done': 3}
    """
    if not isinstance(data, dict) or not all(isinstance(k, str) for k in data):
        raise TypeError("publish_data takes a dict with str keys")
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell.displayhook, "outlet"):
        raise RuntimeError("publish_data works on engines only")
    shell.displayhook.outlet.send(OUTPUT_DATA, pack_value(data))

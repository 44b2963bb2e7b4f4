# SPDX-License-Identifier: BSD-3-Clause
"""Logging of engines' code. What a handler writes to standard error reaches the client whose task it is."""
from __future__ import annotations

import logging
from typing import Any

__all__ = ["EnginePUBHandler"]


class EnginePUBHandler(logging.StreamHandler):
    """A handler for loggers on engines: records go to standard error, with the engine's number.

    engine : the engine, or anything with an `id`; None: whichever runs this
    """

    def __init__(self, engine: Any = None, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()
        self.engine = engine

    @property
    def root_topic(self) -> str:
        """``engine.NUMBER``, or ``engine`` where none is known."""
        number = getattr(self.engine, "id", None)
        if number is None:
            from IPython import get_ipython

            number = getattr(getattr(get_ipython(), "kernel", None), "engine_id", None)
        return "engine" if number is None else f"engine.{number}"

    def format(self, record: logging.LogRecord) -> str:
        """The record's text behind the topic."""
        return f"{self.root_topic} {super().format(record)}"

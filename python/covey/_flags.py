# SPDX-License-Identifier: BSD-3-Clause
"""The flags of a view that the scheduler reads, and the route (src/wire/route.h) that says them."""
from __future__ import annotations

from typing import Any

from .dependency import Dependency, as_dependency, route_of


class ScheduledFlags:
    """`after`, `follow`, `timeout`, `retries`, `priority`; which of them a view takes its `_flag_names` say."""

    client: Any
    _after: Dependency | None = None
    _follow: Dependency | None = None
    _timeout: float | None = None
    _retries = 0
    _priority = 0
    _route: dict[str, Any] | None = None

    def _reroute(self) -> None:
        route: dict[str, Any] = route_of(self._after, self._follow) | self._route_more()
        if self._timeout is not None:
            route["timeout"] = self._timeout
        if self._retries:
            route["retries"] = self._retries
        if self._priority:
            route["priority"] = self._priority
        self._route = route or None

    def _route_more(self) -> dict[str, Any]:
        return {}

    def _named(self, value: Any) -> Dependency | None:
        dependency = as_dependency(value)
        if dependency:
            self.client._let_arrive(dependency)
        return dependency

    @property
    def after(self) -> Dependency | None:
        """Tasks that must have ended first."""
        return self._after

    @after.setter
    def after(self, value: Any) -> None:
        self._after = self._named(value)
        self._reroute()

    @property
    def follow(self) -> Dependency | None:
        """Tasks on whose engine to run."""
        return self._follow

    @follow.setter
    def follow(self, value: Any) -> None:
        self._follow = self._named(value)
        self._reroute()

    @property
    def timeout(self) -> float | None:
        """Seconds in which a task must have started."""
        return self._timeout

    @timeout.setter
    def timeout(self, value: float | None) -> None:
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"timeout is a number of seconds, not {type(value).__name__}")
            if value < 0:
                raise ValueError(f"timeout can't be negative: {value}")
        self._timeout = float(value) if value else None
        self._reroute()

    @property
    def retries(self) -> int:
        """How often a task may be tried again."""
        return self._retries

    @retries.setter
    def retries(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"retries is an int, not {type(value).__name__}")
        if value < 0:
            raise ValueError(f"retries can't be negative: {value}")
        self._retries = value
        self._reroute()

    @property
    def priority(self) -> int:
        """Tasks of higher priority start first."""
        return self._priority

    @priority.setter
    def priority(self, value: int) -> None:
        self._priority = int(value)
        self._reroute()

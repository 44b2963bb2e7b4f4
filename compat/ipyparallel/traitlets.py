# SPDX-License-Identifier: BSD-3-Clause
"""Trait types for configurables of one's own: a launcher's class by its name, a list of ports."""
from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from traitlets import List, TraitError, Type

__all__ = ["Launcher", "PortList", "entry_points"]


class Launcher(Type):
    """A launcher's class: the class, its dotted path, or a name that covey or an entry point of the group has.

    entry_point_group : 'ipyparallel.engine_launchers' or 'ipyparallel.controller_launchers'
    """

    def __init__(self, *args: Any, entry_point_group: str, **kwargs: Any) -> None:
        self.entry_point_group = entry_point_group
        kwargs.setdefault("klass", "ipyparallel.cluster.launcher.BaseLauncher")
        super().__init__(*args, **kwargs)

    def load_entry_points(self) -> dict[str, EntryPoint]:
        """The group's entry points by their names in lower case."""
        return {point.name.lower(): point for point in entry_points(group=self.entry_point_group)}

    def validate(self, obj: Any, value: Any) -> Any:
        """The class; TraitError for a name that nobody has."""
        if isinstance(value, str):
            from .cluster.launcher import find_launcher_class

            kind = "engine" if "engine" in self.entry_point_group else "controller"
            try:
                value = find_launcher_class(value, kind)
            except (ValueError, ImportError, AttributeError) as e:
                raise TraitError(f"{self.name}: {e}") from None
        return super().validate(obj, value)


class PortList(List):
    """A list of port numbers, which text may give: ``10101-10105,10108``."""

    @staticmethod
    def parse_port_range(s: str) -> list[int]:
        """The numbers of a text such as ``1,3-5,6``."""
        ports: list[int] = []
        for part in s.split(","):
            first, _, last = part.partition("-")
            ports += range(int(first), int(last or first) + 1)
        return ports

    def from_string_list(self, s_list: list[str]) -> list[int]:
        """The numbers of several texts (command lines)."""
        return [port for s in s_list for port in self.parse_port_range(s)]

    def set(self, obj: Any, value: Any) -> None:
        """Sets the numbers, or those of a text."""
        super().set(obj, self.parse_port_range(value) if isinstance(value, str) else value)

    def validate(self, obj: Any, value: Any) -> Any:
        """The numbers; TraitError for one that is no port."""
        ports = super().validate(obj, value)
        for port in ports:
            if not isinstance(port, int) or not 0 < port < 65536:
                raise TraitError(f"{self.name}: a port is an int from 1 to 65535, not {port!r}")
        return ports

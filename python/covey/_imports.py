# SPDX-License-Identifier: BSD-3-Clause
"""`DirectView.sync_imports`: what a with-block imports is imported on engines, too, under the same names."""
from __future__ import annotations

import builtins
import contextlib
import sys
import types
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _remote

if TYPE_CHECKING:
    from .asyncresult import AsyncResult
    from .view import DirectView


@contextlib.contextmanager
def sync_imports(view: DirectView, frame: types.FrameType, quiet: bool) -> Iterator[None]:
    """frame: whose imports are meant, those of modules that they import are not."""
    before = dict(frame.f_locals)
    original = builtins.__import__
    seen: list[tuple[str, tuple, AsyncResult]] = []
    depth = 0

    def importing(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        nonlocal depth
        direct = depth == 0 and level == 0 and globals is frame.f_globals
        depth += 1
        try:
            module = original(name, globals, locals, fromlist, level)
        finally:
            depth -= 1
        names = tuple(fromlist or ())
        if direct and (name, names) not in [s[:2] for s in seen]:
            if not quiet:
                print(f"importing {', '.join(names)} from {name} on engine(s)" if names
                      else f"importing {name} on engine(s)")
            seen.append((name, names, view._apply(_remote.import_module, (name, names), {}, False)))
        return module

    builtins.__import__ = importing
    try:
        yield
    finally:
        builtins.__import__ = original
    for _, _, ar in seen:
        ar.get()
    aliases = _aliases(frame.f_locals, before, seen)
    if aliases:
        view._apply(_remote.bind_aliases, (aliases,), {}, True)


def _aliases(after: Mapping[str, Any], before: Mapping[str, Any], seen: list) -> dict[str, tuple[str, str | None]]:
    """Names that ``import … as`` bound: they are new, and not what the plain import would bind."""
    plain = {n for name, names, _ in seen for n in (names or (name.partition(".")[0],))}
    imported = [(name, names) for name, names, _ in seen]
    aliases: dict[str, tuple[str, str | None]] = {}
    for alias, value in after.items():
        if alias in plain or before.get(alias, aliases) is value or alias.startswith("_"):
            continue
        for name, names in imported:
            bound = next((n for n in names if getattr(sys.modules.get(name), n, aliases) is value), None)
            if bound is not None:
                aliases[alias] = (name, bound)
            elif isinstance(value, types.ModuleType) and value is sys.modules.get(name):  # os.path has another name of its own
                aliases[alias] = (name, None)
            elif isinstance(value, types.ModuleType) and f"{value.__name__}.".startswith(f"{name}."):
                aliases[alias] = (value.__name__, None)
    return aliases

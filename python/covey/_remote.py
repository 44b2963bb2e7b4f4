# SPDX-License-Identifier: BSD-3-Clause
"""What views run on engines for push, pull and the like: plain functions on the engine's namespace."""
from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any


def namespace() -> dict[str, Any]:
    """The user's namespace of this engine."""
    from IPython import get_ipython

    return get_ipython().user_ns


def push(names: dict[str, Any]) -> None:
    ns = namespace()
    for name, value in names.items():
        if name.isidentifier():
            ns[name] = value
        else:  # 'a.b', "a['k']": whatever can stand left of =
            ns["_covey_pushed"] = value
            try:
                exec(f"{name} = _covey_pushed", ns)
            finally:
                ns.pop("_covey_pushed", None)


def pull(names: str | Sequence[str]) -> Any:
    ns = namespace()
    if isinstance(names, str):
        return eval(names, ns)
    return [eval(name, ns) for name in names]


def clear() -> None:
    from IPython import get_ipython

    get_ipython().reset(new_session=False)


def map_chunk(f: Any, parts: Sequence[Any]) -> list:
    return [f(*args) for args in zip(*parts)]


def call_chunk(f: Any, parts: Sequence[Any]) -> Any:
    return f(*parts)


def use_serializer(name: str) -> None:
    from . import serialize

    getattr(serialize, f"use_{name}")()


def import_module(name: str, names: Sequence[str], level_package: str = "") -> None:
    """``import name`` or ``from name import names`` in the user's namespace."""
    import importlib

    ns = namespace()
    module = importlib.import_module(name)
    if not names:
        top = name.partition(".")[0]
        ns[top] = sys.modules[top]
        return
    for n in names:
        if n == "*":
            public = getattr(module, "__all__", None) or [k for k in vars(module) if not k.startswith("_")]
            ns.update({k: getattr(module, k) for k in public})
        else:
            try:
                ns[n] = getattr(module, n)
            except AttributeError:
                ns[n] = importlib.import_module(f"{name}.{n}")


def bind_aliases(aliases: dict[str, tuple[str, str | None]]) -> None:
    """Names of ``import … as``: alias → (module, attribute or None)."""
    ns = namespace()
    for alias, (module, attribute) in aliases.items():
        value: Any = sys.modules.get(module)
        ns[alias] = value if attribute is None else getattr(value, attribute)


def adopt_path(cwd: str, path: Sequence[str]) -> None:
    """The client's working directory and sys.path, where they exist here."""
    if os.path.isdir(cwd):
        os.chdir(cwd)
    sys.path[:] = [p for p in path if p not in sys.path] + sys.path


def write_file(path: str, data: bytes, mode: int) -> str:
    path = os.path.expanduser(path)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)
    return os.path.abspath(path)

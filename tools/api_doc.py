# SPDX-License-Identifier: BSD-3-Clause
"""Writes docs/api.md: the public names of covey, with signatures and docstrings. `--check`: only says whether it is up to date."""
from __future__ import annotations

import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

import covey

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
SECTIONS = {
    "Clusters": ["Cluster", "ClusterManager"],
    "Client": ["Client"],
    "Views": ["DirectView", "LoadBalancedView", "BroadcastView"],
    "Results": ["AsyncResult", "AsyncMapResult", "AsyncHubResult", "ExecuteReply", "Metadata"],
    "Executors, decorators, dependencies": ["ViewExecutor", "remote", "parallel", "RemoteFunction", "ParallelFunction", "depend", "dependent",
                                            "require", "Dependency", "register_joblib_backend"],
    "On engines": ["publish_data", "bind_kernel", "interactive", "Reference"],
    "Serialization": ["PrePickled", "use_pickle", "use_cloudpickle", "use_dill", "can", "uncan", "can_map", "uncan_map", "serialize_object",
                      "deserialize_object", "pack_apply_message", "unpack_apply_message"],
}
HEAD = """# API

From the docstrings, by `tools/api_doc.py`. `ipp` stands for `covey`.
"""


def _signature(name: str, obj: Any, skip_self: bool = False) -> str:
    try:
        signature = inspect.signature(obj)
    except (TypeError, ValueError):
        return name
    parameters = [p.replace(annotation=inspect.Parameter.empty) for n, p in signature.parameters.items() if not (skip_self and n == "self")]
    return f"{name}{signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)}"


def _text(obj: Any) -> str:
    """A docstring as Markdown: what is not prose, examples and tables of arguments, stands as it is."""
    doc = inspect.getdoc(obj) or ""
    blocks = doc.split("\n\n")
    return "\n\n".join(f"```text\n{b}\n```" if b.startswith(">>>") or "\n" in b and " : " in b else " ".join(b.splitlines()) for b in blocks)


def _members(kind: type) -> list[str]:
    """Public methods and properties of our own classes, by name; those of a base with a section are there."""
    lines = []
    shown = {getattr(covey, n) for names in SECTIONS.values() for n in names if inspect.isclass(getattr(covey, n))} - {kind}
    seen = {n for base in kind.__mro__ if base in shown for n in vars(base)}
    found = {n: (b, v) for b in reversed(kind.__mro__) if b.__module__.startswith("covey") for n, v in vars(b).items()}
    for name, (base, value) in sorted(found.items()):
        if name.startswith("_") or name in seen and name not in vars(kind):
            continue
        target = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not callable(target):
            continue
        doc = (inspect.getdoc(getattr(kind, name)) or "").split("\n\n")[0]
        title = name if isinstance(value, property) else _signature(name, target, skip_self=True)
        lines.append(f"- `{title}`: {' '.join(doc.splitlines())}")
    return lines


def page() -> str:
    """The text of docs/api.md."""
    parts = [HEAD]
    for section, names in SECTIONS.items():
        parts.append(f"## {section}\n")
        for name in names:
            obj = getattr(covey, name)
            parts.append(f"### {name}\n\n`{_signature(name, obj)}`\n\n{_text(obj)}\n")
            if inspect.isclass(obj) and (members := _members(obj)):
                parts.append("\n".join(members) + "\n")
    errors = [n for n in covey._NAMES["error"].split() if inspect.isclass(getattr(covey, n))]
    parts.append("## Errors\n")
    parts.append("\n".join(f"- `{n}`: {' '.join((inspect.getdoc(getattr(covey, n)) or '').split(chr(10) + chr(10))[0].splitlines())}" for n in errors) + "\n")
    return "\n".join(parts)


def main() -> int:
    text = page()
    if "--check" in sys.argv:
        if PAGE.read_text() == text:
            return 0
        print(textwrap.fill("docs/api.md is not what the docstrings say: run tools/api_doc.py"))
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

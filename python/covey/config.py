# SPDX-License-Identifier: BSD-3-Clause
"""Config files, evaluated once for the C programs.

    python -m covey.config APP --profile-dir=DIR [--config FILE]

prints what the config files of APP (ipcluster, ipcontroller, ipengine) say, as one JSON object
{"Class": {"trait": value}}. Read are, in /etc/ipython, /usr/local/etc/ipython, PREFIX/etc/ipython
and the profile's folder (later ones win): ipython_config.py and .json, then APP_config.py and
.json; last the FILE of --config. `get_config()` and `load_subconfig()` work in them as in any
IPython config file. An error is told as FILE:LINE and exits 1.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader, LazyConfigValue, PyFileConfigLoader

APPS = ("ipcluster", "ipcontroller", "ipengine")

# Old class names and today's; a key of None stands for every trait.
RENAMED: dict[str, dict[str | None, str]] = {
    "HubFactory": {None: "IPController"},
    "IPControllerApp": {None: "IPController"},
    "EngineFactory": {None: "IPEngine"},
    "IPEngineApp": {None: "IPEngine"},
    "IPClusterApp": {None: "IPCluster"},
    "IPClusterEngines": dict.fromkeys(("n", "delay", "controller_ip", "engine_launcher_class", "controller_launcher_class",
                                       "controller_location"), "Cluster"),
    "IPClusterStart": dict.fromkeys(("n", "delay", "controller_ip", "engine_launcher_class", "controller_launcher_class",
                                     "controller_location"), "Cluster"),
}


class ConfigError(Exception):
    """A config file could not be read; the text is one line that begins with FILE:LINE."""


def search_path(profile_dir: str) -> list[str]:
    """Folders of config files, the weakest first."""
    folders = ["/etc/ipython", "/usr/local/etc/ipython", os.path.join(sys.prefix, "etc", "ipython"), profile_dir]
    return list(dict.fromkeys(f for f in folders if f))


def load_config(app: str, profile_dir: str = "", extra: str | None = None) -> dict[str, dict[str, Any]]:
    """The merged tree of an application's config files: {"Class": {"trait": JSON value}}. Raises ConfigError."""
    merged = Config()
    for folder in search_path(profile_dir):
        for base in ("ipython_config", f"{app}_config"):
            for suffix in (".py", ".json"):
                path = os.path.join(folder, base + suffix)
                if os.path.isfile(path):
                    merged.merge(load_file(path))
    if extra:
        if not os.path.isfile(extra):
            raise ConfigError(f"{extra}: there is no such config file")
        merged.merge(load_file(extra))
    return rename(_plain(merged))


def load_file(path: str) -> Config:
    """One file's config. Raises ConfigError with the file and line of what is wrong in it."""
    folder, name = os.path.split(os.path.abspath(path))
    loader_class = JSONFileConfigLoader if name.endswith(".json") else PyFileConfigLoader
    try:
        return loader_class(name, path=folder).load_config()
    except json.JSONDecodeError as e:
        raise ConfigError(f"{path}:{e.lineno}: not JSON: {e.msg}") from None
    except (Exception, SystemExit) as e:
        raise ConfigError(_locate(path, e)) from None


def _locate(path: str, error: BaseException) -> str:
    """FILE:LINE and what is wrong; the deepest line that is in a config file, not in traitlets."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    place = path
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == path or os.path.dirname(frame.filename) == os.path.dirname(os.path.abspath(path)):
            place = f"{frame.filename}:{frame.lineno}"
    return f"{place}: {type(error).__name__}: {error}"


def rename(tree: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Moves settings of old class names to today's (which win) and names each once on standard error."""
    for old, traits in RENAMED.items():
        for trait in list(tree.get(old, ())):
            new = traits.get(trait) or traits.get(None)
            if new is None:
                continue
            value = tree[old].pop(trait)
            target = tree.setdefault(new, {})
            told = "" if trait not in target else ", which is set too and wins"
            print(f"config: c.{old}.{trait} is c.{new}.{trait} today{told}", file=sys.stderr)
            target.setdefault(trait, value)
        if old in tree and not tree[old]:
            del tree[old]
    return tree


def _plain(config: Config) -> dict[str, dict[str, Any]]:
    tree: dict[str, dict[str, Any]] = {}
    for section, traits in config.items():
        if isinstance(traits, dict) and traits:
            tree[section] = {name: _value(value) for name, value in traits.items()}
    return tree


def _value(value: Any) -> Any:
    """A trait's value as JSON: classes as MODULE:CLASS, paths and other objects as text, sets sorted."""
    if isinstance(value, LazyConfigValue):
        return _value(_of_lazy(value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {str(k): _value(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_value(v) for v in value), key=str)
    if isinstance(value, (list, tuple)):
        return [_value(v) for v in value]
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    return str(value)


def _of_lazy(value: LazyConfigValue) -> Any:
    """What `c.A.b.append(...)` and its kin make of an empty default."""
    parts = value.to_dict()
    if "update" in parts:
        update = parts["update"]
        return dict(update) if isinstance(update, dict) else sorted(update, key=str)
    result = [*parts.get("prepend", []), *parts.get("extend", [])]
    for index, item in parts.get("inserts", []):
        result.insert(index, item)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m covey.config", description="print an application's config files as JSON")
    parser.add_argument("app", choices=APPS)
    parser.add_argument("--profile-dir", default="")
    parser.add_argument("--config")
    options = parser.parse_args(argv)
    out = os.dup(1)
    os.dup2(2, 1)  # what the files print must not get into the JSON
    try:
        tree = load_config(options.app, options.profile_dir, options.config)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return 1
    sys.stdout.flush()
    with os.fdopen(out, "w") as f:
        json.dump(tree, f)
    return 0


if __name__ == "__main__":
    sys.exit(main())

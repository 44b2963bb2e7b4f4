# SPDX-License-Identifier: BSD-3-Clause
"""Config files, evaluated once for the C programs.

    python -m covey.config APP --profile-dir=DIR [--config FILE]

prints what the config files of APP (ipcluster, ipcontroller, ipengine) say, as one JSON object
{"Class": {"trait": value}}. Read are, in /etc/ipython, /usr/local/etc/ipython, PREFIX/etc/ipython
and the profile's folder (later ones win): ipython_config.py and .json, then APP_config.py and
.json; last the FILE of --config. `get_config()` and `load_subconfig()` work in them as in any
IPython config file. An error is told as FILE:LINE and exits 1, or, with
IPYTHON_SUPPRESS_CONFIG_ERRORS=1 in the environment, the file is passed over.
"""
from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader, LazyConfigValue, PyFileConfigLoader

from ._programs import program_argv

APPS = ("ipcluster", "ipcontroller", "ipengine")

# Former names of settings of Cluster, for the Python class of that name: (class, name) -> name. A test compares them with
# the programs' own (src/catalog/renamed.c).
_OLD = ("IPClusterEngines", "IPClusterStart")
_KEPT = ("n", "delay", "controller_ip", "controller_location", "engine_launcher_class", "controller_launcher_class")
_LONGER = ("engine_launcher", "controller_launcher")
RENAMED: dict[tuple[str, str], str] = {
    **{(old, name): name for old in _OLD for name in _KEPT},
    **{(old, name): f"{name}_class" for old in (*_OLD, "Cluster") for name in _LONGER}}


class _ConfigFile(PyFileConfigLoader):
    """A .py file whose `load_subconfig()` also takes another profile's, as IPython's do."""

    def load_subconfig(self, fname: str, path: str | None = None, profile: str | None = None) -> None:
        """Merges a file of this folder, of `path`, or of a profile; of one that is not there nothing, as in IPython."""
        if profile is not None:
            path = self._folder_of(profile)
            if path is None:
                return
        super().load_subconfig(fname, path=path)

    def _folder_of(self, profile: str) -> str | None:
        base = os.environ.get("IPYTHONDIR", "") or os.path.expanduser("~/.ipython")
        folders = [self.path] if isinstance(self.path, str) else self.path or ()
        beside = [os.path.dirname(os.path.abspath(folder)) for folder in folders]
        places = [os.path.join(os.path.expanduser(b), f"profile_{profile}") for b in (*beside, base)]
        return next(filter(os.path.isdir, places), None)


class ConfigError(Exception):
    """A config file could not be read; the text is one line that begins with FILE:LINE."""


def search_path(profile_dir: str) -> list[str]:
    """Folders of config files, the weakest first."""
    folders = ["/etc/ipython", "/usr/local/etc/ipython", os.path.join(sys.prefix, "etc", "ipython"), profile_dir]
    return list(dict.fromkeys(f for f in folders if f))


def load_config(app: str, profile_dir: str = "", extra: str | None = None) -> dict[str, dict[str, Any]]:
    """The merged tree of an application's config files: {"Class": {"trait": JSON value}}, by today's names. Raises ConfigError."""
    return rename(read_files(app, profile_dir, extra))


def read_files(app: str, profile_dir: str = "", extra: str | None = None) -> dict[str, dict[str, Any]]:
    """The same as it is written, by former names too: the programs know them (src/catalog)."""
    merged = Config()
    lenient = os.environ.get("IPYTHON_SUPPRESS_CONFIG_ERRORS", "").lower() in ("1", "true")
    for folder in search_path(profile_dir):
        for base in ("ipython_config", f"{app}_config"):
            for suffix in (".py", ".json"):
                path = os.path.join(folder, base + suffix)
                if not os.path.isfile(path):
                    continue
                try:
                    merged.merge(load_file(path))
                except ConfigError as e:
                    if not lenient:
                        raise
                    print(f"{e} (the file is passed over: IPYTHON_SUPPRESS_CONFIG_ERRORS)", file=sys.stderr)
    if extra:
        if not os.path.isfile(extra):
            raise ConfigError(f"{extra}: there is no such config file")
        merged.merge(load_file(extra))
    return plain(merged, app)


def load_file(path: str) -> Config:
    """One file's config. Raises ConfigError with the file and line of what is wrong in it."""
    folder, name = os.path.split(os.path.abspath(path))
    loader_class = JSONFileConfigLoader if name.endswith(".json") else _ConfigFile
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
    """Moves settings of former names to today's (which win) and names each once on standard error."""
    for (old, name), today in RENAMED.items():
        if name not in tree.get(old, {}):
            continue
        value = tree[old].pop(name)
        target = tree.setdefault("Cluster", {})
        told = ", which is set too and wins" if today in target else ""
        print(f"{old}.{name} is now called Cluster.{today}{told}", file=sys.stderr)
        target.setdefault(today, value)
        if not tree[old]:
            del tree[old]
    return tree


def plain(config: Mapping[str, Any], app: str) -> dict[str, dict[str, Any]]:
    """A traitlets Config, or dicts like it, as JSON values by class and trait; `append()` and its kin are applied to the defaults of `app`."""
    tree: dict[str, dict[str, Any]] = {}
    defaults: dict[str, Any] | None = None
    for section, traits in config.items():
        if not isinstance(traits, dict) or not traits:
            continue
        tree[section] = {}
        for name, value in traits.items():
            if isinstance(value, LazyConfigValue):
                defaults = _defaults(app) if defaults is None else defaults
                value = _of_lazy(value, defaults.get(f"{section}.{name}", defaults.get(name)))
            tree[section][name] = _value(value)
    return tree


def _defaults(app: str) -> dict[str, Any]:
    """The lists and dicts that a program's settings are by default, by "Class.name" and (for classes that derive) by name."""
    words = [*program_argv(app), *(["start"] if app == "ipcluster" else []), "--help-all=json"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    found: dict[str, Any] = {"engine_cmd": [sys.executable, "-m", "covey.engine"], "controller_cmd": [sys.executable, "-m", "covey.controller"]}
    for row in json.loads(done.stdout)["settings"] if done.returncode == 0 else ():
        if row["type"] in ("list", "dict") and row["default"]:
            found[f"{row['class']}.{row['name']}"] = found[row["name"]] = ast.literal_eval(row["default"])
    return found


def _value(value: Any) -> Any:
    """A trait's value as JSON: classes as MODULE:CLASS, paths and other objects as text, sets sorted."""
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


def _of_lazy(value: LazyConfigValue, default: Any) -> Any:
    """What `c.A.b.append(...)` and its kin make of a default (None: of an empty one)."""
    if default is None:
        parts = value.to_dict()
        default = type(parts["update"])() if "update" in parts else []
    return value.get_value(default)


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
        tree = read_files(options.app, options.profile_dir, options.config)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return 1
    sys.stdout.flush()
    with os.fdopen(out, "w") as f:
        json.dump(tree, f)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""pytest's plugin of run.py: the unpacked tests are `ipyparallel.tests`, a list says which of them run, and the last line counts."""
from __future__ import annotations

import importlib
import os
import sys

import ipyparallel

wanted: set[str] = set()
found: set[str] = set()


def pytest_configure() -> None:
    sys.modules["ipyparallel.tests"] = ipyparallel.tests = importlib.import_module("tests")
    if path := os.environ.get("CONFORMANCE_LIST"):
        with open(path) as f:
            wanted.update(line.strip() for line in f if line.strip())


def pytest_collection_modifyitems(config, items) -> None:
    if not wanted:
        return
    chosen = {id(item): item.nodeid.removeprefix("tests/") for item in items}
    found.update(chosen.values())
    config.hook.pytest_deselected(items=[i for i in items if chosen[id(i)] not in wanted])
    items[:] = [i for i in items if chosen[id(i)] in wanted]


def pytest_unconfigure(config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    stats = {kind: len(reporter.stats.get(kind, ())) for kind in ("passed", "failed", "error", "skipped", "xfailed", "xpassed")}
    files = {a.rpartition("/")[2].partition("::")[0] for a in config.args}
    missing = sorted(w for w in wanted - found if not found or w.split("::")[0] in files)
    for name in missing:
        print(f"NOT FOUND {name}")
    bad = stats["failed"] + stats["error"] + len(missing)
    print(f"{stats['passed'] + stats['xpassed']} passed, {bad} failed, {stats['skipped']} skipped, {stats['xfailed']} expected to fail")

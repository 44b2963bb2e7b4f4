# SPDX-License-Identifier: BSD-3-Clause
"""Runs the checks and says what fails, what is only told, what can't be checked. `make parity`; ARGS='P001 H*' runs some.

--write : writes the check lines of rows.txt anew; the others stay
"""
from __future__ import annotations

import fnmatch
import sys
import time

from . import CHECKS, ROWS, rows
from .workers import run


def write() -> None:
    kept = {id: line for id, line in rows().items() if line[0] != "check"} if ROWS.exists() else {}
    lines = {**kept, **{id: ("check", f"{c.__module__.rpartition('.')[2]}.{c.__name__}") for id, c in CHECKS.items()
                        if kept.get(id, ("",))[0] != "open"}}
    head = [line for line in ROWS.read_text().splitlines() if line.startswith("#")] if ROWS.exists() else []
    order = sorted(lines, key=lambda id: ("CKPMH".index(id[0]), id))
    ROWS.write_text("\n".join([*head, *(f"{id} {lines[id][0]} {lines[id][1]}" for id in order)]) + "\n")


def main(arguments: list[str]) -> int:
    if "--write" in arguments:
        write()
        return 0
    checks: dict = {}
    for id, check in CHECKS.items():
        if not arguments or any(fnmatch.fnmatch(id, a) for a in arguments):
            checks.setdefault(check, []).append(id)
    listed, failed, begun = rows(), [], time.monotonic()
    for ids, problem, seconds in run(list(checks.values())):
        if problem:
            failed += ids
            print(f"FAILED {' '.join(ids)}\n{problem}", flush=True)
        elif seconds > 4:
            print(f"({CHECKS[ids[0]].__name__}: {seconds:.1f} s)", flush=True)
    if not arguments:
        for status, title in (("open", "does not hold yet"), ("told", "only told in docs/differences.md"), ("none", "not checked here")):
            some = [(id, words) for id, (s, words) in listed.items() if s == status]
            print(f"\n{title}: {len(some)}" + "".join(f"\n  {id}  {words}" for id, words in some))
    passed = sum(len(ids) for ids in checks.values()) - len(failed)
    print(f"\n{passed} rows hold, {len(failed)} fail{': ' + ' '.join(failed) if failed else ''}; {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

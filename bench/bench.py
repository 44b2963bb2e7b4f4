# SPDX-License-Identifier: BSD-3-Clause
"""covey beside ipyparallel, Dask, Ray and ProcessPoolExecutor, measured in one run on this machine.

Prints a table of figures, ratios and floors; progress goes to stderr. The peers come from PyPI into an environment
of their own (build/bench-venv); one that can't be installed is left out. Every peer runs alone, one after the other, in
several rounds, so that a noisy machine troubles all of them alike; a figure is the median of the rounds.
Takes about ten minutes with all peers. The machine should have nothing else to do.
"""
import argparse
import fnmatch
import json
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import env  # noqa: E402
import machine  # noqa: E402
import report  # noqa: E402
import runner  # noqa: E402
from rows import PEERS, ROWS  # noqa: E402

COMMITTED = ROOT / "docs" / "bench.json"
EXAMPLES = """examples:
  make bench                                       everything but the long runs
  python bench/bench.py --quick --peers ppe        a minute: is it about right?
  python bench/bench.py --only 'push*,pull*' --peers stock,ray
  python bench/bench.py --json new.json --against docs/bench.json
  python bench/bench.py --long --only 'flat*' --peers ''
  python bench/bench.py --show docs/bench.json     the table of an earlier run
  python bench/bench.py --readme                   write docs/bench.json's figures into README.md and docs/performance.md
  make bench ARGS='--quick --json now.json'

rows:
"""


def parse(argv):
    listing = "\n".join(f"  {row.id:<18}{row.label}, {row.unit}{' (--long)' if row.long else ''}" for row in ROWS)
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__, epilog=EXAMPLES + listing, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="ROWS", help="rows to measure: names, with * and ?, separated by commas")
    parser.add_argument("--peers", default=",".join(PEERS), help="whom to compare with (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help="rounds (default: 3; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer: shows that it works, not how fast")
    parser.add_argument("--long", action="store_true", help="also the runs of 10,000,000 tasks and of 100 GB, about ten minutes more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the run there")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with an earlier run's JSON")
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing: print the table of that JSON")
    parser.add_argument("--readme", action="store_true", help="measure nothing: write docs/bench.json's figures into the pages that show them")
    o = parser.parse_args(argv)
    o.peers = [p for p in o.peers.split(",") if p]
    if unknown := [p for p in o.peers if p not in PEERS]:
        parser.error(f"there is no peer {unknown[0]!r}: choose from {', '.join(PEERS)}")
    o.rows = chosen(o)
    if not o.rows:
        parser.error(f"--only {o.only} names no row; --help lists them")
    if o.against and not o.against.exists():
        parser.error(f"--against: there is no {o.against}")
    return o


def chosen(o):
    patterns = o.only.split(",")
    named = [row for row in ROWS if any(fnmatch.fnmatch(row.id, p) for p in patterns)]
    return [row for row in named if (o.long or not row.long) and not (o.quick and row.slow and o.only == "*")]


def jobs(o, versions):
    """The processes of a round. covey's variants come first, then the peers; 2 engines before 16."""
    quick, made = ["--quick"] if o.quick else [], []
    for n in sorted({row.n for row in o.rows}):
        rows = [row for row in o.rows if row.n == n and row.who != "own"]
        for who in sorted({row.who for row in rows}):
            made.append(_job(sys.executable, who, n, [(row.how, row.id) for row in rows if row.who == who], quick))
        for peer in (p for p in o.peers if p in versions):
            theirs = [(row.how, row.id) for row in rows if row.who == "covey"]
            missing = [(row.how, row.theirs) for row in rows if row.theirs and (row.how, row.theirs) not in theirs]
            if theirs + missing:
                made.append(_job(env.python_of(peer), peer, n, theirs + missing, quick))
    for once in (False, True):
        figures = [(row.how, row.id) for row in o.rows if row.who == "own" and (row.slow or row.long) == once]
        if figures:
            names = dict.fromkeys(how.split(".")[0] for how, _ in figures)
            made.append(runner.Job("own, slow" if once else "own", 0, [sys.executable, str(HERE / "own.py"), *names, *quick], _by_figure(figures), once))
    return made


def _job(python, who, n, figures, quick):
    return runner.Job(who, n, [python, str(HERE / "measure.py"), who, str(n), *dict.fromkeys(how for how, _ in figures), *quick], _by_figure(figures))


def _by_figure(figures):
    rows = {}
    for how, id in figures:
        rows.setdefault(how, []).append(id)
    return rows


def commit():
    done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip()


def measure(o):
    """A run: what is written as JSON. Ctrl-C ends it early and keeps what there is."""
    state = machine.describe()
    if state["load"] > 0.5 * state["cores"] and not o.quick:
        print(f"the load is {state['load']:g} already: figures will be poor", file=sys.stderr)
    versions = env.provide(o.peers)
    ours = env.version("covey", sys.executable)
    if not ours:
        raise SystemExit(f"covey is not installed for {sys.executable}: use `make bench`")
    values, rounds, interrupted = runner.Values(), o.rounds or (1 if o.quick else 3), False
    try:
        runner.run_all(jobs(o, versions), rounds, values)
    except KeyboardInterrupt:
        interrupted = True
        values.failures.append("interrupted: the rest was not measured")
    return {"format": 1, "machine": state, "commit": commit(), "versions": {"covey": ours, **versions}, "rounds": rounds, "quick": o.quick,
            "interrupted": interrupted, "values": values.summary(), "failures": values.failures,
            "ended": machine.describe()["at"], "load_at_end": machine.describe()["load"]}


def load(path):
    try:
        run = json.loads(path.read_text())
        assert run["format"] == 1
        return run
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as e:
        raise SystemExit(f"{path} is no run of this program: {type(e).__name__} {e}")


def main(argv=None):
    o = parse(argv)
    if o.readme:
        for page in report.PAGES:
            (ROOT / page).write_text(report.renewed((ROOT / page).read_text(), page, load(COMMITTED)))
        return 0
    before = load(o.against) if o.against else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # not by SIGINT, which a background job of a script ignores
    run = load(o.show) if o.show else measure(o)
    if o.json:
        o.json.write_text(json.dumps(run, indent=1, sort_keys=True) + "\n")
    print("\n".join(report.table(run)))
    if before:
        print("\n" + "\n".join(report.against(run, before)))
    ours_failed = any(f.startswith(("covey", "own")) for f in run["failures"])  # a peer's failure is told, and not ours
    return 130 if run["interrupted"] else 1 if ours_failed else 0


if __name__ == "__main__":
    sys.exit(main())

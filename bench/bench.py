"""covey beside its peers, measured in one run on this machine: a table of ratios, and JSON.

usage: make bench, or: python bench/bench.py [--peers ipyparallel,processpool,dask,ray] [-n 2,16] [--json FILE]
The peers come from PyPI into an environment of their own (build/bench-env). Ratios are what to
look at: machines differ and are noisy, but every row of a run was measured within minutes.
"""
import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENV = HERE.parent / "build" / "bench-env"
PACKAGES = {"ipyparallel": ["ipyparallel"], "processpool": [], "dask": ["distributed"], "ray": ["ray"]}
SMALLER_IS_BETTER = ("_ms", "_s", "_mib", "processes")


def peer_python(peers):
    """The interpreter of the peers' environment, made and filled at first use."""
    if not (ENV / "bin" / "python").exists():
        venv.create(ENV, with_pip=True)
    packages = ["numpy"] + [p for peer in peers for p in PACKAGES[peer]]
    subprocess.run([ENV / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
    return ENV / "bin" / "python"


def run(python, peer, n, quick):
    """One implementation's rows; what it printed on failure."""
    command = [python, HERE / "measure.py", peer, "-n", str(n)] + (["--quick"] if quick else [])
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        print(f"{peer} with {n} engines failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def better(row, ours, theirs):
    """How many times better we are in this row."""
    if not ours or not theirs:
        return None
    smaller = row.endswith(SMALLER_IS_BETTER) and not row.endswith("per_s")
    return theirs / ours if smaller else ours / theirs


def show(n, ours, others):
    names = [o["peer"] for o in others]
    print(f"\n{n} engines{'':<15} {'covey':>10}" + "".join(f" {name:>12} {'×':>7}" for name in names))
    for row, value in ours.items():
        if row in ("peer", "engines"):
            continue
        line = f"{row:<24} {value:>10,.4g}"
        for other in others:
            factor = better(row, value, other.get(row))
            line += f" {other[row]:>12,.4g} {factor:>6.1f}×" if factor else f" {'–':>12} {'':>7}"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="ipyparallel,processpool", help="comma-separated; also dask, ray")
    parser.add_argument("-n", default="2,16", help="numbers of engines (default 2,16)")
    parser.add_argument("--json", type=Path, help="write all rows there")
    options = parser.parse_args()
    peers = [p for p in options.peers.split(",") if p]
    python = peer_python(peers)
    everything = []
    for i, n in enumerate(int(x) for x in options.n.split(",")):
        ours = run(sys.executable, "covey", n, quick=i > 0)
        if ours is None:
            raise SystemExit(1)
        others = [rows for peer in peers if (rows := run(python, peer, n, quick=i > 0))]
        show(n, ours, others)
        everything += [ours, *others]
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()

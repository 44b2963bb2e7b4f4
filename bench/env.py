# SPDX-License-Identifier: BSD-3-Clause
"""The peers' environment: a venv of their own beside the build, filled from PyPI at first use."""
import subprocess
import sys
import venv
from pathlib import Path

from rows import PEERS

ENV = Path(__file__).resolve().parent.parent / "build" / "bench-venv"
PYTHON = ENV / "bin" / "python"
INSTALL_SECONDS = 600


def python_of(peer):
    """The interpreter that measures a peer."""
    return str(PYTHON) if PEERS[peer] else sys.executable


def version(package, python=None):
    """A package's version in the peers' environment or in another one, or None."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python or PYTHON, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def provide(peers):
    """{peer: version} of those that can be measured; what is missing is installed, and who can't be is named and left out."""
    if any(PEERS[p] for p in peers) and not PYTHON.exists():
        print(f"making an environment for the peers: {ENV}", file=sys.stderr)
        venv.create(ENV, with_pip=True)
    found = {}
    for peer in peers:
        package = PEERS[peer]
        got = version(package) if package else "of Python " + sys.version.split()[0]
        if not got:
            got = _install(package)
        if got:
            found[peer] = got
        else:
            print(f"{peer} is left out", file=sys.stderr)
    return found


def _install(package):
    print(f"installing {package} from PyPI …", file=sys.stderr)
    command = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "numpy", package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"pip took more than {INSTALL_SECONDS} s", file=sys.stderr)
        return None
    if done.returncode:
        print("\n".join(done.stderr.strip().splitlines()[-3:]), file=sys.stderr)
    return version(package)

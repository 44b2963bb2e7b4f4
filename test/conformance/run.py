"""Runs ipyparallel's own tests, from its wheel, against the `ipyparallel` that an interpreter imports (compat/).

usage: run.py PYTHON [--list FILE] [--wheel FILE] [pytest's arguments]

PYTHON's environment has covey, compat/, pytest, pytest-asyncio, pytest-timeout, testpath, decorator and pyzmq. `--list`: only the
tests of FILE, one node id ("test_view.py::TestView::test_push") a line; one that can't be collected counts as an error. The last
line has the counts.

The wheel is fetched by pip into build/conformance. Its tests are unpacked beside a package `tests`, whose controller and engines
come from compat's `ipyparallel.tests`, i.e. from the commands alone; nothing else of the wheel is used.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "9.2.0"
HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "build" / "conformance"
TESTS = "ipyparallel/tests/"
PACKAGE = "from ipyparallel.tests import *  # noqa\n"
TEST_TIMEOUT = 60
OPEN_MPI_AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def fetch() -> Path:
    """The wheel, from the cache or from PyPI."""
    name = f"ipyparallel-{VERSION}-py3-none-any.whl"
    if not (CACHE / name).exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(CACHE), f"ipyparallel=={VERSION}"]
        subprocess.run(command, check=True)
    return CACHE / name


def unpack(wheel: Path, suite: Path) -> None:
    """Its tests, as the package `tests` of the folder `suite`."""
    with zipfile.ZipFile(wheel) as z:
        for name in z.namelist():
            if name.startswith(TESTS) and not name.endswith("/"):
                to = suite / "tests" / name[len(TESTS):]
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(z.read(name))
    (suite / "tests" / "__init__.py").write_text(PACKAGE)
    (suite / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", help="the interpreter whose ipyparallel is tested")
    parser.add_argument("--list", type=Path, help="file of node ids")
    parser.add_argument("--wheel", type=Path, help="ipyparallel's wheel (default: fetched)")
    options, rest = parser.parse_known_args()
    env = dict(os.environ, **OPEN_MPI_AS_ROOT)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        suite = Path(folder)
        unpack(options.wheel or fetch(), suite)
        files = [a for a in rest if a.startswith("test_") and ".py" in a]
        rest = [a for a in rest if a not in files]
        if options.list:
            env["CONFORMANCE_LIST"] = str(options.list.resolve())
            files = files or sorted({line.split("::")[0] for line in options.list.read_text().split()})
        env["PYTHONPATH"] = os.pathsep.join([str(suite), str(HERE)])
        env["PATH"] = os.path.dirname(os.path.abspath(options.python)) + os.pathsep + env["PATH"]
        command = [options.python, "-m", "pytest", "-q", "-ra", "-p", "conformance_plugin", "-p", "no:cacheprovider", "--rootdir", folder,
                   "--continue-on-collection-errors", f"--timeout={TEST_TIMEOUT}", *rest,
                   *[f"{suite}/tests/{f}" for f in files or [""]]]
        return subprocess.run(command, cwd=suite, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())

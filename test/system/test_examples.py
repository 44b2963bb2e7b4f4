# SPDX-License-Identifier: BSD-3-Clause
"""Every program and notebook of examples/ runs, says something and leaves nothing behind."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SAYS = {
    "direct_view": "the list again: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]",
    "load_balancing": "too late:",
    "maps": "primes: [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]",
    "async_results": "after pickle: 1024",
    "dependencies": "same engine: True",
    "numerics": "same as on one process: True",
    "executors": "[0, 1, 8, 27, 64]",
    "with_dask": "sum by Dask: 55",
    "progress": "items done: 20 of 20",
    "clusters": "files left: []",
    "broadcast": "sums differ by one: [1.0, 1.0]",
    "monitoring": "left: [0] 1",
}
PROGRAMS = sorted(p.stem for p in EXAMPLES.glob("*.py") if p.stem != "demo")  # `make demo` is in test_install.py's care


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name, ipython_dir):
    if name == "with_dask":
        pytest.importorskip("distributed", reason="Dask is optional")
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], env=ipython_dir, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SAYS[name] in done.stdout, done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebook(path, ipython_dir, run_notebook):
    nbformat = pytest.importorskip("nbformat", reason="nbformat comes with nbclient")
    notebook = nbformat.read(path, as_version=4)
    assert not any(c.get("outputs") for c in notebook.cells), "notebooks are kept without output"
    run_notebook(notebook)
    assert os.listdir(ipython_dir["IPYTHONDIR"])

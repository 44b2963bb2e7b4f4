"""Clients that are used by many threads, and closed under their hands: see storm.py."""
import json
import os
import subprocess
import sys

import pytest

from .stack import Stack

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.mark.parametrize("seconds", ["4", pytest.param("60", marks=pytest.mark.chaos)])
def test_two_clients_of_eight_threads_each(ipython_dir, monkeypatch, seconds):
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    seed = os.environ.get("COVEY_STORM_SEED", "1")
    stack = Stack(ipython_dir)
    try:
        p = subprocess.run([sys.executable, "-m", "test.system.storm", stack.client_file, seconds, seed], cwd=ROOT, env=stack.env,
                           capture_output=True, text=True, timeout=float(seconds) + 200)
        assert p.returncode == 0, f"{p.stdout}\n{p.stderr}"
        done = json.loads(p.stdout.splitlines()[-1])
        assert done["clients"] >= 2
        assert stack.rc[:].apply_sync(abs, -1) == [1, 1]
        status = stack.rc.queue_status()
        assert status["unassigned"] == 0 and all(status[n]["queue"] == status[n]["tasks"] == 0 for n in (0, 1))
    finally:
        stack.stop()

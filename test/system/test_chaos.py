"""Engines are killed while they work: each task ends once, and a kill costs one task. `make chaos` runs this for a million tasks."""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_an_engine_is_killed_every_second(ipython_dir):
    p = subprocess.run([sys.executable, os.path.join(ROOT, "bench", "chaos.py"), "--tasks=1000000", "--seconds=8", "--once-seconds=4"],
                       env=ipython_dir, capture_output=True, text=True, timeout=250)
    assert p.returncode == 0, f"{p.stdout}\n{p.stderr}"
    assert " 0 failed, 0 without an end" in p.stdout.splitlines()[0]

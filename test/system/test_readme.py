"""The README's ten lines run as a script, pasted into `python`, and in a notebook."""
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ten_lines():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks, "the README shows no Python"
    return blocks[0]


def check_output(text):
    pids = re.search(r"\[(\d+), (\d+), (\d+), (\d+)\]", text)
    assert pids and len(set(pids.groups())) == 4, text
    estimate = re.findall(r"(?<![\d.])3\.1\d+", text)
    assert estimate and abs(float(estimate[-1]) - 3.1416) < 0.02, text


def test_as_a_script(ten_lines, tmp_path, ipython_dir):
    script = tmp_path / "ten.py"
    script.write_text(ten_lines)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=90, env=ipython_dir)
    assert done.returncode == 0, done.stderr
    check_output(done.stdout)


def test_pasted_into_python(ten_lines, ipython_dir):
    """A person pastes the lines, with the empty line that ends a block, into the interpreter's prompt."""
    master, slave = pty.openpty()
    env = dict(ipython_dir, TERM="dumb", PYTHON_BASIC_REPL="1")
    process = subprocess.Popen([sys.executable, "-q"], stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
    os.close(slave)
    pasted = ten_lines.rstrip("\n") + "\n\nprint('the end', 6 * 7)\nexit()\n"
    seen, deadline = "", time.monotonic() + 60
    try:
        while time.monotonic() < deadline and process.poll() is None:
            readable, writable, _ = select.select([master], [master] if pasted else [], [], 0.2)
            if readable:
                try:
                    seen += os.read(master, 65536).decode(errors="replace")
                except OSError:
                    break
            elif writable and pasted:
                line, _, pasted = pasted.partition("\n")
                os.write(master, line.encode() + b"\n")
        assert process.wait(30) == 0, seen
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
    check_output(seen)
    assert "the end 42" in seen, seen


def test_in_a_notebook(ten_lines, run_notebook):
    nbformat = pytest.importorskip("nbformat", reason="nbformat comes with nbclient")
    imports, rest = ten_lines.split("\n\n", 1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(imports), nbformat.v4.new_code_cell(rest)])
    run_notebook(notebook)
    text = "".join(o.get("text", "") for o in notebook.cells[1].outputs)
    check_output(text)

"""The benchmark: it runs, its tables say what was measured, and the README's figures are those of the committed run."""
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PATIENCE, processes_of, wait_gone, wait_until

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(ROOT / "bench" / "bench.py")]


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))


@pytest.fixture
def report(modules):
    import report

    return report


def run_of(covey, stock, **more):
    """A run's JSON with these figures, in SI units."""
    values = {who: {row: {"value": v, "rounds": [v]} for row, v in rows.items()} for who, rows in (("covey", covey), ("stock", stock))}
    machine = {"cpu": "a CPU", "cores": 2, "memory_gib": 8, "kernel": "6.1", "load": 0.1, "at": "2026-01-01T00:00:00Z"}
    return {"format": 1, "machine": machine, "versions": {"covey": "1", "stock": "9"}, "rounds": 1, "quick": False, "failures": [], "values": values, **more}


def line_of(lines, text):
    return next(line for line in lines if text in line)


def test_quick_run(tmp_path, ipython_dir):
    """One process pool and a few rows: figures of all of them, in the table and in the JSON; nothing is left."""
    file = tmp_path / "run.json"
    args = ["--quick", "--peers", "ppe", "--only", "many,many_hwm1,direct,controller_*", "--json", file]
    done = subprocess.run([*PROGRAM, *args], capture_output=True, text=True, timeout=250, env=dict(ipython_dir, TMPDIR=str(tmp_path)))
    assert done.returncode == 0, done.stderr + done.stdout
    run = json.loads(file.read_text())
    assert set(run["values"]["covey"]) >= {"many", "many_hwm1", "direct", "direct.p99", "controller_rss", "controller_start"}
    assert set(run["values"]["ppe"]) == {"many", "direct", "direct.p99"}
    assert "exec to listening" in done.stdout and "not judged" in done.stdout
    assert [p for p in os.listdir(tmp_path) if p.startswith("bench-")] == []


@pytest.mark.parametrize("background", [False, True])
def test_interrupted(tmp_path, ipython_dir, background):
    """Ctrl-C in the middle ends what runs, keeps what was measured and leaves no process and no folder; so does SIGTERM a script's background job."""
    ignore = (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if background else None  # as a shell without job control does
    process = subprocess.Popen([*PROGRAM, "--quick", "--peers", "", "--only", "controller_start,many", "--rounds", "99"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=dict(ipython_dir, TMPDIR=str(tmp_path)), start_new_session=True, preexec_fn=ignore)
    try:
        for line in process.stderr:
            if "round 2: covey" in line:
                break
        [folder] = tmp_path.glob("bench-*")
        wait_until(lambda: len(processes_of(folder / "ipython")) >= 4, what="a cluster")
        if background:
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=60 * PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "interrupted" in out and "exec to listening" in out
    assert not wait_gone(folder / "ipython") and not folder.exists()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_a_measurement_is_ended_waits_for_its_end(modules, monkeypatch, sig):
    import runner

    ended = []
    monkeypatch.setattr(runner.machine, "end_all", lambda: (signal.raise_signal(sig), ended.append(sig)))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        process = subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE)
        with pytest.raises(KeyboardInterrupt):
            runner._end(process)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended == [sig] and process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("args, says", [(["--peers", "slurm"], "no peer 'slurm'"), (["--only", "nothing"], "names no row"), (["--against", "/none"], "there is no /none")])
def test_wrong_options(args, says):
    done = subprocess.run([*PROGRAM, *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and says in done.stderr


def test_floors(report):
    lines = report.table(run_of({"many": 76_000.0, "direct": 1e-4, "memory_16": 200 << 20}, {"many": 1000.0, "direct": 2e-3}))
    assert "≥ 75 × stock ✓" in line_of(lines, "lb.apply_async") and "≥ 2.5 × ppe ? not measured" in line_of(lines, "lb.apply_async")
    assert "20" in line_of(lines, "named engine").split() and "≤ 120 ✗ short" in line_of(lines, "16 engines, PSS")
    assert lines[-1] == "1 floors reached, 1 missed, 2 without their peer"


def test_a_peer_that_cannot_be_installed(modules, monkeypatch, capsys):
    """It is named and left out. (No index listens there; nothing is changed in this environment.)"""
    import env

    monkeypatch.setattr(env, "PYTHON", Path(sys.executable))
    monkeypatch.setitem(env.PEERS, "ray", "covey-no-such-peer")
    for name, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_NO_INPUT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert list(env.provide(["ray", "ppe"])) == ["ppe"]
    assert "ray is left out" in capsys.readouterr().err


def test_against_an_earlier_run(report):
    then, now = run_of({"many": 1000.0, "direct": 1e-4}, {}), run_of({"many": 850.0, "direct": 0.5e-4}, {})
    lines = report.against(now, then)
    assert "-15%" in line_of(lines, "lb.apply_async") and "WORSE" in line_of(lines, "lb.apply_async")
    assert "-50%" in line_of(lines, "named engine") and "WORSE" not in line_of(lines, "named engine")
    then, now = run_of({"many": 1000.0}, {"many": 10.0}), run_of({"many": 500.0}, {"many": 5.0})
    line = line_of(report.against(now, then), "lb.apply_async")
    assert "(100 × → 100 × stock)" in line and "WORSE" not in line  # the machine was slow for both
    other = run_of({"many": 100.0}, {}, machine=dict(now["machine"], cores=64))
    assert "WORSE" not in "".join(report.against(other, then))


def test_numbers(report):
    assert [report.number(x) for x in (0.2831, 4.061, 63.14, 24049.0, 999.4, None)] == ["0.283", "4.06", "63.1", "24,000", "999", "–"]


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md"])
def test_figures_in_the_documents(report, page):
    """What the pages say is what the committed run measured."""
    run, text = json.loads((ROOT / "docs" / "bench.json").read_text()), (ROOT / page).read_text()
    assert text == report.renewed(text, page, run), f"{page} differs from docs/bench.json: `python bench/bench.py --readme` writes it"


def test_a_page_without_a_place(report):
    with pytest.raises(ValueError, match="README.md has no lines"):
        report.renewed("# covey", "README.md", run_of({}, {}))


def test_hot(ipython_dir):
    """The profile of a task's path names functions of the client and of an engine."""
    args = [sys.executable, str(ROOT / "bench" / "hot.py"), "direct", "--python", "--seconds", "0.1", "--top", "40"]
    done = subprocess.run(args, capture_output=True, text=True, timeout=120, env=ipython_dir)
    assert done.returncode == 0 and done.stdout.count("of 'covey._core.") >= 2 and "\nengine 0:" in done.stdout, done.stderr + done.stdout

"""Engines that die: exactly the task that ran fails, and it says why. Fresh engines draw different numbers."""
import os
import signal

import covey as ipp
import pytest

from .conftest import wait_until


@pytest.fixture
def cluster_of(ipython_dir, monkeypatch):
    """start(n) -> a connected client of a new cluster of n engines."""
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    clusters = []

    def start(n, **kwargs):
        cluster = ipp.Cluster(n=n, **kwargs)
        clusters.append(cluster)
        return cluster.start_and_connect_sync()

    yield start
    for cluster in clusters:
        cluster.stop_cluster_sync()


def segfault():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def test_m4_a_segfault_costs_one_task_and_one_engine(cluster_of):
    rc = cluster_of(4)
    view = rc.load_balanced_view()
    before = [view.apply_async(abs, -i) for i in range(50)]
    bad = view.apply_async(segfault)
    after = [view.apply_async(abs, -i) for i in range(50)]
    assert [ar.get(30) for ar in before] == list(range(50))
    assert [ar.get(30) for ar in after] == list(range(50))
    with pytest.raises(ipp.error.EngineError) as failure:
        bad.get(30)
    assert "SIGSEGV" in str(failure.value)
    wait_until(lambda: len(rc.ids) == 3, what="one engine leaving rc.ids")
    assert sorted(rc[:].apply_sync(os.getpid)) == sorted(set(rc[:].apply_sync(os.getpid)))
    assert len(rc.ids) == 3


def noted(path, i):
    import os
    import signal

    with open(path, "a") as f:
        f.write(f"{i}\n")
    if i == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return i


def test_m4_what_a_map_had_finished_runs_once(cluster_of, tmp_path):
    """Results of a map's items leave together: those that die with their engine are not run again without retries."""
    rc = cluster_of(2)
    path = tmp_path / "runs"
    results = rc.load_balanced_view().map_async(noted, [str(path)] * 200, range(200), return_exceptions=True).get(60)
    runs = path.read_text().split()
    assert len(runs) == len(set(runs)) and "SIGKILL" in str(results[20])
    assert all(r == i or isinstance(r, ipp.error.EngineError) for i, r in enumerate(results))


def hold(path):
    import os
    import time
    from pathlib import Path

    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def test_m4_a_kill_spares_what_had_not_started(cluster_of, tmp_path):
    rc = cluster_of(2, controller_args=["--hwm=17"])
    engine_of = rc[:].apply_async(os.getpid).get_dict()
    engine_of = {pid: engine for engine, pid in engine_of.items()}
    view = rc.load_balanced_view()
    holding = [view.apply_async(hold, str(tmp_path / str(i))) for i in range(2)]
    wait_until(lambda: all((tmp_path / str(i)).exists() and (tmp_path / str(i)).read_text() for i in range(2)), what="both engines being busy")
    rest = [view.apply_async(abs, -i) for i in range(32)]
    pid = int((tmp_path / "0").read_text())
    number = engine_of[pid]
    wait_until(lambda: rc.queue_status(number)["tasks"] == 17, what="the engine holding 16 tasks beside the one that runs")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ipp.error.EngineError) as failure:
        holding[0].get(30)
    assert "SIGKILL" in str(failure.value) and f"engine {number}" in str(failure.value)
    assert holding[1].cancel()
    assert [ar.get(30) for ar in rest] == list(range(32))


def test_m6_fresh_engines_draw_different_numbers(cluster_of):
    rc = cluster_of(16)

    def draw():
        import random

        import numpy

        return random.random(), float(numpy.random.rand())

    drawn = rc[:].apply_sync(draw)
    assert len({a for a, _ in drawn}) == 16
    assert len({b for _, b in drawn}) == 16


def test_an_engine_that_leaves_by_itself_is_named(cluster_of):
    rc = cluster_of(2)

    def leave():
        import os
        import sys

        print("last words", file=sys.stderr, flush=True)
        os._exit(3)

    ar = rc[rc.ids[1]].apply_async(leave)
    with pytest.raises(ipp.error.EngineError) as failure:
        ar.get(30)
    text = str(failure.value)
    assert "3" in text and "last words" in text


def test_restart_keeps_the_number(cluster_of):
    rc = cluster_of(2, restart=True)
    engine, pid = rc.ids[1], rc[rc.ids[1]].apply_sync(os.getpid)
    os.kill(pid, signal.SIGKILL)

    def another_pid():
        try:
            return rc[engine].apply_sync(os.getpid) != pid
        except (ipp.error.EngineError, IndexError):
            return False

    wait_until(another_pid, what="the engine being back under its number")
    assert len(rc.ids) == 2


def test_without_restart_a_dead_engine_leaves_and_says_why(cluster_of):
    rc = cluster_of(2)
    engine = rc.ids[1]
    view = rc[engine]
    os.kill(view.apply_sync(os.getpid), signal.SIGTERM)
    wait_until(lambda: engine not in rc.ids, what="the engine leaving rc.ids")
    with pytest.raises(ipp.error.EngineError):
        view.apply_sync(os.getpid)


def test_s12_a_signal_to_an_engine(cluster_of, tmp_path):
    """SIGINT interrupts what runs and does nothing between tasks."""
    rc = cluster_of(2)
    engine = rc.ids[0]
    pid = rc[engine].apply_sync(os.getpid)
    os.kill(pid, signal.SIGINT)
    assert rc[engine].apply_sync(os.getpid) == pid
    ar = rc[engine].apply_async(hold, str(tmp_path / "mark"))
    wait_until((tmp_path / "mark").exists, what="the task running")
    os.kill(pid, signal.SIGINT)
    with pytest.raises(ipp.error.RemoteError) as failure:
        ar.get(30)
    assert failure.value.ename == "KeyboardInterrupt"
    assert rc[engine].apply_sync(os.getpid) == pid


def test_m5_cancel_interrupts_and_abort_unqueues(cluster_of, tmp_path):
    from concurrent.futures import CancelledError

    rc = cluster_of(2)
    view = rc[rc.ids[0]]
    view.push({"kept": 42}, block=True)
    running = view.apply_async(hold, str(tmp_path / "mark"))
    wait_until((tmp_path / "mark").exists, what="the task running")
    queued = view.apply_async(abs, -1)
    queued.abort()
    with pytest.raises(ipp.error.TaskAborted):
        queued.get(30)
    assert running.cancel()
    with pytest.raises(CancelledError):
        running.get(30)
    assert view.pull("kept", block=True) == 42


def test_shutdown_with_restart_keeps_the_number(cluster_of):
    rc = cluster_of(2)
    pids = rc[:].apply_sync(os.getpid)
    rc[:].push({"a": 1}, block=True)
    rc.shutdown(1, restart=True, block=True)
    assert rc.ids == [0, 1]
    again = rc[:].apply_sync(os.getpid)
    assert again[0] == pids[0] and again[1] != pids[1]
    assert rc[0]["a"] == 1
    with pytest.raises(NameError):
        rc[1].pull("a", block=True)

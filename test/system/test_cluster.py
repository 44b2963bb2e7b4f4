"""Cluster with the real supervisor: start, engine sets, failures, coming back, leaving nothing."""
import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import covey as ipp
import pytest
from covey._programs import program_argv

from .conftest import files_of, processes_of, wait_gone, wait_until
from .stack import other_engines


def test_with_a_cluster(home):
    with ipp.Cluster(n=2) as rc:
        assert rc.ids == [0, 1] and len(set(rc[:].apply_sync(os.getpid))) == 2
        assert rc.cluster.n == 2 and rc.cluster.engine_set.n == 2 and "engines=2/2" in repr(rc.cluster)
        pid = rc.cluster.controller.pid
    assert not os.path.exists(f"/proc/{pid}") and processes_of(home) == {} and files_of(home) == []


def test_coroutines(home):
    async def go():
        async with ipp.Cluster(n=1) as rc:
            return await rc[0].apply_async(abs, -3)

    assert asyncio.run(go()) == 3


def test_sets_of_engines(home):
    c = ipp.Cluster(n=1)
    rc = c.start_and_connect_sync()
    try:
        id = c.start_engines_sync(2, "more")
        rc.wait_for_engines(3, timeout=20)
        pids = rc[:].apply_sync(os.getpid)
        assert id == "more" and {s: e.n for s, e in c.engines.items()} == {c.engine_set.id: 1, "more": 2}
        c.signal_engines_sync(signal.SIGTERM, c.engine_set.id)
        wait_until(lambda: rc.ids == [1, 2], what="the first engine leaving")
        c.restart_engines_sync("more")
        wait_until(lambda: other_engines(rc, 2, pids), what="new engines")
        c.stop_engines_sync("more")
        wait_until(lambda: rc.ids == [], what="the engines leaving")
    finally:
        rc.close()
        c.stop_cluster_sync()


def test_what_runs_are_objects_of_launcher_classes(home):
    from covey.launcher import LocalControllerLauncher, LocalEngineSetLauncher, NotRunning, ProcessStateError  # noqa: F401

    ended = []
    with ipp.Cluster(n=2, config={"LocalEngineSetLauncher": {"stop_timeout": 7}}) as rc:
        c = rc.cluster
        controller, engines = c.controller, c.engine_set
        assert isinstance(controller, LocalControllerLauncher) and isinstance(engines, LocalEngineSetLauncher)
        assert c.engine_set is engines and c.controller is controller and engines.running and engines.poll() is None
        assert engines.stop_timeout == 7 and repr(engines) == f"<LocalEngineSetLauncher(id={engines.id!r}, n=2)>"
        assert controller.process.is_running() and controller.process.pid == controller.pid
        with pytest.raises(TimeoutError):
            controller.process.wait(0.01)
        with pytest.raises(ProcessStateError):
            engines.start(2)
        wait_until(lambda: "Completed registration with id 1" in engines.get_output(), what="the host's line")
        engines.on_stop(ended.append)
        ar = rc[0].execute("import time; print('here'); time.sleep(600)")
        wait_until(lambda: "here" in ar.stdout, what="the task to start")
        engines.signal(signal.SIGINT)
        with pytest.raises(ipp.RemoteError, match="KeyboardInterrupt"):
            ar.get(timeout=30)
        other = ipp.Cluster.from_dict(c.to_dict())
        assert type(other.engine_set) is type(engines) and other.controller.process.pid == controller.pid
    controller.process.wait(30)
    assert not controller.running and [e["pid"] for e in ended] == [engines.pid] and controller.process.poll() == -1
    assert "Completed registration with id 1" in engines.get_output(), "the output stays when the log file has gone"
    assert "stopping" in engines.get_output(), "with what was written after the stop had begun"


def test_a_controller_without_engines(home):
    c = ipp.Cluster()
    c.start_controller_sync()
    with c.connect_client_sync() as rc:
        assert rc.ids == [] and c.engines == {}
        c.start_engines_sync(1)
        rc.wait_for_engines(1, timeout=20)
    c.stop_cluster_sync()


def test_engines_that_cannot_start_say_why(home, tmp_path, monkeypatch):
    bad = tmp_path / "bad.py"
    bad.write_text("import os, sys\nprint('my startup file is broken', file=sys.stderr, flush=True)\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONSTARTUP", str(bad))
    with pytest.raises(ipp.EngineError, match="my startup file is broken"):
        ipp.Cluster(n=2, engine_timeout=600).start_and_connect_sync()
    assert not wait_gone(home) and files_of(home) == []


def test_a_broken_config_is_named(home):
    folder = os.path.join(home, "profile_default")
    os.makedirs(folder)
    with open(os.path.join(folder, "ipcontroller_config.py"), "w") as f:
        f.write("c.IPController.ip = 1/0\n")
    with pytest.raises(ipp.EngineError, match="ipcontroller_config.py:1: ZeroDivisionError"):
        ipp.Cluster(n=1).start_cluster_sync()


def test_from_file_of_a_daemonized_cluster(home):
    subprocess.run(program_argv("ipcluster", ["start", "-n", "2", "--daemonize"]), check=True, timeout=30, stderr=subprocess.DEVNULL)
    c = ipp.Cluster.from_file()
    with c.connect_client_sync() as rc:
        rc.wait_for_engines(2, timeout=20)
    assert [x.cluster_id for x in ipp.ClusterManager().load_clusters().values()] == [""]
    c.stop_cluster_sync()
    with pytest.raises(FileNotFoundError):
        ipp.Cluster.from_file()
    assert files_of(home) == []


def script(source):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=60)


def test_shutdown_atexit_and_what_may_stay(home):
    p = script("import covey as ipp; rc = ipp.Cluster(n=1).start_and_connect_sync(); print(rc[0].apply_sync(abs, -1))")
    assert p.stdout == "1\n" and not wait_gone(home), p.stderr
    p = script("import covey as ipp; c = ipp.Cluster(n=1, shutdown_atexit=False, cluster_id='stay'); c.start_cluster_sync()")
    assert p.returncode == 0, p.stderr
    c = ipp.Cluster.from_file(cluster_id="stay")
    with c.connect_client_sync() as rc:
        assert rc[0].apply_sync(abs, -2) == 2
    c.stop_cluster_sync()


def test_a_killed_notebook_leaves_nothing(home):
    p = script("""
        import covey as ipp, os, signal
        rc = ipp.Cluster(n=2).start_and_connect_sync()
        os.kill(os.getpid(), signal.SIGKILL)
        """)
    assert p.returncode == -signal.SIGKILL
    assert not wait_gone(home) and files_of(home) == []


def test_m6_a_forked_child_stops_nothing(home):
    p = script("""
        import covey as ipp, os, sys
        c = ipp.Cluster(n=1)
        rc = c.start_and_connect_sync()
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert rc[0].apply_sync(abs, -4) == 4
        c.stop_cluster_sync()
        print('FINE')
        """)
    assert p.stdout == "FINE\n", p.stderr


def test_engines_stay_apart_from_another_cluster_of_the_profile(home):
    with ipp.Cluster(n=1) as first, ipp.Cluster(n=2) as second:
        assert (len(first), len(second)) == (1, 2)


def test_restart_keeps_the_number(home):
    with ipp.Cluster(n=2, restart=True) as rc:
        pid = rc[1].apply_sync(os.getpid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: rc.ids == [0, 1] and rc._engines[1]["pid"] != pid, what="the new engine 1")
        assert rc[1].apply_sync(os.getpid) != pid


def nested():
    import covey as ipp

    with ipp.Client() as rc:
        return rc.ids, rc[rc.ids[-1]].apply_async(os.getpid).msg_ids != []


def test_s11_a_client_in_a_task_connects_to_the_engines_own_cluster(home):
    with ipp.Cluster(n=2) as rc:
        assert rc.cluster.cluster_id  # a random one, so that only the engine itself can know it
        assert rc[0].apply_sync(nested) == ([0, 1], True)
        path = rc.cluster.client_file
        os.rename(path, path + ".away")
        with pytest.raises(OSError, match="client file of this engine's cluster is not on this machine"):
            rc[0].apply_sync(nested)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f, open(path + ".away") as old:
            json.dump({**json.load(old), "boot_id": "of another one"}, f)
        with pytest.raises(OSError, match="is of another controller than this engine's: give the path of the right file to Client"):
            rc[0].apply_sync(nested)
        os.rename(path + ".away", path)


def test_ids_are_empty_when_the_cluster_has_stopped(home):
    c = ipp.Cluster(n=1)
    rc = c.start_and_connect_sync()
    try:
        pending = rc[0].apply_async(time.sleep, 600)
        c.stop_cluster_sync()
        wait_until(lambda: rc.ids == [], what="the ids leaving")
        assert len(rc) == 0
        with pytest.raises(ipp.error.RemoteError):
            pending.get(30)
    finally:
        rc.close()

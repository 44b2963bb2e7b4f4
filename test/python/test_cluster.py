"""Cluster over a supervisor that is played by fake_ipcluster.py: what it asks of it and what it makes of its answers."""
import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from covey._supervisor import _Supervisor
from covey.cluster import Cluster, ClusterError, ClusterManager, clean_cluster_files

FAKE = Path(__file__).with_name("fake_ipcluster.py")


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch):
    """`ipcluster` is the fake; IPYTHONDIR is empty; nothing of it may be left running."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "ipcluster"
    script.write_text(f"#!{sys.executable}\n" + FAKE.read_text().split("\n", 1)[1])
    script.chmod(0o755)
    monkeypatch.setenv("COVEY_BIN", str(folder))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("IPP_NONINTERACTIVE", "1")
    yield
    gc.collect()


def state_of(c):
    return json.loads(Path(c.cluster_file).read_text())


def asked(c):
    return state_of(c)["asked"]


def gone(pid):
    return not os.path.exists(f"/proc/{pid}") or ") Z" in Path(f"/proc/{pid}/stat").read_text()


def test_start_and_stop_leave_nothing():
    c = Cluster(n=2)
    assert c.controller is None and c.engines == {} and c.engine_set is None
    assert c.start_cluster_sync() is c
    pid = c._supervisor.pid
    assert c.engine_set.n == 2 and c.controller.pid == pid and c.engines["first"].id == "first"
    assert f"cluster_id='{c.cluster_id}', profile='default', controller=<running>, engine_sets=['first'], engines=2/2" in repr(c)
    with pytest.raises(RuntimeError, match="running already"):
        c.start_controller_sync()
    c.stop_cluster_sync()
    c.stop_cluster_sync()
    assert gone(pid) and not os.path.exists(c.cluster_file) and c.controller is None


def test_the_command_line():
    class Mine:
        pass

    c = Cluster(n=4, profile="job", cluster_id="x", controller_ip="*", controller_location="node1", controller_args=["--reuse"], engines=Mine,
                config={"SlurmLauncher": {"queue": "long"}, "Cluster": {"n": 9}})
    assert c.n == 4 and c.profile == "job" and c.profile_dir.endswith("/ipython/profile_job")
    c.start_cluster_sync()
    argv = state_of(c)["argv"]
    c.stop_cluster_sync()
    name = f"@{c.profile_dir}/security/launcher-x-engine.pickle"
    assert not os.path.exists(name[1:])
    assert argv == [f"--python={sys.executable}", "start", f"--profile-dir={c.profile_dir}", "--cluster-id=x", "--n=4", "--engine-timeout=70", f"--parent-pid={os.getpid()}",
                    f"--engines={name}", "--ip=*", "--location=node1", "--SlurmLauncher.queue=long", "--", "--reuse"]


def test_a_config_that_adds_to_defaults():
    """`c.Class.trait.append()` and its kin, on a Config that a program made; paths are told as text."""
    from pathlib import Path

    from traitlets.config import Config

    config = Config()
    config.EngineLauncher.engine_args.extend(["-c", "x = 6"])
    config.Cluster.controller_args.append("--nodb")
    config.IPEngine.work_dir = Path("/some where")
    c = Cluster(n=1, cluster_id="y", config=config)
    assert c.controller_args == ["--nodb"]
    c.start_cluster_sync()
    argv = state_of(c)["argv"]
    c.stop_cluster_sync()
    assert argv[-4:] == ['--EngineLauncher.engine_args=["-c", "x = 6"]', "--IPEngine.work_dir=/some where", "--", "--nodb"]


def test_options_from_the_profile_s_config(tmp_path):
    folder = tmp_path / "ipython" / "profile_p"
    folder.mkdir(parents=True)
    (folder / "ipcluster_config.py").write_text("c.Cluster.n = 7\nc.Cluster.engine_launcher_class = 'slurm'\n")
    assert (Cluster(profile="p").n, Cluster(profile="p").engine_launcher_class.__name__) == (7, "SlurmEngineSetLauncher")
    assert Cluster(profile="p", config={"Cluster": {"n": 6}}).n == 6 and Cluster(profile="p", n=1).n == 1
    assert Cluster(profile="p", load_profile=False).n is None
    with pytest.raises(TypeError):
        Cluster(engines="local", engine_launcher_class="local")


def test_without_n_the_supervisor_decides():
    c = Cluster()
    c.start_cluster_sync()
    assert c.n == 3 and not any(a.startswith("--n=") for a in state_of(c)["argv"])
    c.stop_cluster_sync()


@pytest.mark.parametrize("mode, words", [("fail", ["engine 1 of 2 could not start", "ImportError: no numpy"]),
                                         ("die", ["exit code 3", "the port 4711 is in use"])])
def test_a_failed_start_says_why_and_leaves_nothing(monkeypatch, mode, words):
    monkeypatch.setenv("FAKE_MODE", mode)
    c = Cluster(n=2)
    with pytest.raises(ClusterError) as e:
        c.start_cluster_sync()
    assert all(w in str(e.value) for w in words)
    assert isinstance(e.value, RuntimeError) and c.controller is None


def test_a_start_that_takes_too_long(monkeypatch):
    wait_ready = _Supervisor.wait_ready

    def when_one_is_there(self, timeout, n):
        with self._changed:
            assert self._changed.wait_for(lambda: self.ready == 1, 30)
        wait_ready(self, timeout, n)
    monkeypatch.setattr(_Supervisor, "wait_ready", when_one_is_there)
    monkeypatch.setenv("FAKE_MODE", "slow")
    c = Cluster(n=2, engine_timeout=0.1)
    with pytest.raises(TimeoutError, match="1 of 2 engines"):
        c.start_cluster_sync()
    assert not os.path.exists(c.cluster_file)


def test_a_supervisor_that_does_not_listen_is_killed(monkeypatch):
    monkeypatch.setenv("FAKE_MODE", "deaf")
    monkeypatch.setattr("covey._supervisor.STOP_TIMEOUT", 0.3)
    c = Cluster(n=1)
    c.start_cluster_sync()
    pid = c._supervisor.pid
    c.stop_cluster_sync()
    assert gone(pid) and not os.path.exists(c.cluster_file)


def test_engine_sets_by_the_control_socket():
    c = Cluster(n=1)
    c.start_controller_sync()
    assert c.engines == {}
    first, second = c.start_engines_sync(2), c.start_engines_sync(3, "extra")
    assert {id: s.n for id, s in c.engines.items()} == {first: 2, "extra": 3} and second == "extra"
    assert c.start_engines_sync(1) != first
    c.restart_engines_sync("extra")
    c.signal_engines_sync(signal.SIGUSR1, "extra")
    with pytest.raises(RuntimeError, match="no such signal"):
        c.signal_engines_sync(99, "extra")
    for call in (c.stop_engines_sync, c.restart_engines_sync):
        with pytest.raises(KeyError):
            call("none")
    c.stop_engines_sync("extra")
    c.stop_engines_sync()
    assert c.engines == {} and {"do": "restart_engines", "id": "extra"} in asked(c)
    assert {"do": "signal_engines", "id": "extra", "signal": 10} in asked(c)
    for call, args in ((c.stop_engine_sync, (0,)), (c.restart_engine_sync, (0,)), (c.signal_engine_sync, (0, 2))):
        with pytest.raises(NotImplementedError):
            call(*args)
    c.stop_controller_sync()


def test_coroutines_and_their_twins_in_a_running_loop():
    async def go():
        c = Cluster(n=2)
        assert await c.start_cluster() is c
        id = await c.start_engines(1, "more")
        await c.signal_engines(10, id)
        await c.stop_engines(id)
        assert "first" in c.engines
        c.stop_cluster_sync()
        await c.start_controller()
        await c.stop_cluster()
        return c

    assert asyncio.run(go()).controller is None


def test_a_cluster_that_has_only_begun_names_its_file_later(monkeypatch):
    c = Cluster(n=1, cluster_id="")
    c.start_cluster_sync()
    whole = state_of(c)
    Path(c.cluster_file).write_text(json.dumps({**whole, "client_file": None}))
    other, slept = Cluster.from_file(), []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            Path(c.cluster_file).write_text(json.dumps(whole))
    Path(whole["client_file"]).touch()
    monkeypatch.setattr("covey._supervisor.time.sleep", sleep)
    wait = other._supervisor.wait_for_client_file
    assert wait(30, c.cluster_file) == whole["client_file"] and len(slept) == 3
    other._supervisor.state["client_file"] = None
    Path(c.cluster_file).write_text(json.dumps({**whole, "client_file": None}))
    with pytest.raises(TimeoutError, match="has not started after 0 s"):
        wait(0, c.cluster_file)
    c.stop_cluster_sync()
    with pytest.raises(ClusterError, match="ended before its controller had started"):
        wait(30, c.cluster_file)


def test_from_file_and_dict():
    with pytest.raises(FileNotFoundError):
        Cluster.from_file()
    c = Cluster(n=2, cluster_id="")
    c.start_cluster_sync()
    other = Cluster.from_file()
    assert other.n == 2 and other.shutdown_atexit is False and other.engines.keys() == {"first"}
    assert Cluster.from_dict(json.loads(json.dumps(other.to_dict()))).controller.pid == c.controller.pid
    assert Cluster.from_file(c.cluster_file).cluster_id == ""
    pid = c.controller.pid
    other.stop_cluster_sync()
    assert gone(pid) and c.controller is None
    c.stop_cluster_sync()


def test_from_file_of_ipyparallels_own_programs(tmp_path):
    file = tmp_path / "cluster-.json"
    file.write_text('{"cluster": {"cluster_id": ""}, "controller": {"class": "local", "state": {"pid": 1}}}')
    with pytest.raises(FileNotFoundError, match="ipyparallel's own programs"):
        Cluster.from_file(file)


def test_from_file_takes_the_only_cluster_that_runs():
    one, two = Cluster(n=1, cluster_id="one"), Cluster(n=1, cluster_id="two")
    one.start_cluster_sync()
    assert Cluster.from_file().cluster_id == "one"
    two.start_cluster_sync()
    with pytest.raises(FileNotFoundError, match=r"name one by cluster_id \(one, two\)"):
        Cluster.from_file()
    one.stop_cluster_sync()
    two.stop_cluster_sync()
    with pytest.raises(FileNotFoundError, match="no cluster runs here"):
        Cluster.from_file()


def test_a_file_of_a_dead_cluster_or_of_a_reused_pid(monkeypatch):
    c = Cluster(n=1, cluster_id="old")
    c.start_cluster_sync()
    state = state_of(c)
    c.stop_cluster_sync()
    for change in ({}, {"pid": os.getpid()}):
        Path(c.cluster_file).write_text(json.dumps({**state, **change}))
        with pytest.raises(FileNotFoundError, match="has ended"):
            Cluster.from_file(c.cluster_file)
    monkeypatch.delenv("COVEY_BIN")
    clean_cluster_files()
    assert not os.path.exists(c.cluster_file)


def test_cluster_manager():
    m = ClusterManager()
    assert m.load_clusters() == {}
    key, c = m.new_cluster(cluster_id="a")
    assert key == "default:a" and m.get_cluster(key) is c
    with pytest.raises(KeyError):
        m.new_cluster(cluster_id="a")
    c.start_cluster_sync(1)
    assert list(ClusterManager().load_clusters()) == ["default:a"]
    found = m.load_clusters(init_default_clusters=True)
    assert list(found) == ["default:a"]
    m.remove_cluster(key)
    with pytest.raises(KeyError):
        m.get_cluster(key)
    c.stop_cluster_sync()
    assert list(ClusterManager().load_clusters(init_default_clusters=True)) == ["default:"]


def test_a_supervisor_that_was_never_stopped_leaves_no_descriptor(until):
    def words():
        return [fd for fd in os.listdir("/proc/self/fd") if "ipcluster-stderr" in os.path.realpath(f"/proc/self/fd/{fd}")]
    gc.collect()
    before = len(words())
    c = Cluster(n=1, shutdown_atexit=False)
    for _ in range(2):  # one that ended by itself, and another in its place
        c.start_cluster_sync()
        os.kill(c._supervisor.pid, signal.SIGKILL)
        until(lambda: c._supervisor._ended and not c._supervisor.alive())
    until(lambda: len(words()) == before + 1)
    del c
    until(lambda: not gc.collect() and len(words()) <= before)


def script(source, timeout=60):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    return subprocess.run([sys.executable, "-c", textwrap.dedent(source)], env=env, capture_output=True, text=True, timeout=timeout)


def test_shutdown_atexit():
    p = script("import covey as ipp; c = ipp.Cluster(n=1); c.start_cluster_sync(); print(c.controller.pid)")
    assert p.returncode == 0 and gone(int(p.stdout)), p.stderr
    p = script("import covey as ipp; c = ipp.Cluster(n=1, shutdown_atexit=False, cluster_id='stay'); c.start_cluster_sync(); print(c.controller.pid)")
    assert p.returncode == 0 and not gone(int(p.stdout))
    c = Cluster.from_file(cluster_id="stay")
    c.stop_cluster_sync()
    assert gone(int(p.stdout))


def test_a_dropped_cluster_is_stopped_and_reaped(until):
    c = Cluster(n=1)
    c.start_cluster_sync()
    pid = c.controller.pid
    del c
    until(lambda: not gc.collect() and not os.path.exists(f"/proc/{pid}"))


def test_who_drops_a_cluster_does_not_wait_for_its_end(monkeypatch, until):
    monkeypatch.setenv("FAKE_MODE", "deaf")
    monkeypatch.setattr("covey._supervisor.STOP_TIMEOUT", 600)
    c = Cluster(n=1)
    c.start_cluster_sync()
    pid = c.controller.pid
    del c
    gc.collect()
    assert not gone(pid)  # which would take a kill, where somebody waits
    os.kill(pid, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_m6_a_forked_child_neither_uses_nor_stops_it():
    p = script("""
        import os, sys, covey as ipp
        c = ipp.Cluster(n=1); c.start_cluster_sync()
        pid = os.fork()
        if pid == 0:
            try: c.start_engines_sync(1)
            except RuntimeError as e: assert 'forked' in str(e)
            c.stop_cluster_sync()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert c.controller is not None and c.start_engines_sync(1, 'later') == 'later'
        print('FINE')
        """)
    assert "FINE" in p.stdout, p.stderr


def test_killed_parents_leave_nothing(until):
    """The supervisor follows --parent-pid; here only: it is given."""
    p = script("import covey as ipp, os, signal; c = ipp.Cluster(n=1); c.start_cluster_sync(); print(c.controller.pid, flush=True);"
               "os.kill(os.getpid(), signal.SIGKILL)")
    pid = int(p.stdout)
    until(lambda: gone(pid))


@pytest.mark.parametrize("n, kind", [("x", TypeError), ("4", TypeError), (2.5, TypeError), (-1, ValueError)])
def test_a_wrong_n_is_named_at_once(n, kind):
    with pytest.raises(kind, match=f"n is the number of engines.*{n!r}"):
        Cluster(n=n)

"""A disk without room under a profile: connection and cluster files, logs, task records. What can't be written is said or lost, tasks go on."""
import json
import os
import subprocess
import sys

import pytest

import covey as ipp
from covey._programs import program_argv

from .conftest import files_of, wait_gone, wait_until

TIMEOUT = 60


class Disk:
    """A small file system of its own; `fill()` leaves no byte of it, `free()` gives them back."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True, timeout=TIMEOUT)

    def fill(self):
        with open(self.folder / "filler", "ab", buffering=0) as f:
            for size in (65536, 1):
                try:
                    while True:
                        f.write(b"x" * size)
                except OSError:
                    continue

    def free(self):
        (self.folder / "filler").unlink()

    def end(self):
        subprocess.run(["umount", "-l", self.folder], check=True, timeout=TIMEOUT)


@pytest.fixture
def disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("root mounts the small disk")
    d = Disk(tmp_path / "disk")
    yield d
    d.end()


@pytest.fixture
def env(disk, ipython_dir):
    """An environment whose IPYTHONDIR is on that disk."""
    folder = disk.folder / "ipython"
    yield dict(ipython_dir, IPYTHONDIR=str(folder))
    assert not wait_gone(folder)


def run(env, program, *args):
    return subprocess.run(program_argv(program, args), env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)


@pytest.mark.parametrize("command", [("ipcontroller",), ("ipcluster", "start", "-n", "1"), ("ipcluster", "start", "-n", "1", "--daemonize")], ids=" ".join)
def test_no_room_for_the_first_files(disk, env, command):
    """Nothing starts, the sentence says why, and no part of a file is left."""
    disk.fill()
    p = run(env, *command)
    assert p.returncode == 1, p.stderr
    assert "No space left on device" in p.stderr
    assert files_of(env["IPYTHONDIR"]) == []
    assert not wait_gone(env["IPYTHONDIR"])
    disk.free()
    again = subprocess.Popen(program_argv("ipcluster", ("start", "-n", "1", "--daemonize")), env=env, stdin=subprocess.DEVNULL)
    assert again.wait(TIMEOUT) == 0
    assert run(env, "ipcluster", "stop").returncode == 0


def test_the_disk_fills_while_a_cluster_works(disk, env, capfd):
    """Logs, task records and the cluster file can't be written: tasks go on, deaths are told, the cluster file stays whole, and stopping works."""
    folder = os.path.join(env["IPYTHONDIR"], "profile_default")
    args = ("start", "-n", "2", "--daemonize", "--IPController.log_to_file=True", "--IPEngine.log_to_file=True", "--IPController.db_class=sqlite")
    started = run(env, "ipcluster", *args)
    assert started.returncode == 0, started.stderr
    rc = ipp.Client(os.path.join(folder, "security", "ipcontroller-client.json"))
    try:
        rc.wait_for_engines(2, timeout=TIMEOUT, interactive=False)
        disk.fill()
        notices = []
        view = rc.load_balanced_view()
        for i in range(5):
            assert view.map_sync(len, [b"x" * 20_000] * 200) == [20_000] * 200
            rc._pump()
            notices.append(capfd.readouterr().err)
            if "kept in memory only" in "".join(notices):
                break
        wait_until(lambda: (rc._pump(), notices.append(capfd.readouterr().err)) and "kept in memory only" in "".join(notices), what="the notice")
        ar = rc[:].execute("print('said')", block=False)
        ar.get(30)
        assert ar.stdout == ["said\n"] * 2
        with pytest.raises(ipp.RemoteError):
            rc[0].apply_async(os._exit, 3).get(30)
        assert rc[1].apply_sync(abs, -2) == 2
        with open(os.path.join(folder, "security", "cluster-.json")) as f:
            assert json.load(f)
    finally:
        rc.close()
        stopped = run(env, "ipcluster", "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert files_of(env["IPYTHONDIR"]) == []


def test_a_cluster_file_that_can_not_be_written_anew(disk, env):
    """Engines are added while the disk is full: the file stays the old one, whole, and the supervisor stops all that it has."""
    program = """
import sys, covey
cluster = covey.Cluster(n=1)
rc = cluster.start_and_connect_sync()
open(sys.argv[1], "w").close()
sys.stdin.readline()
try:
    cluster.start_engines_sync(1)
    rc.wait_for_engines(2, timeout=60, interactive=False)
    print("engines:", rc[:].apply_sync(abs, -1))
finally:
    cluster.stop_cluster_sync()
"""
    ready = disk.folder.parent / "ready"
    p = subprocess.Popen([sys.executable, "-c", program, ready], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: ready.exists() or p.poll() is not None, TIMEOUT, "the cluster")
        disk.fill()
        out, _ = p.communicate("go\n", timeout=TIMEOUT)
    finally:
        p.kill()
    assert p.returncode == 0 and "engines: [1, 1]" in out, out
    assert files_of(env["IPYTHONDIR"]) == []

"""The connection file of a controller that was killed: a client on its machine says so, and still finds a successor."""
import os
import signal
import subprocess
import threading

import pytest

import covey as ipp
from covey._programs import program_argv

from .conftest import wait_until


@pytest.fixture
def start(ipython_dir):
    """Starts `ipcontroller`; (process, path of the client's file)."""
    folder = os.path.join(ipython_dir["IPYTHONDIR"], "profile_default")
    path = os.path.join(folder, "security", "ipcontroller-client.json")
    running = []

    def boot_id():
        return ipp.client._connect.read_file(path)["boot_id"] if os.path.exists(path) else None

    def run():
        before = boot_id()
        p = subprocess.Popen(program_argv("ipcontroller", [f"--profile-dir={folder}"]), env=ipython_dir, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(p)
        wait_until(lambda: boot_id() not in (None, before), what="the connection file")
        return p, path

    yield run
    for p in running:
        p.kill()
        p.wait()


def test_a_killed_controllers_file_is_told_at_once(start):
    controller, path = start()
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    with pytest.raises(ConnectionRefusedError, match=rf"the controller \(pid {controller.pid}\) has ended without a word and left {path}"):
        ipp.Client(path, timeout=600)


def test_a_client_that_races_a_restart_finds_the_new_controller(start):
    controller, path = start()
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    threading.Timer(0.2, start).start()
    rc = ipp.Client(path, timeout=60)
    try:
        assert rc.ids == []
    finally:
        rc.close()


def by_tcp(path, known):
    """The connection file's content for a client that can't use the local socket; known: nor see the controller's process."""
    config = ipp.client._connect.read_file(path)
    config["endpoints"] = [e for e in config["endpoints"] if e.startswith("tcp://")]
    if not known:
        del config["process"]
    return config


@pytest.mark.parametrize("known, grace", [(True, None), (False, 0.5)], ids=["its process is seen to be gone", "controller_grace"])
def test_who_waits_for_a_killed_controller_by_tcp_gets_an_end(start, known, grace):
    controller, path = start()
    with ipp.Client(by_tcp(path, known), controller_grace=grace) as rc:
        ar = rc.load_balanced_view().apply_async(abs, -1)  # there are no engines
        rc.queue_status()
        controller.send_signal(signal.SIGKILL)
        controller.wait()
        with pytest.raises(ipp.error.LostTask, match="has ended without a word" if known else "controller_grace"):
            ar.get(60)
        with pytest.raises(OSError):
            rc.load_balanced_view().apply_async(abs, -1)


def test_who_waits_for_a_controller_elsewhere_is_told_again_and_again(start, monkeypatch, capsys):
    monkeypatch.setattr("covey._tasktable._AWAY_AGAIN", 0.5)
    controller, path = start()
    with ipp.Client(by_tcp(path, False)) as rc:
        ar = rc.load_balanced_view().apply_async(abs, -1)
        controller.send_signal(signal.SIGKILL)
        controller.wait()
        told = []

        def both():
            ar.wait(0.1)
            told.extend(capsys.readouterr().err.splitlines())
            return len([line for line in told if line.startswith("waiting for the controller, away since")]) >= 2

        wait_until(both, 30, what="being told twice")
        assert not ar.done()


def test_a_client_that_does_not_say_how_long(start):
    _, path = start()
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="controller_grace"):
            ipp.Client(path, controller_grace=wrong)

"""The connection file of a controller that was killed: a client on its machine says so, and still finds a successor."""
import os
import signal
import subprocess
import threading
import time

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
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError, match=rf"the controller \(pid {controller.pid}\) has ended without a word and left {path}"):
        ipp.Client(path, timeout=60)
    assert time.monotonic() - began < 30


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

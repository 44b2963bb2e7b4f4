# SPDX-License-Identifier: BSD-3-Clause
"""Bad days of examples/docker/remote-mpi, where `local` has started all on `remote` by ssh: the death of ssh, of sshd, of either machine, a network
that is gone for a while. What is told, what is left, and that a new cluster starts."""
from __future__ import annotations

import os
import re
from time import sleep

import pytest

from . import containers
from .conftest import need, wait_until
from .remote_mpi import RemoteMpi

pytestmark = [pytest.mark.containers, pytest.mark.timeout(containers.BUILD_SECONDS + 300)]
SESSION = """
import ipyparallel as ipp, sys
def where(seconds):
    import os, socket, time
    time.sleep(seconds)
    return socket.gethostname(), os.getpid()
cluster = ipp.Cluster(profile='remotempi')
rc = cluster.start_and_connect_sync()
before = rc[:].apply_sync(where, 0)
"""
GOES_ON = SESSION + """
ar = rc[:].apply_async(where, 3)
balanced = rc.load_balanced_view().map_async(where, [0.1] * 40)
print('ready')
sys.stdin.readline()
assert ar.get(150) == before, (ar.get(), before)
assert len(balanced.get(60)) == 40
assert rc[:].apply_sync(where, 0) == before and rc.ids == [0, 1, 2, 3]
rc.close()
cluster.stop_cluster_sync()
print('all there')
"""
ENDS = SESSION + """
ar = rc[:].apply_async(where, 1000)
print('ready')
try:
    ar.get(45)
except Exception as e:
    print('told:', type(e).__name__, e)
print('asked')
sys.stdin.readline()
with ipp.Cluster(profile='remotempi') as rc:
    print('again', rc.ids)
"""
# which of these ssh says depends on what came first: the end of the connection, or an error from writing to it
BY_SSHD = "Connection to remote closed by remote host|Connection reset by|client_loop: send disconnect"


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    with RemoteMpi(tmp_path_factory.mktemp("remote-mpi")) as machines:
        machines.copy_key()
        yield machines


@pytest.fixture
def before(machines):
    """What runs on `local`; at the test's end nothing else does, nor anything on `remote`."""
    before = machines.local.processes()
    yield before
    machines.nothing_is_left(before, 60)


def start(machines: RemoteMpi, code: str):
    session = machines.python(code)
    session.wait_output("ready", 120)
    return session


def told(session, *words: str) -> None:
    """By the notebook's process."""
    session.wait_output("asked", 90)
    for word in words:
        assert re.search(word, session.output), session.output


def starts_again(session) -> None:
    session.say("")
    session.wait_output("again [0, 1, 2, 3]", 120)
    assert session.wait() == 0, session.output


def test_ssh_dies(machines, before):
    session = start(machines, ENDS)
    machines.local.kill("ssh")
    told(session, "the controller failed: ssh to remote: it was killed here by SIGKILL; what runs there goes on for 20 s and then ends",
         "an engine failed: ssh to remote", "LostTask: the controller stops")
    starts_again(session)


def test_sshds_sessions_die(machines, before):
    session = start(machines, ENDS)
    machines.remote.run("pkill", "-KILL", "-f", "sshd: demo", user="root")
    told(session, f"the controller failed: ssh to remote: ({BY_SSHD})", "LostTask: the controller stops")
    starts_again(session)


def test_sshd_and_with_it_the_machine_dies(machines, before):
    """sshd is what the container runs."""
    session = start(machines, ENDS)
    machines.remote.kill("sshd")
    told(session, f"the controller failed: ssh to remote: ({BY_SSHD})", "waiting for the controller, away since",
         "LostTask: the controller does not answer, and the cluster has ended")
    machines.remote.docker("start")
    starts_again(session)


def test_the_notebooks_machine_dies(machines, before):
    start(machines, ENDS)
    machines.local.docker("kill")
    wait_until(lambda: not machines.remote.processes(), 60, "the end of all processes on remote")
    machines.local.docker("start")


def test_a_link_that_is_down_for_20_s(machines, before):
    need(None if os.getuid() == 0 else "needs root: an end of the cable is on this machine")
    session = start(machines, GOES_ON)
    machines.remote.cable(False)
    sleep(20)  # what is tested is this time
    machines.remote.cable(True)
    session.say("")
    session.wait_output("all there", 180)
    assert session.wait() == 0, session.output

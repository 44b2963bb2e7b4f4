# SPDX-License-Identifier: BSD-3-Clause
"""Bad days of examples/docker/jupyter-cluster: the death of ssh, of sshd, of a machine, a network that is gone for a while. What is told, what is
retried, what is left."""
from __future__ import annotations

import os
import re
from time import sleep

import pytest

from . import containers
from .conftest import need, wait_until
from .jupyter_cluster import JupyterCluster

pytestmark = [pytest.mark.containers, pytest.mark.timeout(containers.BUILD_SECONDS + 300)]
CONNECT = "from ipyparallel import Client\nrc = Client(sshkey='/cluster/id_rsa', url_file='/cluster/ipcontroller-client.json', timeout={})\n"
SESSION = CONNECT.format(60) + """
import sys, time
def where(seconds):
    import os, socket, time
    time.sleep(seconds)
    return socket.gethostname(), os.getpid()
rc.wait_for_engines(4, timeout=60)
before = rc[:].apply_sync(where, 0)
"""
# what runs, waits or comes later is computed once, by the engines that were there before
GOES_ON = SESSION + """
ar = rc[:].apply_async(where, 3)
balanced = rc.load_balanced_view().map_async(where, [0.1] * 40)
print('ready')
sys.stdin.readline()
assert ar.get(150) == before, (ar.get(), before)
assert len(balanced.get(60)) == 40
assert rc[:].apply_sync(where, 0) == before and rc.ids == [0, 1, 2, 3]
print('all there')
"""
# one machine's engines can't be heard: what was sent to them by number fails and says why, what can run elsewhere does
RETRIED = SESSION + """
direct = rc[:].apply_async(where, 5)
balanced = rc.load_balanced_view(retries=2).map_async(where, [0.5] * 20)
print('ready')
sys.stdin.readline()
got = balanced.get(150)
print('retried at', sorted({host for host, _ in got[-4:]}), len(got))
try:
    direct.get(150)
except Exception as e:
    print('told:', e)
print('left', sorted({host for host, _ in rc[:].apply_sync(where, 0)}), len(rc.ids))
sys.stdin.readline()
rc.wait_for_engines(4, timeout=60)
assert sorted(host for host, _ in rc[:].apply_sync(where, 0)) == sorted(host for host, _ in before)
print('all there')
"""
CUT, BACK = "the link to the controller is cut: ", "the controller is there again"
# a minute and five are long for a test
SHORT = "c.IPController.ping_interval = 5\nc.IPController.ping_timeout = 15\nc.IPController.away_grace = 15"


@pytest.fixture
def cluster(tmp_path, request):
    with JupyterCluster(tmp_path, getattr(request, "param", "")) as cluster:
        yield cluster


def start(cluster: JupyterCluster, code: str):
    client = cluster.client(code)
    client.wait_output("ready", 90)
    return client


def all_there(cluster: JupyterCluster, client) -> None:
    client.say("")
    client.wait_output("all there", 180)
    assert client.wait() == 0, client.output
    for engines in cluster.engines:
        assert len(engines.processes(" -W ")) == 1
    wait_until(lambda: cluster.sessions() == 2, 30, "an end of sshd's sessions but the engines'")


def test_ssh_dies(cluster):
    """The engines' and the client's: each says so, and opens another one."""
    client = start(cluster, GOES_ON)
    for engines in cluster.engines:
        engines.kill("ssh")
    client.kill("ssh")
    for engines in cluster.engines:
        engines.said.wait_output(re.compile(f"{CUT}.*ssh to root@.* SIGKILL.*{BACK}", re.S), 60)
    all_there(cluster, client)


def test_sshd_dies(cluster):
    """With all its sessions. While there is none who wants in is told, and is in when there is one again."""
    client = start(cluster, GOES_ON)
    cluster.controller.kill("sshd")
    for engines in cluster.engines:
        engines.said.wait_output(re.compile(f"{CUT}.*ssh to root@.*sshd", re.S), 60)
    other = cluster.client(CONNECT.format(3))
    other.wait_output("sshd", 60)
    assert other.wait() == 1, other.output
    script = (containers.EXAMPLES / "jupyter-cluster/controller.sh").read_text()
    cluster.controller.run(*re.search(r"^/usr/sbin/sshd .*$", script, re.M)[0].split())
    for engines in cluster.engines:
        engines.said.wait_output(BACK, 60)
    all_there(cluster, client)


@pytest.mark.parametrize("cluster", [SHORT], indirect=True, ids=[""])
@pytest.mark.parametrize("end, begin", [("kill", "start"), ("pause", "unpause")])
def test_a_machine_with_engines(cluster, end, begin):
    """It dies, and is switched on again; or it is frozen, which breaks no connection."""
    client = start(cluster, RETRIED)
    cluster.engines[1].docker(end)
    lost(cluster, client)
    cluster.engines[1].docker(begin)
    client.say("")
    client.wait_output("all there", 90)
    assert client.wait() == 0, client.output


def lost(cluster: JupyterCluster, client) -> None:
    """The second machine's engines are given up: their tasks are retried, or fail with the reason; the others go on."""
    client.say("")
    stays, gone = (engines.name[:12] for engines in cluster.engines)
    client.wait_output(f"retried at ['{stays}'] 20", 180)
    client.wait_output(re.compile(rf"^told: .*engine \d \(pid \d+ on {gone}\) was not heard of for \d+ s and is given up", re.M | re.S), 60)
    client.wait_output(f"left ['{stays}'] 2", 60)


def test_a_link_that_is_down_for_20_s(cluster):
    """The cable of the controller's machine."""
    need(None if os.getuid() == 0 else "needs root: an end of the cable is on this machine")
    client = start(cluster, GOES_ON)
    cluster.controller.cable(False)
    sleep(20)  # what is tested is this time
    cluster.controller.cable(True)
    all_there(cluster, client)


def test_another_address_after_20_s(cluster):
    """docker takes the controller's container off its network; what it gets then is another address behind the same port."""
    client = start(cluster, GOES_ON)
    cluster.controller.docker("network", "disconnect", "bridge")
    sleep(20)  # what is tested is this time
    cluster.controller.docker("network", "connect", "bridge")
    for engines in cluster.engines:
        engines.said.wait_output(re.compile(f"{CUT}.*{BACK}", re.S), 120)
    all_there(cluster, client)


def test_the_controllers_container_dies(cluster):
    """It is started again and goes on with the same files: engines were waiting for it."""
    client = start(cluster, GOES_ON)
    cluster.controller.docker("kill")
    for engines in cluster.engines:
        engines.said.wait_output(CUT, 60)
    cluster.controller.docker("start")
    for engines in cluster.engines:
        engines.said.wait_output(BACK, 60)
    all_there(cluster, client)

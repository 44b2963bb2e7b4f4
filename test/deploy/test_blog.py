# SPDX-License-Identifier: BSD-3-Clause
"""A controller by hand and engines of another user on another machine by ssh, with the class names and commands of a decade ago."""
import re

import pytest

from . import seeds
from .conftest import wait_until

pytestmark = pytest.mark.timeout(300)

HELLO = """
import ipyparallel as ipp
c = ipp.Client(profile='ssh')
c.wait_for_engines({n}, timeout=30)
print(c.ids)
print(c[:].apply_sync(lambda : "Hello, World"))
print(sorted(c[:].apply_sync(lambda: __import__('getpass').getuser() + '@' + __import__('socket').gethostname())))
c.close()
"""


@pytest.fixture
def pair(machines):
    """The laptop with the profile `ssh`, and the machine at the other end."""
    boxes = machines("mac", "remote")
    mac, remote = boxes["mac"], boxes["remote"]
    mac.run("ipython", "profile", "create", "--parallel", "--profile=ssh")
    profile = mac.home / ".ipython/profile_ssh"
    with open(profile / "ipcluster_config.py", "a") as f:
        f.write(seeds.BLOG_CLUSTER.format(address=remote.address))
    with open(profile / "ipcontroller_config.py", "a") as f:
        f.write(seeds.BLOG_CONTROLLER)
    return mac, remote


def controllers(mac):
    return [pid for pid, line in mac.processes().items() if re.search(r"/ipcontroller( |$)", line.split(" --")[0])]


def test_the_documents_order_makes_one_controller(pair):
    """ipcontroller by hand, then ipcluster start, stop, and a local engine: all of it about the same controller."""
    mac, remote = pair
    controller = mac.popen("ipcontroller", "--profile=ssh", "--ip=*")
    client_file = mac.home / ".ipython/profile_ssh/security/ipcontroller-client.json"
    wait_until(client_file.exists, what="the connection file")
    written = client_file.read_text()
    cluster = mac.popen("ipcluster", "start", "--profile=ssh")
    cluster.wait_output("Engines appear to have started successfully")
    assert f"A controller of this profile runs already (process {mac.pid_there(controller.pid)})" in cluster.output
    assert client_file.read_text() == written and len(controllers(mac)) == 1
    out = mac.python(HELLO.format(n=2)).splitlines()
    assert out == ["[0, 1]", "['Hello, World', 'Hello, World']", "['demo@remote', 'demo@remote']"]
    engine = mac.popen("ipengine", "--profile=ssh")
    assert mac.python(HELLO.format(n=3)).splitlines()[-1] == "['demo@remote', 'demo@remote', 'root@mac']"
    mac.run("ipcluster", "stop", "--profile=ssh")
    assert cluster.wait() == 0 and remote.wait_idle() == {}
    assert not list((remote.srv / "demo/to/profile/security").iterdir())
    assert mac.python(HELLO.format(n=1)).splitlines()[-1] == "['root@mac']"
    again = mac.popen("ipcluster", "start", "--profile=ssh")
    again.wait_output("Engines appear to have started successfully")
    controller.kill(15)
    assert controller.wait() == 0 and again.wait() == 0 and engine.wait() == 0
    assert "the controller (process" in again.output
    assert mac.wait_idle() == {} and remote.wait_idle() == {}


def test_without_a_controller_by_hand(pair):
    """ipcluster starts the controller then; after a stop nothing is left anywhere."""
    mac, remote = pair
    cluster = mac.popen("ipcluster", "start", "--profile=ssh")
    cluster.wait_output("Engines appear to have started successfully")
    assert mac.python(HELLO.format(n=2)).splitlines()[0] == "[0, 1]"
    mac.run("ipcluster", "stop", "--profile=ssh")
    assert cluster.wait() == 0 and mac.wait_idle() == {} and remote.wait_idle() == {}
    assert not list(mac.home.glob(".ipython/profile_ssh/security/*.json"))

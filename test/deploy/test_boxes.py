# SPDX-License-Identifier: BSD-3-Clause
"""The machines that the other tests here stand on."""
import subprocess
import sys

import pytest

from .boxes import PASSWORD, why_not
from .conftest import need, wait_until

pytestmark = pytest.mark.timeout(300)


def test_machines_see_each_other_by_ssh_and_have_homes_of_their_own(machines):
    boxes = machines("laptop", "host1", needs=("sshpass",))
    laptop, host1 = boxes["laptop"], boxes["host1"]
    assert laptop.run("ssh", "host1", "hostname; echo $HOME; command -v ipengine").stdout.split() == \
        ["host1", "/srv/root", f"{sys.prefix}/bin/ipengine"]
    assert laptop.run("sshpass", "-p", PASSWORD, "ssh", "-o", "PubkeyAuthentication=no", "demo@host1.example.com", "whoami; pwd").stdout.split() == \
        ["demo", "/srv/demo"]
    assert host1.run("ssh", "demo@laptop", "id", "-u", user="demo").stdout != "0"
    (host1.home / "here").touch()
    assert "here" not in laptop.run("ls").stdout and "here" in host1.run("ls").stdout
    ids = {box.run("cat", "/proc/sys/kernel/random/boot_id").stdout for box in boxes}
    assert len(ids) == 2
    assert laptop.wait_idle() == {} == host1.wait_idle()


def test_cables_firewalls_and_power(machines):
    boxes = machines("laptop", "host1", needs=("iptables",))
    laptop, host1 = boxes["laptop"], boxes["host1"]
    server = host1.popen("python", "-u", "-m", "http.server", "8000")
    server.wait_output("Serving")
    fetch = ("python", "-c", "import urllib.request; print(urllib.request.urlopen('http://host1:8000', timeout=10).status)")
    assert laptop.run(*fetch).stdout == "200\n"
    host1.firewall()
    assert laptop.run(*fetch, check=False).returncode == 1
    assert laptop.run("ssh", "host1", "true").returncode == 0
    host1.cable(False)
    assert laptop.run("ssh", "-o", "ConnectTimeout=1", "host1", "true", check=False).returncode == 255
    host1.cable(True)
    before = host1.received()
    assert laptop.run("ssh", "host1", "cat >/dev/null", input="x" * 1_000_000).returncode == 0
    assert 1_000_000 < host1.received() - before < 1_200_000
    wait_until(lambda: list(host1.processes()) == [server.pid], what="the server being all that runs")
    host1.power_off()
    server.wait(30)
    host1.start()
    assert laptop.run("ssh", "host1", "hostname").stdout == "host1\n"


def test_nothing_is_left_of_a_killed_test(tmp_path):
    """Who made the boxes is killed: all that ran on them, and the bridge, go with it."""
    need(why_not())
    code = ("import sys; from test.deploy.boxes import Boxes\nwith Boxes(sys.argv[1], ['a']) as b:\n"
            " p = b['a'].popen('sleep', '1000'); print(b['a'].init, b.hub.pid, p.pid, flush=True); sys.stdin.read()")
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path / "boxes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in child.stdout.readline().split()]
    assert len(pids) == 3
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    wait_until(lambda: not any(_alive(pid) for pid in pids), what="the end of all processes")


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

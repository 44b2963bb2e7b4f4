# SPDX-License-Identifier: BSD-3-Clause
"""Bad days of engines on another machine: a cut network, the death of ssh, of sshd, of a machine. What is told, what is retried, what is left."""
import re
import signal

import pytest

from . import seeds
from .conftest import wait_until

pytestmark = pytest.mark.timeout(300)

CONFIG = """\
c = get_config()
c.Cluster.engine_launcher_class = 'ssh'
c.Cluster.controller_ip = '*'
c.SSHEngineSetLauncher.engines = {'host1': 2, 'host2': 2}
"""

SESSION = """
import ipyparallel as ipp, sys
def where(t):
    import os, socket, time
    time.sleep(t)
    return socket.gethostname(), os.getpid()
def held(_):
    import os, socket, time
    while not os.path.exists('/srv/root/go'):   # of the machine that it runs on
        time.sleep(0.05)
    return socket.gethostname(), os.getpid()
rc = ipp.Client(timeout=60)
rc.wait_for_engines(4, timeout=60)
before = rc[:].apply_sync(where, 0)
"""


@pytest.fixture
def cluster(machines):
    """ipcluster on one machine, its engines on two others."""
    boxes = machines("laptop", "host1", "host2", needs=("iptables",))
    laptop = boxes["laptop"]
    laptop.write(".ipython/profile_default/ipcluster_config.py", CONFIG)
    laptop.write(".ipython/profile_default/ipcontroller_config.py", "c.IPController.away_grace = 25\n")
    process = laptop.popen("ipcluster", "start")
    process.wait_output("Engines appear to have started successfully", 60)
    yield boxes, process
    process.kill(signal.SIGTERM)
    process.wait(60)
    for box in boxes:
        assert box.wait_idle(60) == {}


def session(laptop, code):
    """A client's session; it goes on when it gets a line."""
    s = laptop.popen("python", "-u", "-c", SESSION + code, stdin=-1)
    s.wait_output("ready", 60)
    return s


def go_on(s):
    s.process.stdin.write(b"\n")
    s.process.stdin.flush()


def cut(process, host, reason, timeout):
    """ipcluster's sentence about the lost ssh to a host: named, with a reason and what becomes of what ran there."""
    process.wait_output(re.compile(rf"an engine failed: ssh to {host}: ({reason}).*; what runs there goes on for 20 s and then ends$", re.M), timeout)


# which of these ssh says depends on what came first: the end of the connection, or an error from writing to it
BY_SSHD = "Connection to host[12] closed by remote host|Connection reset by|client_loop: send disconnect"
SILENT = "Timeout, server host2 not responding"


def test_a_network_that_is_gone_for_20_s(cluster):
    """Both ends keep what they have: the same processes, no task twice, no result lost."""
    boxes, _ = cluster
    laptop = boxes["laptop"]
    s = session(laptop, """
ar = rc[:].apply_async(where, 5)
lbv = rc.load_balanced_view().map_async(where, [0.1] * 40)
print('ready')
sys.stdin.readline()
assert ar.get(60) == before, (ar.get(), before)
assert len(lbv.get(60)) == 40
assert rc[:].apply_sync(where, 0) == before and rc.ids == [0, 1, 2, 3]
print('all there')
rc.close()
""")
    laptop.cable(False)
    wait = laptop.popen("sleep", "20")     # what is tested is this time
    wait.wait(60)
    laptop.cable(True)
    go_on(s)
    s.wait_output("all there", 90)
    assert s.wait() == 0, s.output


def test_a_machine_that_is_switched_off(cluster):
    """Its engines are away, and dead after the grace; what ran there fails or is retried; the other machine goes on. Who waits is told at once, and
    ipcluster says which host."""
    boxes, process = cluster
    s = session(boxes["laptop"], """
lbv = rc.load_balanced_view(retries=2)
ar = lbv.map_async(held, range(20), chunksize=1)
rc.queue_status()
print('ready')
sys.stdin.readline()
got = ar.get(120)
print('done on', sorted({host for host, _ in got}), len(got))
rc.close()
""")
    boxes["host2"].power_off()
    go_on(s)
    s.wait_output(re.compile(r"waiting for engine \d, away since \d+ s: .*engine \d, away since"), 60)
    process.wait_output(re.compile(r"engines \d, \d on host2: the link is lost: .*; what runs there is waited for, 25 s at most"), 30)
    cut(process, "host2", f"{BY_SSHD}|{SILENT}", 90)
    (boxes["host1"].home / "go").touch()
    s.wait_output("done on ['host1'] 20", 120)
    assert s.wait() == 0, s.output
    process.wait_output(re.compile(r"engine \d \(pid \d+ on host2\) was not heard of for \d+ s and is given up"), 60)


def test_sshd_and_ssh_die(cluster):
    """The engines outlive neither for longer than the lease, and ipcluster names the host; the other machine's engines stay."""
    boxes, process = cluster
    laptop, host1, host2 = (boxes[n] for n in ("laptop", "host1", "host2"))
    for pid in host1.sshd_sessions():
        host1.kill(pid)
    cut(process, "host1", BY_SSHD, 60)
    assert host1.wait_idle(60) == {}
    ssh = [pid for pid, line in laptop.processes().items() if line.startswith("ssh ") and " host2 " in line]
    out = laptop.run("python", "-c", "import ipyparallel as ipp; rc = ipp.Client(); print(rc[:].apply_sync(lambda: 1))").stdout
    assert out == "[1, 1]\n"
    for pid in ssh:
        laptop.kill(pid)
    cut(process, "host2", "it was killed here by SIGKILL", 60)
    assert ssh and host2.wait_idle(60) == {}


@pytest.mark.parametrize("controller", ["local", "ssh"])
def test_a_host_that_is_killed(machines, controller):
    """Its engines end with it, and ssh knows: who waits for them is told at once, not after the grace time (300 s). The other machine's stay."""
    boxes = machines("laptop", "host1", "host2")
    laptop, host1, host2 = boxes
    laptop.write(".ipython/profile_default/ipcluster_config.py",
                 CONFIG + f"c.Cluster.controller_launcher_class = '{controller}'\nc.SSHControllerLauncher.hostname = 'host2'\n")
    process = laptop.popen("ipcluster", "start")
    process.wait_output("Engines appear to have started successfully", 60)
    s = session(laptop, """
tasks = [rc[i].apply_async(held, 0) for i in range(4)]
rc.queue_status()
print('ready')
for task in tasks:
    try:
        print('result', task.get(60))
    except ipp.EngineError as e:
        print('told:', str(e).splitlines()[0])
print(len(rc.ids), 'stay')
rc.close()
""")
    host, = [pid for pid, line in host1.processes().items() if "bin/ipengine " in line]
    host1.kill(host)
    assert host1.wait_idle() == {}
    (host2.home / "go").touch()
    s.wait_output("2 stay", 90)
    told = re.findall(r"^told: .*engine \d \(pid \d+ on host1\) is gone: its host \(ipengine\) was killed by SIGKILL", s.output, re.M)
    assert len(told) == 2 and s.output.count("result ") == 2 and s.wait() == 0, s.output
    assert host1.wait_idle() == {} and host2.processes()
    process.kill(signal.SIGTERM)
    process.wait(60)
    for box in boxes:
        assert box.wait_idle(60) == {}


BLOG_SESSION = """
import ipyparallel as ipp, sys, time
def where(t=0):
    import os, socket, time
    time.sleep(t)
    return socket.gethostname(), os.getpid()
rc = ipp.Client(profile='ssh', timeout=60)
rc.wait_for_engines(4, timeout=60)
before = rc[:].apply_sync(where)
stay = [i for i, (host, _) in enumerate(before) if host == 'other']
ar = rc[stay].apply_async(where, 5)
print('ready', flush=True)
sys.stdin.readline()
kept = [before[i] for i in stay]
assert ar.get(60) == kept, (ar.get(), kept)
deadline = time.monotonic() + 40
while len(rc.ids) > 2 and time.monotonic() < deadline:
    time.sleep(0.02)
assert rc.ids == stay and rc[:].apply_sync(where) == kept
ar = rc[:].apply_async(where, 600)
print('all there', flush=True)
sys.stdin.readline()
try:
    ar.get(60)
except Exception as e:
    print('told:', str(e), flush=True)
rc.close()
"""


def test_a_controller_by_hand(machines):
    """The document of `make deploy-blog`: sshd's end of one connection dies, then the controller's machine has no network for 20 s, then the other
    machine of engines has no power. The controller is nobody's child: it stays."""
    boxes = machines("mac", "remote", "other")
    mac, remote, other = boxes
    mac.run("ipython", "profile", "create", "--parallel", "--profile=ssh")
    profile = mac.home / ".ipython/profile_ssh"
    (profile / "ipcluster_config.py").write_text(seeds.BLOG_CLUSTER.format(address=remote.address).replace(
        "    'demo@", f"    'root@{other.address}': 2,\n    'demo@"))
    (profile / "ipcontroller_config.py").write_text(seeds.BLOG_CONTROLLER + "c.IPController.away_grace = 5\n")
    controller = mac.popen("ipcontroller", "--profile=ssh", "--ip=*")
    wait_until((profile / "security/ipcontroller-client.json").exists, what="the connection file")
    cluster = mac.popen("ipcluster", "start", "--profile=ssh")
    cluster.wait_output("Engines appear to have started successfully", 60)
    s = mac.popen("python", "-u", "-c", BLOG_SESSION, stdin=-1)
    s.wait_output("ready", 60)
    for pid in remote.sshd_sessions():
        remote.kill(pid)
    cut(cluster, f"demo@{remote.address}", "Connection to .* closed by remote host|Connection reset by|client_loop: send disconnect", 30)
    mac.cable(False)
    mac.popen("sleep", "20").wait(60)       # what is tested is this time, which is also the lease of what is behind the cut ssh
    mac.cable(True)
    assert remote.wait_idle(60) == {}
    go_on(s)
    s.wait_output("all there", 90)
    other.power_off()
    cut(cluster, f"root@{other.address}", f"{BY_SSHD}|Timeout, server .* not responding|Connection to .* closed by remote host", 90)
    go_on(s)
    s.wait_output(re.compile(r"told: .*on other\) was not heard of for \d+ s and is given up", re.S), 60)
    assert s.wait() == 0, s.output
    mac.run("ipcluster", "stop", "--profile=ssh")
    cluster.wait()
    wait_until(lambda: mac.processes().keys() == {controller.pid}, what="the controller being all that runs")
    controller.kill(signal.SIGTERM)
    assert controller.wait() == 0 and mac.wait_idle() == {}

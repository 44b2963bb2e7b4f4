# SPDX-License-Identifier: BSD-3-Clause
"""Homes that machines share, with engines started there by ssh: the connection file is written once, and removed by who ends last."""
import pytest

from .conftest import wait_until

pytestmark = pytest.mark.timeout(300)

CONFIG = """\
c.Cluster.engine_launcher_class = "ssh"
c.Cluster.controller_ip = "*"
c.SSHEngineSetLauncher.engines = {"host1": 1, "host2": 1}
"""
HOSTS = """
import covey as ipp, socket
with ipp.Client(profile="lab") as rc:
    rc.wait_for_engines(2, timeout=30)
    print(sorted(rc[:].apply_sync(socket.gethostname)))
"""
ENGINE_FILE = ".ipython/profile_lab/security/ipcontroller-engine.json"


@pytest.mark.parametrize("shared", [("host1", "host2"), ("laptop", "host1", "host2")], ids=["hosts", "all"])
def test_a_shared_home(machines, shared):
    boxes = machines("laptop", "host1", "host2", shared=shared)
    laptop, host1 = boxes["laptop"], boxes["host1"]
    laptop.write(".ipython/profile_lab/ipcluster_config.py", CONFIG)
    for _ in range(2):
        laptop.run("ipcluster", "start", "--profile=lab", "--daemonize")
        assert laptop.python(HOSTS) == "['host1', 'host2']\n"
        assert host1.home.joinpath(ENGINE_FILE).exists() and len(list(host1.home.joinpath(ENGINE_FILE).parent.glob("ipcontroller*engine*"))) == 1
        laptop.run("ipcluster", "stop", "--profile=lab")
        for box in boxes:
            assert box.wait_idle() == {}
            assert not list(box.home.glob(".ipython/profile_lab/security/*.json*"))


def test_a_shared_home_whose_first_user_is_lost(machines):
    """The file stays for the other host's engines. What runs behind the cut ends with its lease, also when it had more to say."""
    boxes = machines("laptop", "host1", "host2", shared=("host1", "host2"))
    laptop, host1, host2 = boxes["laptop"], boxes["host1"], boxes["host2"]
    laptop.write(".ipython/profile_lab/ipcluster_config.py", CONFIG.replace(": 1", ": 2"))
    cluster = laptop.popen("ipcluster", "start", "--profile=lab")
    cluster.wait_output("Engines appear to have started successfully", 40)
    for pid in host1.sshd_sessions():
        host1.kill(pid)
    cluster.wait_output("what runs there goes on for 20 s and then ends")
    engines = [pid for pid, line in host1.processes().items() if "covey.engine --engine" in line]
    host1.kill(engines[0])      # which its host tells
    assert host1.wait_idle(60) == {}
    assert host2.home.joinpath(ENGINE_FILE).exists()
    laptop.run("ipcluster", "stop", "--profile=lab")
    assert cluster.wait() == 0 and host2.wait_idle() == {}
    assert list(host2.home.glob(".ipython/profile_lab/security/*")) == []


def test_a_cut_ssh_is_said_in_a_sentence(machines):
    """The other host's engines stay; those behind the cut end when its lease is over."""
    boxes = machines("laptop", "host1", "host2")
    laptop, host1 = boxes["laptop"], boxes["host1"]
    laptop.write(".ipython/profile_lab/ipcluster_config.py", CONFIG)
    cluster = laptop.popen("ipcluster", "start", "--profile=lab")
    cluster.wait_output("Engines appear to have started successfully", 40)
    for pid in host1.sshd_sessions():
        host1.kill(pid)
    said = cluster.wait_output("what runs there goes on for 20 s and then ends")
    line = next(line for line in said.splitlines() if "goes on for" in line)
    assert "ssh to host1: Connection to host1 closed by remote host. (the connection was cut" in line
    wait_until(lambda: not host1.processes(), 60, "the end of what ran there")
    laptop.run("ipcluster", "stop", "--profile=lab")
    assert cluster.wait() == 0 and boxes["host2"].wait_idle() == {}


ODD = """\
c.Cluster.engine_launcher_class = "ssh"
c.Cluster.controller_ip = "*"
c.SSHEngineSetLauncher.engines = {
    "host1": {"n": 1, "to_send": [("~/tool", "~/bin/tool")]},
    "demo@host2": {"n": 1, "ssh_cmd": ["sshpass", "-pwhocares", "ssh"], "ssh_args": ["-oBatchMode=no"], "remote_profile_dir": "~/a folder/lab"},
}
"""


def test_what_people_have_in_their_start_files_and_ssh_config(machines):
    """A shell that talks, a terminal and a command for every login, a password by sshpass; the user's files stay as they were sent."""
    boxes = machines("laptop", "host1", "host2", needs=("sshpass",))
    laptop, host1, host2 = (boxes[name] for name in ("laptop", "host1", "host2"))
    config = laptop.home / ".ssh/config"
    config.write_text("Host host1\n RemoteCommand top\n RequestTTY force\nHost host2\n PubkeyAuthentication no\n" + config.read_text())
    host1.write(".bashrc", "echo 42; printf 'welcome to host1'\n")
    host1.write("bin/tool", "an older one")
    tool = bytes(range(256))
    (laptop.home / "tool").write_bytes(tool)
    laptop.write(".ipython/profile_lab/ipcluster_config.py", ODD)
    laptop.run("ipcluster", "start", "--profile=lab", "--daemonize")
    assert laptop.python(HOSTS) == "['host1', 'host2']\n"
    assert (host2.srv / "demo/a folder/lab/security/ipcontroller-engine.json").exists()
    laptop.run("ipcluster", "stop", "--profile=lab")
    assert [box.wait_idle() for box in boxes] == [{}] * 3
    assert (host1.home / "bin/tool").read_bytes() == tool
    assert not [*host1.srv.glob("**/*.json"), *host2.srv.glob("**/*.json")]

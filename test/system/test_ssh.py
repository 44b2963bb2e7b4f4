# SPDX-License-Identifier: BSD-3-Clause
"""Launching by ssh, against a real sshd on a port of the loopback interface: engines on hosts, a controller, ipcluster there."""
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import covey as ipp
import pytest
from covey._programs import program_argv

from ..ports import free_ports
from .conftest import files_of, processes_of, wait_gone, wait_until
from .stack import other_engines

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
pytestmark = pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="no sshd and ssh here")


@pytest.fixture
def sshd(home, tmp_path):  # noqa: F811
    """A server for this user; what it runs has this test's IPYTHONDIR. Gives settings for SSHLauncher and the port."""
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    shutil.copy(keys / "user.pub", keys / "authorized")
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    port, = free_ports(1)
    preloaded = ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS") if os.environ.get("COVEY_TEST_PRELOAD") else ()
    env = [f"IPYTHONDIR={home}", *(f'{name}="{os.environ[name]}"' for name in preloaded if name in os.environ)]
    options = [f"Port={port}", "ListenAddress=127.0.0.1", f"HostKey={keys}/host", f"AuthorizedKeysFile={keys}/authorized", "StrictModes=no",
               "UsePAM=no", "PidFile=none", "PermitRootLogin=prohibit-password", f"SetEnv={' '.join(env)}"]
    log = open(tmp_path / "sshd.log", "w")
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", "/dev/null", *(w for o in options for w in ("-o", o))], stderr=log, stdin=subprocess.DEVNULL)
    (keys / "config").write_text(f"Host *\n IdentityFile {keys}/user\n IdentitiesOnly yes\n StrictHostKeyChecking no\n"
                                 " UserKnownHostsFile /dev/null\n LogLevel ERROR\n")

    def answers():
        assert server.poll() is None, (tmp_path / "sshd.log").read_text()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    wait_until(answers, what="sshd listening")
    settings = {"ssh_args": ["-F", str(keys / "config")], "remote_python": sys.executable, "remote_profile_dir": str(tmp_path / "far")}
    yield settings, port
    server.terminate()
    server.wait(30)
    log.close()


def far_files(settings):
    """But for the marks of those that want them."""
    return sorted(name for name in os.listdir(os.path.join(settings["remote_profile_dir"], "security")) if "@" not in name)


def test_engines_on_two_hosts(home, sshd):  # noqa: F811
    """Forms of every era; files are there while they are needed; signals; a killed supervisor leaves nothing."""
    settings, port = sshd
    hosts = {f"{getpass.getuser()}@127.0.0.1:{port}": 2, f"localhost:{port}": (1, ["--log-level=10"])}
    profile = Path(home) / "profile_ssh"
    profile.mkdir(parents=True)
    (profile / "ipcluster_config.py").write_text(
        f"c.IPClusterEngines.engine_launcher = 'IPython.parallel.apps.launcher.SSHEngineSetLauncher'\nc.SSHEngineSetLauncher.engines = {hosts!r}\n"
        + "".join(f"c.SSHLauncher.{k} = {v!r}\n" for k, v in settings.items()))
    c = ipp.Cluster(profile="ssh", cluster_id="s")
    with c as rc:
        assert len(rc) == 3 and c.n == 3
        assert far_files(settings) == ["ipcontroller-s-engine.json"]
        key = json.loads(Path(c.client_file).read_text())["key"]
        assert not [line for line in processes_of(home).values() if key in line]
        rc[:].execute("import signal; hits = []; signal.signal(signal.SIGUSR1, lambda *a: hits.append(1))", block=True)
        c.signal_engines_sync(signal.SIGUSR1)
        wait_until(lambda: rc[:].pull("hits", block=True) == [[1]] * 3, what="signals at all engines")
        pids = rc[:].apply_sync(os.getpid)
        c.restart_engines_sync()
        wait_until(lambda: other_engines(rc, 3, pids), what="new engines")
    assert far_files(settings) == [] == os.listdir(os.path.join(settings["remote_profile_dir"], "security")) and wait_gone(home) == {}


def test_a_controller_there_and_engines_by_its_ipcluster(home, sshd):  # noqa: F811
    """Seed of a remote cluster: controller by ssh, engines by sshproxy; the client's file comes here; `ipcluster stop` ends all."""
    settings, port = sshd
    config = {"SSHLauncher": {**settings, "location": f"127.0.0.1:{port}"}}
    c = ipp.Cluster(controller="ssh", engines="SSHProxyEngineSetLauncher", n=2, config=config, cluster_id="p", controller_args=["--ip=*"])
    with c as rc:
        assert len(rc[:].apply_sync(os.getpid)) == 2 and c.client_file.startswith(home)
        assert subprocess.run([*program_argv("ipcluster"), "stop", "--cluster-id=p"], timeout=60).returncode == 0
    assert wait_gone(home) == {} and files_of(home) == [] and far_files(settings) == []


def test_a_killed_supervisor(home, sshd):  # noqa: F811
    settings, port = sshd
    config = {"SSHLauncher": settings, "SSHEngineSetLauncher": {"engines": {f"127.0.0.1:{port}": 1}}}
    c = ipp.Cluster(engines="ssh", config=config)
    c.start_and_connect_sync().close()
    os.kill(c._supervisor.pid, signal.SIGKILL)
    c._supervisor.process.wait()
    assert wait_gone(home) == {}


def test_a_host_that_does_not_answer_is_named(home, sshd):  # noqa: F811
    settings, port = sshd
    config = {"SSHLauncher": {**settings, "remote_python": "/no/such/python"}, "SSHEngineSetLauncher": {"engines": {f"127.0.0.1:{port}": 1}}}
    with pytest.raises(ipp.cluster.ClusterError, match=r"(?s)127.0.0.1:.*/no/such/python"):
        ipp.Cluster(engines="ssh", config=config).start_cluster_sync()

# SPDX-License-Identifier: BSD-3-Clause
"""`ipcluster tunnel`: a cluster behind a login node as a profile of the laptop, and nothing of it afterwards."""
import signal

import pytest

from .conftest import wait_until

pytestmark = pytest.mark.timeout(300)

SESSION = """
import ipyparallel as ipp, sys
rc = ipp.Client(profile='job_77')
rc.wait_for_engines(2, timeout=30)
print('first', rc[:].apply_sync(lambda: __import__('socket').gethostname()), flush=True)
sys.stdin.readline()
print('second', rc[:].apply_sync(lambda: 6 * 7), flush=True)
sys.stdin.readline()
print('third', rc[:].apply_sync(lambda: 6 * 7), flush=True)
rc.close()
"""


def test_a_job_behind_a_login_node(machines):
    """The controller on a compute node, which the login node alone reaches; a killed connection comes back under the client."""
    boxes = machines("laptop", "login", "node", shared=("login", "node"), needs=("iptables",))
    laptop, login, node = boxes["laptop"], boxes["login"], boxes["node"]
    node.firewall(22, others_from=login.address)
    job = node.popen("ipcluster", "start", "-n", "2", "--profile=job_77", "--ip=*")
    job.wait_output("Engines appear to have started successfully")
    r = laptop.run("ipcluster", "tunnel", "login", "99", check=False)
    assert r.returncode == 1 and "no readable /srv/root/.ipython/profile_NAME/security/ipcontroller-client.json for NAME in: 99 job_99" in r.stderr
    assert not (laptop.home / ".ipython").exists()
    tunnel = laptop.popen("ipcluster", "tunnel", "root@login", "77")
    tunnel.wait_output("Client(profile='job_77') works now")
    session = laptop.popen("python", "-c", SESSION, stdin=-1)
    session.wait_output("first ['node', 'node']")
    for pid in login.sshd_sessions():
        login.kill(pid)
    tunnel.wait_output("connected again")
    session.say("")
    session.wait_output("second [42, 42]")
    # ssh itself, which leaves its control socket behind
    for pid in [pid for pid, line in laptop.processes().items() if line.startswith("ssh ")]:
        laptop.kill(pid)
    wait_until(lambda: tunnel.output.count("connected again") == 2, what="another ssh")
    session.say("")
    session.wait_output("third [42, 42]")
    assert session.wait() == 0
    assert "FAIL" not in laptop.run("ipcluster", "doctor", "--profile=job_77").stdout
    tunnel.kill(signal.SIGINT)
    assert tunnel.wait() == 0 and "closed" in tunnel.output
    assert laptop.wait_idle() == {} and not (laptop.home / ".ipython").exists()
    wait_until(lambda: not login.sshd_sessions(), what="the end of the login")
    # a file that was there comes back, and a second connection lost for good is told while it is
    mine = laptop.write(".ipython/profile_job_77/security/ipcontroller-client.json", "mine\n")
    tunnel = laptop.popen("ipcluster", "tunnel", "login", "job_77")
    tunnel.wait_output("Client(profile='job_77') works now")
    assert "127.0.0.1" in mine.read_text() and mine.stat().st_mode & 0o777 == 0o600
    login.cable(False)
    tunnel.wait_output("is lost; connecting again", 60)
    login.cable(True)
    tunnel.wait_output("connected again", 60)
    login.power_off()
    wait_until(lambda: tunnel.output.count("is lost; connecting again") == 2, 60, "a word of the login node's end")
    login.start()
    wait_until(lambda: tunnel.output.count("connected again") == 2, 60, "a login node that is there again")
    tunnel.kill(signal.SIGTERM)
    assert tunnel.wait() == 0 and mine.read_text() == "mine\n"
    job.kill(signal.SIGTERM)
    assert job.wait() == 0


def test_two_tunnels_and_a_killed_one(machines):
    """Each ends without harm to the other; SIGKILL ends the login, and what it left is not kept for the user's."""
    boxes = machines("laptop", "login")
    laptop, login = boxes["laptop"], boxes["login"]
    job = login.popen("ipcluster", "start", "-n", "1", "--profile=job_77")
    job.wait_output("Engines appear to have started successfully")
    file = laptop.home / ".ipython/profile_job_77/security/ipcontroller-client.json"

    def tunnel():
        t = laptop.popen("ipcluster", "tunnel", "login", "77")
        t.wait_output("Client(profile='job_77') works now")
        return t

    def works():
        return laptop.python("import covey as ipp; rc = ipp.Client(profile='job_77'); print(rc[:].apply_sync(abs, -1)); rc.close()") == "[1]\n"
    first, second = tunnel(), tunnel()
    first.kill(signal.SIGTERM)
    assert first.wait() == 0 and works()
    third = tunnel()
    third.kill(signal.SIGTERM)
    assert third.wait() == 0 and works()        # by the second one again
    second.kill(signal.SIGKILL)
    second.wait()
    assert laptop.wait_idle() == {} and file.exists()
    assert "`ipcluster tunnel` that made this file" in laptop.run("ipcluster", "doctor", "--profile=job_77", check=False).stdout
    last = tunnel()
    assert works()
    job.kill(signal.SIGTERM)
    assert job.wait() == 0
    said = laptop.run("ipcluster", "doctor", "--profile=job_77", check=False).stdout
    assert "FAIL  tunnel: " in said and "the job has ended, or its controller was started again" in said
    last.kill(signal.SIGTERM)
    assert last.wait() == 0 and not file.exists() and laptop.wait_idle() == {}
    assert not list((laptop.folder / "private/tmp").glob("covey*"))


def test_a_forward_that_leads_nowhere(machines):
    """A controller that only its own machine reaches, and an sshd that does not forward: one sentence, and nothing left."""
    boxes = machines("laptop", "login", "node", shared=("login", "node"))
    laptop, login, node = boxes["laptop"], boxes["login"], boxes["node"]
    job = node.popen("ipcluster", "start", "-n", "0", "--profile=job_77")
    job.wait_output("The controller is ready")
    login.run("sh", "-c", f"(cat {login.folder}/sshd_config; echo Port 2222; echo AllowTcpForwarding no) > /tmp/config && /usr/sbin/sshd -f /tmp/config")
    for server in ("login", "login:2222"):
        r = laptop.run("ipcluster", "tunnel", server, "77", check=False, timeout=90)
        assert r.returncode == 1 and len(r.stderr.splitlines()) == 1, r.stderr
        assert "nobody answers at " in r.stderr and f"as seen from {server}" in r.stderr and "--ip='*'" in r.stderr and "AllowTcpForwarding" in r.stderr
        assert laptop.wait_idle() == {} and not (laptop.home / ".ipython").exists() and not list((laptop.folder / "private/tmp").glob("covey*"))
    job.kill(signal.SIGTERM)
    assert job.wait() == 0

# SPDX-License-Identifier: BSD-3-Clause
"""A controller behind a firewall that lets nothing in but ssh: engines and clients go through it, and come back through it after a cut."""
import json
import shutil
import signal

import pytest

from . import seeds
from .boxes import PASSWORD

pytestmark = pytest.mark.timeout(300)

HELLO = """
import ipyparallel as ipp, socket
rc = ipp.Client({args})
rc.wait_for_engines(4, timeout=40)
print(rc.ids, sorted(set(rc[:].apply_sync(socket.gethostname))))
rc.close()
"""


def ssh_children(box):
    """{pid: command line} of the ways that are open on a box."""
    return {pid: line for pid, line in box.processes().items() if line.startswith("ssh ") and " -W " in line}


def listen(controller, port):
    """Another sshd, which is not the machine's first process and can be killed."""
    listener = controller.popen("/usr/sbin/sshd", "-D", "-e", "-f", str(controller.folder / "sshd_config"), "-p", str(port))
    listener.wait_output("Server listening on 0.0.0.0")
    return listener


@pytest.fixture
def behind(machines, request):
    """The controller's machine, one with engines, one with clients; the files in /srv/root/cluster of both as the document's `docker cp` leaves them.
    A test's parameters: the port of an sshd of its own, `listener`, which alone is let through, and the controller's away_grace."""
    boxes = machines("controller", "engines", "client", needs=("iptables",))
    controller = boxes["controller"]
    port, grace = getattr(request, "param", (22, 300))
    controller.firewall(port)
    if port != 22:
        boxes.listener = listen(controller, port)
    server = f"root@{controller.address}:{port}"
    controller.write(".ipython/profile_default/ipcontroller_config.py", f"c.IPController.away_grace = {grace}\n")
    process = controller.popen("ipcontroller", f"--ssh={server}", f"--enginessh={server}")
    security = controller.home / ".ipython/profile_default/security"
    process.wait_output("listening on")
    for box in (boxes["engines"], boxes["client"]):
        cluster = box.home / "cluster"
        cluster.mkdir()
        for path in (*security.iterdir(), controller.home / ".ssh/id_ed25519"):
            shutil.copy(path, cluster / path.name.replace("id_ed25519", "id_rsa"))
        (box.home / ".ssh/id_ed25519").unlink()
    yield boxes
    for box in boxes:
        key = json.loads((security / "ipcontroller-client.json").read_text())["key"]
        assert not [line for line in box.processes().values() if key in line]
    process.kill(signal.SIGTERM)
    assert process.wait() == 0
    assert boxes["controller"].wait_idle() == {} and boxes["engines"].wait_idle() == {}


def start_engines(box):
    """As the engines' image does it: the profile `ssh` and `ipcluster engines`."""
    box.write(".ipython/profile_ssh/ipengine_config.py", seeds.CLUSTER_ENGINE.format(cluster="/srv/root/cluster"))
    engines = box.popen("ipcluster", "engines", "--profile=ssh", "-n", "4")
    engines.wait_output("Completed registration with id 3", 40)
    return engines


def client(box, args, **options):
    return box.python(HELLO.format(args=args), **options).split("\n")[0]


def test_engines_and_clients_through_the_files(behind):
    """The document's own ways: url_file and sshkey in the engines' profile and in Client()."""
    engines = start_engines(behind["engines"])
    there = "[0, 1, 2, 3] ['engines']"
    box = behind["client"]
    assert client(box, "sshkey='/srv/root/cluster/id_rsa', url_file='/srv/root/cluster/ipcontroller-client.json'") == there
    assert client(box, "'/srv/root/cluster/ipcontroller-client.json', sshkey='~/cluster/id_rsa', sshserver='controller'") == there
    assert len(ssh_children(behind["engines"])) == 1 and not ssh_children(box)
    # the key as the user's own, and the server as ~/.ssh/config names it
    shutil.copy(box.home / "cluster/id_rsa", box.home / ".ssh/id_ed25519")
    with open(box.home / ".ssh/config", "a") as f:
        f.write("Host gate\n HostName controller\n User root\n")
    assert client(box, "'/srv/root/cluster/ipcontroller-client.json', sshserver='gate'") == there
    engines.kill(signal.SIGTERM)
    engines.wait()
    assert behind["engines"].wait_idle() == {}


def test_options_of_ipengine(behind):
    box = behind["engines"]
    engine = box.popen("ipengine", "-n", "4", "--file=cluster/ipcontroller-engine.json", f"--ssh=root@{behind['controller'].address}",
                       "--sshkey=cluster/id_rsa")
    engine.wait_output("Completed registration with id 3", 40)
    assert client(behind["client"], "'cluster/ipcontroller-client.json', sshkey='cluster/id_rsa'") == "[0, 1, 2, 3] ['engines']"


def test_a_password(behind):
    """It is in nobody's arguments and environment; a wrong one is said at once."""
    engines = start_engines(behind["engines"])
    box, text = behind["client"], "'cluster/ipcontroller-client.json', sshserver='demo@controller', password={!r}"
    assert client(box, text.format(PASSWORD)) == "[0, 1, 2, 3] ['engines']"
    talk = box.popen("python", "-c", HELLO.format(args=text.format(PASSWORD)).replace("rc.close()", "import time; print('up', flush=True); time.sleep(60)"))
    talk.wait_output("up")
    ways = ssh_children(box)
    assert len(ways) == 1
    for pid, line in ways.items():
        with open(f"/proc/{pid}/environ") as f:
            assert PASSWORD not in line and PASSWORD not in f.read()
    talk.kill(signal.SIGKILL)
    talk.wait()
    assert box.wait_idle() == {}
    r = box.run("python", "-c", HELLO.format(args=text.format("wrong")), check=False, timeout=60)
    assert "Permission denied" in r.stderr and "`ssh SERVER` must work without questions" in r.stderr and "wrong" not in r.stderr.split("LinkError")[-1]
    engines.kill(signal.SIGTERM)


CUT = """
import ipyparallel as ipp, os, sys, time
rc = ipp.Client('cluster/ipcontroller-client.json', sshkey='cluster/id_rsa')
rc.wait_for_engines(4, timeout=40)
pids = rc[:].apply_sync(os.getpid)
ar = rc[:].apply_async(lambda: __import__('time').sleep(3) or __import__('os').getpid())
print('ready', flush=True)
sys.stdin.readline()
assert ar.get(60) == pids, (ar.get(), pids)
assert rc.ids == [0, 1, 2, 3] and rc[:].apply_sync(os.getpid) == pids
print('same', flush=True)
rc.close()
"""


@pytest.mark.parametrize("who", ["engines", "client", "sshd"])
def test_a_cut_way_is_opened_again(behind, who):
    """The ssh of the engines, of the client, or both server ends are killed while tasks run: numbers, processes and results stay."""
    engines = start_engines(behind["engines"])
    session = behind["client"].popen("python", "-c", CUT, stdin=-1)
    session.wait_output("ready")
    if who == "sshd":
        killed = behind["controller"].sshd_sessions()
    else:
        killed = ssh_children(behind[who])
    assert killed
    for pid in killed:
        behind[who if who != "sshd" else "controller"].kill(pid)
    session.process.stdin.write(b"\n")
    session.process.stdin.flush()
    session.wait_output("same", 60)
    assert session.wait() == 0
    if who == "engines":
        assert "the link to the controller is cut: " in engines.output and "ssh to root@" in engines.output
        assert "the controller is there again" in engines.output
    engines.kill(signal.SIGTERM)


def test_an_outage_of_20_s(behind):
    """The controller's machine can't be reached for that long: both ways go on, or are opened again."""
    engines = start_engines(behind["engines"])
    session = behind["client"].popen("python", "-c", CUT, stdin=-1)
    session.wait_output("ready")
    behind["controller"].cable(False)
    behind["client"].popen("sleep", "20").wait(60)      # what is tested is this time
    behind["controller"].cable(True)
    session.process.stdin.write(b"\n")
    session.process.stdin.flush()
    session.wait_output("same", 60)
    assert session.wait() == 0
    engines.kill(signal.SIGTERM)


LOST = """
import ipyparallel as ipp, sys
rc = ipp.Client('cluster/ipcontroller-client.json', sshkey='cluster/id_rsa')
rc.wait_for_engines(4, timeout=40)
ar = rc[:].apply_async(lambda: __import__('time').sleep(600))
print('ready', flush=True)
try:
    ar.get(90)
except Exception as e:
    print('told:', e, flush=True)
sys.stdin.readline()
print(rc.ids, flush=True)
later = rc.load_balanced_view().apply_async(abs, -7)
print('later', later.get(90), flush=True)
rc.close()
"""


@pytest.mark.parametrize("behind", [(22, 5)], indirect=True)
def test_the_engines_machine_is_switched_off(behind):
    """Who waits hears of it while it is away and when it is given up; with power again, new engines come through a new ssh."""
    start_engines(behind["engines"])
    session = behind["client"].popen("python", "-c", LOST, stdin=-1)
    session.wait_output("ready", 60)
    behind["engines"].power_off()
    session.wait_output("waiting for engine 0, away since", 60)
    session.wait_output("was not heard of for", 60)
    behind["engines"].start()
    engines = behind["engines"].popen("ipcluster", "engines", "--profile=ssh", "-n", "2")
    session.process.stdin.write(b"\n")
    session.process.stdin.flush()
    session.wait_output("later 7", 60)
    assert session.wait() == 0
    engines.wait_output("Completed registration", 40)
    engines.kill(signal.SIGTERM)
    engines.wait()


@pytest.mark.parametrize("behind", [(2222, 300)], indirect=True)
def test_sshd_that_is_gone_while_its_sessions_live(behind):
    """What is open goes on; what wants to be opened is told, and is when sshd is there again."""
    engines = start_engines(behind["engines"])
    session = behind["client"].popen("python", "-c", CUT, stdin=-1)
    session.wait_output("ready")
    behind.listener.kill()
    behind.listener.wait()
    session.process.stdin.write(b"\n")
    session.process.stdin.flush()
    session.wait_output("same", 60)
    assert session.wait() == 0 and "is cut" not in engines.output
    box, file = behind["client"], "'cluster/ipcontroller-client.json', sshkey='cluster/id_rsa'"
    r = box.run("python", "-c", HELLO.format(args=f"{file}, timeout=3"), check=False, timeout=30)
    assert r.returncode == 1 and "Connection refused (no sshd listens there)" in r.stderr, r.stderr
    before = {pid for pid, line in behind["engines"].processes().items() if "covey.engine" in line}
    for pid in ssh_children(behind["engines"]):
        behind["engines"].kill(pid)
    engines.wait_output("Connection refused")
    behind.listener = listen(behind["controller"], 2222)
    engines.wait_output("the controller is there again")
    assert client(box, file) == "[0, 1, 2, 3] ['engines']"
    assert {pid for pid, line in behind["engines"].processes().items() if "covey.engine" in line} == before
    engines.kill(signal.SIGTERM)
    behind.listener.kill()


def test_what_can_go_wrong_is_said(behind):
    """No key, no server, no controller: each in one sentence, soon."""
    box = behind["client"]

    def says(args, *words):
        r = box.run("python", "-c", HELLO.format(args="'cluster/ipcontroller-client.json', timeout=15, " + args), check=False, timeout=60)
        assert all(word in r.stderr for word in words), r.stderr
    says("sshserver='root@controller'", "Permission denied", "give a key that it accepts")
    says("sshserver='root@nowhere', sshkey='cluster/id_rsa'", "Could not resolve hostname", "the name of the ssh server is not known here")
    says("sshserver='root@engines', sshkey='cluster/id_rsa'", "ssh to root@engines works, but nobody answers at 127.0.0.1")
    with open(box.home / ".ssh/known_hosts", "w") as f, open(f"{box.boxes.keys}/user.pub") as other:
        f.write(f"controller {other.read()}")
    says("sshserver='root@controller', sshkey='cluster/id_rsa'", "host key is another one than before")

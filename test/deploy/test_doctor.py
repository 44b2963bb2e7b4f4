# SPDX-License-Identifier: BSD-3-Clause
"""`ipcluster doctor`: each hop that can fail between two machines is named, with what helps; Client() says the same."""
import json
import shutil

import pytest

pytestmark = pytest.mark.timeout(300)
FILE = ".ipython/profile_default/security/ipcontroller-client.json"


def doctor(box, *args, code=1):
    r = box.run("ipcluster", "doctor", *args, check=False, timeout=60)
    assert r.returncode == code, r.stdout + r.stderr
    last = r.stdout.strip().splitlines()[-1]
    assert last.startswith("FAIL" if code else "ok")
    return last


def client(box):
    """The error of a Client() there."""
    return box.run("python", "-c", "import ipyparallel as ipp; ipp.Client(timeout=5)", check=False, timeout=60).stderr


@pytest.fixture
def two(machines):
    """A controller on one machine and its file on the other."""
    boxes = machines("here", "there", needs=("iptables",))
    here, there = boxes["here"], boxes["there"]

    def start(*args):
        controller = there.popen("ipcontroller", *args)
        controller.wait_output("listening on")
        (here.home / FILE).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(there.home / FILE, here.home / FILE)
        return controller
    yield here, there, start


def edit(box, **changes):
    path = box.home / FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_file(two):
    here, there, start = two
    assert "there is no profile folder" in doctor(here)
    start("--ip=*")
    assert "0 engines are there" in doctor(here, code=0)
    assert "ipcontroller-client.json is there" not in doctor(here, FILE, code=0)
    assert "Give its --cluster-id" in doctor(here, "--cluster-id=other")
    (here.home / FILE).chmod(0o644)
    assert "file: " in doctor(here) and "chmod 600" in doctor(here)
    (here.home / FILE).chmod(0o600)
    assert "is not an ssh server" in doctor(here, "--ssh=two words")
    whole = (here.home / FILE).read_bytes()
    for damaged in (whole[:100], b"\xff" + whole):
        (here.home / FILE).write_bytes(damaged)
        assert "is not a whole connection file" in doctor(here)
    (here.home / FILE).write_bytes(whole)
    edit(here, key="z" * 64)
    assert "FAIL  key: the key is not 64 hex digits" in doctor(here)
    edit(here, tunnel={"pid": "x"})
    assert "that made this file (process x) has ended" in doctor(here)
    edit(here, location="", tunnel=None, endpoints=["tcp://two..dots:4711"])
    assert "the name two..dots is not known here" in doctor(here)


def test_the_way(two):
    here, there, start = two
    controller = start("--ip=*")
    there.firewall()
    for text in (doctor(here), client(here)):
        assert "does not answer" in text and "A firewall drops it" in text and "Client(sshserver='YOU@" in text
    assert "0 engines are there" in doctor(here, f"--ssh={there.address}", code=0)
    (here.home / ".ssh/id_ed25519").rename(here.home / "key")
    assert "Permission denied" in doctor(here, f"--ssh={there.address}") and "FAIL  ssh" in doctor(here, f"--ssh={there.address}")
    assert "0 engines are there" in doctor(here, f"--ssh={there.address}", "--sshkey=key", code=0)
    there.cable(False)
    assert "is off" in doctor(here)
    there.cable(True)
    edit(here, endpoints=["tcp://nowhere.example.com:4711"], location="")
    for text in (doctor(here), client(here)):
        assert "the name nowhere.example.com is not known here" in text and "ipcontroller --location=ADDRESS" in text
    controller.kill(15)
    controller.wait()


def test_the_engines_file(two):
    """It goes the same way; a client is told that it is the wrong one."""
    here, there, start = two
    start("--ip=*")
    shutil.copy(there.home / FILE.replace("client", "engine"), here.home / "ipcontroller-engine.json")
    assert "this is the engines' file, whose key only an engine can try" in doctor(here, "ipcontroller-engine.json", code=0)
    r = here.run("python", "-c", "import ipyparallel as ipp; ipp.Client('ipcontroller-engine.json', timeout=20)", check=False)
    assert r.returncode == 1 and "a client needs ipcontroller-client.json" in r.stderr
    there.firewall()
    assert "A firewall drops it" in doctor(here, "ipcontroller-engine.json")


def test_who_listens(two):
    here, there, start = two
    controller = start()
    for text in (doctor(here), client(here)):
        assert "the controller listens on the loopback interface of its own machine (there) alone" in text
        assert "--ip='*'" in text and "sshserver='YOU@there'" in text
    controller.kill(15)
    controller.wait()
    controller = start("--ip=*", "--port=4711")
    edit(here, key="0" * 64)
    for text in (doctor(here), client(here)):
        assert "refused this file's key" in text and "Fetch the file again" in text
    controller.kill(9)
    controller.wait()
    for text in (doctor(here), client(here)):
        assert "nobody listens on its port 4711" in text and "The controller has ended" in text
    web = there.popen("python", "-u", "-m", "http.server", "4711")
    web.wait_output("Serving")
    for text in (doctor(here), client(here)):
        assert "not a covey peer" in text and "Another program has that port" in text
    web.kill()
    web.wait()
    # on the controller's own machine, where it was killed
    assert "has ended without a word" in doctor(there)

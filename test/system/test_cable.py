"""A real cable between two machines: namespaces with a veth pair, pulled out, plugged in, with packets lost on one way, and slow.

Needs root, ip, nsenter and (for one test each) iptables and tc; says so and is skipped otherwise.
"""
import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from .conftest import wait_until
from .stack import Stack
from .test_links import HOLDER, PINGS, SUSPENDED, Peer, away, link_down, record, runs


def sh(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


class Cable:
    """Another network namespace, "far", and the two ends' addresses."""

    def __init__(self):
        self.name = f"covey-{os.getpid()}"
        self.end = f"cv{os.getpid()}"
        n = os.getpid() % 16384
        self.here, self.far = (f"10.{213 + (n >> 14)}.{n >> 6 & 255}.{(n & 63) * 4 + i}" for i in (1, 2))
        sh("ip", "netns", "add", self.name)
        sh("ip", "link", "add", self.end, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        sh("ip", "addr", "add", f"{self.here}/30", "dev", self.end)
        sh("ip", "-n", self.name, "addr", "add", f"{self.far}/30", "dev", "eth0")
        sh("ip", "-n", self.name, "link", "set", "lo", "up")
        sh("ip", "-n", self.name, "link", "set", "eth0", "up")
        self.plug()

    def enter(self):
        """What makes a command run on the far machine."""
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def pull(self):
        sh("ip", "link", "set", self.end, "down")

    def plug(self):
        sh("ip", "link", "set", self.end, "up")

    def lose(self, chain):
        """Packets from (INPUT) or to (OUTPUT) here are dropped there, without a word."""
        sh(*self.enter(), "iptables", "-A", chain, "-i" if chain == "INPUT" else "-o", "eth0", "-j", "DROP")

    def flow(self):
        sh(*self.enter(), "iptables", "-F")

    def slow_down(self, rate):
        """No more than `rate` passes, either way, with a queue of 50 ms before it."""
        for at in (["tc", "qdisc", "replace", "dev", self.end], [*self.enter(), "tc", "qdisc", "replace", "dev", "eth0"]):
            sh(*at, "root", "tbf", "rate", rate, "burst", "32kb", "latency", "50ms")

    def sent(self):
        """Bytes that went to the far machine."""
        with open(f"/sys/class/net/{self.end}/statistics/tx_bytes") as f:
            return int(f.read())

    def remove(self):
        sh("ip", "link", "del", self.end)
        sh("ip", "netns", "del", self.name)


@pytest.fixture
def cable():
    missing = [x for x in ("ip", "nsenter") if not shutil.which(x)] + ([] if os.geteuid() == 0 else ["root"])
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    try:
        c = Cable()
    except subprocess.CalledProcessError as e:
        pytest.skip(f"network namespaces can't be made here: {e.stderr.strip()}")
    yield c
    c.remove()


class Far(Stack):
    """Controller and client here, the host on the far machine."""

    def __init__(self, env, cable, controller_args=PINGS):
        self.cable = cable
        here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        super().__init__(env, 2, ["-c", f"import sys; sys.path.insert(0, {here!r})"],
                         [f"--ip={cable.here}", f"--location={cable.here}", *controller_args])

    def run(self, program, *args):
        return super().run(program, *args) if program == "ipcontroller" else self.start_far(program, *args)

    def start_far(self, program, *args):
        from covey._programs import program_argv

        p = subprocess.Popen([*self.cable.enter(), *program_argv(program, args)], env=self.env, stdin=subprocess.DEVNULL,
                             stdout=self.log, stderr=self.log, start_new_session=True)
        self.processes.append(p)
        return p


class FarPeer(Peer):
    """A client on the far machine."""

    def __init__(self, f, source, *args):
        self.process = subprocess.Popen([*f.cable.enter(), sys.executable, "-c", source, f.client_file, os.getcwd(), *args],
                                        env=dict(f.env, PYTHONUNBUFFERED="1"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        f.processes.append(self.process)


@pytest.fixture
def far(ipython_dir, monkeypatch, cable):
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    made = []

    def make(controller_args=PINGS):
        made.append(Far(ipython_dir, cable, controller_args))
        return made[-1]

    yield make
    for f in made:
        f.stop()


def bad_while(f, path, tasks, seconds, bad, good):
    """Works on; the network is bad for so long that all are away, and at least `seconds`; each task runs once."""
    rc = f.rc
    pids = rc[:].apply_sync(os.getpid)
    view = rc.load_balanced_view()
    ars = [view.apply_async(record, path, i, 0.02) for i in range(tasks)]
    client = FarPeer(f, SUSPENDED.replace("range(200)", "range(1000, 1200)"), path + ".far")
    assert client.line() == "submitted\n"
    wait_until(lambda: os.path.exists(path), what="some tasks having run")
    bad()
    start = time.monotonic()
    wait_until(lambda: len(away(rc)) == 2, what="both engines being away", timeout=90)
    while time.monotonic() - start < seconds:
        assert rc.ids == [0, 1]
        ars[-1].wait(0.5)
    good()
    assert [ar.get(60) for ar in ars] == list(range(tasks))
    assert client.end(90).endswith("done\n")
    assert rc[:].apply_sync(os.getpid) == pids
    wait_until(lambda: not link_down(rc), what="the client's link")
    assert set(runs(path).values()) == {1} == set(runs(path + ".far").values())


def test_a_cable_that_is_pulled_out(far, cable, tmp_path):
    bad_while(far(), str(tmp_path / "runs"), 150, 0, cable.pull, cable.plug)


@pytest.mark.parametrize("chain", ["INPUT", pytest.param("OUTPUT", marks=pytest.mark.chaos)])
def test_packets_that_are_lost_on_one_way(far, cable, tmp_path, chain):
    if not shutil.which("iptables"):
        pytest.skip("needs iptables")
    bad_while(far(), str(tmp_path / "runs"), 150, 0, lambda: cable.lose(chain), cable.flow)


def test_a_slow_line_under_load(far, cable, tmp_path):
    """Buffers that take many seconds to cross do not hold up a cancel, nobody is taken for dead, and each task runs once."""
    if not shutil.which("tc"):
        pytest.skip("needs tc")
    f, path = far(["--ping-interval=2", "--ping-timeout=10"]), str(tmp_path / "runs")
    rc, view = f.rc, f.rc.load_balanced_view()
    pids = rc[:].apply_sync(os.getpid)
    try:
        cable.slow_down("6mbit")
    except subprocess.CalledProcessError as e:
        pytest.skip(f"traffic can't be shaped here: {e.stderr.strip()}")
    ars = [view.apply_async(record, path, i, 0.01) for i in range(100)]
    assert [ar.get(60) for ar in ars] == list(range(100))
    long = rc[0].apply_async(record, path, 100, 600)
    wait_until(lambda: 100 in runs(path), what="the long task running")
    before, data = cable.sent(), os.urandom(16 << 20)
    there_and_back = rc[1].apply_async(lambda b: b[::-1], data)
    wait_until(lambda: cable.sent() - before > 1 << 20, what="the data being on its way")
    long.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        long.get(60)
    assert cable.sent() - before < len(data), "the cancel came after the data"
    more = [view.apply_async(record, path, i, 0.01) for i in range(101, 200)]
    assert [ar.get(90) for ar in more] == list(range(101, 200))
    wait_until(lambda: cable.sent() - before > 12 << 20, timeout=60, what="data that took longer than anybody may be silent")
    cable.slow_down("60mbit")
    assert there_and_back.get(90) == data[::-1]
    assert rc[:].apply_sync(os.getpid) == pids and not away(rc) and not link_down(rc)
    assert set(runs(path).values()) == {1} and len(runs(path)) == 200
    with open(os.path.join(f.folder, "stack.log")) as log:
        assert "connected again" not in log.read(), "somebody was taken for dead"


@pytest.mark.chaos
def test_a_minute_without_a_network(far, cable, tmp_path):
    """With the times that people have: a link counts as lost after 60 s."""
    bad_while(far([]), str(tmp_path / "runs"), 3000, 75, cable.pull, cable.plug)


@pytest.mark.chaos
def test_half_a_minute_in_a_bag(far, tmp_path):
    """A client that stands still for 30 s over TCP is not even away."""
    f, path = far([]), str(tmp_path / "runs")
    client = FarPeer(f, SUSPENDED, path)
    assert client.line() == "submitted\n"
    client.process.send_signal(signal.SIGSTOP)  # nsenter has become the client
    time.sleep(30)
    client.process.send_signal(signal.SIGCONT)
    assert client.end(60).endswith("done\n")
    assert set(runs(path).values()) == {1}
    with open(os.path.join(f.folder, "stack.log")) as log:
        assert log.read().count("connected: pid") == 2, "the client had to connect again"


@pytest.mark.chaos
def test_ten_minutes_inside_a_c_call(far):
    f = far([])
    seconds = os.environ.get("COVEY_CHAOS_GIL_SECONDS", "600")
    holder = FarPeer(f, HOLDER, seconds)
    assert holder.line() == "submitted\n"
    assert holder.end(int(seconds) + 60).endswith("done\n")
    with open(os.path.join(f.folder, "stack.log")) as log:
        text = log.read()
    assert text.count("connected: pid") == 2 and "connected again" not in text, "somebody was taken for dead"

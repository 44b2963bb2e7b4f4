"""Bad days of the network: links that are cut, stall, go one way, come late. Nothing is lost, and nothing runs twice.

Peers are linked through a relay of these tests' own (badlink.py) that behaves as badly as it is told to. Every task writes
a line where it runs, so that runs can be counted beside results.
"""
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import covey as ipp
import pytest

from .badlink import BadLink
from .conftest import looks, wait_until
from .stack import Stack, until_exists

PINGS = ["--ping-interval=0.3", "--ping-timeout=1"]


def record(path, i, seconds):
    """Leaves a line and gives back its argument."""
    import os
    import time

    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{i}\n".encode())
    os.close(fd)
    time.sleep(seconds)
    return i


def runs(path):
    return Counter(int(line) for line in Path(path).read_text().split())


class Field(Stack):
    """A controller, a host whose link to it is `engines`, and a client whose link is `clients`."""

    def __init__(self, env, n=2, engine_args=(), controller_args=()):
        self.engines = self.clients = None
        super().__init__(env, n, engine_args, controller_args)

    def engine_file(self):
        file = self.client_file.replace("-client", "-engine")
        wait_until(lambda: os.path.exists(file), what="the engines' connection file")
        self.engines = BadLink(self.tcp_address())
        return self.engines.file_through(file, os.path.join(self.folder, "far-engine.json"))

    def connect(self):
        self.clients = BadLink(self.tcp_address())
        return ipp.Client(self.clients.file_through(self.client_file, os.path.join(self.folder, "far-client.json")))

    def stop(self):
        for link in (self.engines, self.clients):
            if link:
                link.flow()
        super().stop()
        for link in (self.engines, self.clients):
            if link:
                link.stop()


@pytest.fixture
def field(ipython_dir, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    made = []

    def make(n=2, engine_args=(), controller_args=PINGS):
        made.append(Field(ipython_dir, n, engine_args, controller_args))
        return made[-1]

    yield make
    for f in made:
        f.stop()


def away(rc):
    rc._pump()
    return [id for id, e in rc._engines.items() if e.get("state") == "away"]


def link_down(rc):
    rc._pump()
    return rc._link_down


def test_nothing_is_lost_or_runs_twice_when_both_links_are_cut_under_load(field, tmp_path):
    f = field()
    rc, path = f.rc, str(tmp_path / "runs")
    pids = rc[:].apply_sync(os.getpid)
    view = rc.load_balanced_view()
    ars = [view.apply_async(record, path, i, 0.01) for i in range(150)]
    ars += [view.map_async(lambda x: x, range(2000), chunksize=1)]
    big = [rc[i % 2].apply_async(lambda b: b[::-1], bytes([i]) * (1 << 20)) for i in range(4)]
    wait_until(lambda: len(runs(path)) > 20 if os.path.exists(path) else 0, what="some tasks having run")
    f.engines.stall()
    wait_until(lambda: len(away(rc)) == 2, what="both engines being away")
    assert rc.ids == [0, 1]
    more = [view.apply_async(record, path, i, 0.01) for i in range(150, 200)]
    f.clients.stall()
    wait_until(lambda: link_down(rc), what="the client seeing that its link is cut")
    f.clients.flow()
    f.engines.flow()
    assert [ar.get(30) for ar in ars[:150] + more] == list(range(200))
    assert ars[150].get(30) == list(range(2000))
    assert [ar.get(30) for ar in big] == [bytes([i]) * (1 << 20) for i in range(4)]
    assert rc[:].apply_sync(os.getpid) == pids
    assert set(runs(path).values()) == {1}


def turn(path, i, data, n):
    """Leaves a line; says what came, and gives back n bytes."""
    import hashlib

    record(path, i, 0)
    return hashlib.md5(data).hexdigest(), bytes([i]) * n


def test_both_links_are_reset_in_the_middle_of_large_messages(field, tmp_path):
    f = field()
    rc, path = f.rc, str(tmp_path / "runs")
    pids = rc[:].apply_sync(os.getpid)
    view, rng = rc.load_balanced_view(), random.Random(5)
    sizes = [rng.choice([100, 300_000, 3_000_000, 12_000_000]) for _ in range(40)]
    ars, end = [], time.monotonic() + 4
    for i, (n, back) in enumerate(zip(sizes[:20], sizes[20:])):
        ars.append((view if i % 3 else rc[i % 2]).apply_async(turn, path, i, bytes([i]) * n, back))
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.05, 0.4))
        for link in (f.engines, f.clients):
            if rng.random() < 0.6:
                link.drop()
    for i, (ar, n, back) in enumerate(zip(ars, sizes[:20], sizes[20:])):
        assert ar.get(60) == (hashlib.md5(bytes([i]) * n).hexdigest(), bytes([i]) * back), i
    assert rc[:].apply_sync(os.getpid) == pids
    assert set(runs(path).values()) == {1}


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_a_link_that_goes_one_way(field, tmp_path, up):
    """Up: what the engines say is lost. Down: they get nothing."""
    f = field()
    rc, path = f.rc, str(tmp_path / "runs")
    pids = rc[:].apply_sync(os.getpid)
    view = rc.load_balanced_view()
    ars = [view.apply_async(record, path, i, 0.01) for i in range(100)]
    wait_until(lambda: os.path.exists(path), what="some tasks having run")
    f.engines.stall(up=up, down=not up)
    wait_until(lambda: len(away(rc)) == 2, what="both engines being away")
    f.engines.flow()
    assert [ar.get(30) for ar in ars] == list(range(100))
    assert rc[:].apply_sync(os.getpid) == pids
    assert set(runs(path).values()) == {1}


def test_short_stalls_resets_and_refusals_in_a_row(field, tmp_path):
    f = field()
    rc, path = f.rc, str(tmp_path / "runs")
    pids = rc[:].apply_sync(os.getpid)
    view = rc.load_balanced_view()
    f.engines.delay = f.clients.delay = 0.005
    ars = []
    for n in range(9):
        ars += [view.apply_async(record, path, i, 0.002) for i in range(n * 50, n * 50 + 50)]
        link = (f.engines, f.clients)[n % 2]
        (link.drop, link.refuse, link.stall)[n % 3]()
        ars[n * 50 - 1 if n else 0].wait(0.2)
        link.flow()
    assert [ar.get(30) for ar in ars] == list(range(450))
    assert rc[:].apply_sync(os.getpid) == pids
    assert set(runs(path).values()) == {1}


def comes_late(f, link, log):
    """The peer's HELLO is on the way while it gives up, connects again and is let in; then it arrives. False: it took too long for the door."""
    link.keep_late()
    link.drop()
    wait_until(link.late, what="HELLO being kept back")
    link.give_up_late()
    wait_until(lambda: not away(f.rc) and not link_down(f.rc), what="all being connected again")
    before = log.read_text()
    link.deliver_late()
    for _ in looks(6):
        if log.read_text().count("came late") > before.count("came late"):
            break
    assert log.read_text().count("is connected again") == before.count("is connected again"), "it took the link from the newer one"
    return log.read_text().count("came late") > before.count("came late")


def test_an_old_connection_that_comes_late_changes_nothing(field, tmp_path):
    f = field(controller_args=["--debug"])  # without PINGS: links that end because this process, and its relay, stand still would come back just then
    path, view = str(tmp_path / "runs"), f.rc.load_balanced_view()
    log = Path(f.folder) / "stack.log"
    ars = [view.apply_async(record, path, i, 0.01) for i in range(300)]
    for link in (f.engines, f.clients):
        assert any(comes_late(f, link, log) for _ in range(5))
    assert [ar.get(30) for ar in ars] == list(range(300))
    assert set(runs(path).values()) == {1}


def by_tcp(path, out):
    """Writes a connection file like `path` whose ways are addresses."""
    with open(path) as f:
        content = json.load(f)
    content["endpoints"] = [e for e in content["endpoints"] if e.startswith("tcp://")]
    with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        json.dump(content, f)


class Peer:
    """A client in a process of its own, with the client's link of a field: `source` finds the file in argv[1], our folder in argv[2]."""

    def __init__(self, f, source, *args):
        far = os.path.join(f.folder, "far-client.json")
        self.process = subprocess.Popen([sys.executable, "-c", source, far, os.getcwd(), *args], env=dict(f.env, PYTHONUNBUFFERED="1"), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        f.processes.append(self.process)

    def line(self):
        return self.process.stdout.readline()

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self, timeout):
        """What else it prints until it has ended well."""
        text = self.process.communicate(timeout=timeout)[0]
        assert self.process.returncode == 0
        return text


SUSPENDED = """
import sys
import covey as ipp
sys.path.insert(0, sys.argv[2])
from test.system.test_links import record
rc = ipp.Client(sys.argv[1])
view = rc.load_balanced_view()
ars = [view.apply_async(record, sys.argv[3], i, 0.01) for i in range(200)]
rc.queue_status()  # all are there
print("submitted", flush=True)
assert [ar.get(200) for ar in ars] == list(range(200))
assert rc.ids == [0, 1]
print("done", flush=True)
"""


@pytest.mark.parametrize("cut", [False, True], ids=["stopped", "stopped and cut off"])
def test_a_client_that_is_suspended(field, tmp_path, cut):
    """A laptop: its process stands still until long after its link counts as lost; it may miss even the reset."""
    f = field(engine_args=["-c", f"import sys; sys.path.insert(0, {os.getcwd()!r})"])
    path, log = str(tmp_path / "runs"), Path(f.folder) / "stack.log"
    client = Peer(f, SUSPENDED, path)
    assert client.line() == "submitted\n"
    wait_until(lambda: os.path.exists(path), what="a task having run")
    gone = log.read_text().count("is gone")
    client.process.send_signal(signal.SIGSTOP)
    if cut:
        f.clients.stall()
    wait_until(lambda: log.read_text().count("is gone") > gone + cut, what="its link being lost")
    wait_until(lambda: len(runs(path)) == 200, what="its tasks having run without it")
    f.clients.flow()
    client.process.send_signal(signal.SIGCONT)
    assert client.end(60) == "done\n"
    assert set(runs(path).values()) == {1}


def test_a_peer_that_is_accepted_and_never_reads(field, tmp_path):
    """It costs nobody else anything."""
    f = field()
    path = str(tmp_path / "runs")
    f.clients.stall(up=False, down=True)
    ar = f.rc[:].apply_async(lambda: b"x" * (8 << 20))
    other = BadLink(f.tcp_address())
    with contextlib.closing(ipp.Client(other.file_through(f.client_file, tmp_path / "other.json"))) as rc:
        assert rc.load_balanced_view().map_sync(record, [path] * 100, range(100), [0.001] * 100) == list(range(100))
        wait_until(lambda: link_down(f.rc), what="the client that gets nothing seeing that its link is lost")
        f.clients.flow()
        assert [len(x) for x in ar.get(30)] == [8 << 20] * 2
        assert rc[:].apply_sync(abs, -1) == [1, 1]
    other.stop()
    assert set(runs(path).values()) == {1}


def hold_the_gil(seconds):
    """In C, and without giving up the GIL."""
    import ctypes
    import time

    start = time.monotonic()
    ctypes.PyDLL(None).sleep(ctypes.c_uint(seconds))
    return time.monotonic() - start


HOLDER = """
import sys
import covey as ipp
sys.path.insert(0, sys.argv[2])
from test.system.test_links import hold_the_gil
rc = ipp.Client(sys.argv[1])
ar = rc[0].apply_async(hold_the_gil, int(sys.argv[3]))
print("submitted", flush=True)
hold_the_gil(int(sys.argv[3]))
assert ar.get(60) >= int(sys.argv[3]) - 0.1
print("done", flush=True)
"""


def test_who_holds_the_gil_is_not_taken_for_dead(ipython_dir, monkeypatch):
    """Beats come from C threads: neither an engine nor a client that is inside a C call is away. (No link of these tests' own: a machine that is busy
    elsewhere may hold up this process for longer than peers are waited for.)"""
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    seconds = os.environ.get("COVEY_TEST_GIL_SECONDS", "8")
    s = Stack(ipython_dir, engine_args=["--no-unix"], controller_args=["--ping-interval=1", "--ping-timeout=5"])
    try:
        by_tcp(s.client_file, os.path.join(s.folder, "far-client.json"))
        holder = Peer(s, HOLDER, seconds)
        assert holder.line() == "submitted\n"
        assert holder.end(int(seconds) + 60) == "done\n"
        assert "connected again" not in Path(s.folder, "stack.log").read_text(), "somebody was taken for dead"
    finally:
        s.stop()


# ------------------------------------------------ M17: whoever waits is told


@pytest.fixture
def cut_engine(field):
    """A client waits for a task of an engine that is away: (rc, ar, engine's number)."""
    f = field()
    ar = f.rc[1].apply_async(time.sleep, 0.01)
    ar.get(30)
    f.engines.stall()
    ar = f.rc[1].apply_async(time.sleep, 0.01)
    wait_until(lambda: len(away(f.rc)) == 2, what="the engines being away")
    yield f, ar
    f.engines.flow()
    ar.get(30)


TOLD = r"waiting for engine 1, away since \d+ s: \S+"


def test_m17_who_waits_is_told(cut_engine, capsys):
    f, ar = cut_engine
    balanced = f.rc.load_balanced_view().apply_async(abs, -1)

    def told(look, pattern=TOLD):
        """Looks until it says so: our own link may just be lost, if this process, and its relay, stood still for long enough."""
        said = []
        wait_until(lambda: said.append(look()) or re.search(pattern, "".join(said)), what=f"being told {pattern}", said=lambda: "".join(said))

    def late():
        with pytest.raises(TimeoutError) as e:
            ar.get(0.1)
        return str(e.value)
    told(lambda: repr(ar))
    told(late)
    told(lambda: repr(balanced), r"waiting for engine 0, .*; engine 1, away since")
    told(lambda: ar.wait(2.2) or capsys.readouterr().err)
    told(lambda: ar.wait_interactive(timeout=0.3) or capsys.readouterr().out)
    assert f.rc.ids == [0, 1]


def test_m17_who_asks_again_and_again_is_told_too(cut_engine, capsys):
    f, ar = cut_engine
    wait_until(lambda: ar.wait(0.1) or "engine 1, away" in capsys.readouterr().err, what="being told")


def test_m17_a_balanced_task_is_at_an_engine_that_is_away(field, tmp_path):
    """Only the controller knows where a balanced task is: it says what an away engine holds."""
    f = field(n=1)
    f.run("ipengine")  # by the controller's Unix socket
    f.rc.wait_for_engines(2, timeout=60, interactive=False)
    ars = [f.rc.load_balanced_view().apply_async(until_exists, str(tmp_path / "go")) for _ in range(2)]
    wait_until(lambda: all(f.rc.queue_status(n)["tasks"] for n in range(2)), what="each having a task")
    f.engines.stall()
    wait_until(lambda: away(f.rc) == [0], what="the far one being away")
    wait_until(lambda: sum("waiting for engine 0, away since" in repr(ar) for ar in ars) == 1, what="who holds which task")
    f.engines.flow()
    (tmp_path / "go").touch()
    assert [ar.get(30) for ar in ars] == [None] * 2


def test_a_relaying_host_is_killed(field, tmp_path):
    """Another host's engines went through it: they keep their numbers and what they do."""
    f = field(n=1)
    other = f.run("ipengine", "-n", "2", "--file", os.path.join(f.folder, "far-engine.json"), "--no-unix")
    f.rc.wait_for_engines(3, timeout=60, interactive=False)
    pids, path = f.rc[:].apply_sync(os.getpid), str(tmp_path / "runs")
    first = [n for n, ppid in zip(f.rc.ids, f.rc[:].apply_sync(os.getppid), strict=True) if ppid == f.host.pid]
    view = f.rc.load_balanced_view()
    view.retries = 1
    ars = [view.apply_async(record, path, i, 0.01) for i in range(150)]
    wait_until(lambda: os.path.exists(path), what="some tasks having run")
    f.host.kill()
    assert [ar.get(30) for ar in ars] == list(range(150))
    wait_until(lambda: len(f.rc.ids) == 2, what="the killed host's engine leaving")
    assert first == [0] and other.poll() is None
    assert f.rc[:].apply_sync(os.getpid) == pids[1:]
    assert sum(n > 1 for n in runs(path).values()) <= 20, "more ran twice than its engine may have held"


PX = """
import sys, threading
from IPython.core.interactiveshell import InteractiveShell
import covey as ipp
shell = InteractiveShell.instance()
rc = ipp.Client(sys.argv[1])
rc[:].activate()
print("ready", flush=True)
sys.stdin.readline()
shell.run_cell("%%px --block --targets 1 OPTIONS\\nx = 1")
print("done", flush=True)
"""


@pytest.mark.parametrize("options", ["", "--progress-after=-1"])
def test_m17_px_says_who_is_away(cut_engine, options):
    f, _ = cut_engine
    px = Peer(f, PX.replace("OPTIONS", options))
    assert px.line() == "ready\n"
    px.go()
    text = px.process.stdout.readline()
    while not re.search(TOLD, text):
        assert "done" not in text
        text += px.process.stdout.readline()
    f.engines.flow()
    assert px.end(30).endswith("done\n")

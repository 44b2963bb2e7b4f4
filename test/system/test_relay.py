"""Between machines (here: over TLS on loopback) what goes to many engines crosses once, whoever relays."""
import json
import os
import signal
import time

import numpy as np
import pytest

from covey import EngineError
from covey._calls import pack_call

from .conftest import wait_until
from .stack import Stack, until_exists

MB = 1 << 20


@pytest.fixture
def relayed(ipython_dir, monkeypatch):
    """relayed(n) -> Stack whose engines reach the controller by TCP."""
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    stacks = []

    def start(n, **kwargs):
        stacks.append(Stack(ipython_dir, n, ["--no-unix"], **kwargs))
        return stacks[-1]

    yield start
    for s in stacks:
        s.stop()


def to_hosts(rc):
    """Bytes that the controller has sent to hosts so far."""
    return rc._query("status")["traffic"]["host"]["sent"]


def check_a_push_crosses_once(rc, n):
    everywhere = rc[:]
    a = np.arange(8 * MB, dtype=np.int64)
    before = to_hosts(rc)
    everywhere.push({"a": a}, block=True)
    assert a.nbytes <= to_hosts(rc) - before <= a.nbytes + MB
    a[0] = 7  # other content: it must not be taken for what was sent before
    everywhere.push({"a": a}, block=True)
    seen = everywhere.pull("int(a[0]), int(a[-1]), a.flags.writeable", block=True)
    assert seen == [(7, 8 * MB - 1, True)] * n


def test_a_push_to_the_engines_of_one_host_crosses_once(relayed):
    check_a_push_crosses_once(relayed(8).rc, 8)


def relaying(stack):
    """Those of the stack's hosts that listen at the relay's socket."""
    with open(stack.client_file) as f:
        boot_id = json.load(f)["boot_id"]
    with open("/proc/net/unix") as f:
        rows = [line.split() for line in f if f"-{boot_id}-" in line and "@covey-relay-" in line]
    listening = {f"socket:[{row[6]}]" for row in rows if int(row[3], 16) & 0x10000}  # __SO_ACCEPTCON
    return [h for h in stack.hosts if h.poll() is None and listening & descriptors(h.pid)]


def descriptors(pid):
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return found


def test_hosts_of_one_machine_elect_a_relay(relayed, tmp_path):
    """As `srun ipengine` starts them: eight hosts, one of which relays for all; killed, another one does."""
    stack = relayed(1, hosts=8)
    rc = stack.rc
    assert rc.ids == list(range(8))
    check_a_push_crosses_once(rc, 8)
    [first] = relaying(stack)

    lost = {p: i for i, p in enumerate(rc[:].apply_sync(os.getppid))}[first.pid]
    others = [i for i in rc.ids if i != lost]
    rc[others].execute("count = 0", block=True)
    direct = rc[others].apply_async(until_exists, str(tmp_path / "go"))  # runs while the relay dies; nothing may start it twice
    queued = [rc[i].apply_async(counted, k) for i in others for k in range(20)]
    lv = rc.load_balanced_view(retries=3)
    balanced = lv.map_async(later, [str(tmp_path / "go")] * 60, range(60))
    wait_until(lambda: rc.queue_status(lost)["tasks"] and all(rc.queue_status(i)["queue"] > 1 for i in others), what="tasks on their way")
    first.kill()
    first.wait()
    (tmp_path / "go").touch()
    assert direct.get(timeout=30) == [None] * 7
    assert [ar.get(timeout=30) for ar in queued] == list(range(20)) * 7
    assert balanced.get(timeout=30) == list(range(60))
    assert rc[others].pull("count", block=True) == [20] * 7
    wait_until(lambda: rc.ids == others, what="the end of the killed host's engine")
    [second] = relaying(stack)
    assert second.pid != first.pid
    check_a_push_crosses_once(rc, 7)


def test_an_engine_of_another_host_than_the_relays_says_why_it_died(relayed):
    stack = relayed(1, hosts=3)
    [relay] = relaying(stack)
    pids = stack.rc[:].apply_sync(os.getppid)
    other = next(i for i, p in enumerate(pids) if p != relay.pid)
    ar = stack.rc[other].apply_async(exit_at_once)
    with pytest.raises(Exception, match="exit code 3|exited with 3|code 3"):
        ar.get(timeout=30)
    wait_until(lambda: other not in stack.rc.ids, what="the engine leaving")
    left = next(i for i in stack.rc.ids)
    assert stack.rc[left].apply_sync(os.getppid) in pids


def test_an_end_that_the_relay_does_not_read_is_told(relayed):
    """The relay may hang, or end at the same moment: the host that leaves does not rely on it."""
    stack = relayed(1, hosts=2)
    [relay] = relaying(stack)
    parents = stack.rc[:].apply_sync(os.getppid)
    other = next(i for i, p in enumerate(parents) if p != relay.pid)
    pid = stack.rc[other].apply_sync(os.getpid)
    ar = stack.rc[other].apply_async(slow, 600, None)
    os.kill(relay.pid, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="SIGKILL"):
            ar.get(timeout=30)
    finally:
        os.kill(relay.pid, signal.SIGCONT)
    wait_until(lambda: stack.rc.ids == [1 - other], what="one engine less")
    assert stack.rc[:].apply_sync(os.getppid) == [relay.pid]


def slow(seconds, value):

    time.sleep(seconds)
    return value


def later(path, value):
    import os
    import time

    while not os.path.exists(path):
        time.sleep(0.01)
    return value


def counted(k):
    from IPython import get_ipython

    get_ipython().user_ns["count"] += 1
    return k


def exit_at_once():
    import os

    os._exit(3)


def with_table():
    """A function of some 60 KB, and what it gives for i."""
    table = [f"{i}" * 10 for i in range(1500)]
    here = np.arange(1000)

    def f(i, seen=[]):  # noqa: B006
        here[0] += 1
        seen.append(table[i])
        return seen, int(here[0])

    f.__module__ = "__main__"
    return f, lambda i: ([table[i]], 1)


@pytest.mark.parametrize("option", [[], ["--no-unix"]], ids=["unix", "relay"])
def test_a_function_is_sent_once(ipython_dir, monkeypatch, option):
    """Many calls and maps of one large function: its bytes cross each link once, and each task has its own (M2)."""
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    stack = Stack(ipython_dir, 2, option)
    try:
        rc = stack.rc
        lv = rc.load_balanced_view()
        f, expected = with_table()
        size = len(pack_call(f, (0,))[1][0])
        wanted = [expected(i) for i in range(200)]

        def traffic():
            t = rc._query("status")["traffic"]
            return t["client"]["received"], t["host"]["sent"] + t["engine"]["sent"]

        before = traffic()
        assert [ar.get(timeout=30) for ar in [lv.apply_async(f, i) for i in range(200)]] == wanted
        assert lv.map_sync(f, range(200)) == wanted
        assert len(lv.map_sync(f, range(200), chunksize=10)) == 200
        assert rc[:].apply_sync(f, 3) == [expected(3)] * 2
        after = traffic()
        small = 250_000  # 600 calls without their function, and questions
        # calls, maps and chunks have streams of their own; towards engines: one link for each, or the relay's for both
        assert after[0] - before[0] < 3 * size + small
        assert after[1] - before[1] < (3 if option else 6) * size + small

        before = traffic()
        g, _ = with_table()  # equal content, though another object
        assert lv.apply_sync(g, 5) == expected(5)
        assert traffic()[0] - before[0] < size
    finally:
        stack.stop()


def rss(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // MB


def test_what_is_printed_while_the_controller_stands_still_is_bounded(relayed, tmp_path):
    """Neither the engine nor its host gathers it without end; the result and what is printed later come."""
    s = relayed(1)
    told = str(tmp_path / "told")

    def prints(told):
        for _ in range(600):
            print("x" * (1 << 20))
        open(told, "w").close()

    def heard():
        later = s.rc[0].apply_async(print, "heard again")
        later.get(30)
        return later.stdout == "heard again\n"

    pid = s.rc[0].apply_sync(os.getpid)
    before = rss(pid), rss(s.host.pid)
    ar = s.rc[0].apply_async(prints, told)
    wait_until(lambda: ar.stdout, what="its first output")
    controller = s.processes[0]
    controller.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: os.path.exists(told), timeout=60, what="the end of what it prints")
        assert rss(pid) - before[0] < 300 and rss(s.host.pid) - before[1] < 300
    finally:
        controller.send_signal(signal.SIGCONT)
    ar.get(30)
    wait_until(heard, what="what is printed then")

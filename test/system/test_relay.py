"""Between machines (here: over TLS on loopback) what goes to many engines crosses once, whoever relays."""
import json
import os
import time

import numpy as np
import pytest

from .conftest import wait_until
from .stack import Stack

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


def test_hosts_of_one_machine_elect_a_relay(relayed):
    """As `srun ipengine` starts them: eight hosts, one of which relays for all; killed, another one does."""
    stack = relayed(1, hosts=8)
    rc = stack.rc
    assert rc.ids == list(range(8))
    check_a_push_crosses_once(rc, 8)
    [first] = relaying(stack)

    lost = {p: i for i, p in enumerate(rc[:].apply_sync(os.getppid))}[first.pid]
    others = [i for i in rc.ids if i != lost]
    direct = rc[others].apply_async(slow, 1.0, "direct")  # runs while the relay dies; nothing may start it twice
    rc[others].execute("count = 0", block=True)
    queued = [rc[i].apply_async(counted, k) for i in others for k in range(20)]
    lv = rc.load_balanced_view(retries=3)
    balanced = lv.map_async(slow, [0.05] * 60, range(60))
    wait_until(lambda: rc.queue_status(others[0])["tasks"], what="tasks on their way")
    first.kill()
    assert direct.get(timeout=30) == ["direct"] * 7
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
        ar.get(timeout=20)
    assert other not in stack.rc.ids
    left = next(i for i in stack.rc.ids)
    assert stack.rc[left].apply_sync(os.getppid) in pids


def slow(seconds, value):

    time.sleep(seconds)
    return value


def counted(k):
    from IPython import get_ipython

    get_ipython().user_ns["count"] += 1
    return k


def exit_at_once():
    import os

    os._exit(3)

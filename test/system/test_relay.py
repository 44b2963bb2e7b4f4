"""Between machines (here: over TLS on loopback) what goes to many engines crosses once, whoever relays."""
import numpy as np
import pytest

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

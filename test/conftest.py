# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures: a client on a fake core for tests without a cluster, and one real cluster for all others."""
from __future__ import annotations

import os
import signal
import sys

import pytest

from .waiting import wait_until

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "python"))
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a script: children would inherit it, and Ctrl-C be pressed for nobody
    signal.signal(signal.SIGINT, signal.default_int_handler)
if getattr(os._exit, "__closure__", None):  # coverage's own: by this name tests can send it to engines like the true one
    os._exit.__module__, os._exit.__qualname__ = "os", "_exit"


@pytest.fixture
def fake(monkeypatch):
    """Makes clients on a fake core: ``rc, core = fake(run=True)``."""
    import covey
    from covey import _connect
    from fakecore import FakeCore

    made = []

    def make(**options):
        core = FakeCore(**options)
        monkeypatch.setattr(_connect, "connect", lambda config, timeout, session=None, path=None: core)
        rc = covey.Client({"boot_id": "b", "endpoints": ["unix:@x"], "key": "0"})
        made.append(rc)
        return rc, core
    yield make
    for rc in made:
        rc.close()


class _Running:
    """What tests need of a Cluster, for one that runs already."""

    def __init__(self, path):
        self.path = path

    def connect_client_sync(self):
        import covey

        return covey.Client(self.path)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """One real cluster of two engines for the whole session; with COVEY_TEST_FILE the one of that connection file."""
    if os.environ.get("COVEY_TEST_FILE"):
        yield _Running(os.environ["COVEY_TEST_FILE"])
        return
    try:
        import covey._core  # noqa: F401
        from covey import Cluster
    except ImportError as e:
        pytest.skip(f"covey is not built: {e}")
    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    with Cluster(n=2) as rc:
        yield rc.cluster


@pytest.fixture
def rc(cluster):
    """A client of the session's cluster, with clean engines; what a test left running is cancelled."""
    client = cluster.connect_client_sync()
    client.wait_for_engines(2, timeout=30, interactive=False)
    client[:].clear(block=True)
    client[:].use_pickle().get()
    yield client
    if client.outstanding:
        client.get_result(list(client.outstanding), block=False).cancel()
    client.close()


@pytest.fixture
def until():
    """Waits for a condition: ``until(lambda: ar.stdout)``; fails after `timeout` seconds."""
    return wait_until

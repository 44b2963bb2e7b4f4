"""A process whose address space is limited (`ulimit -v`, a batch system's h_vmem) gets what is too large for it: that task ends, nothing else does."""
import contextlib
import json
import os
import resource

import pytest

import covey as ipp

from .stack import Stack

pytestmark = pytest.mark.skipif("COVEY_TEST_PRELOAD" in os.environ, reason="a sanitizer takes terabytes of address space")

MB = 1 << 20
LARGE = 300 * MB


@contextlib.contextmanager
def limited(pid):
    """The process may have 200 MiB more than it has, and less than LARGE."""
    with open(f"/proc/{pid}/status") as f:
        size = next(int(line.split()[1]) for line in f if line.startswith("VmSize")) << 10
    before = resource.prlimit(pid, resource.RLIMIT_AS, (size + 200 * MB, resource.RLIM_INFINITY))
    yield
    resource.prlimit(pid, resource.RLIMIT_AS, before)


@pytest.fixture(params=["unix", "tcp"])
def stack(request, ipython_dir, monkeypatch):
    """Two engines, which are reached by the Unix socket or, behind their host's relay, by TCP; so is the client."""
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    s = Stack(ipython_dir, 2, ["--no-unix"] if request.param == "tcp" else [])
    s.tcp = request.param == "tcp"
    if s.tcp:
        s.rc.close()
        with open(s.client_file) as f:
            content = json.load(f)
        content["endpoints"] = [e for e in content["endpoints"] if e.startswith("tcp://127.")]
        s.rc = ipp.Client(content)
    yield s
    s.stop()


def refused(ar):
    with pytest.raises(ipp.error.RemoteError, match="MemoryError") as e:
        ar.get(30)
    return str(e.value)


def test_arguments_too_large_for_an_engine(stack):
    rc = stack.rc
    with limited(rc[0].apply_sync(os.getpid)):
        assert str(LARGE)[:3] in refused(rc[0].apply_async(len, bytes(LARGE)))
        assert rc[:].apply_sync(abs, -1) == [1, 1]
        ar = rc[:].push({"x": bytes(LARGE)}, block=False)
        with pytest.raises(ipp.error.RemoteError, match="MemoryError"):
            ar.get(30)
    assert rc[1]["len(x)"] == LARGE
    assert rc[0].apply_sync(len, bytes(LARGE)) == LARGE
    assert rc.load_balanced_view().map_sync(abs, range(-50, 0)) == list(range(50, 0, -1))


def test_arguments_too_large_for_the_engines_host(stack):
    """Its relay has them in its hands; without a relay it has nothing to do with them."""
    rc = stack.rc
    with limited(stack.host.pid):
        for ar in rc[0].apply_async(len, bytes(LARGE)), rc[:].push({"x": bytes(LARGE)}, block=False):
            if stack.tcp:
                assert "engine" in refused(ar)
            else:
                ar.get(30)
        assert rc[:].apply_sync(abs, -1) == [1, 1]
    assert rc[:].apply_sync(len, bytes(LARGE)) == [LARGE] * 2


def test_data_too_large_for_the_controller(stack):
    """On one machine it hands descriptors on; what comes by TCP it has to hold."""
    rc = stack.rc
    with limited(stack.processes[0].pid):
        for ar in rc[0].apply_async(len, bytes(LARGE)), rc[1].apply_async(bytes, LARGE), rc[:].push({"x": bytes(LARGE)}, block=False):
            if stack.tcp:
                assert "the controller" in refused(ar)
            else:
                ar.get(30)
        assert rc[:].apply_sync(abs, -1) == [1, 1]
    assert rc[:].apply_sync(len, bytes(LARGE)) == [LARGE] * 2


def test_a_result_too_large_for_the_client(stack):
    rc = stack.rc
    ar = rc[0].apply_async(bytes, LARGE)
    with limited(os.getpid()):
        assert "this process" in refused(rc[1].apply_async(bytes, LARGE))
        assert rc[:].apply_sync(abs, -1) == [1, 1]
    ar.wait(30)  # it came before or after
    assert len(rc[1].apply_sync(bytes, LARGE)) == LARGE

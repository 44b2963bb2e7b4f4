"""Fixtures for tests that start real processes: a profile folder of their own and a watch over what is left behind."""
import os
import sys
from pathlib import Path

import pytest

from ..waiting import PATIENCE, looks, wait_until  # noqa: F401


@pytest.fixture
def ipython_dir(tmp_path):
    """An environment whose IPYTHONDIR is new and empty; afterwards nothing of ours may still run with it."""
    folder = tmp_path / "ipython"
    env = dict(os.environ, IPYTHONDIR=str(folder), IPP_NONINTERACTIVE="0")
    for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID", "IPP_CONNECTION_INFO", "COVEY_EVENTS_FD"):
        env.pop(name, None)
    yield env
    left = wait_gone(folder)
    assert not left, f"processes are left: {left}"


@pytest.fixture
def home(ipython_dir, monkeypatch):
    """IPYTHONDIR of this process and its children: new and empty; nothing may be left of it."""
    for name in ("IPYTHONDIR", "IPP_NONINTERACTIVE"):
        monkeypatch.setenv(name, ipython_dir[name])
    for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID"):
        monkeypatch.delenv(name, raising=False)
    return ipython_dir["IPYTHONDIR"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A module's own controller, host and client (stack.py)."""
    from .stack import Stack

    folder = tmp_path_factory.mktemp("stack")
    env = dict(os.environ, IPYTHONDIR=str(folder))
    for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID", "IPP_CONNECTION_INFO", "IPP_NONINTERACTIVE", "COVEY_EVENTS_FD", "PYTHONSTARTUP"):
        env.pop(name, None)
    s = Stack(env)
    yield s
    s.stop()
    assert not wait_gone(folder)


@pytest.fixture
def run_notebook(ipython_dir, tmp_path, monkeypatch):
    """run_notebook(notebook): runs its cells in a kernel of the interpreter under test, whatever kernels the machine has."""
    nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient")
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class ThisPython(AsyncKernelManager):
        @property
        def kernel_spec(self):
            return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python", display_name="this")

    for name, value in ipython_dir.items():
        monkeypatch.setenv(name, value)

    def run(notebook):
        nbclient.NotebookClient(notebook, timeout=60, kernel_manager_class=ThisPython, resources={"metadata": {"path": str(tmp_path)}}).execute()

    return run


def processes_of(ipython_dir):
    """{pid: command line} of live processes whose environment has this IPYTHONDIR."""
    wanted = f"IPYTHONDIR={ipython_dir}".encode()
    found = {}
    for proc in Path("/proc").glob("[0-9]*"):
        if int(proc.name) == os.getpid():
            continue
        try:
            if wanted in (proc / "environ").read_bytes().split(b"\0"):
                state = (proc / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if state != "Z":
                    found[int(proc.name)] = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
    return found


def wait_gone(ipython_dir, timeout=30.0):
    """Waits until no process has this IPYTHONDIR; what is left at the deadline."""
    left = {}
    for _ in looks(timeout):
        if not (left := processes_of(ipython_dir)):
            break
    return left


def files_of(ipython_dir):
    """Run-time files below this IPYTHONDIR: connection and cluster files."""
    return sorted(str(p.relative_to(ipython_dir)) for p in Path(ipython_dir).glob("profile_*/security/*") if p.is_file())

"""System calls that fail under engines, hosts and clients: the user gets a sentence, and nothing hangs."""
import os
import subprocess
import sys
from pathlib import Path

import covey as ipp
import pytest
from covey._programs import program_argv
from covey.task import Metadata

from .conftest import wait_until
from .nth import build_shim
from .stack import Stack

TIMEOUT = 60


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The preloaded library."""
    if os.environ.get("COVEY_TEST_PRELOAD"):
        pytest.skip("the sanitizers' runtime is preloaded already")
    return build_shim(tmp_path_factory.mktemp("shim"))


def failing(env, shim, call, file=None):
    return dict(env, LD_PRELOAD=str(shim), COVEY_TEST_FAULT=f"{call}@{file}" if file else call)


def test_a_zygote_that_can_not_fork_is_told(ipython_dir, shim, tmp_path):
    """The host is let off; its zygote is not: it has the switch in its environment from the start, and the file later."""
    stack = Stack(ipython_dir, n=1)
    try:
        switch = tmp_path / "now"
        wrapper = tmp_path / "python"
        wrapper.write_text(f'#!/bin/sh\nLD_PRELOAD={shim} COVEY_TEST_FAULT=fork@{switch} exec {sys.executable} "$@"\n')
        wrapper.chmod(0o755)
        switch.touch()
        p = subprocess.run(program_argv("ipengine", ("-n", "2", f"--python={wrapper}")), env=ipython_dir, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=TIMEOUT)
        assert p.returncode == 1, p.stderr
        assert "could not fork" in p.stderr and "Resource temporarily unavailable" in p.stderr
        assert stack.rc[0].apply_sync(lambda: 1) == 1  # the others go on
    finally:
        stack.stop()


@pytest.mark.parametrize("call", ["fork", "memfd_create"])
def test_a_host_that_can_not_start_engines_says_why(ipython_dir, shim, call):
    stack = Stack(ipython_dir, n=1)
    try:
        p = subprocess.run(program_argv("ipengine", ("-n", "2")), env=failing(ipython_dir, shim, call), stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=TIMEOUT)
        assert p.returncode == 1, p.stderr
        assert "Too many open files" in p.stderr or "Resource temporarily unavailable" in p.stderr
        assert stack.rc[0].apply_sync(lambda: 1) == 1
    finally:
        stack.stop()


def test_a_connection_file_that_can_not_be_read_for_a_while(ipython_dir, shim, tmp_path):
    """A disk of the network may fail for a moment: the file has not changed when it can be read again."""
    stack = Stack(ipython_dir, n=1)
    switch, log = tmp_path / "now", tmp_path / "log"
    switch.touch()
    try:
        with open(log, "wb") as f:
            p = subprocess.Popen(program_argv("ipengine", ("-n", "1")), env=failing(ipython_dir, shim, "connfile", switch), stdin=subprocess.DEVNULL,
                                 stdout=f, stderr=f, start_new_session=True)
        stack.processes.append(p)
        wait_until(lambda: "Input/output error" in log.read_text(), what="the warning")
        switch.unlink()
        stack.rc.wait_for_engines(2, timeout=TIMEOUT, interactive=False)
        assert log.read_text().count("Input/output error") == 1
    finally:
        stack.stop()


CLIENT = """
import sys, covey
try:
    covey.Client(sys.argv[1], timeout=3)
except Exception as e:
    print(type(e).__name__, e)
"""


@pytest.mark.parametrize("call, why", [("socket", "Too many open files"), ("connect", "nobody listens there")])
def test_a_client_that_can_not_connect_gets_a_sentence(ipython_dir, shim, call, why):
    stack = Stack(ipython_dir, n=1)
    try:
        p = subprocess.run([sys.executable, "-c", CLIENT, stack.client_file], env=failing(ipython_dir, shim, call),
                           capture_output=True, text=True, timeout=TIMEOUT)
        assert p.returncode == 0, p.stderr
        assert why in p.stdout, p.stdout + p.stderr
    finally:
        stack.stop()


def test_large_buffers_arrive_where_no_memfd_can_be_made(ipython_dir, shim):
    stack = Stack(ipython_dir, n=1)
    program = "import sys, covey\nrc = covey.Client(sys.argv[1])\nprint(rc[0].apply_sync(len, b'x' * 3000000))\nrc.close()"
    try:
        p = subprocess.run([sys.executable, "-c", program, stack.client_file], env=failing(ipython_dir, shim, "memfd_create"),
                           capture_output=True, text=True, timeout=TIMEOUT)
        assert p.stdout.strip() == "3000000", p.stdout + p.stderr
    finally:
        stack.stop()


def test_a_full_disk_under_an_engine_is_the_tasks_error(ipython_dir):
    """What a task writes to a full device raises there; its output and the next task are as ever."""
    stack = Stack(ipython_dir, n=1)
    try:
        source = "print('before')\nwith open('/dev/full', 'w') as f:\n    f.write('x' * 100000)"
        ar = stack.rc[0].execute(source, block=False)
        with pytest.raises(ipp.RemoteError, match="No space left on device"):
            ar.get(30)
        assert stack.rc[0].apply_sync(lambda: 2) == 2
    finally:
        stack.stop()


def test_a_supervisor_that_can_not_fork_says_so(ipython_dir, shim):
    p = subprocess.run(program_argv("ipcluster", ("start", "-n", "2")), env=failing(ipython_dir, shim, "fork"), stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=TIMEOUT)
    assert p.returncode == 1, p.stderr
    assert "can't start" in p.stderr and "Resource temporarily unavailable" in p.stderr
    security = Path(ipython_dir["IPYTHONDIR"]) / "profile_default" / "security"
    assert not list(security.glob("cluster-*.json"))


def test_an_engine_without_descriptors_goes_on(ipython_dir):
    """The task that opens a file is told; calls, large buffers both ways and output work as ever."""
    stack = Stack(ipython_dir, n=1)
    try:
        engine = stack.rc[0]
        engine.execute("import os, resource\nhad = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
                       "fds = [os.dup(0) for _ in range(8)]\nresource.setrlimit(resource.RLIMIT_NOFILE, (max(fds) + 1, had[1]))\n"
                       "more = []\ntry:\n    while True: more.append(os.dup(0))\nexcept OSError:\n    pass", block=True)
        with pytest.raises(ipp.RemoteError, match="Too many open files"):
            engine.execute("os.dup(0)", block=True)
        big = bytes(range(256)) * 12_000
        assert engine.apply_sync(lambda b: b, big) == big
        ar = engine.execute("print('said')", block=False)
        ar.get(30)
        assert ar.stdout == "said\n"
        assert engine.apply_sync(abs, -2) == 2
    finally:
        stack.stop()


class Unlogged(Stack):
    """Programs whose log, and what their engines say before they are connected, goes to a full disk."""

    def run(self, program, *args):
        with open("/dev/full", "wb") as full:
            p = subprocess.Popen(program_argv(program, args), env=self.env, stdin=subprocess.DEVNULL, stdout=full, stderr=full, start_new_session=True)
        self.processes.append(p)
        return p


def test_a_full_disk_under_the_logs_costs_no_task(ipython_dir):
    stack = Unlogged(ipython_dir, n=2)
    try:
        ar = stack.rc[:].execute("import os\nprint('said')\nos.write(2, b'and this')", block=False)
        ar.get(30)
        assert ar.stdout == ["said\n"] * 2 and ar.stderr == ["and this"] * 2
        with pytest.raises(ipp.RemoteError):  # a death is written to the log, too
            stack.rc[0].apply_sync(os._exit, 3)
        assert stack.rc[1].apply_sync(abs, -2) == 2
    finally:
        stack.stop()


def test_a_flood_of_output_fills_no_memory(ipython_dir, monkeypatch):
    """The client keeps the beginning and says so; the controller lets the engine wait."""
    monkeypatch.setattr(Metadata, "_most", 2_000_000)
    stack = Stack(ipython_dir, n=1)
    try:
        rc = stack.rc
        controller = rc._query("status")["pid"]
        peaks = [anonymous(controller) + anonymous(os.getpid())]
        ar = rc[0].execute("import os\nfor i in range(600): os.write(1, b'x' * 99_999 + b'\\n')", block=False)
        while not ar.done():
            ar.wait(0.05)
            peaks.append(anonymous(controller) + anonymous(os.getpid()))
        ar.get(30)
        kept = 400 if os.environ.get("COVEY_TEST_PRELOAD") else 0  # a sanitizer keeps what is freed for a while
        assert max(peaks) - peaks[0] < (100 + kept) << 20
        assert len(ar.stdout) < 2_001_000 and ar.stdout.endswith("more than 2,000,000 characters were printed; what follows is not kept here]\n")
        assert ar.stdout.startswith("x" * 99_999 + "\n")
        again = rc[0].execute("print('as ever')", block=False)
        again.get(30)
        assert again.stdout == "as ever\n"
    finally:
        stack.stop()


def anonymous(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("Anonymous:"))

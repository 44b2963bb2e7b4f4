"""System calls that fail under engines, hosts and clients: the user gets a sentence, and nothing hangs."""
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import covey as ipp
import pytest
from covey._programs import program_argv

from .stack import Stack

TIMEOUT = 40


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The preloaded library."""
    if os.environ.get("COVEY_TEST_PRELOAD"):
        pytest.skip("the sanitizers' runtime is preloaded already")
    out = tmp_path_factory.mktemp("shim") / "shim.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    source = Path(__file__).with_name("fault_shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", out, source, "-ldl"], check=True, timeout=60)
    return out


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


CLIENT = """
import sys, covey
try:
    covey.Client(sys.argv[1], timeout=3)
except Exception as e:
    print(type(e).__name__, e)
"""


@pytest.mark.parametrize("call", ["socket", "connect"])
def test_a_client_that_can_not_connect_gets_a_sentence(ipython_dir, shim, call):
    stack = Stack(ipython_dir, n=1)
    try:
        p = subprocess.run([sys.executable, "-c", CLIENT, stack.client_file], env=failing(ipython_dir, shim, call),
                           capture_output=True, text=True, timeout=TIMEOUT)
        assert p.returncode == 0, p.stderr
        assert "Too many open files" in p.stdout, p.stdout + p.stderr
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
            ar.get(20)
        assert stack.rc[0].apply_sync(lambda: 2) == 2
    finally:
        stack.stop()

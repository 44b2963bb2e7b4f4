# SPDX-License-Identifier: BSD-3-Clause
"""What programs can count on (docs/semantics.md): what no other test shows by its id, and that each id has a test."""
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from covey._programs import program_argv

from ..system.conftest import ipython_dir  # noqa: F401
from ..system.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
COMPAT = ROOT / "compat"


def ids_of(path):
    """Requirements that a file's tests name: test_m4_…, or "M4: in a docstring or comment."""
    text = path.read_text()
    return {i.upper() for i in re.findall(r"def test_([ms]\d+)_", text)} | set(re.findall(r"\b([MS]\d+): ", text))


def test_each_requirement_has_a_test():
    """A row of docs/semantics.md names the files whose tests are named after it."""
    rows = re.findall(r"^\| ([MS]\d+) \| .*? \| (.*?) \|$", (ROOT / "docs" / "semantics.md").read_text(), re.M)
    assert len(rows) == len({id for id, _ in rows}) == 33
    for id, files in rows:
        names = re.findall(r"`([\w/]+\.py)`", files)
        assert names, f"{id} has no test"
        for name in names:
            assert id in ids_of(ROOT / "test" / name), f"test/{name} has no test named after {id}"


def python(env, source, *args):
    """Runs Python that can import ipyparallel."""
    env = dict(env, PYTHONPATH=os.pathsep.join([str(COMPAT), *(p for p in sys.path if p)]))
    done = subprocess.run([sys.executable, "-c", source, *args], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def stack(ipython_dir):  # noqa: F811
    made = Stack(ipython_dir)
    yield made
    made.stop()


def test_m15_deep_imports_and_type_names(ipython_dir):  # noqa: F811
    python(ipython_dir, """
import ipyparallel as ipp
assert ipp.client.view.ViewExecutor and ipp.client.asyncresult._FOREVER and ipp.serialize.codeutil and ipp.util and ipp.error
assert ipp.apps and ipp.cluster and ipp.controller and ipp.Client._asyncresult_from_jobs
assert ipp.Client.__module__ == 'ipyparallel.client.client' and ipp.DirectView.__module__ == 'ipyparallel.client.view'
from ipyparallel.joblib import IPythonParallelBackend, register
from ipyparallel.serialize import pack_apply_message, unpack_apply_message
from ipyparallel.engine.log import EnginePUBHandler
from ipyparallel.controller.sqlitedb import SQLiteDB
from ipyparallel.datapub import publish_data
from ipyparallel.apps.ipclusterapp import ALREADY_STARTED, ALREADY_STOPPED, NO_CLUSTER
assert (ALREADY_STARTED, ALREADY_STOPPED, NO_CLUSTER) == (10, 11, 12)
class Mine(ipp.Client): pass
""")


def test_m19_the_platform_is_said_first():
    readme, differences = ((ROOT / name).read_text() for name in ("README.md", "docs/differences.md"))
    assert "**Platform:** Linux" in readme and "macOS" in readme and "WSL2" in readme
    assert differences.split("\n\n")[1].startswith("**Platform first.**")


def test_s1_defaults_count_what_is_allowed(ipython_dir):  # noqa: F811
    """An affinity of one cpu: one engine, which has one thread."""
    cpu = str(min(os.sched_getaffinity(0)))
    env = {k: v for k, v in ipython_dir.items() if not k.endswith("_NUM_THREADS") and not k.startswith("SLURM_")}
    command = ["taskset", "-c", cpu, *program_argv("ipcluster", ["start", "--daemonize"])]
    try:
        started = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert started.returncode == 0, started.stderr
        said = python(env, "import os, covey as ipp\nwith ipp.Client() as rc: print(rc.ids, rc[:].apply_sync(os.getenv, 'OMP_NUM_THREADS'))")
        assert said == "[0] ['1']\n"
    finally:
        subprocess.run(program_argv("ipcluster", ["stop"]), env=env, capture_output=True, timeout=60)


def test_s7_the_local_socket_needs_no_folder(ipython_dir, tmp_path):  # noqa: F811
    """XDG_RUNTIME_DIR is not read, and no socket lies in a folder."""
    for value in ("", str(tmp_path / "not there")):
        env = dict(ipython_dir, XDG_RUNTIME_DIR=value)
        made = Stack(env)
        try:
            assert made.rc[:].apply_sync(int) == [0, 0]
            assert '"unix:@' in Path(made.client_file).read_text()
            assert not [p for p in Path(env["IPYTHONDIR"]).rglob("*") if p.is_socket()]
        finally:
            made.stop()


def test_s8_what_a_python_thread_starts_lives_on(ipython_dir):  # noqa: F811
    """A cluster that a thread started outlives the thread, and with shutdown_atexit=False the process."""
    source = """
import threading, covey as ipp
def start(): ipp.Cluster(n=1, cluster_id='', shutdown_atexit=False).start_cluster_sync()
t = threading.Thread(target=start); t.start(); t.join()
with ipp.Client() as rc: print(rc[:].apply_sync(int))
"""
    try:
        assert python(ipython_dir, source) == "[0]\n"
        assert python(ipython_dir, "import covey as ipp\nwith ipp.Client() as rc: print(rc[:].apply_sync(int))") == "[0]\n"
    finally:
        done = subprocess.run(program_argv("ipcluster", ["stop"]), env=ipython_dir, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_s9_connection_info_as_text(stack, ipython_dir, tmp_path):  # noqa: F811
    text = Path(stack.client_file).with_name("ipcontroller-engine.json").read_text()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "profile_default").mkdir(parents=True)
    env = stack.env
    stack.env = dict(ipython_dir, IPYTHONDIR=str(elsewhere), IPP_CONNECTION_INFO=text)
    stack.run("ipengine")
    stack.env = env
    stack.rc.wait_for_engines(3, timeout=30, interactive=False)


def test_s16_logging_is_heard(stack):
    """A handler that was made before the task, and one that the task makes."""
    stack.rc[0].execute("import logging, sys\nlog = logging.getLogger('mine')\nlog.addHandler(logging.StreamHandler())\nlog.setLevel(20)", block=True)

    def work():
        import logging
        import sys
        logging.getLogger("mine").warning("by the old handler")
        other = logging.getLogger("other")
        other.addHandler(logging.StreamHandler(sys.stderr))
        other.warning("by a new one")
    ar = stack.rc[0].apply_async(work)
    ar.get(20)
    assert "by the old handler" in ar.stderr and "by a new one" in ar.stderr
    assert logging.getLogger("mine").handlers == []


def test_m8_asyncio_run_in_a_task(stack):
    def work():
        import asyncio

        async def main():
            await asyncio.sleep(0)
            return 5
        return asyncio.run(main())
    assert stack.rc[0].apply_sync(work) == 5
    stack.rc[0].execute("import asyncio\nawait asyncio.sleep(0)\nwaited = 1", block=True)
    assert stack.rc[0]["waited"] == 1

"""Ctrl-C, SIGTERM and SIGKILL of each process at each phase: nothing hangs, nothing is left behind."""
import json
import os
import signal
import subprocess
import sys

import pytest

from .conftest import files_of, processes_of, wait_gone, wait_until

PROGRAM = {
    "notebook": None,
    "ipcluster": "ipcluster",
    "ipcontroller": "ipcontroller",
    "ipengine": "ipengine",
}

NOTEBOOK = """
import os, sys, time
import covey as ipp
print("starting", flush=True)
cluster = ipp.Cluster(n=2)
rc = cluster.start_and_connect_sync()
try:
    print("working", flush=True)
    rc[:].apply_async(time.sleep, 600).get(return_when=ipp.FIRST_EXCEPTION)
finally:
    print("stopping", flush=True)
    cluster.stop_cluster_sync()
"""


def find(ipython_dir, program):
    """The pid of a C program, or of an engine, below this IPYTHONDIR."""
    for pid, command in processes_of(ipython_dir).items():
        name = os.path.basename(command.split(" ")[0])
        if name == program or (program == "engine" and "covey.engine --engine" in command):
            return pid
    return None


@pytest.fixture
def notebook(ipython_dir, tmp_path):
    """A Python process that starts a cluster, works on it and stops it; what it says is in the file `said`."""
    said = tmp_path / "said"
    with open(said, "w") as f:
        process = subprocess.Popen([sys.executable, "-c", NOTEBOOK], env=ipython_dir, stdout=f, stderr=f, start_new_session=True)
    process.said = said
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def read_until(process, word):
    wait_until(lambda: word in process.said.read_text() or process.poll() is not None, timeout=60, what=f"the notebook saying {word!r}")
    assert word in process.said.read_text(), f"the notebook ended before it said {word!r}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
@pytest.mark.parametrize("program", ["notebook", "ipcluster", "ipcontroller", "ipengine", "engine"])
@pytest.mark.parametrize("phase", ["starting", "working", "stopping"])
def test_signal(notebook, ipython_dir, program, number, phase):
    folder = ipython_dir["IPYTHONDIR"]
    read_until(notebook, "starting" if phase == "starting" else "working")
    if phase == "stopping":
        notebook.send_signal(signal.SIGINT)
        read_until(notebook, "stopping")
    if program == "notebook":
        pid = notebook.pid
    elif phase == "stopping":
        pid = find(folder, program)  # it may be gone already
    else:
        pid = wait_until(lambda: find(folder, program) or notebook.poll() is not None, what=f"{program} running")
    if pid and pid is not True:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
    if program == "engine" or (program, number) == ("ipengine", signal.SIGINT):
        # an engine's end is told to whoever waits; SIGINT interrupts its task
        if phase == "working":
            wait_until(lambda: notebook.poll() is not None or number == signal.SIGINT, timeout=30, what="the notebook ending")
        notebook.terminate()
    try:
        notebook.wait(30)
    except subprocess.TimeoutExpired:
        said = notebook.said.read_text()
        if program in ("ipcluster", "ipcontroller", "ipengine") and "working" in said and "stopping" not in said and number == signal.SIGINT:
            notebook.terminate()  # it only interrupted what ran
            notebook.wait(30)
        else:
            pytest.fail("the notebook hangs")
    assert not wait_gone(folder), "processes are left"
    assert files_of(folder) == []


def run(ipython_dir, *argv, **kwargs):
    return subprocess.run([os.path.join(os.path.dirname(sys.executable), argv[0]), *argv[1:]], env=ipython_dir, capture_output=True, text=True, timeout=60, **kwargs)


def test_daemonized_stays_until_stop(ipython_dir):
    folder = ipython_dir["IPYTHONDIR"]
    done = run(ipython_dir, "ipcluster", "start", "-n", "2", "--daemonize")
    assert done.returncode == 0, done.stderr
    assert "Leaving cluster running" in done.stderr
    assert find(folder, "ipcontroller") and find(folder, "engine")
    listed = json.loads(run(ipython_dir, "ipcluster", "list", "-o", "json").stdout)
    assert len(listed) == 1
    again = run(ipython_dir, "ipcluster", "start", "-n", "2")
    assert again.returncode == 10 and "Cluster is already running with" in again.stderr
    stopped = run(ipython_dir, "ipcluster", "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert "Stopping cluster" in stopped.stderr.splitlines()[0]
    assert not wait_gone(folder)
    assert files_of(folder) == []
    assert os.listdir(os.path.join(folder, "profile_default", "log")) == []
    nothing = run(ipython_dir, "ipcluster", "stop")
    assert nothing.returncode == 11 and "Could not find cluster file" in nothing.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_foreground_ends_on_signal(ipython_dir, number):
    folder = ipython_dir["IPYTHONDIR"]
    program = os.path.join(os.path.dirname(sys.executable), "ipcluster")
    process = subprocess.Popen([program, "start", "-n", "2"], env=ipython_dir, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in process.stderr:
        if "Engines appear to have started successfully" in line:
            break
    process.send_signal(number)
    process.stderr.read()
    assert process.wait(30) == 0
    process.stderr.close()
    assert not wait_gone(folder)
    assert files_of(folder) == []


def test_a_failing_engine_fails_the_start(ipython_dir, tmp_path):
    """The first engine that can't start ends it, with that engine's words; nobody waits for the others."""
    startup = tmp_path / "startup.py"
    startup.write_text("import os, sys\nprint('no licence for this engine', file=sys.stderr, flush=True)\nos._exit(7)\n")
    ipython_dir["PYTHONSTARTUP"] = str(startup)
    done = run(ipython_dir, "ipcluster", "start", "-n", "2", "--engine-timeout=600")
    assert done.returncode == 1
    assert "no licence for this engine" in done.stderr
    assert not wait_gone(ipython_dir["IPYTHONDIR"])
    assert files_of(ipython_dir["IPYTHONDIR"]) == []

# SPDX-License-Identifier: BSD-3-Clause
"""ipcluster with a controller and a host that are shell scripts: what it says, returns, stops and leaves behind."""
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from covey._programs import program_path

from .conftest import files_of, processes_of, wait_gone, wait_until

CONTROLLER = """#!/bin/sh
for arg; do case $arg in --profile-dir=*) dir=${arg#*=};; esac; done
client=$dir/security/ipcontroller-client.json engine=$dir/security/ipcontroller-engine.json
echo '{}' > $client; echo '{}' > $engine
echo "controller's own words" >&2
say() { echo "$1" >&$COVEY_EVENTS_FD; }
trap 'rm -f $client $engine; say "{\\"event\\": \\"stopped\\"}"; exit 0' TERM
say "{\\"event\\": \\"listening\\", \\"pid\\": $$, \\"client_file\\": \\"$client\\", \\"engine_file\\": \\"$engine\\"}"
EXTRA
while :; do sleep 0.05; done
"""
JOIN = """for i in 0 1; do say "{\\"event\\": \\"engine_joined\\", \\"id\\": $i, \\"pid\\": 1}"; done"""
HOST = "#!/bin/sh\ntrap 'exit 0' TERM\nwhile :; do sleep 0.05; done\n"


@pytest.fixture
def programs(tmp_path, ipython_dir):
    """install(controller, host) writes the scripts; returns the path of an ipcluster beside them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy(program_path("ipcluster"), folder / "ipcluster")
    ipython_dir.pop("COVEY_BIN", None)

    def install(extra=JOIN, controller=CONTROLLER, host=HOST):
        for name, text in (("ipcontroller", controller.replace("EXTRA", extra)), ("ipengine", host)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return str(folder / "ipcluster")

    return install


def run(program, env, *args, **kwargs):
    return subprocess.run([program, *args], env=env, capture_output=True, text=True, timeout=60, **kwargs)


def start(program, env, *args, **kwargs):
    return subprocess.Popen([program, "start", *args], env=env, stderr=subprocess.PIPE, text=True, **kwargs)


def read_until(process, word):
    seen = []
    for line in process.stderr:
        seen.append(line)
        if word in line:
            return seen
    pytest.fail(f"it ended before it said {word!r}: {''.join(seen)}")


def test_m10_words_and_exit_codes(programs, ipython_dir):
    program = programs()
    process = start(program, ipython_dir, "-n", "2")
    assert "[IPClusterStart] Engines appear to have started successfully" in read_until(process, "successfully")[-1]
    again = run(program, ipython_dir, "start", "-n", "2")
    assert again.returncode == 10 and "CRITICAL | Cluster is already running with" in again.stderr
    stopped = run(program, ipython_dir, "stop")
    assert stopped.returncode == 0 and "[IPClusterStop] Stopping cluster" in stopped.stderr.splitlines()[0]
    process.stderr.read()
    assert process.wait(30) == 0
    process.stderr.close()
    assert files_of(ipython_dir["IPYTHONDIR"]) == []
    nothing = run(program, ipython_dir, "stop")
    assert nothing.returncode == 11 and "CRITICAL | Could not find cluster file" in nothing.stderr.splitlines()[0]
    assert run(program, ipython_dir, "stop", "--all").returncode == 0
    assert run(program, ipython_dir).returncode == 1
    assert run(program, ipython_dir, "start", "--bogus").returncode == 2
    assert run(program, ipython_dir, "--version").stdout.strip()


def test_clean_removes_a_cluster_file_that_nobody_can_read(programs, ipython_dir):
    program = programs()
    security = Path(ipython_dir["IPYTHONDIR"], "profile_default", "security")
    security.mkdir(parents=True)
    (security / "cluster-.json").write_text("garbage")
    assert run(program, ipython_dir, "stop").returncode == 11
    cleaned = run(program, ipython_dir, "clean")
    assert cleaned.returncode == 0 and "Removed 1 file" in cleaned.stderr and os.listdir(security) == []


def test_a_cluster_of_ipyparallels_own_programs_is_left_alone(programs, ipython_dir):
    """Whoever changes over may have one that runs, in the same profile."""
    program = programs()
    security = Path(ipython_dir["IPYTHONDIR"], "profile_default", "security")
    security.mkdir(parents=True)
    file = security / "cluster-.json"
    with subprocess.Popen([sys.executable, "-c", "input()", "ipyparallel.controller"], stdin=subprocess.PIPE) as controller:
        file.write_text(json.dumps({"cluster": {"cluster_id": "", "class": "ipyparallel.cluster.cluster.Cluster"},
                                    "controller": {"class": "local", "state": {"pid": controller.pid}}, "engines": {"class": "local", "sets": {}}}))
        for words, code in ((("start", "-n", "2"), 10), (("stop",), 1), (("stop", "--all"), 1), (("clean",), 1), (("list",), 0)):
            done = run(program, ipython_dir, *words)
            assert done.returncode == code and "ipyparallel's own programs" in done.stderr and file.exists(), (words, done)
        assert "''" not in done.stdout and controller.poll() is None
        controller.communicate(b"\n")
    assert run(program, ipython_dir, "list").stderr == "" and run(program, ipython_dir, "clean").returncode == 0 and not file.exists()


def test_m10_the_first_line_of_stop(programs, ipython_dir, tmp_path):
    """Programs read it; what is wrong with the config files the start has told."""
    program = programs()
    ipython_dir = ipython_dir | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # whose Python reads config files
    profile = Path(ipython_dir["IPYTHONDIR"], "profile_old")
    profile.mkdir(parents=True)
    (profile / "ipcluster_config.py").write_text("c.IPClusterEngines.n = 1\nc.Cluster.delay = 2\nc.Cluster.engin = 3\n")
    words = ("n is now called Cluster.n", "delay", "engin ")
    started = run(program, ipython_dir, "start", "--profile=old", "--daemonize")
    assert started.returncode == 0 and all(w in started.stderr for w in words)
    listed = run(program, ipython_dir, "list", "--profile=old")
    assert listed.stderr == "" and "old" in listed.stdout
    stopped = run(program, ipython_dir, "stop", "--profile=old", "--signal=9")
    assert stopped.returncode == 0 and stopped.stderr.splitlines()[0].startswith("--signal has no effect here")
    assert "[IPClusterStop] Stopping cluster" in stopped.stderr.splitlines()[1] and not any(w in stopped.stderr for w in words)
    again = run(program, ipython_dir, "stop", "--profile=old")
    assert "CRITICAL | Could not find cluster file" in again.stderr.splitlines()[0]


def test_daemonize_lets_go_of_its_output(programs, ipython_dir):
    program = programs()
    done = run(program, ipython_dir, "start", "-n", "2", "--daemonize")  # returns at the end of its output
    assert done.returncode == 0 and "Leaving cluster running: " in done.stderr
    listed = json.loads(run(program, ipython_dir, "list", "-o", "json").stdout)
    assert [c["running"] for c in listed] == [True] and listed[0]["cluster"]["cluster_id"] == listed[0]["cluster_id"]
    assert run(program, ipython_dir, "clean").returncode == 1
    assert run(program, ipython_dir, "clean", "--force").returncode == 0
    assert files_of(ipython_dir["IPYTHONDIR"]) == []


def test_a_failed_engine_fails_the_start(programs, ipython_dir):
    failed = """say '{"event": "engine_failed", "slot": 0, "cause": {"text": "no memory for it", "stderr": "last words"}}'"""
    program = programs(failed)
    for flags in ((), ("--daemonize",)):
        done = run(program, ipython_dir, "start", "-n", "2", "--engine-timeout=600", *flags)
        assert done.returncode == 1 and "no memory for it" in done.stderr and "last words" in done.stderr
        assert not wait_gone(ipython_dir["IPYTHONDIR"]) and files_of(ipython_dir["IPYTHONDIR"]) == []


@pytest.mark.parametrize("which", ["controller", "host"])
def test_a_child_that_ends_early_is_quoted(programs, ipython_dir, which):
    script = "#!/bin/sh\necho 'out of licences' >&2\nexit 3\n"
    program = programs("", **{which: script})
    done = run(program, ipython_dir, "start", "-n", "2")
    assert done.returncode == 1 and "exited with code 3" in done.stderr and "out of licences" in done.stderr


def test_too_few_engines_in_time(programs, ipython_dir):
    done = run(programs(""), ipython_dir, "start", "-n", "2", "--engine-timeout=0.3")
    assert done.returncode == 1 and "0 of 2 engines were there" in done.stderr


def test_what_ignores_sigterm_is_killed(programs, ipython_dir):
    program = programs(host="#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.05; done\n")
    process = start(program, ipython_dir, "-n", "2")
    read_until(process, "successfully")
    process.send_signal(signal.SIGINT)
    read_until(process, "Stopping")
    process.send_signal(signal.SIGINT)  # the second one means: at once
    process.stderr.read()
    assert process.wait(30) == 0
    process.stderr.close()


@pytest.mark.parametrize("number, code", [(signal.SIGKILL, 1), (signal.SIGTERM, 0)])
def test_the_controllers_end_is_the_clusters(programs, ipython_dir, number, code):
    process = start(programs(), ipython_dir, "-n", "2")
    read_until(process, "successfully")
    pid = next(p for p, command in processes_of(ipython_dir["IPYTHONDIR"]).items() if "bin/ipcontroller" in command)
    os.kill(pid, number)
    said = process.stderr.read()
    assert process.wait(30) == code and ("SIGKILL" in said or code == 0)
    process.stderr.close()
    assert files_of(ipython_dir["IPYTHONDIR"]) == []


def test_a_killed_supervisor_leaves_no_process_and_its_file_is_replaced(programs, ipython_dir):
    program = programs()
    process = start(program, ipython_dir, "-n", "2")
    read_until(process, "successfully")
    process.kill()
    process.wait(30)
    process.stderr.close()
    assert not wait_gone(ipython_dir["IPYTHONDIR"])
    assert run(program, ipython_dir, "start", "-n", "2", "--daemonize").returncode == 0
    assert run(program, ipython_dir, "stop").returncode == 0


def test_it_ends_with_its_parent(programs, ipython_dir):
    parent = subprocess.Popen(["sleep", "600"])
    process = start(programs(), ipython_dir, "-n", "2", f"--parent-pid={parent.pid}")
    read_until(process, "successfully")
    parent.kill()
    parent.wait()
    process.stderr.read()
    assert process.wait(30) == 0
    process.stderr.close()


def test_events(programs, ipython_dir):
    read, write = os.pipe()
    env = dict(ipython_dir, COVEY_EVENTS_FD=str(write))
    process = start(programs(), env, "-n", "2", pass_fds=[write])
    os.close(write)
    names = []
    with open(read, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            names.append(event["event"])
            if event["event"] == "ready":
                assert event["n"] == 2 and os.path.exists(event["cluster_file"]) and os.path.exists(event["client_file"])
                process.terminate()
    process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 0
    assert names[0] == "starting" and names[-1] == "stopped"
    assert [n for n in names if n in ("listening", "ready", "stopping")] == ["listening", "ready", "stopping"]
    assert names.count("engine_joined") == 2 and names.index("engine_set") < names.index("ready")


def test_commands(programs, ipython_dir):
    import socket

    process = start(programs(), ipython_dir, "-n", "2")
    read_until(process, "successfully")
    file = wait_until(lambda: files_of(ipython_dir["IPYTHONDIR"]) and [f for f in files_of(ipython_dir["IPYTHONDIR"]) if "cluster-.json" in f])[0]
    state = json.loads(open(os.path.join(ipython_dir["IPYTHONDIR"], file), encoding="utf-8").read())

    def call(command):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect("\0" + state["control"][1:])
            s.sendall(command.encode() + b"\n")
            return json.loads(s.makefile().readline())

    assert call('{"do": "status"}')["ok"]["ready"] == 2
    assert "error" in call("nonsense") and "error" in call('{"do": "fly"}') and "error" in call('{"do": "start_engines", "n": 0}')
    assert call('{"do": "start_engines", "n": 1, "id": "more"}')["ok"] == {"id": "more", "n": 1}
    before = call('{"do": "status"}')["ok"]["engines"]["more"]["pid"]
    assert call('{"do": "restart_engines", "id": "more"}')["ok"] is None
    assert call('{"do": "status"}')["ok"]["engines"]["more"]["pid"] != before
    assert call('{"do": "stop_engines", "id": "more"}')["ok"] is None
    assert list(call('{"do": "status"}')["ok"]["engines"]) == ["0"]
    assert "error" in call('{"do": "stop_engines", "id": "more"}')
    assert call('{"do": "stop"}')["ok"] is None  # comes when all is over
    process.stderr.read()
    assert process.wait(30) == 0
    process.stderr.close()

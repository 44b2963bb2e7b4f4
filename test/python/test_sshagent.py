# SPDX-License-Identifier: BSD-3-Clause
"""The far end of launching by ssh (covey._sshagent remote), with pipes in place of ssh."""
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import covey as ipp
from covey import _sshagent

AGENT = "import sys; from covey import _sshagent as agent; agent.LEASE = 0.3; {}; sys.exit(agent.remote())"
# Says what it is told to, then talks on until SIGTERM.
PROGRAM = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
events = int(os.environ["COVEY_EVENTS_FD"])
os.write(events, json.dumps({"event": os.environ["FIRST"], "pid": os.getpid()}).encode() + b"\\n")
while True:
    time.sleep(0.05)
    os.write(events, b'{"event": "more"}\\n')
"""


@pytest.fixture
def far(tmp_path):
    """far(first event, ...) -> the agent, with the event as `first`; nothing of it stays."""
    made = []

    def far(first, more="", fetch=(), files=None, program=PROGRAM, **others):
        agent = subprocess.Popen([sys.executable, "-c", AGENT.format(more or "pass")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, env={**os.environ, "HOME": str(tmp_path)})
        made.append(agent)
        tell(agent, profile_dir="p", argv=[sys.executable, "-c", program], args=[], env={"FIRST": first}, files=files or {}, fetch=list(fetch), **others)
        return agent

    yield far
    for agent in made:
        agent.kill()
        agent.wait()
        for stream in (agent.stdin, agent.stdout, agent.stderr):
            with contextlib.suppress(OSError):
                stream.close()


def tell(agent, **command):
    agent.stdin.write(json.dumps(command).encode() + b"\n")
    agent.stdin.flush()


def hear(agent, event):
    while True:
        line = agent.stdout.readline()
        assert line, agent.stderr.read().decode()
        if line.strip() and (said := json.loads(line))["event"] == event:
            return said


def test_a_cut_line_ends_the_program_after_the_lease(far):
    """Also one that has something to say meanwhile, which nobody can hear."""
    agent = far("engine_up")
    pid = hear(agent, "engine_up")["pid"]
    program = os.pidfd_open(pid)
    try:
        agent.stdout.close()
        agent.stdin.close()
        assert agent.wait(timeout=60) == 7
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(program, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(program, signal.SIGKILL)
        os.close(program)


def goes_on(agent, seconds, most):
    """Whether it does as long as it hears something; None if this process said nothing for `most` seconds, because it stood still."""
    began = told = time.monotonic()
    while told < began + seconds:
        with contextlib.suppress(BrokenPipeError):
            tell(agent, do="go on")
        heard = any(b'"more"' in line for line in agent.stdout) and agent.poll() is None
        before, told = told, time.monotonic()
        if told - before > most:
            return None
        if not heard:
            return False
    return True


def test_a_silent_line_ends_the_program_unless_it_has_signs_of_life(far):
    for _ in range(20):
        agent = far("engine_up", more="agent.SILENCE = 3")
        hear(agent, "engine_up")
        if (well := goes_on(agent, 4, 2)) is not None:
            break
    assert well
    assert agent.wait(timeout=60) == 7


def test_a_signal_to_an_engine_that_has_just_ended(far):
    agent = far("engine_up", more="agent.engines_of = lambda pid: [2**22]")      # no process has that number
    hear(agent, "engine_up")
    tell(agent, do="signal", signal=int(signal.SIGUSR1))
    tell(agent, do="stop")
    assert agent.wait(timeout=60) == 7


# Says which set it is and that it is a host, if it is one, repeats one line that it is told, and dies.
LISTENER = """
import json, os
events = int(os.environ["COVEY_EVENTS_FD"])
os.write(events, json.dumps({"event": "host", "pid": os.getpid() + int(os.environ["FIRST"] or 0)}).encode() + b"\\n")
os.write(events, json.dumps({"event": "engine_up", "set": os.environ.get("COVEY_ENGINE_SET")}).encode() + b"\\n")
heard = b""
while not heard.endswith(b"\\n"):
    heard += os.read(events, 1)
os.write(events, json.dumps({"event": "heard", "line": json.loads(heard)}).encode() + b"\\n")
os.kill(os.getpid(), 9)
"""
WORD = {"set_ended": "1", "why": "é"}


def test_a_word_reaches_the_program_whose_end_is_told(far):
    agent = far("", program=LISTENER)
    hear(agent, "engine_up")
    tell(agent, do="say", word=WORD)
    assert hear(agent, "heard")["line"] == WORD
    assert hear(agent, "over")["how"] == "was killed by SIGKILL"
    assert agent.wait(timeout=60) == 137


def test_words_to_a_program_that_reads_none(far):
    """They are lost when nothing more fits in: nobody waits for that."""
    agent = far("engine_up")
    hear(agent, "engine_up")
    for _ in range(200):
        tell(agent, do="say", word={"set_ended": "1", "why": 4000 * "x"})
    tell(agent, do="stop")
    assert agent.wait(timeout=60) == 7


def test_a_file_that_can_t_be_fetched_is_named(far):
    agent = far("listening", fetch=["nowhere.json"])
    assert list(hear(agent, "files")["files"].values()) == [None]
    hear(agent, "listening")
    tell(agent, do="stop")
    assert agent.wait(timeout=60) == 7
    assert b"nowhere.json" in agent.stderr.read()


def test_a_file_stays_as_long_as_somebody_wants_it(far, tmp_path):
    """Two agents of one home, as on two machines; who ends last removes it."""
    path, text = tmp_path / "p/security/engine.json", "what both were sent"
    first, second = agents = [far("engine_up", files={"p/security/engine.json": text}) for _ in range(2)]
    for agent in agents:
        hear(agent, "engine_up")
    assert path.read_text() == text and path.stat().st_mode & 0o777 == 0o600
    tell(first, do="stop")
    assert first.wait(timeout=60) == 7 and path.read_text() == text
    tell(second, do="stop")
    assert second.wait(timeout=60) == 7 and os.listdir(path.parent) == []


def test_a_file_that_was_there_stays(far, tmp_path):
    """A home that is the controller's, too. What a killed agent has left is not taken for somebody who wants it."""
    path = tmp_path / "p/security/engine.json"
    path.parent.mkdir(parents=True)
    path.write_text("the controller's")
    for name, files in (("theirs", ["engine.json"]), ("ours", [])):
        text = "the controller's" if name == "theirs" else "ours"
        agent = far("engine_up", files={"p/security/engine.json": text})
        hear(agent, "engine_up")
        assert path.read_text() == text
        tell(agent, do="stop")
        assert agent.wait(timeout=60) == 7 and os.listdir(path.parent) == files
        killed = far("engine_up", files={"p/security/engine.json": "of one that was killed"})
        program = hear(killed, "engine_up")["pid"]
        killed.kill()
        killed.wait()
        os.kill(program, signal.SIGKILL)


def test_a_folder_that_can_t_be_written(far, tmp_path):
    (tmp_path / "p").write_text("a file")
    agent = far("engine_up", files={"q/engine.json": "x"})
    assert agent.wait(timeout=60) == 1
    said = agent.stderr.read().decode()
    assert "can't write the connection file there" in said and "remote_profile_dir" in said and not (tmp_path / "q").exists()


def test_a_program_that_is_not_there_leaves_no_file(far, tmp_path):
    agent = far("engine_up", more="agent.subprocess.Popen = lambda *a, **k: exec('raise FileNotFoundError(2, \"nothing\")')", files={"q/engine.json": "x"})
    assert agent.wait(timeout=60) == 1
    assert b"can't start" in agent.stderr.read() and os.listdir(tmp_path / "q") == []


BYTES = bytes(range(256)) + b"\r\n"


def test_files_of_the_user_s_stay(far, tmp_path):
    """Any bytes, with their mode; a "~/" is the home, and one that was there is replaced."""
    (tmp_path / "tool").write_text("an older one")
    text = BYTES.decode(errors="surrogateescape")
    agent = far("engine_up", kept={"~/tool": [text, 0o755], "data/x": [text, 0o644]})
    hear(agent, "engine_up")
    tell(agent, do="stop")
    assert agent.wait(timeout=60) == 7
    assert (tmp_path / "tool").read_bytes() == (tmp_path / "data/x").read_bytes() == BYTES
    assert (tmp_path / "tool").stat().st_mode & 0o777 == 0o755 and sorted(os.listdir(tmp_path)) == ["data", "p", "tool"]


def test_what_is_fetched_comes_byte_by_byte(far, tmp_path):
    (tmp_path / "x").write_bytes(BYTES)
    agent = far("listening", fetch=["~/x"])
    (text,) = hear(agent, "files")["files"].values()
    assert text.encode(errors="surrogateescape") == BYTES
    tell(agent, do="stop")
    assert agent.wait(timeout=60) == 7


# What stands in for ssh: a shell with start files that talk, and the far end in the place of a home.
SSH = """#!/bin/sh
printf '42\n"a text"\n{"no event": 1}\nwelcome, without the end of a line'
HOME=%s exec sh -c "$4"
"""
NEAR = "import sys; sys.argv = ['', 'local']; from covey import _sshagent as agent; agent.main()"


@pytest.fixture
def near(tmp_path):
    """near(send=…, fetch=…): the agent of a supervisor with one host, whose home is tmp_path/there."""
    there = tmp_path / "there"
    there.mkdir()
    ssh = tmp_path / "ssh"
    ssh.write_text(SSH % there)
    ssh.chmod(0o755)
    made = []

    def near(first, send=(), fetch=(), argv=(sys.executable, "-c", PROGRAM)):
        agent = subprocess.Popen([sys.executable, "-c", NEAR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env={**os.environ, "HOME": str(tmp_path)})
        made.append(agent)
        command = f"{sys.executable} -m covey._sshagent remote"
        tell(agent, do="start", hosts=[{"name": "far", "ssh": [str(ssh), "-x", "far", "-y", command], "profile_dir": "~/p", "argv": list(argv),
                                        "args": [], "env": {"FIRST": first}, "send": list(send), "fetch": list(fetch)}])
        return agent
    yield near
    for agent in made:
        agent.kill()
        agent.wait()
        for stream in (agent.stdin, agent.stdout, agent.stderr):
            with contextlib.suppress(OSError):
                stream.close()


def test_what_a_shell_says_is_no_event(near, tmp_path):
    """Numbers and texts are JSON as well, and a line that does not end is no part of the first event."""
    (tmp_path / "ipcontroller-engine.json").write_text("the key")
    (tmp_path / "tool").write_bytes(BYTES)
    agent = near("engine_up", send=[("~/ipcontroller-engine.json", "~/p/security/ipcontroller-engine.json"), ("~/tool", "~/bin/tool")])
    hear(agent, "engine_up")
    there = tmp_path / "there"
    assert (there / "p/security/ipcontroller-engine.json").read_text() == "the key"
    tell(agent, do="stop")
    assert agent.wait(timeout=60) == 0
    assert os.listdir(there / "p/security") == [] and (there / "bin/tool").read_bytes() == BYTES and sorted(os.listdir(there)) == ["bin", "p"]


def test_a_controller_s_files_are_named_by_what_they_are(near, tmp_path):
    there = tmp_path / "there/p"
    there.mkdir()
    pairs = []
    for name in ("log.bin", "ipcontroller-x-engine.json", "ipcontroller-x-client.json"):
        (there / name).write_bytes(BYTES)
        pairs.append((f"p/{name}", str(tmp_path / f"got/{name}")))
    agent = near("listening", fetch=pairs)
    said = hear(agent, "listening")
    assert (said["client_file"], said["engine_file"]) == (pairs[2][1], pairs[1][1])
    assert (tmp_path / "got/log.bin").read_bytes() == BYTES
    tell(agent, do="stop")
    assert agent.wait(timeout=60) == 0


@pytest.mark.parametrize("other", ["0", "1"])
def test_the_end_of_a_host_is_that_of_its_engines(near, other):
    """Said with the set's name, which is this host's alone; a command of the user's, with a host below it, may have left engines."""
    agent = near(other, argv=[sys.executable, "-c", LISTENER])
    name = hear(agent, "engine_up")["set"]
    tell(agent, do="say", word=WORD)
    assert hear(agent, "heard")["line"] == WORD
    first, *more = [json.loads(line) for line in agent.stdout]
    assert int(name)
    if other == "0":
        assert first == {"event": "set_ended", "set": name, "why": "its host (ipengine) was killed by SIGKILL"}
        first, *more = more
    assert first["event"] == "engine_failed" and not more


def test_a_file_that_is_not_there_to_send(near):
    agent = near("engine_up", send=[("~/nothing", "x")])
    said = hear(agent, "engine_failed")
    assert "far: can't send a file" in said["cause"]["text"] and "to_send" in said["cause"]["text"]
    assert agent.wait(timeout=60) == 1


def test_a_fetched_file_that_can_t_be_written(near, tmp_path):
    """Is told with the controller's end of it, which goes on."""
    (tmp_path / "there" / "tool").write_text("x")
    (tmp_path / "file").touch()
    agent = near("listening", fetch=[("tool", str(tmp_path / "file/tool"))])
    said = hear(agent, "engine_failed")
    assert said["cause"]["text"].startswith("far: can't write what was fetched: ") and said["cause"]["text"].endswith(" (to_fetch)") and said["controller"]
    hear(agent, "listening")
    tell(agent, do="stop")
    assert agent.wait(timeout=60) == 0


def test_an_ssh_that_is_not_there(near, tmp_path):
    (tmp_path / "ssh").unlink()
    said = hear(near("engine_up"), "engine_failed")
    assert said["cause"]["text"] == f"far: can't run {tmp_path / 'ssh'}: No such file or directory (is OpenSSH installed? ssh_cmd names another one)"


def test_a_connection_file_that_does_not_come(monkeypatch, tmp_path):
    monkeypatch.setattr(_sshagent, "FILE_WAIT", 0.1)
    with pytest.raises(TimeoutError, match="/ipcontroller-engine.json was not there after 0.1 s$"):
        asyncio.run(_sshagent.Local().connection_file(str(tmp_path / "ipcontroller-engine.json")))


REMOTE = "prologue\nexec /opt/py -m covey._sshagent remote"


@pytest.mark.parametrize("code, said, text", [
    (-9, b"", "ssh to far: it was killed here by SIGKILL"),
    (1, b"/opt/py: No module named covey._sshagent", f"far: covey is installed there in another version: install the same as here ({ipp.__version__})"),
    (1, b"/opt/py: Error while finding module: No module named 'covey'", "far: /opt/py has no covey: install it there (`/opt/py -m pip install covey`)"),
    (127, b"sh: 2: exec: /opt/py: not found", "far: no /opt/py can be run there: name an interpreter that has covey (remote_python)"),
    (126, b"", "far: no /opt/py can be run there"),
    (3, b"first\nsh: module: \xff not found\n", "far: sh: module: \ufffd not found"),
    (3, b" \n", "far: what ssh ran there ended with exit code 3 and without a word: log in and try `/opt/py -m covey.engine --help`")])
def test_why_an_ssh_has_ended(code, said, text):
    assert _sshagent.explain("far", REMOTE, code, said).startswith(text)

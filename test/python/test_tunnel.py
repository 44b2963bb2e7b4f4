# SPDX-License-Identifier: BSD-3-Clause
"""`ipcluster tunnel` without ssh."""
import json
import os
import socket
import tempfile

import pytest

from covey import _tunnel
from covey._tunnel import BEGIN, END, Tunnel, TunnelError


@pytest.mark.parametrize("server, words", [
    ("host", ["host"]), ("bob@host:2200", ["-p", "2200", "bob@host"]), ("fd00::7", ["fd00::7"]), ("[fd00::7]", ["fd00::7"]),
    ("bob@[fd00::8]:2200", ["-p", "2200", "bob@fd00::8"])])
def test_a_server_is_read_as_the_programs_do(server, words):
    tunnel = Tunnel(server, "default", "", [])
    try:
        assert tunnel._place() == words
    finally:
        tunnel.undo()


def test_folders_of_killed_tunnels_are_removed(tmp_path, monkeypatch):
    """But none with a login, whose tunnel may only not be seen from here; a long TMPDIR is no place for a socket."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("covey._tunnel.BASE_MAX", len(str(tmp_path)))
    first = Tunnel("host", "default", "", [])
    dead, alive = (tmp_path / f"covey-tunnel-{2**22}-{start}-x" for start in (1, 2))
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "s").touch()
    (alive / "s").unlink()
    with socket.socket(socket.AF_UNIX) as login:
        monkeypatch.chdir(alive)
        login.bind("s")
        login.listen()
        second = Tunnel("host", "default", "", [])
        assert sorted(os.listdir(tmp_path)) == sorted(map(os.path.basename, (first.folder, second.folder, alive)))
    monkeypatch.setattr("covey._tunnel.BASE_MAX", len(str(tmp_path)) - 1)
    third = Tunnel("host", "default", "", [])
    assert os.path.dirname(third.folder) == "/tmp"
    for tunnel in (first, second, third):
        tunnel.undo()
        assert not os.path.exists(tunnel.folder)


SSH = """#!/bin/sh
cd "${0%/*}"
case " $* " in
*" -M "*) [ ! -e refuses ] || exit 255; echo $$ >pid; exec sleep 60 ;;
*" -O check "*) [ -e pid ] && [ ! -e asks ] ;;
*" -O exit "*) kill $(cat pid) ;;
*" -T "*) cat >/dev/null; cat answer; cat words >&2; exit $(cat code) ;;
esac
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """server(answer, words, code, ...) -> a tunnel to a server that answers so; of ssh there is only the conversation."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o700)
    made = []

    def server(answer="", words="", code=0, *marks):
        for name, text in {"answer": answer, "words": words, "code": str(code), **dict.fromkeys(marks, "")}.items():
            (tmp_path / name).write_text(text)
        made.append(Tunnel("host", "p", "", []))
        return made[-1]

    yield server
    for tunnel in made:
        tunnel.undo()
        assert tunnel.master is None and not os.path.exists(tunnel.folder)


def sent(content, profile="p"):
    """What the server's shell prints, after what its startup files do."""
    return f"Welcome!\n{BEGIN} {profile}\n{content}\n{END}\n"


FILE = {"cluster_id": "", "boot_id": "b", "endpoints": ["unix:@x"], "key": "0" * 64}


@pytest.mark.parametrize("args, words", [
    (("", "", 0, "refuses"), r"ssh to host failed \(exit code 255; .*`ssh host` must work from here"),
    (("", "", 0, "asks"), "no login at host within 0.3 s"),
    (("", "no readable /home/b/x\n", 1), "^host: no readable /home/b/x$"),
    (("This account is not available.\n",), "^host: the connection file was not printed$"),
    ((sent("{}", "../evil"),), "^host: profile '../evil' was sent, and p job_p was asked for$"),
    ((sent('{"key": "0'),), "^host: the client's file of profile p is not whole: "),
    ((sent(json.dumps(FILE), "job_p"),), "^host: the file names no TCP address$")])
def test_a_tunnel_that_can_t_be_made_says_why(server, monkeypatch, tmp_path, args, words):
    monkeypatch.setattr("covey._tunnel.LOGIN", 0.3 if "asks" in args else 60)
    with pytest.raises(TunnelError, match=words):
        server(*args).open()
    assert not (tmp_path / "home").exists(), "no folder was made for it"


def test_a_cluster_of_this_machine_keeps_its_file(server, tmp_path):
    tunnel = server(sent(json.dumps({**FILE, "endpoints": ["tcp://127.0.0.1:1"]})))
    own = tmp_path / "home" / "profile_p" / "security" / "ipcontroller-client.json"
    own.parent.mkdir(parents=True)
    own.write_text(text := json.dumps({**FILE, "process": {"pid": os.getpid(), "start": _tunnel._start_of_this()}}))
    with pytest.raises(TunnelError, match="the profile p has a cluster of this machine .*: stop it, or use another IPYTHONDIR"):
        tunnel.open()
    tunnel.undo()
    assert own.read_text() == text

# SPDX-License-Identifier: BSD-3-Clause
"""`ipcluster tunnel` without ssh."""
import os
import socket
import tempfile

import pytest

from covey._tunnel import Tunnel


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

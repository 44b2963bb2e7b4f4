# SPDX-License-Identifier: BSD-3-Clause
"""`ipcluster tunnel` without ssh."""
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

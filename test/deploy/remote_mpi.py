# SPDX-License-Identifier: BSD-3-Clause
"""examples/docker/remote-mpi: its two machines under a name and a port of their own, and the key copied by the README's own commands."""
from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
from pathlib import Path

from . import containers
from .conftest import need, wait_until
from .containers import Container
from .program import Program

# who answers ssh's questions
ASK = """#!/bin/sh
case "$1" in
*yes/no*) echo yes ;;
*) echo whocares ;;
esac
"""


def why_not() -> str | None:
    """docker-compose is a program, or one of docker's commands."""
    return containers.why_not(*(() if containers.answers("docker", "compose", "version") else ("docker-compose",)))


def compose(project: str, *args: str, port: int = 0, timeout: float = 60) -> str:
    program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    return containers.sh(*program, "-p", project, *args, timeout=timeout, cwd=containers.EXAMPLES / "remote-mpi",
                         env={**os.environ, "BASE": containers.base_image(), "PORT": str(port)})


@functools.cache
def build_images() -> None:
    containers.build(lambda: compose("coveytest", "build", "--force-rm", timeout=containers.seconds_left()))


class RemoteMpi:
    """`local` and `remote`, in whose containers commands are run by `demo`. `port`: JupyterLab's, on this machine."""

    def __init__(self, folder: Path) -> None:
        need(why_not())
        build_images()
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.folder = folder
        self.name = f"coveytest{os.getpid()}"
        self.sessions: list[Program] = []

    def __enter__(self) -> RemoteMpi:
        try:
            self._compose("up", "-d")
            self.local, self.remote = (Container(self._compose("ps", "-q", s).strip(), self.folder, "demo") for s in ("local", "remote"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._compose("down", "-v", "-t", "1")
        for session in self.sessions:
            session.wait()
        assert containers.left(f"com.docker.compose.project={self.name}") == {}

    def _compose(self, *args: str) -> str:
        return compose(self.name, *args, port=self.port)

    def copy_key(self) -> None:
        """`local` logs in at `remote` without a question."""
        commands, = (block for block in containers.blocks("remote-mpi", "sh") if "ssh-copy-id" in block)
        wait_until(lambda: self.local.run("ssh-keyscan", "-T", "1", "remote", check=False), 30, "sshd on remote")
        ask = f"cat >~/ask <<'EOF'\n{ASK}EOF\nchmod +x ~/ask; export SSH_ASKPASS=~/ask SSH_ASKPASS_REQUIRE=force\n"
        self.local.run("sh", "-euc", ask + commands)
        assert self.local.run("ssh", "-o", "BatchMode=yes", "remote", "hostname").strip() == "remote"

    def python(self, code: str) -> Program:
        """A session in `local`; it goes on when it gets a line."""
        log = self.folder / f"session-{len(self.sessions)}.log"
        argv = ["docker", "exec", "-i", "--user", "demo", self.local.name, "python", "-u", "-c", code]
        with open(log, "w") as f:
            self.sessions.append(Program(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=f, stderr=subprocess.STDOUT), log))
        return self.sessions[-1]

    def nothing_is_left(self, before: list[str], timeout: float = 20) -> None:
        """On `remote` nothing at all, on `local` what ran before: JupyterLab."""
        wait_until(lambda: not self.remote.processes(), timeout, "the end of all processes on remote")
        wait_until(lambda: [p for p in self.local.processes() if "ipykernel" not in p] == before, timeout, "the end of all processes on local but JupyterLab's")

# SPDX-License-Identifier: BSD-3-Clause
"""examples/docker/jupyter-cluster, started by its README's own commands: a controller that only ssh reaches, and two containers with two engines each."""
from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

from . import containers
from .conftest import need
from .containers import Container, sh, shell
from .program import Program


def free_port(address: str) -> int:
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


class JupyterCluster:
    """`folder` has the three files that everybody but the controller mounts at /cluster; `commands` the README's blocks after the one that builds.
    config: lines for the controller's ipcontroller_config.py."""

    def __init__(self, folder: Path, config: str = ""):
        need(containers.why_not("ip"))
        containers.build_images()
        self.folder, self.config = folder, config
        self.commands = containers.blocks("jupyter-cluster", "sh")[1:]
        self.clients: list[Client] = []

    def __enter__(self) -> JupyterCluster:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        containers.remove()
        for client in self.clients:
            client.wait()

    def start(self) -> None:
        controller, engines, _ = self.commands
        host = re.search(r"inet ([\d.]+)", sh("ip", "-4", "-o", "addr", "show", "docker0"))[1]
        controller = controller.replace("host=192.0.2.1 ", f"host={host} ").replace("port=50000", f"port={free_port(host)}")
        if self.config:
            path = self.folder / "ipcontroller_config.py"
            path.write_text(f"c = get_config()\n{self.config}\n")
            controller = controller.replace("-e CONTROLLER_HOST", f"-v {path}:/root/.ipython/profile_default/{path.name}:ro -e CONTROLLER_HOST")
        self.controller = self._container(shell(controller + "echo $id", self.folder).split()[-1])
        for path in self.folder.glob("i*") if os.getuid() == 0 else ():
            os.chown(path, 1000, 1000)  # files of a user, who is another one than the containers' root
        self.engines = [self._container(shell(f"{engines.rstrip()} -N=2", self.folder).strip()) for _ in range(2)]

    def _container(self, name: str) -> Container:
        return Container(name, self.folder)

    def client(self, code: str) -> Client:
        """Python in a container of its own; it goes on when it gets a line."""
        self.clients.append(Client(f"coveytest{os.getpid()}-client{len(self.clients)}", self.folder, code))
        return self.clients[-1]

    def sessions(self) -> int:
        """How many connections the controller's sshd serves."""
        return len([p for p in self.controller.processes("sshd: ") if "listener" not in p])


class Client(Program):
    def __init__(self, name: str, folder: Path, code: str):
        self.name = name
        argv = ["docker", "run", "--rm", "-i", "--init", "--name", name, "--label", containers.LABEL, "-v", f"{folder}:/cluster:ro", "covey-notebook",
                "python", "-u", "-c", code]
        log = folder / f"{name}.log"
        with open(log, "w") as f:
            super().__init__(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=f, stderr=subprocess.STDOUT), log)

    def kill(self, program: str) -> None:
        sh("docker", "exec", self.name, "pkill", "-KILL", "-x", program)

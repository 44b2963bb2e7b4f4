# SPDX-License-Identifier: BSD-3-Clause
"""examples/docker/remote-mpi as its README says: docker-compose, JupyterLab with its password, the key copied, two notebooks, nothing left on `remote`."""
from __future__ import annotations

import http.cookiejar
import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from . import containers

pytestmark = [pytest.mark.containers, pytest.mark.skipif(bool(containers.why_not("docker-compose")), reason=str(containers.why_not("docker-compose")))]
FOLDER = containers.EXAMPLES / "remote-mpi"
COPY_KEY = """ssh-keygen -f ~/.ssh/id_ecdsa -t ecdsa -b 521 -q -N ""
printf '#!/bin/sh\\necho whocares\\n' > ~/ask; chmod +x ~/ask
SSH_ASKPASS=~/ask SSH_ASKPASS_REQUIRE=force ssh-copy-id -o StrictHostKeyChecking=accept-new -i ~/.ssh/id_ecdsa remote
ssh -o BatchMode=yes remote hostname"""


class Compose:
    def __init__(self) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.env = {**os.environ, "BASE": containers.base_image(), "PORT": str(self.port)}
        self.name = f"coveytest{os.getpid()}"

    def __call__(self, *args: str, timeout: float = 60, check: bool = True) -> str:
        return containers.sh("docker-compose", "-p", self.name, *args, timeout=timeout, check=check, cwd=FOLDER, env=self.env)

    def demo(self, service: str, *command: str, timeout: float = 60) -> str:
        return self("exec", "-T", "--user", "demo", "-e", "HOME=/home/demo", service, *command, timeout=timeout)


@pytest.fixture(scope="module")
def compose():
    compose = Compose()
    try:
        compose("up", "--build", "-d", timeout=containers.BUILD_SECONDS)
        yield compose
    finally:
        compose("down", "-t", "1", check=False)


def lab_is_logged_in(port: int, password: str) -> bool:
    """Logs in at JupyterLab's own page, as a browser does; waits until the server is up."""
    cookies = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    deadline = time.monotonic() + 60
    while True:
        try:
            opener.open(f"http://127.0.0.1:{port}/login", timeout=5).read()
            break
        except OSError:
            assert time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.25)
    xsrf = next(c.value for c in cookies if c.name == "_xsrf")
    form = urllib.parse.urlencode({"_xsrf": xsrf, "password": password}).encode()
    try:
        opener.open(f"http://127.0.0.1:{port}/login?next=%2Fapi%2Fstatus", form, timeout=10).read()
        return opener.open(f"http://127.0.0.1:{port}/api/kernels", timeout=10).status == 200
    except urllib.error.HTTPError:
        return False


@pytest.mark.timeout(1200)
def test_the_lab_wants_its_password(compose):
    assert not lab_is_logged_in(compose.port, "wrong")
    assert lab_is_logged_in(compose.port, "whocares")


@pytest.mark.timeout(1200)
def test_a_cluster_from_a_notebook_and_from_a_second_one(compose):
    assert compose.demo("local", "sh", "-euc", COPY_KEY).strip().endswith("remote")
    containers.sh("docker", "cp", str(Path(__file__).with_name("remote_mpi_notebooks.py")), compose("ps", "-q", "local").strip() + ":/tmp/notebooks.py")
    assert compose.demo("local", "python", "/tmp/notebooks.py", timeout=240).strip().endswith("ok")
    left = compose("exec", "-T", "remote", "ps", "-u", "demo", "-o", "args=")
    assert "ipcontroller" not in left and "ipengine" not in left and "mpiexec" not in left and "covey" not in left, left

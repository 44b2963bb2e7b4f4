# SPDX-License-Identifier: BSD-3-Clause
"""examples/docker/remote-mpi as its README says: docker-compose, JupyterLab with its password, the key copied, two notebooks, nothing left on either."""
from __future__ import annotations

import http.cookiejar
import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from . import browser, containers
from .conftest import need, wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3 * containers.BUILD_SECONDS)]
FOLDER = containers.EXAMPLES / "remote-mpi"
# says why there is no cluster
START = """
import covey, pathlib
pathlib.Path.home().joinpath(".ssh").mkdir(mode=0o700, exist_ok=True)
try:
    covey.Cluster(profile="remotempi").start_cluster_sync()
except Exception as e:
    print(e)
"""
# who answers ssh's questions
ASK = """#!/bin/sh
case "$1" in
*yes/no*) echo yes ;;
*) echo whocares ;;
esac
"""


class Compose:
    """The example's two services under a name and a port of their own."""

    def __init__(self) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.env = {**os.environ, "BASE": containers.base_image(), "PORT": str(self.port)}
        self.name = f"coveytest{os.getpid()}"
        self.program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]

    def __call__(self, *args: str, timeout: float = 60) -> str:
        return containers.sh(*self.program, "-p", self.name, *args, timeout=timeout, cwd=FOLDER, env=self.env)

    def demo(self, service: str, *command: str, timeout: float = 60) -> str:
        return self("exec", "-T", "--user", "demo", "-e", "HOME=/home/demo", service, *command, timeout=timeout)

    def processes(self, service: str) -> list[str]:
        """What the user runs there, but for the command that asks."""
        lines = (line.split(None, 1) for line in self("exec", "-T", service, "ps", "-eo", "user=,args=").splitlines())
        return [args for user, args in lines if user == "demo" and not args.startswith("ps ")]


@pytest.fixture(scope="module")
def compose():
    need(why_not())
    compose = Compose()
    try:
        compose("build", "--force-rm", timeout=2 * containers.BUILD_SECONDS)
        compose("up", "-d")
        yield compose
    finally:
        compose("down", "-t", "1")
        assert containers.left(f"com.docker.compose.project={compose.name}") == {}


def why_not() -> str | None:
    """docker-compose is a program, or one of docker's commands."""
    return containers.why_not(*(() if containers.answers("docker", "compose", "version") else ("docker-compose",)))


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


def test_the_lab_wants_its_password(compose):
    assert not lab_is_logged_in(compose.port, "wrong")
    assert lab_is_logged_in(compose.port, "whocares")


def test_without_the_key_it_is_said(compose):
    """By the words that the README's table quotes."""
    said = compose.demo("local", "python", "-c", START, timeout=120)
    assert "Host key verification failed" in said, said
    compose.demo("local", "sh", "-euc", "ssh-keyscan remote >~/.ssh/known_hosts 2>/dev/null")
    said = compose.demo("local", "python", "-c", START, timeout=120)
    assert "Permission denied (publickey,password)" in said, said
    compose.demo("local", "rm", "/home/demo/.ssh/known_hosts")


@pytest.fixture(scope="module")
def key(compose):
    """`local` logs in at `remote` without a question, by the README's commands."""
    commands, = (block for block in containers.blocks("remote-mpi", "sh") if "ssh-copy-id" in block)
    ask = f"cat >~/ask <<'EOF'\n{ASK}EOF\nchmod +x ~/ask; export SSH_ASKPASS=~/ask SSH_ASKPASS_REQUIRE=force\n"
    compose.demo("local", "sh", "-euc", ask + commands)
    assert compose.demo("local", "ssh", "-o", "BatchMode=yes", "remote", "hostname").strip() == "remote"


def test_a_cluster_from_a_notebook_and_from_a_second_one(compose, key):
    before = compose.processes("local")
    program = Path(__file__).with_name("remote_mpi_notebooks.py").read_text()
    cells = json.dumps(containers.blocks("remote-mpi", "python"))
    assert compose.demo("local", "python", "-c", program, cells, timeout=480).strip().endswith("ok")
    nothing_is_left(compose, before)


def test_a_notebook_in_a_browser(compose, key, tmp_path):
    """What a person does: the password, a new notebook, a cluster, ranks, its end."""
    need(containers.why_not(*browser.NEEDS))
    before = compose.processes("local")
    with browser.Browser(tmp_path) as page:
        page.open(f"http://127.0.0.1:{compose.port}/lab?reset")
        page.type("#password_input", "whocares")
        page.click("#login_submit")
        page.click('.jp-LauncherCard[title*="Python 3"]')
        page.find(".jp-Notebook-ExecutionIndicator[data-status=idle]")  # what is typed earlier is lost

        def cell(number: int, code: str, wanted: str) -> None:
            where = f".jp-Notebook .jp-CodeCell:nth-of-type({number}) "
            page.type(where + ".cm-content", code + browser.SHIFT_ENTER)
            page.find(where + ".jp-OutputArea-output", wanted)

        cell(1, "import ipyparallel as ipp; cluster = ipp.Cluster(profile='remotempi'); rc = cluster.start_and_connect_sync(); rc.ids", "[0, 1, 2, 3]")
        cell(2, "%px from mpi4py import MPI; print('rank', MPI.COMM_WORLD.rank, 'of', MPI.COMM_WORLD.size)", "rank 3 of 4")
        cell(3, "rc.close(); cluster.stop_cluster_sync(); 'all ' + 'done'", "all done")
    nothing_is_left(compose, before)


def nothing_is_left(compose: Compose, before: list[str]) -> None:
    """On `remote` nothing at all, on `local` what ran before: JupyterLab."""
    wait_until(lambda: not compose.processes("remote"), what="the end of all processes on remote")
    wait_until(lambda: [p for p in compose.processes("local") if "ipykernel" not in p] == before, what="the end of all processes on local but JupyterLab's")

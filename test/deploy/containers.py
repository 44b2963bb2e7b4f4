# SPDX-License-Identifier: BSD-3-Clause
"""Images and containers for the deployment tests: what is made here has names of its own and is removed by who made it.

Images are built from the project's sources by examples/docker/Dockerfile; docker's cache makes a second build of the same sources quick. They
stay; containers, networks and volumes don't.
"""
from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from .conftest import need
from .program import Program

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples" / "docker"
LABEL = f"coveytest={os.getpid()}"  # on all that the commands of a page start
# for all images, from nothing and on a loaded machine: a Debian, compilers, JupyterLab, covey. `make test` gives them less, and is not held up.
BUILD_SECONDS = int(os.environ.get("BUILD_SECONDS", 3600))
REGISTRYS_BASE = "debian:bookworm"


def answers(*argv: str) -> bool:
    """Whether there is such a command."""
    return bool(shutil.which(argv[0])) and subprocess.run(argv, capture_output=True, timeout=30).returncode == 0


def why_not(*programs: str) -> str | None:
    """What this machine lacks for containers (and these programs), or None."""
    missing = [p for p in ("docker", *programs) if not shutil.which(p)]
    if missing:
        return f"not installed here: {' '.join(missing)}"
    try:
        answer = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return "the docker daemon does not answer within 30 s"
    # without a daemon, some clients say so and end with 0
    return None if answer.returncode == 0 and "Server Version" in answer.stdout else f"no docker daemon answers: {answer.stderr.strip()}"


def sh(*argv: str, timeout: float = 60, check: bool = True, **options) -> str:
    """Runs a program; its output, or a failed test that shows its end."""
    r = subprocess.Popen(argv, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options)
    try:
        out, err = r.communicate(timeout=timeout)
    except BaseException as e:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(r.pid, signal.SIGKILL)
        out, err = r.communicate()
        if isinstance(e, subprocess.TimeoutExpired):
            raise TooSlow(f"{' '.join(argv)}\nnot done within {timeout} s:\n{out[-4000:]}{err[-4000:]}") from None
        raise
    assert not check or r.returncode == 0, f"{' '.join(argv)}\nended with {r.returncode}:\n{out[-4000:]}{err[-4000:]}"
    return out


class TooSlow(AssertionError):
    """A program that did not end in time."""


@functools.cache
def base_image() -> str:
    """BASE of the environment; for root a Debian of our own, so that no registry need be reachable; else what the Dockerfile names."""
    if os.environ.get("BASE") or os.getuid() != 0:
        return os.environ.get("BASE") or REGISTRYS_BASE
    need(None if shutil.which("debootstrap") else "not installed here: debootstrap")
    return sh(str(REPOSITORY / "tools" / "base-image.sh"), str(REPOSITORY / "build" / "base"), timeout=seconds_left()).strip()


def blocks(example: str, language: str) -> list[str]:
    """The fenced blocks in a language of an example's README, in order: what a reader copies."""
    return re.findall(rf"^```{language}\n(.*?)^```", (EXAMPLES / example / "README.md").read_text(), re.M | re.S)


def shell(script: str, folder: Path, timeout: float = 60, **environment: str) -> str:
    """Runs commands as a reader types them; what they say. Their `docker` puts a label on what it makes, and builds from the Debian that is to be had."""
    return sh("bash", "-euc", _DOCKER + script, cwd=folder, timeout=timeout, env={**os.environ, "LABEL": LABEL, **environment})


_DOCKER = """
docker() {
    case $1:${2-} in
    run:*) shift; command docker run --label "$LABEL" "$@" ;;
    network:create | volume:create) local kind=$1; shift 2; command docker "$kind" create --label "$LABEL" "$@" ;;
    build:*) shift; command docker build -q --force-rm --build-arg BASE="$BASE" "$@" ;;
    *) command docker "$@" ;;
    esac
}
"""


@functools.cache
def _deadline() -> float:
    return time.monotonic() + BUILD_SECONDS


def seconds_left() -> float:
    """For making images, from when this was asked first."""
    return max(1.0, _deadline() - time.monotonic())


def build(make: Callable[[], object]) -> None:
    """Makes images. Where their packages can't be fetched the test is skipped; where they can, what has failed is tried once more."""
    try:
        make()
    except TooSlow:
        need(f"the images were not made within {BUILD_SECONDS} s; `make deploy-NAME` waits longer" if "BUILD_SECONDS" in os.environ else None)
        raise
    except AssertionError:
        need(unreachable())
        make()


def unreachable() -> str | None:
    """Which of the servers that images are made from does not answer, or None."""
    base = os.environ.get("BASE") or (REGISTRYS_BASE if os.getuid() else "")
    registry = ["https://registry-1.docker.io/v2/"] if base == REGISTRYS_BASE else []
    for url in (*registry, os.environ.get("BASE_MIRROR", "http://deb.debian.org/debian"), "https://pypi.org/simple/pip/"):
        try:
            urllib.request.urlopen(url, timeout=20).close()
        except urllib.error.HTTPError:
            pass  # it answers
        except OSError as e:
            return f"images can't be made: {url}: {e}"
    return None


@functools.cache
def build_images() -> None:
    """Those of jupyter-cluster, by its README's first commands."""
    build(lambda: shell(blocks("jupyter-cluster", "sh")[0], REPOSITORY, timeout=seconds_left(), BASE=base_image()))


_KINDS = {"container": ("rm", "-f", "-v"), "network": ("rm",), "volume": ("rm",)}


def left(label: str = LABEL) -> dict[str, list[str]]:
    """What docker has of containers, networks and volumes with this label."""
    found = {kind: sh("docker", kind, "ls", *(("-a",) if kind == "container" else ()), "-q", "--filter", f"label={label}").split() for kind in _KINDS}
    return {kind: names for kind, names in found.items() if names}


def remove() -> None:
    """All that shell() has started; a failed test if something stays."""
    for kind, names in left().items():
        sh("docker", kind, *_KINDS[kind], *names)
    assert left() == {}


class Container:
    """One that runs. `said`: what it writes to its standard output and error, a Program that ends with it. Commands are run there by `user`."""

    def __init__(self, name: str, folder: Path, user: str = "root"):
        self.name, self.user = name, user
        log = folder / f"{name[:12]}.log"
        with open(log, "w") as f:
            self.said = Program(subprocess.Popen(["docker", "logs", "-f", name], stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT), log)

    def run(self, *argv: str, user: str = "", timeout: float = 60, check: bool = True) -> str:
        return sh("docker", "exec", "--user", user or self.user, self.name, *argv, timeout=timeout, check=check)

    def processes(self, text: str = "") -> list[str]:
        """What its user runs there that has this in its command line, but for the command that asks."""
        lines = (line.split(None, 1) for line in self.run("ps", "-eo", "user=,args=").splitlines())
        return [args for user, args in lines if user == self.user and text in args and not args.startswith("ps ")]

    def kill(self, program: str) -> None:
        """All of this name at once, of which there must be one."""
        self.run("pkill", "-KILL", "-x", program, user="root")

    def docker(self, *command: str) -> str:
        """docker("kill") is `docker kill NAME`."""
        return sh("docker", *command, self.name)

    def cable(self, up: bool) -> None:
        """Pulls the network cable out, or plugs it in again; addresses stay. The cable's other end hangs on this machine."""
        number = self.run("cat", "/sys/class/net/eth0/iflink").strip()
        name, = (link["ifname"] for link in json.loads(sh("ip", "-j", "link")) if link["ifindex"] == int(number))
        sh("ip", "link", "set", "dev", name, "up" if up else "down")

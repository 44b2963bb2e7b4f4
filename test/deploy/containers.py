# SPDX-License-Identifier: BSD-3-Clause
"""Images and containers for the deployment tests: what is made here has names of its own and is removed by who made it.

Images are built from the project's sources by examples/docker/Dockerfile; docker's cache makes a second build of the same sources quick. They
stay; containers, networks and volumes don't.
"""
from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples" / "docker"
LABEL = f"coveytest={os.getpid()}"  # on all that the commands of a page start
BUILD_SECONDS = 1800  # from nothing on a loaded machine: a Debian, compilers, JupyterLab, covey


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
    r = subprocess.Popen(argv, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    try:
        out, err = r.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        r.kill()
        out, err = r.communicate()
        err += f"\n(not done within {timeout} s)"
    assert not check or r.returncode == 0, f"{' '.join(argv)}\nended with {r.returncode}:\n{out[-4000:]}{err[-4000:]}"
    return out


def base_image() -> str:
    """BASE of the environment; for root a Debian of our own, so that no registry need be reachable; else what the Dockerfile names."""
    if os.environ.get("BASE") or os.getuid() != 0:
        return os.environ.get("BASE") or "debian:bookworm"
    return sh(str(REPOSITORY / "tools" / "base-image.sh"), str(REPOSITORY / "build" / "base"), timeout=BUILD_SECONDS).strip()


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


def build_images() -> None:
    """Those of jupyter-cluster, by its README's first commands."""
    shell(blocks("jupyter-cluster", "sh")[0], REPOSITORY, timeout=BUILD_SECONDS, BASE=base_image())


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

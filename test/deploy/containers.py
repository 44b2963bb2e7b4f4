# SPDX-License-Identifier: BSD-3-Clause
"""Images and containers for the deployment tests: what is made here has names of its own and is removed by who made it.

Images are built from the project's sources by examples/docker/Dockerfile; docker's cache makes a second build of the same sources quick.
"""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples" / "docker"
BUILD_SECONDS = 900


def why_not(*programs: str) -> str | None:
    """What this machine lacks for containers (and these programs), or None."""
    missing = [p for p in ("docker", *programs) if not shutil.which(p)]
    if missing:
        return f"not installed here: {' '.join(missing)}"
    if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        return "no docker daemon answers"
    return None


def sh(*argv: str, timeout: float = 60, check: bool = True, **options) -> str:
    """Runs a program; its output, or a failed test that shows it."""
    r = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, **options)
    assert not check or r.returncode == 0, f"{' '.join(argv)}: {r.stdout[-4000:]}{r.stderr[-4000:]}"
    return r.stdout


def base_image() -> str:
    """BASE of the environment, or a Debian of our own: no registry need be reachable."""
    return os.environ.get("BASE") or sh(str(REPOSITORY / "tools" / "base-image.sh"), str(REPOSITORY / "build" / "base"), timeout=BUILD_SECONDS).strip()


def build(target: str) -> str:
    """The image of a target of examples/docker/Dockerfile."""
    name = f"covey-deploy-{target}"
    sh("docker", "build", "-q", "-f", str(EXAMPLES / "Dockerfile"), "--target", target, "--build-arg", f"BASE={base_image()}", "-t", name,
       str(REPOSITORY), timeout=BUILD_SECONDS)
    return name

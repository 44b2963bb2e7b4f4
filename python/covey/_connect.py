# SPDX-License-Identifier: BSD-3-Clause
"""From what a user says (nothing, a profile, a path, a dict) to a connected `_core.Client`."""
from __future__ import annotations

import json
import os
import socket
import stat
import sys
import time
from collections.abc import Mapping
from typing import Any

_PROBE_UNIX = 2.0  # seconds for the local socket alone, before TLS is loaded


def ipython_dir(given: str | None = None) -> str:
    """The folder of profiles: the argument, $IPYTHONDIR, the running IPython's, ~/.ipython."""
    if given:
        return os.path.expanduser(given)
    app = _application()
    if app is not None and getattr(app, "ipython_dir", None):
        return app.ipython_dir
    return os.path.expanduser(os.environ.get("IPYTHONDIR") or "~/.ipython")


def _application() -> Any:
    """The running IPython application, if there is one."""
    ip = sys.modules.get("IPython")
    shell = ip.get_ipython() if ip is not None else None
    return getattr(shell, "parent", None) if shell is not None and hasattr(shell, "profile_dir") else None


def _current_profile_dir() -> str | None:
    ip = sys.modules.get("IPython")
    shell = ip.get_ipython() if ip is not None else None
    found = getattr(shell, "profile_dir", None)
    return getattr(found, "location", None)


def find_profile_dir(profile: str | None, profile_dir: str | None, base: str | None) -> str:
    """The profile's folder. OSError if it does not exist."""
    if profile_dir:
        found = os.path.abspath(os.path.expanduser(profile_dir))
    elif profile is None and base is None and _current_profile_dir():
        found = str(_current_profile_dir())
    else:
        found = os.path.join(ipython_dir(base), f"profile_{profile or 'default'}")
    if not os.path.isdir(found):
        raise OSError(f"no Controller could be found: there is no profile folder {found} (start a cluster: "
                      f"`ipcluster start{f' --profile={profile}' if profile else ''}`)")
    return found


def connection_file(profile_dir: str, cluster_id: str | None) -> str:
    infix = f"-{cluster_id}" if cluster_id else ""
    return os.path.join(profile_dir, "security", f"ipcontroller{infix}-client.json")


def wait_for_file(path: str, timeout: float) -> None:
    """Until the controller has written its file. OSError after `timeout` seconds."""
    if os.path.exists(path):
        return
    print(f"Waiting for connection file: {path}", file=sys.stderr)
    deadline = time.monotonic() + timeout
    while not os.path.exists(path):
        if time.monotonic() >= deadline:
            raise OSError(f"connection file {path} not found after {timeout:g} s: is a cluster running? "
                          "(`ipcluster list` shows those that are)")
        time.sleep(0.05)


def read_file(path: str) -> dict[str, Any]:
    """The connection file's content. OSError says what is wrong: mode, owner, truncated, a key missing."""
    path = os.path.expanduser(path)
    try:
        with open(path, encoding="utf-8") as f:
            info = os.fstat(f.fileno())
            if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise PermissionError(
                    f"{path} holds the cluster's key and others can read it (mode {stat.S_IMODE(info.st_mode):04o}): "
                    f"chmod 600 {path}")
            if info.st_uid not in (os.getuid(), 0):
                raise PermissionError(f"{path} belongs to another user (uid {info.st_uid})")
            text = f.read()
    except FileNotFoundError:
        raise OSError(f"connection file {path} not found") from None
    try:
        config = json.loads(text)
    except ValueError as e:
        raise OSError(f"{path} is not a whole connection file ({e}): is it being copied, or cut?") from None
    return check(config, path)


def check(config: Any, where: str) -> dict[str, Any]:
    """A connection dict with what a client needs. OSError names what is missing."""
    if not isinstance(config, Mapping):
        raise OSError(f"{where} is not a connection file: it holds no JSON object")
    missing = [k for k in ("boot_id", "endpoints", "key") if not config.get(k)]
    if missing:
        old = " (it looks like one of another ipyparallel)" if "registration" in config else ""
        raise OSError(f"{where} has no {' and no '.join(map(repr, missing))}{old}")
    return dict(config)


def _endpoints(config: dict[str, Any]) -> tuple[list[str], list[str]]:
    endpoints = [str(e) for e in config["endpoints"]]
    unix = [e for e in endpoints if e.startswith("unix:")]
    tcp = [e for e in endpoints if e.startswith("tcp://")]
    location = config.get("location")
    if location and tcp and not any(_host(e) == location for e in tcp):  # edited by hand, or a name for it
        port = tcp[0].rpartition(":")[2]
        host = f"[{location}]" if ":" in location else location
        tcp = [f"tcp://{host}:{port}", *tcp]
    return unix, tcp


def _host(endpoint: str) -> str:
    return endpoint[len("tcp://"):].rpartition(":")[0].strip("[]")


def _versions() -> str:
    from importlib import metadata

    found = {}
    for name in ("covey", "ipython", "cloudpickle", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return json.dumps(found)


def connect(config: dict[str, Any], timeout: float, session: int | None = None) -> Any:
    """A connected `_core.Client`. TimeoutError or `_core.LinkError` (an OSError) says per endpoint why not."""
    from . import _core

    unix, tcp = _endpoints(config)
    hello = {"cluster_id": config.get("cluster_id") or "", "boot_id": config["boot_id"],
             "python": f"{sys.version_info.major}.{sys.version_info.minor}", "versions": _versions(),
             "host": socket.gethostname()}
    deadline = time.monotonic() + timeout
    first: Exception | None = None
    if unix:
        core = _core.Client(unix, hello, session=session)
        try:
            core.connect(min(timeout, _PROBE_UNIX) if tcp else timeout)
            return core
        except _core.LinkError as e:
            core.close(0)
            first = e
    if tcp:
        import ssl  # noqa: F401  (its libssl must be the process's first)

        from . import _tls

        core = _core.Client(tcp, hello, session=session, tls=_tls.context("client", config["key"]))
        try:
            core.connect(max(0.1, deadline - time.monotonic()))
            return core
        except _core.LinkError as e:
            core.close(0)
            text = f"{first}; {e}" if first is not None else str(e)
            if time.monotonic() >= deadline:
                raise TimeoutError(f"no answer from the controller within {timeout:g} s: {text}") from None
            raise _core.LinkError(text) from None
    if first is not None:
        raise first
    raise OSError("the connection file names no endpoint that a client can use")

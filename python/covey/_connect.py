# SPDX-License-Identifier: BSD-3-Clause
"""From what a user says (nothing, a profile, a path, a dict) to a connected `_core.Client`."""
from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

_PROBE_UNIX = 2.0  # seconds for the local socket alone, before TLS is loaded
_PAUSE_MIN, _PAUSE_MAX = 0.05, 1.0  # seconds between attempts to connect
_LOOK_MIN, _LOOK_MAX = 0.001, 0.05  # seconds between looks at a file that a program which starts will write
_ENDPOINT = re.compile(r"unix:[@/].+|tcp://(?:\[[^]]+\]|[^:[\]]+):(\d{1,5})")
_SUCCESSOR = 1.0  # seconds that the file of a controller that has ended is given to be replaced by a starting one


class SessionInfo:
    """What programs read of a client's session: its id as text, and the connection file's key.

    session : str, the first part of every msg_id of this client
    key : bytes
    """

    def __init__(self, number: int, key: str) -> None:
        self.session = f"{number:016x}"
        self.key = key.encode()

    def __repr__(self) -> str:
        return f"<session {self.session}>"


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


def own_cluster() -> tuple[dict[str, Any], str] | None:
    """In an engine: its own cluster's client file, (content, path). OSError says why it can't be had. None elsewhere."""
    own = getattr(sys.modules.get("covey._engine"), "own_cluster", None)
    if own is None:
        return None
    path = connection_file(own["profile_dir"], own["cluster_id"]) if own["profile_dir"] else ""
    if not os.path.exists(path):
        where = f"the client file of this engine's cluster is not on this machine ({path})" if path else \
            "this engine knows no profile folder"
        raise OSError(f"{where}: copy ipcontroller-client.json here and give its path to Client()")
    config = read_file(path)
    if own["boot_id"] and config["boot_id"] != own["boot_id"]:
        raise OSError(f"{path} is of another controller than this engine's: give the path of the right file to Client()")
    return config, path


def connection_file(profile_dir: str, cluster_id: str | None) -> str:
    infix = f"-{cluster_id}" if cluster_id else ""
    return os.path.join(profile_dir, "security", f"ipcontroller{infix}-client.json")


def look_until(true: Callable[[], Any], timeout: float) -> bool:
    """Looks until `true()`, often at first: what starts is there within milliseconds, or takes long. False after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = _LOOK_MIN
    while not true():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(_LOOK_MAX, pause * 1.5)
    return True


def wait_for_file(path: str, timeout: float) -> None:
    """Until the controller has written its file. OSError after `timeout` seconds."""
    if os.path.exists(path):
        return
    print(f"Waiting for connection file: {path}", file=sys.stderr)
    if not look_until(lambda: os.path.exists(path), timeout):
        raise OSError(f"connection file {path} not found after {timeout:g} s: is a cluster running? "
                      "(`ipcluster list` shows those that are)")


def read_file(path: str) -> dict[str, Any]:
    """The connection file's content. OSError says what is wrong: mode, truncated, a key missing."""
    path = os.path.expanduser(path)
    try:
        with open(path, encoding="utf-8") as f:
            mode = stat.S_IMODE(os.fstat(f.fileno()).st_mode)
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise PermissionError(
                    f"{path} holds the cluster's key and others can read it (mode {mode:04o}): "
                    f"chmod 600 {path}")
            config = json.load(f)
    except FileNotFoundError:
        raise OSError(f"connection file {path} not found") from None
    except (ValueError, RecursionError) as e:
        raise OSError(f"{path} is not a whole connection file ({e}): is it being copied, or cut?") from None
    return check(config, path)


def check(config: Any, where: str) -> dict[str, Any]:
    """A connection dict with what a client needs. OSError names what is missing."""
    if not isinstance(config, Mapping):
        raise OSError(f"{where} is not a connection file: it holds no JSON object")
    missing = [k for k in ("boot_id", "endpoints", "key") if not config.get(k)]
    if missing:
        old = (": it is one of ipyparallel itself, whose `ipcluster` or `ipcontroller` was started (both in one environment have commands of the same "
               "names; `python -m covey.cluster start` is covey's)" if "registration" in config else "")
        raise OSError(f"{where} has no {' and no '.join(map(repr, missing))}{old}")
    for name in ("cluster_id", "boot_id", "key", "location", "ssh"):
        if not isinstance(config.get(name) or "", str):
            raise OSError(f"{where}: {name!r} is a text, not {type(config[name]).__name__}")
        if not (config.get(name) or "").isprintable():
            raise OSError(f"{where}: {name!r} has characters that no name has")
    endpoints = config["endpoints"]
    if not isinstance(endpoints, (list, tuple)) or not all(map(_is_endpoint, endpoints)):
        raise OSError(f"{where}: 'endpoints' is a list of unix:@NAME, unix:/PATH and tcp://HOST:PORT, not {endpoints!r}")
    return dict(config)


def _is_endpoint(value: Any) -> bool:
    """As src/wire/connfile.c has them."""
    found = _ENDPOINT.fullmatch(value) if isinstance(value, str) and value.isprintable() else None
    return found is not None and 0 < int(found[1] or 1) < 1 << 16


def _is_loopback(endpoint: str) -> bool:
    return endpoint.startswith(("tcp://127.", "tcp://[::1]"))


def _endpoints(config: dict[str, Any], by_ssh: bool = False) -> tuple[list[str], list[str]]:
    """Unix and TCP endpoints, in the order to try them. by_ssh: as the ssh server sees them."""
    endpoints = [str(e) for e in config["endpoints"]]
    unix = [e for e in endpoints if e.startswith("unix:")]
    tcp = [e for e in endpoints if e.startswith("tcp://")]
    location = config.get("location")
    if by_ssh and all(map(_is_loopback, tcp)):
        location = None  # it listens there and not at its machine's name
    if location == socket.gethostname() and not by_ssh:
        location = None  # its addresses are in the file: nobody need be asked for this machine's
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


def _is_running(pid: int, start: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX" and int(fields[19]) == start


def named_runs(who: Any) -> bool:
    """Does the process run that a file names by its pid and when it was started?"""
    try:
        return _is_running(int(who["pid"]), int(who["start"]))
    except (KeyError, TypeError, ValueError):
        return False


def _machine() -> str:
    """This machine's boot, as `machine_id()` of src/wire has it."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as f:
        data = f.read()
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def _local_process(config: dict[str, Any]) -> tuple[int, int]:
    """(pid, start) of the controller whose file this is, if it ran on this machine, where it can be seen from here; else (0, 0)."""
    who = config.get("process")
    try:
        if isinstance(who, Mapping) and who["machine"] == _machine() and who["pid_namespace"] == os.stat("/proc/self/ns/pid").st_ino and who["start"]:
            return int(who["pid"]), int(who["start"])
    except (OSError, KeyError, TypeError, ValueError):
        pass
    return 0, 0


def _ended(config: dict[str, Any]) -> int:
    """The pid of the controller whose file this is, if it ran here and is known to have ended; else 0."""
    pid, start = _local_process(config)
    return pid if pid and not _is_running(pid, start) else 0


def _note_process(core: Any, config: dict[str, Any]) -> None:
    """A controller of this machine that is reached by TCP: its end is seen by its process."""
    pid, start = _local_process(config)
    try:
        fd = os.pidfd_open(pid) if pid else -1
    except OSError:
        return
    if fd < 0:
        return
    try:
        if _is_running(pid, start):
            core.peer(fd)
    finally:
        os.close(fd)


def _of_here(config: dict[str, Any]) -> bool:
    """Did the controller of this file run on this machine? Its local socket can't be of another."""
    who = config.get("process")
    return not isinstance(who, Mapping) or who.get("machine") == _machine()


def _is_starting(path: str) -> bool:
    """Is there a supervisor for this connection file, which may be about to replace it?"""
    infix = os.path.basename(path)[len("ipcontroller"):-len("-client.json")]
    try:
        with open(os.path.join(os.path.dirname(path), f"cluster{infix or '-'}.json"), encoding="utf-8") as f:
            cluster = json.load(f)
        return _is_running(int(cluster["pid"]), int(cluster["pid_start"]))
    except (OSError, KeyError, TypeError, ValueError):
        return False


def ssh_way(server: str | None, key: str | os.PathLike | None, password: str | None) -> dict[str, Any]:
    """What a user said about ssh, as connect()'s argument; empty when there is no server to go through."""
    if not server:
        return {}
    way = {"sshserver": server}
    if key:
        way["sshkey"] = os.path.expanduser(os.fspath(key))
        if not os.path.exists(way["sshkey"]):
            raise OSError(f"sshkey: there is no file {way['sshkey']}")
    if password:
        way["password"] = password
    return {"ssh": way}


def connect(config: dict[str, Any], timeout: float, session: int | None = None, path: str | None = None,
            ssh: dict[str, str] | None = None, diagnose: bool = True) -> Any:
    """A connected `_core.Client`. TimeoutError or `_core.LinkError` (an OSError) says per endpoint why not.

    ssh: the server to go through, {"sshserver", "sshkey", "password"}. diagnose: the error also says at which hop it
    ended and what helps, in the words of `ipcluster doctor`.
    Tries again until `timeout` (seconds) unless that is no use: a wrong key, a refusal, or a controller of this machine
    that has ended without removing its file (`path`, from which `config` is), and nobody replaces it.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _connect(config, timeout, deadline, session, path, ssh)
        except _Replaced:
            config = read_file(str(path))
        except OSError as e:
            if diagnose and not isinstance(e, ConnectionRefusedError):
                _add_diagnosis(e, config, path, ssh)
            raise


def _add_diagnosis(error: OSError, config: dict[str, Any], path: str | None, ssh: dict[str, str] | None) -> None:
    from . import _doctor

    found = _doctor.diagnosis(config, path, ssh, str(error))
    if found:
        error.args = (f"{error}\n{found}",)


class _Replaced(Exception):
    """The connection file has another controller's content by now."""


def _look_again(config: dict[str, Any], path: str | None, began: float) -> None:
    """After a failed attempt. ConnectionRefusedError: the controller has ended; _Replaced: there is another."""
    pid = _ended(config)
    if not pid:
        return
    try:
        if path and read_file(path) != config:
            raise _Replaced
    except OSError:
        pass  # it is being replaced, or was removed
    if time.monotonic() - began >= _SUCCESSOR and not (path and _is_starting(path)):
        raise ConnectionRefusedError(f"the controller (pid {pid}) has ended without a word"
                                     + (f" and left {path} behind" if path else "") + ": start a cluster again")


def _connect(config: dict[str, Any], timeout: float, deadline: float, session: int | None, path: str | None,
             ssh: dict[str, str] | None) -> Any:
    from . import _core

    unix, tcp = _endpoints(config, bool(ssh))
    if not unix and not tcp:
        raise OSError("the connection file names no endpoint that a client can use")
    hello = {"cluster_id": config.get("cluster_id") or "", "boot_id": config["boot_id"],
             "python": f"{sys.version_info.major}.{sys.version_info.minor}", "versions": _versions(),
             "host": socket.gethostname()}
    began = time.monotonic()
    pause = _PAUSE_MIN
    reason = ""
    while True:
        failures = []
        for endpoints in (unix, tcp):
            if not endpoints:
                continue
            left = max(0.1, deadline - time.monotonic())
            if endpoints is unix and tcp:
                left = min(left, _PROBE_UNIX)
            try:
                return _try(_core, endpoints, hello, session, config if endpoints is tcp else None, left, ssh)
            except _core.LinkError as e:
                if endpoints is tcp or not tcp or _of_here(config):
                    failures.append(e)
        text = "; ".join(map(str, failures))
        if not reason or "no answer within" not in text:
            reason = text  # says more than a last attempt that ran out of time
        if any(e.lasting for e in failures):
            raise failures[0] if len(failures) == 1 else _core.LinkError(text)
        _look_again(config, path, began)
        if time.monotonic() + pause >= deadline:
            raise TimeoutError(f"no connection to the controller within {timeout:g} s: {reason}")
        time.sleep(pause)
        pause = min(_PAUSE_MAX, pause * 2)


def _try(_core: Any, endpoints: list[str], hello: dict[str, Any], session: int | None, config: dict[str, Any] | None, timeout: float,
         ssh: dict[str, str] | None) -> Any:
    """One attempt: local sockets (no config), or TLS with the key of this connection file."""
    tls = None
    if config is not None:
        import ssl  # noqa: F401  (its libssl must be the process's first)

        from . import _tls

        tls = _tls.context("client", config["key"], **(ssh or {}))
    core = _core.Client(endpoints, hello, session=session, tls=tls)
    if config is not None:
        _note_process(core, config)
    try:
        core.connect(timeout)
    except BaseException:
        core.close(0)
        raise
    return core

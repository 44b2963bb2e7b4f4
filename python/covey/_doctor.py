# SPDX-License-Identifier: BSD-3-Clause
"""What stands between this machine and a controller: looked at hop by hop, the first that fails is named with what helps.

`ipcluster doctor` prints all hops; a `Client()` that can't connect quotes the failing one (`diagnosis`). Nothing is changed anywhere,
and no key is shown.
"""
from __future__ import annotations

import argparse
import errno
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import _connect

PATIENCE = 3.0      # seconds for an address to answer


@dataclass
class Finding:
    """One hop: its name, how it is, and, if it fails, what to do about it."""

    hop: str
    text: str
    help: str = ""

    @property
    def fails(self) -> bool:
        """Is this where it ends?"""
        return bool(self.help)

    def __str__(self) -> str:
        return f"{self.hop}: {self.text}" + (f". {self.help}" if self.help else "")


# ------------------------------------------------ the file

def find_file(profile: str | None, profile_dir: str | None, cluster_id: str | None) -> tuple[str, Finding | None]:
    """The client's file of a profile, and what is wrong if there is no such profile or file."""
    try:
        folder = _connect.find_profile_dir(profile, profile_dir, None)
    except OSError as e:
        return "", Finding("profile", str(e), "Start a cluster there, or give the path of a connection file.")
    path = _connect.connection_file(folder, cluster_id)
    if os.path.exists(path):
        return path, None
    there = sorted(n for n in os.listdir(os.path.join(folder, "security")) if n.endswith("-client.json")) \
        if os.path.isdir(os.path.join(folder, "security")) else []
    if there:
        return path, Finding("file", f"{path} is not there, but {', '.join(there)} is", "Give its --cluster-id, or its path.")
    return path, Finding("file", f"{path} is not there", "No controller of this profile runs: `ipcluster start`, or copy the file from the machine where it does.")


def _age(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def examine_file(path: str) -> tuple[Finding, dict[str, Any] | None]:
    """Mode, owner, content, age."""
    try:
        config = _connect.read_file(path)
    except PermissionError as e:
        return Finding("file", str(e), "Make it readable for you alone (chmod 600)."), None
    except OSError as e:
        return Finding("file", str(e), "Copy it again from the controller's machine; ipyparallel's own files are of no use here."), None
    age = time.time() - os.stat(path).st_mtime
    return Finding("file", f"{path}, {_age(age)} old, for you alone"), config


def examine_process(config: Mapping[str, Any], path: str | None) -> Finding | None:
    """Of a controller of this machine, or an `ipcluster tunnel` to one: does it still run?"""
    tunnel = config.get("tunnel")
    if isinstance(tunnel, Mapping) and not _connect.named_runs(tunnel):
        return Finding("tunnel", f"the `ipcluster tunnel` that made this file (process {tunnel.get('pid')}) has ended", "Run it again.")
    pid = _connect._ended(dict(config))
    if not pid:
        return None
    return Finding("controller", f"its process ({pid}) has ended without a word" + (f" and left {path} behind" if path else ""),
                   "Start a cluster again.")


# ------------------------------------------------ the way

def _resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def knock(addresses: list[tuple[Any, ...]], patience: float) -> int:
    """0 as soon as one of these addresses accepts a connection, else the last errno (ETIMEDOUT: silence)."""
    code = errno.ETIMEDOUT
    deadline = time.monotonic() + patience
    with selectors.DefaultSelector() as wait:
        try:
            for family, kind, proto, _, address in addresses:
                s = socket.socket(family, kind, proto)
                s.setblocking(False)
                started = s.connect_ex(address)
                if started in (0, errno.EINPROGRESS):
                    wait.register(s, selectors.EVENT_WRITE)
                else:
                    code = started
                    s.close()
            while wait.get_map() and (left := deadline - time.monotonic()) > 0:
                for key, _ in wait.select(left):
                    s = key.fileobj
                    code = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if code == 0:
                        return 0
                    wait.unregister(s)
                    s.close()
            return errno.ETIMEDOUT if wait.get_map() else code
        finally:
            for key in list(wait.get_map().values()):
                key.fileobj.close()


def _here(name: str) -> bool:
    return name in ("", "localhost", socket.gethostname(), socket.getfqdn())


def examine_addresses(config: Mapping[str, Any], patience: float) -> Iterator[Finding]:
    """Each address of the file: its name, and whether anybody accepts connections there. The last finding says whether one does."""
    _, tcp = _connect._endpoints(dict(config))
    location = str(config.get("location") or "")
    own = [e for e in tcp if _connect._is_loopback(e)]
    if tcp and len(own) == len([e for e in config["endpoints"] if str(e).startswith("tcp://")]) and not _here(location):
        yield Finding("address", f"the controller listens on the loopback interface of its own machine ({location}) alone",
                      f"Start it with --ip='*', or go through ssh: Client(sshserver='YOU@{location}'), ipengine --ssh, ipcontroller --ssh for all.")
        return
    failures = []
    for endpoint in tcp:
        host, port = _connect._host(endpoint), int(endpoint.rpartition(":")[2])
        try:
            addresses = _resolve(host, port)
        except (OSError, UnicodeError):     # the latter of a name that can't be one
            failures.append(Finding("name", f"the name {host} is not known here",
                                    "Use an address: `location` in the file, ipcontroller --location=ADDRESS, ipengine --location=ADDRESS."))
            continue
        code = knock(addresses, patience)
        if code == 0:
            yield Finding("port", f"somebody listens at {host} port {port}")
            return
        failures.append(_no_answer(host, port, code))
    silent = [f for f in failures if f.hop == "address"]
    yield (silent or failures or [Finding("address", "the file names no TCP address, and the controller is on another machine",
                                          "Start the controller with --ip='*'.")])[0]


def _no_answer(host: str, port: int, code: int) -> Finding:
    if code == errno.ECONNREFUSED:
        return Finding("port", f"{host} is there, but nobody listens on its port {port}",
                       "The controller has ended, or was started again with another port: fetch its file again.")
    if code in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return Finding("address", f"no way to {host} ({os.strerror(code)})", "The machine is off, in another network, or the address is wrong.")
    if code == errno.ETIMEDOUT:
        return Finding("address", f"{host} port {port} does not answer",
                       f"A firewall drops it, or the machine is off: open that port (ipcontroller --port={port} keeps it), or go through ssh: "
                       f"Client(sshserver='YOU@{host}'), ipengine --ssh={host}.")
    return Finding("address", f"{host} port {port}: {os.strerror(code)}", "See what the network between is.")


# ------------------------------------------------ what speaks there

# What an error's words mean: the hop, and what helps. The first that fits.
_WORDS = (
    ("refused this file's key", "key", "Fetch the file again: a client's is ipcontroller-client.json, an engine's ipcontroller-engine.json."),
    ("does not have this file's key", "key", "Another program or another cluster's controller has that port now: fetch the file again."),
    ("64 hex digits", "key", "The file is damaged: fetch it again."),
    ("not a covey peer", "peer", "Another program has that port: is this the right file, and is its forward the right one?"),
    ("Could not resolve hostname", "ssh", "Give its address, or the name that ~/.ssh/config has for it."),
    ("the key's file", "ssh", "Give the path of your private key, which nobody else may read."),
    ("ssh SERVER", "ssh", "See that `ssh` to it works without questions."),
    ("host key", "ssh", "Log in once by hand, and look at its key."),
    ("works, but nobody answers", "port", "Fetch the file again, or name the controller's own machine as the server."),
    ("does not forward", "ssh", "Another server, or AllowTcpForwarding yes in its sshd_config."),
    ("ssh", "ssh", "See that `ssh` to it works without questions."),
    ("version", "version", "Install the same version on both sides."),
)


def explain(text: str) -> Finding:
    """A failed connection's own words as the hop at which it failed."""
    for word, hop, advice in _WORDS:
        if word in text:
            return Finding(hop, text, advice)
    return Finding("connection", text, "See the controller's log (PROFILE/log, or its terminal).")


def _connects(config: dict[str, Any], ssh: dict[str, str] | None, timeout: float) -> Finding:
    try:
        core = _connect.connect(config, timeout, ssh=ssh, diagnose=False)
    except (OSError, ValueError) as e:
        return explain(str(e))
    try:
        welcome = core.welcome
        note = welcome.get("python")
        return Finding("connection", f"the controller lets clients in; {len(welcome.get('engines', ()))} engines are there" + (f"; {note}" if note else ""))
    finally:
        core.close(0)


def hops(config: dict[str, Any], path: str | None, ssh: dict[str, str] | None, error: str | None = None,
         patience: float = PATIENCE) -> Iterator[Finding]:
    """All hops behind the file, up to the first that fails. error: of an attempt that was made already."""
    ended = examine_process(config, path)
    if ended:
        yield ended
        return
    if not ssh and not (error and explain(error).hop in ("key", "peer", "version")):
        unix, _ = _connect._endpoints(config)
        if not any(_unix_answers(e) for e in unix):
            for finding in examine_addresses(config, patience):
                yield finding
                if finding.fails:
                    return
    elif ssh:
        yield Finding("ssh", f"through {ssh['sshserver']}" + (f" with the key {ssh['sshkey']}" if "sshkey" in ssh else ""))
    last = explain(error) if error else _connects(config, ssh, max(10.0, patience))
    if last.hop == "key" and path and os.path.basename(path).endswith("engine.json"):
        last = (Finding("key", last.text, "This is the engines' file: a client needs ipcontroller-client.json.") if error else
                Finding("connection", "the controller answers; this is the engines' file, whose key only an engine can try"))
    if last.hop == "connection" and last.fails and isinstance(config.get("tunnel"), Mapping):
        last = Finding("tunnel", last.text, "The `ipcluster tunnel` runs, but nobody answers where it leads to: the job has ended, or its "
                       "controller was started again (run the tunnel again).")
    yield last


def _unix_answers(endpoint: str) -> bool:
    name = endpoint.removeprefix("unix:")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(1)
        try:
            return s.connect_ex("\0" + name[1:] if name.startswith("@") else name) == 0
        except OSError:     # no path of a socket
            return False


def diagnosis(config: dict[str, Any], path: str | None, ssh: dict[str, str] | None, error: str) -> str:
    """The hop at which a failed attempt ended, in a sentence; "" when it has nothing to add."""
    for finding in hops(config, path, ssh, error, patience=1.0):
        if finding.fails:
            return finding.help if finding.text == error else str(finding)
    return ""


def main() -> int:
    """`ipcluster doctor`."""
    p = argparse.ArgumentParser("ipcluster doctor", description="What stands between this machine and a controller, hop by hop: "
                                "the connection file, addresses, ssh, port, key. Exit code 1 when something does.")
    p.add_argument("file", nargs="?", help="a connection file (default: the profile's)")
    p.add_argument("--profile", help="the profile (default: default)")
    p.add_argument("--profile-dir", help="its folder")
    p.add_argument("--cluster-id", help="of a cluster that was started with one")
    p.add_argument("--ssh", "--sshserver", metavar="[USER@]HOST[:PORT]", help="the ssh server to go through (default: as the file says)")
    p.add_argument("--sshkey", metavar="FILE", help="the private key for it")
    args = p.parse_args()
    failed = None
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})     # ipcluster has blocked it while this was imported
        for finding in _all(args):
            print(f"{'FAIL' if finding.fails else 'ok  '}  {finding}", flush=True)
            failed = failed or (finding if finding.fails else None)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 1 if failed else 0


def _all(args: argparse.Namespace) -> Iterator[Finding]:
    path, missing = (args.file, None) if args.file else find_file(args.profile, args.profile_dir, args.cluster_id)
    if missing:
        yield missing
        return
    finding, config = examine_file(path)
    yield finding
    if config is None:
        return
    try:
        way = _connect.ssh_way(args.ssh or config.get("ssh"), args.sshkey, None)
    except OSError as e:
        yield Finding("ssh", str(e), "Give the path of a private key.")
        return
    yield from hops(config, path, way.get("ssh"))


if __name__ == "__main__":
    sys.exit(main())

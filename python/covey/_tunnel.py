# SPDX-License-Identifier: BSD-3-Clause
"""`ipcluster tunnel [USER@]HOST PROFILE-OR-JOB`: a cluster behind ssh as a profile of this machine, for as long as it runs.

One ssh login (a master connection, which may ask for a password or a code in the terminal) fetches the client's connection file and
forwards one local port to the controller. The file is written into a profile of the same name here, with that port as its only
address. A connection that dies is made again under the same port, so that clients come back by themselves. Ctrl-C, SIGTERM and
SIGHUP undo everything: the forward, the file, the folders that were made. After a SIGKILL the login ends, too; the file stays, names
the tunnel that wrote it, and is not taken for the user's by the next one, which also removes the folder of the control socket.
"""
from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from . import _connect
from ._sshagent import read_file, write_file

BEGIN, END = "covey-tunnel-begin", "covey-tunnel-end"
PAUSE_MAX = 10.0    # seconds between logins
LOGIN = 120.0       # seconds for one, with somebody who types
BASE_MAX = 40       # bytes: a socket's path has 107, and ssh adds 17 of its own for a moment
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_CUT = re.compile("reset by peer|closed the connection|has ended|Broken pipe")     # what a forward that leads nowhere does
_FOLDER = re.compile(r"covey-tunnel-(\d+)-(\d+)-.*")

# Prints the first of these profiles' client files, and which it was.
_FETCH = """
base=${{IPYTHONDIR:-$HOME/.ipython}}
for p in {profiles}; do
  f="$base/profile_$p/security/ipcontroller{infix}-client.json"
  if [ -r "$f" ]; then echo {begin} "$p"; cat "$f"; echo; echo {end}; exit 0; fi
done
echo "no readable $base/profile_NAME/security/ipcontroller{infix}-client.json for NAME in: {profiles}" >&2
exit 1
"""


def _bare(place: str) -> str:
    """ssh takes an IPv6 address without brackets."""
    return place.replace("[", "").replace("]", "")


def _end_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _start_of_this() -> int:
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as f:
        return int(f.read().rpartition(")")[2].split()[19])


def _answers(path: str) -> bool:
    """Is there a login behind this socket? It may be of another space of processes, where /tmp is the same."""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(path) == 0
    except OSError:     # no path of a socket
        return False


def _own_folder() -> str:
    """A new folder for the control socket, whose path must be short. Those of tunnels that were killed are removed."""
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) > BASE_MAX:
        base = "/tmp"
    for name in os.listdir(base):
        owner, path = _FOLDER.fullmatch(name), os.path.join(base, name)
        if owner and not _connect._is_running(int(owner[1]), int(owner[2])) and not _answers(os.path.join(path, "s")):
            shutil.rmtree(path, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"covey-tunnel-{os.getpid()}-{_start_of_this()}-", dir=base)


def _of_dead_tunnel(text: str) -> bool:
    """Did a tunnel write this file, and has it ended?"""
    try:
        who = json.loads(text).get("tunnel")
    except (ValueError, AttributeError):
        return False
    return bool(who) and not _connect.named_runs(who)


class TunnelError(Exception):
    """It can't be made; the text says why."""


class Tunnel:
    """One login, one forward, one file."""

    def __init__(self, server: str, name: str, cluster_id: str, ssh_args: list[str]) -> None:
        self.server, self.name, self.cluster_id = server, name, cluster_id
        self.folder = _own_folder()
        self.control = os.path.join(self.folder, "s")
        self.ssh_args = ssh_args
        self.master: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.file = self.text = ""          # what was written
        self.made: list[str] = []           # folders, outermost first
        self.before: str | None = None    # of a file that stood in the way

    # -- ssh

    def _place(self) -> list[str]:
        host, _, port = self.server.rpartition(":")
        if port.isdigit() and (host.endswith("]") or host and ":" not in host):
            return ["-p", port, _bare(host)]
        return [_bare(self.server)]

    def _ssh(self, *options: str, command: str | None = None) -> list[str]:
        """Words for the master's connection."""
        return ["ssh", "-S", self.control, "-o", "RemoteCommand=none", *self.ssh_args, *options, *self._place(), *([command] if command else [])]

    def login(self) -> None:
        """Starts the master connection and waits for it. Only the first login may ask something: nobody watches the later ones."""
        first = not self.port
        options = ["-M", "-N", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "ControlPersist=no"]
        if not first or not sys.stdin.isatty():
            options += ["-o", "BatchMode=yes"]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.control)     # of a master that was killed: with it there the next one would be none
        self.master = subprocess.Popen(self._ssh(*options), stdin=None if first and sys.stdin.isatty() else subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, preexec_fn=_end_with_parent)
        deadline = time.monotonic() + LOGIN
        while subprocess.run(self._ssh("-O", "check"), capture_output=True).returncode:
            if self.master.poll() is not None:
                ask = "" if first and sys.stdin.isatty() else ", and without a question (a key, an agent): there is nobody to answer it"
                raise TunnelError(f"ssh to {self.server} failed (exit code {self.master.returncode}; its own words are above): "
                                  f"`ssh {self.server}` must work from here{ask}")
            if time.monotonic() > deadline:
                raise TunnelError(f"no login at {self.server} within {LOGIN:g} s")
            time.sleep(0.05)

    def fetch(self) -> dict[str, Any]:
        """The client's file over there; its profile's name becomes ours."""
        infix = f"-{self.cluster_id}" if self.cluster_id else ""
        profiles = self.name if self.name.startswith("job_") else f"{self.name} job_{self.name}"
        script = _FETCH.format(profiles=profiles, infix=infix, begin=BEGIN, end=END)
        r = subprocess.run(self._ssh("-T", command="sh -s"), input=script, capture_output=True, text=True)
        if r.returncode or BEGIN not in r.stdout:
            raise TunnelError(f"{self.server}: {r.stderr.strip() or 'the connection file was not printed'}")
        text = r.stdout.split(BEGIN, 1)[1].split(END, 1)[0]
        profile, _, text = text.lstrip(" ").partition("\n")
        if profile.strip() not in profiles.split():     # it names a folder here
            raise TunnelError(f"{self.server}: profile {profile.strip()!r} was sent, and {profiles} was asked for")
        self.name = profile.strip()
        try:
            return _connect.check(json.loads(text), f"{self.server}: the client's file of profile {self.name}")
        except ValueError as e:
            raise TunnelError(f"{self.server}: the client's file of profile {self.name} is not whole: {e}") from None

    def forward(self, target: str, cancel: bool = False) -> bool:
        """Lets our port lead to this address, or no longer."""
        return subprocess.run(self._ssh("-O", "cancel" if cancel else "forward", "-L", f"127.0.0.1:{self.port}:{target}"),
                              capture_output=True).returncode == 0

    # -- the file here

    def _local(self, config: dict[str, Any]) -> dict[str, Any]:
        """The file's content with our port alone."""
        here = {**config, "endpoints": [f"tcp://127.0.0.1:{self.port}"], "ssh": ""}
        here.pop("process", None)
        here["tunnel"] = {"pid": os.getpid(), "start": _start_of_this()}
        for label in ("registration", "control", "mux", "task", "iopub", "notification"):
            here[label] = self.port
        key = here.pop("key")
        here.pop("location", None)
        return {**here, "location": "localhost", "key": key}

    def _make_folders(self, path: str) -> None:
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            os.mkdir(folder, 0o700)
            self.made.append(folder)

    def write(self, config: dict[str, Any]) -> None:
        """The profile's client file; one that is there is kept for later, unless its controller runs here."""
        profile = os.path.join(_connect.ipython_dir(), f"profile_{self.name}")
        path = _connect.connection_file(profile, self.cluster_id)
        self._make_folders(os.path.dirname(path))
        if not self.file and os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                self.before = f.read()
        self.file = path
        lines = ",\n".join(f'  "{k}": {json.dumps(v)}' for k, v in self._local(config).items())
        self.text = "{\n" + lines + "\n}\n"
        write_file(self.file, self.text)

    def refuse_if_taken(self) -> None:
        """A cluster of this machine must keep its file."""
        path = _connect.connection_file(os.path.join(_connect.ipython_dir(), f"profile_{self.name}"), self.cluster_id)
        try:
            who = json.loads(open(path, encoding="utf-8").read()).get("process")
        except (OSError, ValueError):
            return
        if _connect.named_runs(who):
            raise TunnelError(f"the profile {self.name} has a cluster of this machine ({path}): stop it, or use another IPYTHONDIR")

    # -- life

    def open(self) -> None:
        """Login, file, forward, and a look whether the controller answers there."""
        self.login()
        config = self.fetch()
        if not self.file:
            self.refuse_if_taken()
        if not self.port:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                self.port = s.getsockname()[1]
        errors = []
        _, tcp = _connect._endpoints(config, by_ssh=True)
        for endpoint in tcp:
            target = endpoint.removeprefix("tcp://")
            if not self.forward(target):
                errors.append(f"{target}: no forward")
                continue
            try:
                _connect.connect(self._local(config), 5, diagnose=False).close(0)
            except OSError as e:
                errors.append(f"{target} as seen from {self.server}: {e}")
                self.forward(target, cancel=True)
                continue
            self.write(config)
            return
        if errors and all(_CUT.search(text) for text in errors):
            errors = [f"nobody answers at {', '.join(endpoint.removeprefix('tcp://') for endpoint in tcp)} as seen from {self.server}: the controller has "
                      "ended, or listens on its own machine alone (start it with --ip='*'), or that sshd does not forward (AllowTcpForwarding)"]
        raise TunnelError("; ".join(errors) or f"{self.server}: the file names no TCP address")

    def drop(self) -> None:
        """Ends the login."""
        if self.master is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(self._ssh("-O", "exit"), capture_output=True, timeout=10)
            try:
                self.master.wait(2)
            except subprocess.TimeoutExpired:
                self.master.kill()      # also one that is stopped
                self.master.wait()
        self.master = None

    def undo(self) -> None:
        """Nothing of it stays."""
        self.drop()
        if self.file and read_file(self.file) == self.text:     # else another tunnel has it now
            if self.before is not None and not _of_dead_tunnel(self.before):
                write_file(self.file, self.before)
            else:
                os.unlink(self.file)
        for folder in reversed(self.made):
            try:
                os.rmdir(folder)
            except OSError:
                pass    # somebody has put something there
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self) -> None:
        """For ever: waits for the connection's end and makes it again."""
        pause = 1.0
        while True:
            if self.master is not None:
                began = time.monotonic()
                self.master.wait()
                say(f"the connection to {self.server} is lost; connecting again")
                pause = 1.0 if time.monotonic() - began > 60 else pause
            try:
                self.open()
                say(f"connected again; {self.where()}")
            except (TunnelError, OSError) as e:
                self.drop()
                say(f"{e}; trying again in {pause:g} s")
                time.sleep(pause)
                pause = min(PAUSE_MAX, pause * 2)

    def where(self) -> str:
        """What to type."""
        more = f", cluster_id={self.cluster_id!r}" if self.cluster_id else ""
        return f"Client(profile={self.name!r}{more})"


def say(text: str) -> None:
    """A line for people."""
    print(f"[tunnel] {text}", file=sys.stderr, flush=True)


class _Stopped(BaseException):
    pass


def _stop(*_: Any) -> None:
    raise _Stopped


def main() -> int:
    """`ipcluster tunnel`."""
    p = argparse.ArgumentParser("ipcluster tunnel", description="Makes a cluster behind ssh a profile of this machine until Ctrl-C: fetches its "
                                "connection file, forwards its one port, keeps the forward alive.")
    p.add_argument("server", metavar="[USER@]HOST[:PORT]", help="a machine that reaches the controller: its own, or a login node")
    p.add_argument("name", metavar="PROFILE-OR-JOB", help="the profile there: NAME, or job_NAME")
    p.add_argument("--cluster-id", default="", help="of a cluster that was started with one")
    p.add_argument("--sshkey", metavar="FILE", help="the private key for the server")
    args = p.parse_args()
    if args.server.startswith("-") or not all(c.isalnum() or c in "_-.+" for c in args.name + args.cluster_id):
        p.error("that is no name of a server and a profile")
    stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)     # SIGINT is since ipcluster started Python: until somebody takes it well
    for number in stops:
        signal.signal(number, _stop)
    tunnel = Tunnel(args.server, args.name, args.cluster_id, ["-i", os.path.expanduser(args.sshkey)] if args.sshkey else [])
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        tunnel.open()
        say(f"{tunnel.where()} works now; Ctrl-C ends it")
        tunnel.keep()
    except (TunnelError, OSError) as e:
        say(str(e))
        return 1
    except _Stopped:
        say("closed")
        return 0
    finally:
        for number in stops:
            signal.signal(number, signal.SIG_IGN)
        tunnel.undo()
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: BSD-3-Clause
"""Launching by ssh (docs/internals.md, "Agents"): one module for both ends, which speak JSON lines through ssh's pipes.

`python -m covey._sshagent local` is the supervisor's agent: one ssh for each host, told what to run there. `… remote` is what ssh
runs: it writes the files, starts the program, hands its events back and words to it on, and ends it when told to, when the line was cut for LEASE seconds,
or when nothing came by it for SILENCE seconds (a machine that lost its power cuts no line). Files travel through the same connection, and no key is ever in an argument.
"""
from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

from . import __version__

LEASE = 20.0        # seconds that the far end goes on when the line is cut
BEAT = 60.0         # seconds from one sign of life of the near end to the next
SILENCE = 300.0     # seconds that the far end goes on without one
GRACE = 5.0         # seconds from SIGTERM to SIGKILL
FILE_WAIT = 60.0    # seconds for the connection files to appear
EVENT_MAX = 1 << 28  # bytes of one: files to fetch are in it
_CONNECTION = re.compile(r"ipcontroller.*-(client|engine)\.json$")


def load(path: str) -> str:
    """The content of any file as a text, from which write_file() makes the same bytes."""
    with open(path, "rb") as f:
        return f.read().decode(errors="surrogateescape")


def read_file(path: str) -> str | None:
    """The text of a file, None if it can't be read."""
    try:
        return load(path)
    except OSError:
        return None


def below_home(path: str) -> str:
    """A path of this machine; a relative one, and one with "~/", is below the home."""
    return os.path.join(os.path.expanduser("~"), os.path.expanduser(path))


def write_file(path: str, text: str, mode: int = 0o600) -> None:
    """Writes a file in one step; one that has that text already (a shared home) stays as it is."""
    if read_file(path) == text:
        return
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = f"{path}.{socket.gethostname()}.{os.getpid()}"     # another machine may have the same number, and the same home
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as f:
            f.write(text.encode(errors="surrogateescape"))
        os.replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def read_line(fd: int) -> bytes:
    """One line and not a byte more: commands follow."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(fd, 1)):
        line += byte
    return line


def read_request(fd: int) -> tuple[bytes, bytes]:
    """A first line, which may be long, and what came with it."""
    data = bytearray()
    while b"\n" not in (chunk := os.read(fd, 1 << 16)) and chunk:
        data += chunk
    line, _, rest = bytes(data + chunk).partition(b"\n")
    return line, rest


# ------------------------------------------------ the far end

def engines_of(pid: int) -> list[int]:
    """The engines of a host: its children, but not the first that forks others (the zygote)."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as f:
                fields = f.read().rsplit(b")", 1)[1].split()
            with open(f"/proc/{name}/cmdline", "rb") as f:
                line = f.read()
        except OSError:
            continue
        if int(fields[1]) == pid and b"covey.engine" in line:
            found.append((int(fields[19]), int(name), b"--zygote" in line))
    found.sort()
    return [n for _, n, _ in (found[1:] if found and found[0][2] else found)]


class SentFile:
    """A private file that is here as long as a program wants it. Machines may share a home, and the file: each has a mark beside it, and
    who ends last removes it. One that was there with this text, and without a mark, is somebody else's and stays."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.mark = ""
        self.prefix = f".{os.path.basename(path)}."
        self.what = f"{self.prefix}{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]}."
        there = read_file(path) == text
        if there and not self.marks():
            return
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self.mark = os.path.join(os.path.dirname(path), f"{self.what}{os.getpid()}@{socket.gethostname()}")
        os.close(os.open(self.mark, os.O_WRONLY | os.O_CREAT, 0o600))   # before the file: who finds that must find a mark, too
        try:
            write_file(path, text)
        except OSError:
            self.release()
            raise

    def marks(self) -> list[str]:
        """Who wants the file as we do. Marks of programs that were killed, and of an older file, are removed."""
        found = []
        folder = os.path.dirname(self.path)
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if not name.startswith(self.prefix) or "@" not in name:
                continue
            pid, _, host = name.removeprefix(self.what).partition("@")
            killed = host == socket.gethostname() and not os.path.exists(f"/proc/{pid}")
            if name.startswith(self.what) and not killed:
                found.append(name)
            else:
                remove(os.path.join(folder, name))
        return found

    def release(self) -> None:
        """It is not wanted here any more."""
        if self.mark:
            remove(self.mark)
            if not self.marks():
                remove(self.path)


def remove(path: str) -> None:
    """Removes a file that another machine may just have removed."""
    with contextlib.suppress(OSError):
        os.unlink(path)


class Refused(Exception):
    """What can't be done on this machine, for the person at the other end."""


class Remote:
    """The program on this machine, for somebody at the other end of standard input and output."""

    def __init__(self, request: dict[str, Any], pending: bytes) -> None:
        self.fetch = [below_home(path) for path in request["fetch"]]
        self.profile = below_home(request["profile_dir"])
        self.sent: list[SentFile] = []
        self.events, self.pending, self.stopping = -1, {0: pending}, False
        self.words: socket.socket | None = None     # the other end of the program's COVEY_EVENTS_FD
        self.host = False       # the program is an engines' host, says that
        self.deadline: float | None = None      # when it is stopped, unless the near end is heard of; then when it is killed
        self.request = request

    def start(self) -> None:
        """Makes the profile's folders, writes the files and starts the program; Refused says what could not be done, and nothing is left."""
        request = self.request
        try:
            for name in ("security", "log", "pid", "startup"):
                os.makedirs(os.path.join(self.profile, name), mode=0o700, exist_ok=True)
            for path, text in request["files"].items():
                self.sent.append(SentFile(below_home(path), text))
        except OSError as e:
            self.release()
            raise Refused(f"can't write the connection file there: {e} (remote_profile_dir, or --profile-dir, says where it goes)") from e
        try:
            for path, (text, mode) in request.get("kept", {}).items():
                write_file(below_home(path), text, mode)
        except OSError as e:
            self.release()
            raise Refused(f"can't write a file there: {e} (to_send says where it goes)") from e
        self.words, other = socket.socketpair()
        self.events, theirs = self.words.fileno(), other.fileno()
        argv = [os.path.expanduser(request["argv"][0]), *request["argv"][1:], f"--profile-dir={self.profile}", *request["args"]]
        env = {**os.environ, **request["env"], "COVEY_EVENTS_FD": str(theirs)}
        try:
            self.child = subprocess.Popen(argv, env=env, pass_fds=[theirs], stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)
        except OSError as e:
            self.release()
            raise Refused(f"can't start {argv[0]}: {e} (engine_cmd, controller_cmd or ipcluster_cmd says what is started)") from e
        other.close()
        self.pending[self.events] = b""

    def release(self) -> None:
        """The files are not wanted any more."""
        for sent in self.sent:
            sent.release()

    def say(self, line: bytes) -> None:
        """One event to the other end, if it is there: when the line is cut the lease decides."""
        with contextlib.suppress(OSError):
            os.write(1, line + b"\n")

    def read_files(self) -> dict[str, str | None]:
        """The texts of the files to fetch; None for one that can't be read, which is said."""
        files: dict[str, str | None] = {}
        for path in self.fetch:
            try:
                files[path] = load(path)
            except OSError as e:
                files[path] = None
                print(f"can't fetch {path}: {e} (to_fetch)", file=sys.stderr, flush=True)
        return files

    def on_line(self, fd: int, line: bytes) -> None:
        """A command of theirs or an event of the program."""
        if fd != 0:
            if b'"listening"' in line:
                self.say(json.dumps({"event": "files", "files": self.read_files()}).encode())
            with contextlib.suppress(ValueError):
                self.host |= json.loads(line) == {"event": "host", "pid": self.child.pid}
            self.say(line)
            return
        command = json.loads(line)
        if command["do"] == "stop":
            self.stop()
        elif command["do"] == "say" and self.words is not None:
            with contextlib.suppress(OSError):     # it has just ended, or reads nothing
                self.words.send(json.dumps(command["word"]).encode() + b"\n", socket.MSG_DONTWAIT)
        elif command["do"] == "signal":
            number = command["signal"]
            for pid in [self.child.pid] if number == signal.SIGINT else engines_of(self.child.pid) or [self.child.pid]:
                with contextlib.suppress(ProcessLookupError):    # it has just ended
                    os.kill(pid, number)

    def stop(self) -> None:
        """SIGTERM now, SIGKILL later."""
        self.stopping = True
        self.deadline = time.monotonic() + GRACE
        self.child.terminate()

    def on_deadline(self) -> None:
        """The lease has run out, the near end is silent, or SIGTERM was not enough."""
        if self.stopping:
            self.kill()
            self.deadline = None
        else:
            self.stop()

    def kill(self) -> None:
        """The program and what it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)

    def read(self, fd: int) -> bool:
        """Takes what is there; False at its end."""
        try:
            data = os.read(fd, 65536)
        except OSError:
            data = b""
        self.take(fd, data)
        return bool(data)

    def take(self, fd: int, data: bytes) -> None:
        """Lines that have come whole."""
        *lines, self.pending[fd] = (self.pending[fd] + data).split(b"\n")
        for line in lines:
            self.on_line(fd, line)

    def run(self) -> int:
        """Until the program has ended; its exit code. It does not outlive us, whatever happens here."""
        try:
            self.follow()
        except BaseException:
            self.kill()
            raise
        finally:
            self.release()
        code = self.child.wait()
        how = f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        self.say(json.dumps({"event": "over", "how": how, "host": self.host}).encode())
        return code

    def follow(self) -> None:
        """Hands on what both sides say until the program has ended."""
        ended = os.pidfd_open(self.child.pid)
        watched = [0, self.events, ended]
        self.deadline = time.monotonic() + SILENCE
        self.take(0, b"")       # what came with the request
        while True:
            left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
            ready = select.select(watched, [], [], left)[0]
            for fd in ready:
                if fd == ended:
                    continue
                there = self.read(fd)
                if not there:
                    watched.remove(fd)
                if fd == 0 and not self.stopping:
                    self.deadline = time.monotonic() + (SILENCE if there else LEASE)
            if not ready and self.deadline is not None:
                self.on_deadline()
            if ended in ready:
                return


def remote() -> int:
    """The far end's main function."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    line, pending = read_request(0)
    request = json.loads(line)
    if request.get("version", __version__) != __version__:
        print(f"covey {__version__} is installed there and {request['version']} here", file=sys.stderr, flush=True)
    far = Remote(request, pending)
    far.say(b"")        # ends the line that the shell's start files may have begun
    try:
        far.start()
    except Refused as e:
        print(e, file=sys.stderr)
        return 1
    code = far.run()
    return code if code >= 0 else 128 - code


# ------------------------------------------------ the near end

def explain(host: str, command: str, code: int, said: bytes) -> str:
    """One sentence of why an ssh has ended, and what to do. command: what it ran there; said: the last of its standard error."""
    if code < 0:
        return f"ssh to {host}: it was killed here by {signal.Signals(-code).name}"
    if code == 255:
        import ssl  # noqa: F401  (its libssl must be the process's first)

        from ._tls import explain_ssh

        return explain_ssh(host, said)
    python = command.rpartition("\n")[2].removeprefix("exec ").partition(" -m ")[0]
    if b"No module named covey._" in said:
        return f"{host}: covey is installed there in another version: install the same as here ({__version__})"
    if b"No module named covey" in said or b"No module named 'covey'" in said:
        return (f"{host}: {python} has no covey: install it there (`{python} -m pip install covey`), name the interpreter that has it "
                "(remote_python), or activate its environment (prologue)")
    if code in (126, 127):
        return f"{host}: no {python} can be run there: name an interpreter that has covey (remote_python), or activate its environment (prologue)"
    words = said.decode(errors="replace").strip().rpartition("\n")[2]
    return f"{host}: " + (words or f"what ssh ran there ended with exit code {code} and without a word: log in and try `{python} -m covey.engine --help` "
                          "(the shell's start files, remote_python, prologue, engine_cmd)")


class Host:
    """One ssh."""

    def __init__(self, agent: Local, spec: dict[str, Any]) -> None:
        self.agent = agent
        self.spec = spec
        self.process: Any = None
        self.tail = b""
        self.up = False         # the far end has said something
        self.over: dict[str, Any] = {}      # the far end's last word: how what runs there has ended
        self.set = str(secrets.randbits(63) + 1)    # its engines are a set of their own

    async def run(self) -> None:
        """Starts it, follows it, says how it ended."""
        try:
            request = {**self.spec, **await self.parcels(), "fetch": [far for far, _ in self.spec["fetch"]]}
        except OSError as e:
            if not self.agent.stopping:
                self.fail(f"{self.spec['name']}: can't send a file: {e} (to_send)")
            return
        try:
            self.process = await asyncio.create_subprocess_exec(*self.spec["ssh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                                stderr=subprocess.PIPE, limit=EVENT_MAX)
        except OSError as e:
            self.fail(f"{self.spec['name']}: can't run {self.spec['ssh'][0]}: {e.strerror} (is OpenSSH installed? ssh_cmd names another one)")
            return
        request["env"] = {**request["env"], "COVEY_ENGINE_SET": self.set}
        self.send({"version": __version__, **{k: request[k] for k in ("profile_dir", "argv", "args", "env", "files", "kept", "fetch")}})
        if self.agent.stopping:
            self.send({"do": "stop"})
        await asyncio.gather(self.follow_events(), self.follow_words())
        code = await self.process.wait()
        if self.over.get("host"):       # its engines have ended with it
            self.agent.say({"event": "set_ended", "set": self.set, "why": f"its host (ipengine) {self.over['how']}"})
        if not self.agent.stopping:
            lost = self.up and (code == 255 or code < 0)
            said = self.tail.rstrip().rpartition(b"\n")[2] if lost else self.tail      # what stands before was said by what ran there
            text = explain(self.spec["name"], self.spec["ssh"][-1], code, said)
            if lost:
                text += f"; what runs there goes on for {LEASE:g} s and then ends"
            self.fail(text)

    async def parcels(self) -> dict[str, Any]:
        """What is sent, by path there: connection files, which are removed at the end, and the user's, which stay."""
        files, kept = {}, {}
        for near, far in self.spec["send"]:
            near = os.path.expanduser(near)
            if _CONNECTION.search(near):
                files[far] = await self.agent.connection_file(near)
            else:
                kept[far] = [load(near), os.stat(near).st_mode & 0o777]
        return {"files": files, "kept": kept}

    def fail(self, text: str) -> None:
        """Says that this host is of no use, and why."""
        print(text, file=sys.stderr, flush=True)
        self.agent.say({"event": "engine_failed", "slot": 0, "host": self.spec["name"], "controller": bool(self.spec["fetch"]),
                        "cause": {"text": text, "stderr": self.tail.decode(errors="replace")}})

    def send(self, command: dict[str, Any]) -> None:
        """One line to the far end, if it is there."""
        if self.process is not None and self.process.returncode is None:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")

    async def follow_events(self) -> None:
        """Hands on events; files are written here, and a controller's are named as they are called here."""
        while line := await self.process.stdout.readline():
            try:
                event = json.loads(line)
            except ValueError:
                continue        # what a login shell says
            if not isinstance(event, dict) or "event" not in event:
                continue        # which may be a number, or anything
            self.up = True
            if event["event"] == "over":
                self.over = event
                continue
            if event.get("event") == "files":
                self.write_fetched(event["files"].values())
                continue
            if event.get("event") == "listening":
                for far, near in self.spec["fetch"]:
                    if found := _CONNECTION.search(far):
                        event[f"{found[1]}_file"] = os.path.expanduser(near)
            self.agent.say(event)

    def write_fetched(self, texts: Iterable[str | None]) -> None:
        """The files of the other end, in the order in which they were asked for; None: it could not be read there."""
        for (_, near), text in zip(self.spec["fetch"], texts):
            try:
                if text is not None:
                    write_file(os.path.expanduser(near), text)
            except OSError as e:
                self.fail(f"{self.spec['name']}: can't write what was fetched: {e} (to_fetch)")

    async def follow_words(self) -> None:
        """Standard error goes to ours; the last of it is kept."""
        while data := await self.process.stderr.read(65536):
            os.write(2, data)
            self.tail = (self.tail + data)[-4000:]


class Local:
    """The supervisor's agent: all hosts of a set, or the controller's."""

    def __init__(self) -> None:
        self.stopping = False
        self.hosts: list[Host] = []
        self.pending = b""

    def say(self, event: dict[str, Any]) -> None:
        """Writes one event."""
        os.write(1, json.dumps(event).encode() + b"\n")

    async def connection_file(self, path: str) -> str:
        """The text of a file that the controller may still have to write."""
        deadline = time.monotonic() + FILE_WAIT
        while not os.path.exists(path) and not self.stopping:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} was not there after {FILE_WAIT:g} s")
            await asyncio.sleep(0.05)
        return load(path)

    def on_input(self) -> None:
        """Commands go to all hosts."""
        data = os.read(0, 65536)
        if not data:
            asyncio.get_running_loop().remove_reader(0)
            self.stop()
        *lines, self.pending = (self.pending + data).split(b"\n")
        for command in map(json.loads, lines):
            if command["do"] == "stop":
                self.stop()
            elif command["do"] in ("signal", "say"):
                for host in self.hosts:
                    host.send(command)

    async def beat(self) -> None:
        """Signs of life for the far ends, as long as hosts are followed."""
        while True:
            await asyncio.sleep(BEAT)
            for host in self.hosts:
                host.send({"do": "go on"})

    def stop(self) -> None:
        """All shall end."""
        self.stopping = True
        for host in self.hosts:
            host.send({"do": "stop"})

    async def run(self) -> int:
        """From the request to the end of the last host."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        request = json.loads(read_line(0))
        self.hosts = [Host(self, spec) for spec in request["hosts"]]
        loop.add_reader(0, self.on_input)
        beat = loop.create_task(self.beat())
        for result in await asyncio.gather(*(h.run() for h in self.hosts), return_exceptions=True):
            if isinstance(result, Exception) and not self.stopping:
                print(result, file=sys.stderr)
        beat.cancel()
        return 0 if self.stopping else 1


def main() -> None:
    """`python -m covey._sshagent local|remote`."""
    if sys.argv[1:] == ["remote"]:
        sys.exit(remote())

    async def run() -> int:
        return await Local().run()

    sys.exit(asyncio.run(run()))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: BSD-3-Clause
"""The agent of a launcher in Python: `python -m covey.launcher SPEC`, started by the supervisor (docs/internals.md, "Agents").

JSON lines on standard input: the request, then commands; events on standard output. What the launcher prints and logs goes to
standard error. It ends what it started at `stop`, SIGTERM, or the end of its input.
"""
from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import shlex
import signal
import sys
import traceback
from typing import Any

from .launcher import LauncherError, LocalProcessLauncher, _config_of, load_spec


class Agent:
    """One launcher and who asks for it."""

    def __init__(self, spec: str, events: int) -> None:
        self.spec = spec
        self.events = events
        self.launcher: Any = None
        self.end = asyncio.Event()
        self.asked = False
        self.pending = b""

    def say(self, **event: Any) -> None:
        """Writes one event; that nobody is there any more is learned from the input's end."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.events, json.dumps(event).encode() + b"\n")

    def make(self, request: dict[str, Any]) -> Any:
        """The launcher object of a request."""
        engines = request["what"] == "engines"
        cls = load_spec(self.spec, "engine" if engines else "controller")
        traits = {"profile_dir": request["profile_dir"], "cluster_id": request["cluster_id"], "work_dir": request.get("work_dir") or "."}
        launcher = cls(config=_config_of(request.get("config") or {}), **traits)
        name = "engine_args" if engines else "controller_args"
        if request.get("args"):
            setattr(launcher, name, [*getattr(launcher, name, []), *request["args"]])
        return launcher

    async def start(self, request: dict[str, Any]) -> None:
        """Starts the launcher and tells the name of its job, if it has one."""
        loop = asyncio.get_running_loop()
        self.launcher = self.make(request)
        self.launcher.on_stop(lambda data: loop.call_soon_threadsafe(self.end.set))
        await _done(self.launcher.start(request["n"]) if request["what"] == "engines" else self.launcher.start())
        if id := getattr(self.launcher, "job_id", ""):
            delete = list(getattr(self.launcher, "delete_command", []))
            self.say(event="job", id=str(id), undo=shlex.join([*delete, str(id)]) if any(delete) else "")

    def on_input(self) -> None:
        """Reads commands; the end of input is a stop."""
        data = os.read(0, 65536)
        if not data:
            asyncio.get_running_loop().remove_reader(0)
            self.on_stop()
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            self.obey(json.loads(line))

    def obey(self, command: dict[str, Any]) -> None:
        """One command."""
        if command["do"] == "stop":
            self.on_stop()
        elif command["do"] == "signal":
            task = asyncio.ensure_future(self.signal(command["signal"]))
            task.add_done_callback(lambda t: t.exception() and _complain(t.exception()))

    async def signal(self, number: int) -> None:
        """Hands a signal to the launcher."""
        await _done(self.launcher.signal(number))

    def on_stop(self) -> None:
        """It shall end."""
        self.asked = True
        self.end.set()

    def ended(self, engines: bool) -> int:
        """The launcher says that what it started is over: a word that counts, unless it has only seen its command end. The exit code, which a
        shell would give for one that a signal killed: that may have left engines."""
        data = self.launcher.stop_data
        print(f"{self.spec} has ended: {data}", file=sys.stderr)
        command = isinstance(self.launcher, LocalProcessLauncher)
        if engines and not command:
            self.say(event="set_ended", why=f"its launcher {self.spec} says that they have ended: {data}")
        code = data.get("exit_code") if command and isinstance(data, dict) else 1
        return 128 - code if isinstance(code, int) and code < 0 else 1

    async def run(self) -> int:
        """From the request to the end; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.on_stop)
        request = json.loads(_read_line())
        try:
            await self.start(request)
        except Exception as e:
            _complain(e)
            return 1
        loop.add_reader(0, self.on_input)
        await self.end.wait()
        if not self.asked:
            return self.ended(engines=request["what"] == "engines")
        try:
            await _done(self.launcher.stop())
        except Exception as e:
            _complain(e)
            return 1
        return 0


async def _done(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _complain(e: BaseException) -> None:
    if isinstance(e, (LauncherError, ValueError, ImportError, OSError)):
        print(f"{type(e).__name__}: {e}", file=sys.stderr)
    else:
        traceback.print_exception(e)


def _read_line() -> bytes:
    """The first line of standard input, and not a byte more: commands follow."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line


def main() -> None:
    """`python -m covey.launcher SPEC`."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m covey.launcher MODULE:CLASS (the supervisor runs this)")
    events = os.dup(1)
    os.dup2(2, 1)       # what the launcher prints is no event
    os.set_inheritable(events, False)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s | %(message)s")

    async def run() -> int:
        return await Agent(sys.argv[1], events).run()

    sys.exit(asyncio.run(run()))

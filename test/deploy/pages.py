# SPDX-License-Identifier: BSD-3-Clause
"""Runs a page of docs/deploying on boxes, block by block, as a reader would.

    ```console                  a line with a prompt is a command of that machine (`host1$ …`, `demo@host1$ …`); the lines below it are
    laptop$ ipcluster list      what it must say (`...` stands for anything). `COMMAND &` goes on in the background, `^C`
    ```                         interrupts what was started last on that machine.

    ```python                   Python of the first machine, one session for the whole page; what stands behind `# -> ` is the value.
    rc.ids  # -> [0, 1]         With a first line `# MACHINE: PATH` it is a file; it is added to what is there. So is every other
    ```                         language's block with such a line.

A fence with `not-run` behind its language is left out, a block without a language or with `text` is a drawing.
"""
from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..waiting import wait_until
from .boxes import Box, Boxes, Running

DOCS = Path(__file__).resolve().parents[2] / "docs" / "deploying"
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
_PROMPT = re.compile(r"^(?:(\w+)@)?([a-z][\w-]*)\$ (.*)$")
_FILE = re.compile(r"^# ([a-z][\w-]*): (~/\S+|/\S+)\n")
_CELL = """
import json, sys, traceback
space = {"__name__": "__main__"}
sys.modules["__main__"].__dict__.update(space)
for line in sys.stdin:
    steps, said = json.loads(line), {"values": []}
    try:
        for kind, code in steps:
            code = compile(code, "<page>", kind)
            value = eval(code, sys.modules["__main__"].__dict__)
            said["values"].append(repr(value) if kind == "eval" else None)
    except BaseException:
        said["error"] = traceback.format_exc()
    print("\\x01" + json.dumps(said), flush=True)
"""


class Block(NamedTuple):
    """A fenced block: its language, the further words of its fence, and its text."""

    language: str
    words: list[str]
    text: str


def blocks(page: str) -> list[Block]:
    """The blocks of a page that are to be run."""
    found = [Block(*_split(info), text) for info, text in _FENCE.findall((DOCS / f"{page}.md").read_text())]
    return [b for b in found if b.language not in ("", "text") and "not-run" not in b.words]


def left_out(page: str) -> int:
    """How many blocks of a page say that they can't be run."""
    return sum("not-run" in info.split() for info, _ in _FENCE.findall((DOCS / f"{page}.md").read_text()))


def _split(info: str) -> tuple[str, list[str]]:
    language, *words = info.split() or [""]
    return language, words


def troubles(page: str) -> list[str]:
    """What stands in the first column of the page's tables of troubles, without its backticks."""
    text = (DOCS / f"{page}.md").read_text()
    return [row for table in re.findall(r"^\| it says \|.*?\n\|.*?\n((?:\|.*\n)*)", text, re.M) for row in re.findall(r"^\| `([^`]*)` \|", table, re.M)]


def said(wanted: str, output: str) -> bool:
    """Whether a line of a page stands in an output; `...` and `…` stand for anything within a line."""
    return re.search(".*".join(re.escape(part.strip()) for part in re.split(r"\.\.\.|…", wanted)), output) is not None


class Session:
    """Python on a machine, from the first statement to the end of the page."""

    def __init__(self, box: Box):
        self.running = box.popen("python", "-u", "-W", "ignore", "-c", _CELL, stdin=subprocess.PIPE)
        self.answers = 0

    def run(self, text: str, timeout: float = 90) -> None:
        """Statements; AssertionError if one fails or a value is not what stands behind it."""
        steps, wanted = [], []
        for statement in ast.parse(text).body:
            source = ast.get_source_segment(text, statement)
            _, arrow, value = text.splitlines()[statement.end_lineno - 1].partition("# -> ")
            steps.append(("eval" if isinstance(statement, ast.Expr) else "exec", source))
            wanted.append(value.strip() if arrow else None)
        self.running.process.stdin.write(json.dumps(steps).encode() + b"\n")
        self.running.process.stdin.flush()
        answer = self._answer(timeout)
        assert "error" not in answer, f"{text}\n{answer['error']}\n{self.running.output}"
        for (_, source), value, want in zip(steps, answer["values"], wanted):
            assert want is None or said(want, value), f"{source} is {value}, and the page says {want}"

    def _answer(self, timeout: float) -> dict:
        def answers() -> list[str]:
            assert self.running.process.poll() is None, f"it ended:\n{self.running.output}"
            return re.findall("^\x01(.*)\n", self.running.output, re.M)[self.answers:]
        found = wait_until(answers, timeout, "an answer", lambda: self.running.output)
        self.answers += 1
        return json.loads(found[-1])

    def close(self) -> None:
        """Its end, as if the notebook was closed."""
        self.running.process.stdin.close()
        self.running.wait(20)


class Page:
    """A page and the machines that it is run on."""

    def __init__(self, name: str, boxes: Boxes):
        self.blocks, self.boxes = blocks(name), boxes
        self.started: dict[str, list[Running]] = {}
        self.session: Session | None = None
        self.steps: dict[str, Callable[[], None]] = {}

    def before(self, word: str, step: Callable[[], None]) -> None:
        """Something to do before the first block that has this word."""
        self.steps[word] = step

    def run(self) -> None:
        """All of it; afterwards nothing may be left of it but what its last lines say."""
        try:
            for block in self.blocks:
                for word in [w for w in self.steps if w in block.text]:
                    self.steps.pop(word)()
                self._block(block)
        finally:
            if self.session is not None:
                self.session.close()
        for running in (r for programs in self.started.values() for r in programs):
            running.wait(20)        # it ends with what the page has ended

    def _block(self, block: Block) -> None:
        if to := _FILE.match(block.text):
            self._file(self.boxes[to[1]], to[2], block.text[to.end():])
        elif block.language == "console":
            self._console(block.text)
        else:
            assert block.language == "python", f"a block in {block.language} is no file and no command: {block.text}"
            self.session = self.session or Session(next(iter(self.boxes)))
            self.session.run(block.text)

    @staticmethod
    def _file(box: Box, path: str, text: str) -> None:
        where = box.home / path[2:] if path.startswith("~/") else box.srv / path.removeprefix("/srv/")
        where.parent.mkdir(parents=True, exist_ok=True)
        before = where.read_text() if where.exists() else ""
        # ssh takes the first value that it finds
        where.write_text(text + before if path.endswith(".ssh/config") else before + text)

    def _console(self, text: str) -> None:
        commands: list[tuple[str, str, str, list[str]]] = []
        for line in text.splitlines():
            if prompt := _PROMPT.match(line):
                commands.append((prompt[1] or "root", prompt[2], prompt[3], []))
            elif line.strip():
                commands[-1][3].append(line)
        for user, name, command, output in commands:
            self._command(self.boxes[name], user, command, output)

    def _command(self, box: Box, user: str, command: str, output: list[str]) -> None:
        started = self.started.setdefault(box.name, [])
        if command == "^C":
            last = started.pop()
            last.kill(2)
            last.wait()
            return
        if command.endswith(" &"):
            started.append(box.popen("bash", "-c", f"exec {command[:-2]}", user=user))
            for line in output:
                self._wait(started[-1], line)
            return
        r = box.run("bash", "-c", command, user=user, timeout=90)
        for line in output:
            assert said(line, r.stdout + r.stderr), f"{box.name}$ {command}\ndoes not say {line!r}:\n{r.stdout}{r.stderr}"

    @staticmethod
    def _wait(running: Running, line: str) -> None:
        def heard() -> bool:
            ended = running.process.poll() is not None
            found = said(line, running.output)
            assert found or not ended, f"ended without {line!r}:\n{running.output}"
            return found
        wait_until(heard, 60, repr(line), lambda: running.output)

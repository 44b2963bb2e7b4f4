# SPDX-License-Identifier: BSD-3-Clause
"""A program that runs somewhere while a test goes on: what it says, in a file, and waiting for it."""
from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ..waiting import looks


class Program:
    """`process` is the Popen that ends when the program does; both its outputs go to `log`."""

    def __init__(self, process: subprocess.Popen, log: Path):
        self.process, self.log = process, log

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def say(self, line: str) -> None:
        """One line to its standard input, which is a pipe."""
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def wait(self, timeout: float = 30) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s; its output:\n{self.output}") from None

    def wait_output(self, text: str | re.Pattern, timeout: float = 30) -> str:
        """Until the output holds this text, or a match; fails when it ends before or at the deadline."""
        pattern = text if isinstance(text, re.Pattern) else re.compile(re.escape(text))
        for _ in looks(timeout):
            ended = self.process.poll() is not None  # before the look: what it says last is there
            if pattern.search(self.output):
                return self.output
            assert not ended, f"ended ({self.process.returncode}) without {text!r}:\n{self.output}"
        raise AssertionError(f"no {text!r} within {timeout} s:\n{self.output}")

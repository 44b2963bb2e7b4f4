# SPDX-License-Identifier: BSD-3-Clause
"""A headless Chromium for the tests of pages: chromedriver is told by WebDriver's HTTP what a person would do. Both end with the `with` block."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

NEEDS = ("chromium", "chromedriver")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name of an element's id
_LATER = ("element not interactable", "element click intercepted", "stale element reference")  # of a page that is still at work
SHIFT_ENTER = "\ue008\ue007"


class NotYet(AssertionError):
    """The page has moved the element, or put something in front of it: a person would try again."""


class Browser:
    """One window. An element that is not there fails the test after `timeout` seconds."""

    def __init__(self, folder: Path, timeout: float = 90):
        self.timeout = timeout
        self.log = folder / "chromedriver.log"
        with open(self.log, "w") as f:
            self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True)
        try:
            port = self._until(lambda: re.search(r"successfully on port (\d+)", self.log.read_text()), "chromedriver")[1]
            self.url = f"http://127.0.0.1:{port}/session"
            arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", f"--user-data-dir={folder / 'chromium'}",
                         "--window-size=1400,900"]
            options = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
            self.url += "/" + self._call("", {"capabilities": {"alwaysMatch": options}})["sessionId"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(self.url, method="DELETE"), timeout=20).close()
        finally:
            self.close()

    def close(self) -> None:
        """The driver and what it has started."""
        os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait()

    def open(self, url: str) -> None:
        self._call("/url", {"url": url})

    def find(self, css: str, text: str = "") -> str:
        """The first element of the page that this selector finds and that has this text: visible, or waited for."""
        script = "return [...document.querySelectorAll(arguments[0])].find(e => e.getClientRects().length && e.textContent.includes(arguments[1]))"
        found = self._until(lambda: self.run(script, css, text), f"{css} with {text!r}")
        return found[_ELEMENT]

    def click(self, css: str, text: str = "") -> None:
        self._until(lambda: self._try(f"/element/{self.find(css, text)}/click", {}), f"click at {css}")

    def type(self, css: str, text: str) -> None:
        self._until(lambda: self._try(f"/element/{self.find(css)}/value", {"text": text}), f"keys for {css}")

    def _try(self, path: str, body: dict) -> bool:
        try:
            self._call(path, body)
        except NotYet:
            return False
        return True

    def run(self, script: str, *arguments: Any) -> Any:
        """JavaScript in the page; its value."""
        return self._call("/execute/sync", {"script": script, "args": list(arguments)})

    def _until(self, condition, what: str):
        deadline = time.monotonic() + self.timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, f"no {what} within {self.timeout} s: {self.text()}"
            time.sleep(0.1)
        return value

    def text(self) -> str:
        """The end of what the page shows; of the driver's words before there is one."""
        return self.run("return document.body.innerText")[-3000:] if "/session/" in getattr(self, "url", "") else self.log.read_text()

    def _call(self, path: str, body: dict) -> Any:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout + 30) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as e:
            said = e.read().decode()[:2000]
            raise (NotYet if any(word in said for word in _LATER) else AssertionError)(f"{path}: {said}") from None

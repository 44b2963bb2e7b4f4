# SPDX-License-Identifier: BSD-3-Clause
"""A notebook in JupyterLab, as a person uses it who looks at what the page shows: what it has lost while it was at work is written again, a key that it
has not taken is pressed again, and what pops up is closed."""
from __future__ import annotations

import time
from collections.abc import Callable

from .browser import SHIFT_ENTER, Browser

_TEXT = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent).join('\\n')"
# in one go: the editor closes brackets that come one by one
_WRITE = """
const editor = document.querySelector(arguments[0]);
editor.focus();
document.getSelection().selectAllChildren(editor);
document.execCommand('insertText', false, arguments[1]);
"""
# whether the user wants Jupyter's news, above all
_CLOSE = """
for (const toast of document.querySelectorAll('.Toastify__toast'))
    ([...toast.querySelectorAll('button')].find(b => b.textContent.trim() == 'No') ?? toast.querySelector('.Toastify__close-button'))?.click();
"""
PATIENCE = 5.0  # seconds that the page has for a text or a key, before a person tries again


class Notebook:
    """A new one with a Python kernel, in a page that shows JupyterLab's launcher."""

    def __init__(self, page: Browser) -> None:
        self.page = page
        page.click('.jp-LauncherCard[title*="Python 3"]')
        page.find(".jp-Notebook-ExecutionIndicator[data-status=idle]")

    def run(self, number: int, code: str, wanted: str) -> None:
        """Runs this code in the cell of this number, counted from 1, until it has put this out."""
        cell = f".jp-Notebook .jp-CodeCell:nth-of-type({number}) "
        editor = cell + ".cm-content"
        self.page.find(editor)

        def shown() -> str:
            return self.page.run(_TEXT, cell + ".cm-line")

        def taken() -> bool:
            return any(sign in self.page.run(_TEXT, cell + ".jp-InputPrompt") for sign in "*0123456789")

        deadline = time.monotonic() + self.page.timeout
        while wanted not in self.page.run(_TEXT, cell + ".jp-OutputArea-output"):
            assert time.monotonic() < deadline, f"cell {number} shows no {wanted!r}: {self.page.text()}"
            self.page.run(_CLOSE)
            if taken():
                time.sleep(0.1)
            elif shown() != code:
                self.page.run(_WRITE, editor, code)
                _wait(lambda: shown() == code)
            else:
                self.page.type(editor, SHIFT_ENTER)
                _wait(taken)


def _wait(condition: Callable[[], bool]) -> None:
    """Until it is true, or for so long as somebody waits before trying again."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)

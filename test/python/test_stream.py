# SPDX-License-Identifier: BSD-3-Clause
"""Streamed output, above all lines that are written again and again (progress bars), in a terminal and in a notebook."""
import types

import pytest

from covey import _stream
from covey.task import CLEAR, DISPLAY, STDERR, STDOUT, UPDATE_DISPLAY

TASKS = [types.SimpleNamespace(key=n, _metadata=None, metadata={"engine_id": n}) for n in (0, 1)]


def streamer(*tasks):
    return _stream.Streamer(types.SimpleNamespace(_tasks=list(tasks)))


def screen(text):
    """What a terminal shows."""
    lines = []
    for line in text.split("\n"):
        cells: list[str] = []
        for part in line.split("\r"):
            cells[:len(part)] = part
        lines.append("".join(cells).rstrip())
    return lines


def test_a_bar_is_one_line_of_a_terminal(capsys):
    s = streamer(TASKS[0])
    for text in ("\r  0%|    | 0/2", "\r 50%|##  | 1/2 and more", "\r100%|####| 2/2", "\n", "\rnext", " and on", "\n"):
        s.output(TASKS[0], STDERR, text, {})
    s.close()
    assert screen(capsys.readouterr().err) == ["[stderr:0] 100%|####| 2/2", "next and on", ""]


def test_a_return_may_come_at_the_end(capsys):
    s = streamer(TASKS[0])
    for text in ("working: ", "10%\r", "20%\r", "30%\n", "windows\r\n", "plain\n"):
        s.output(TASKS[0], STDOUT, text, {})
    s.close()
    assert screen(capsys.readouterr().out) == ["[stdout:0] 30%", "windows", "plain", ""]


def test_bars_of_two_engines_in_a_terminal_have_their_labels(capsys):
    s = streamer(*TASKS)
    for text in ("\r10%", "\r20%"):
        for t in TASKS:
            s.output(t, STDERR, text, {})
    s.output(TASKS[1], STDERR, "\r30%", {})
    s.close()
    assert screen(capsys.readouterr().err) == ["[stderr:0] 10%", "[stderr:1] 10%", "[stderr:0] 20%", "[stderr:1] 30%", ""]


@pytest.fixture
def notebook(monkeypatch):
    """What a notebook is told: its displays by number, and (number, text) for each time that it is told."""
    shown: list[tuple[int, str]] = []
    ids: dict[str, int] = {}

    def publish(data, metadata=None, *, transient=None, update=False):
        id = (transient or {}).get("display_id")
        if update:
            assert id in ids
        number = ids[id] if update else len(ids)
        ids[id if id is not None else f"none {number}"] = number
        shown.append((number, data["text/plain"]))
    display = pytest.importorskip("IPython.display")
    monkeypatch.setattr(display, "publish_display_data", publish)
    monkeypatch.setattr(display, "clear_output", lambda wait=False: shown.append((-1, "cleared")))
    monkeypatch.setattr(_stream, "notebook", lambda: True)
    monkeypatch.setattr(_stream, "_shell", lambda: True)
    return shown


def test_each_bar_is_a_display_of_a_notebook(notebook, capsys):
    s = streamer(*TASKS)
    s.output(TASKS[0], STDERR, "begins\n", {})
    for text in ("\r10%", "\r20%", "\r99%\r100%\nends\n"):
        for t in TASKS:
            s.output(t, STDERR, text, {})
    s.output(TASKS[0], STDERR, "\ragain", {})
    s.output(TASKS[0], STDERR, "\r     \r", {})  # a bar that goes
    s.close()
    assert notebook == [(0, "[stderr:0] 10%"), (1, "[stderr:1] 10%"), (0, "[stderr:0] 20%"), (1, "[stderr:1] 20%"),
                        (0, "[stderr:0] 100%"), (1, "[stderr:1] 100%"), (2, "[stderr:0] again"), (2, "")]
    assert capsys.readouterr().err.splitlines() == ["[stderr:0] begins", "[stderr:0] ends", "[stderr:1] ends"]


def test_a_display_that_changes_has_its_label_once(notebook, capsys):
    s = streamer(TASKS[0])
    for kind in (DISPLAY, UPDATE_DISPLAY, UPDATE_DISPLAY):
        s.output(TASKS[0], kind, "", {"data": {"text/plain": "x"}, "transient": {"display_id": "d"}})
    assert notebook == [(0, "x")] * 3
    assert capsys.readouterr().out == "[output:0]\n"


def test_no_engine_clears_the_output_of_others(notebook):
    alone, both = streamer(TASKS[0]), streamer(*TASKS)
    both.output(TASKS[0], CLEAR, "", {"wait": True})
    assert notebook == []
    alone.output(TASKS[0], STDOUT, "\r10%", {})
    alone.output(TASKS[0], CLEAR, "", {"wait": True})
    alone.output(TASKS[0], STDOUT, "\r20%", {})
    assert notebook == [(0, "[stdout:0] 10%"), (-1, "cleared"), (1, "[stdout:0] 20%")]

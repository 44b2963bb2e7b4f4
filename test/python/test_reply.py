"""What `execute` gives for one engine (ExecuteReply) and what is known of a task (Metadata), without a cluster."""
import json
import pickle
import types

import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.lib.pretty import pretty

from covey import ExecuteReply, Metadata
from covey._stream import show_result


def reply(**data):
    known = Metadata(engine_id=3, stdout="out", execute_result={"data": {"text/plain": "42", **data}, "metadata": {"image/png": {"width": 7}}})
    return ExecuteReply("40 + 2", json.dumps({"execution_count": 5}).encode(), types.SimpleNamespace(metadata=known))


def test_a_reply_has_the_task_s_metadata_as_attributes_and_items():
    r = reply()
    assert (r.execution_count, r.source, r.stdout, r["engine_id"], r.data) == (5, "40 + 2", "out", 3, {"text/plain": "42"})
    for name in ("nothing", "_nothing"):
        with pytest.raises(AttributeError, match=name):
            getattr(r, name)
    with pytest.raises(KeyError):
        r["nothing"]
    again = pickle.loads(pickle.dumps(r))
    assert (again.execution_count, again.stdout, repr(again)) == (5, "out", repr(r))


def test_a_reply_is_shown_as_the_value_would_be():
    r = reply(**{"text/html": "<b>42</b>", "text/latex": "$42$", "application/json": {"a": 1}, "application/javascript": "f()",
                 "image/png": "AAAA", "image/jpeg": "BBBB", "image/svg+xml": "<svg/>"})
    assert repr(r) == "<ExecuteReply[5]: 42>" and pretty(r) == "Out[3:5]: 42"
    data, metadata = DisplayFormatter().format(r)
    assert data["text/html"] == "<b>42</b>" and data["image/svg+xml"] == "<svg/>" and metadata["image/png"] == {"width": 7}
    assert r._repr_html_() == "<b>42</b>" and r._repr_latex_() == "$42$" and r._repr_json_() == {"a": 1} and r._repr_svg_() == "<svg/>"
    assert r._repr_javascript_() == "f()" and r._repr_jpeg_() == "BBBB"
    assert r._repr_png_() == ("AAAA", {"width": 7}), "with what is known of the picture"
    assert reply()._repr_html_() is None


def test_long_and_missing_values():
    assert repr(reply(**{"text/plain": "x" * 50})) == f"<ExecuteReply[5]: {'x' * 29}...>"
    assert pretty(reply(**{"text/plain": "a\nb"})) == "Out[3:5]: \na\nb"
    silent = ExecuteReply("a = 1", {"execution_count": 6}, types.SimpleNamespace(metadata=Metadata()))
    assert silent.data == {} and pretty(silent) == "" and repr(silent) == "<ExecuteReply[6]: >" and silent._repr_mimebundle_() == ({}, {})


def test_the_label_is_red_where_the_shell_has_colours(monkeypatch, capsys):
    shell = types.SimpleNamespace(colors="nocolor")
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    r = reply()
    assert pretty(r) == r._repr_mimebundle_()[0]["text/plain"] == "Out[3:5]: 42" and r.data["text/plain"] == "42"
    shell.colors = "neutral"
    assert pretty(r) == r._repr_mimebundle_()[0]["text/plain"] == "\x1b[0;31mOut[3:5]: \x1b[0m42"
    assert pretty(reply(**{"text/plain": "\na\nb"})) == "\x1b[0;31mOut[3:5]: \x1b[0m\na\nb", "one line feed is enough"
    shown = []
    monkeypatch.setattr("IPython.display.publish_display_data", lambda data, metadata: shown.append(data))
    r.display()
    show_result(r.execute_result, 3)
    assert [s["text/plain"] for s in shown] == ["\x1b[0;31mOut[3:5]: \x1b[0m42", "\x1b[0;31mOut[3:]: \x1b[0m42"]


def test_metadata_has_its_keys_and_no_others():
    m = Metadata(engine_id=1)
    m.status = "ok"
    assert m["status"] == m.status == "ok" and m.stdout == "" and {"stdout", "engine_id"} <= set(dir(m)) and m.copy()["engine_id"] == 1
    with pytest.raises(KeyError):
        m["new"] = 1
    with pytest.raises(AttributeError):
        m.new = 1
    with pytest.raises(AttributeError):
        m.new  # noqa: B018
    assert pickle.loads(pickle.dumps(m)) == m


def test_output_is_put_together_when_somebody_looks(monkeypatch):
    m = Metadata()
    for piece in ("one ", "two ", "three"):
        m._add_text("stdout", piece)
    assert dict(m.items())["stdout"] == "one two three"
    m._add_text("stdout", ".")
    assert m == {**m, "stdout": "one two three."}
    m["stdout"] = ""
    monkeypatch.setattr(Metadata, "_most", 10)
    for _ in range(4):
        m._add_text("stdout", "abcdef")
    assert m["stdout"].startswith("abcdefabcd\n[covey: more than 10 characters were printed") and m["stdout"].count("[covey") == 1

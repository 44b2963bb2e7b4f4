# SPDX-License-Identifier: BSD-3-Clause
"""Remote errors: caught by type, picklable, readable, with advice."""
import json
import pickle
import sys

import pytest

import covey as ipp
from covey import error, serialize
from covey.error import CompositeError, RemoteError, unpack_error


def remote(exc, engine=0, tb=("Traceback …", "  line")):
    info = {"engine_id": engine, "engine_uuid": "u", "method": "apply"}
    return unpack_error(serialize.pack_error(exc, info, tb))


CASES = [ValueError("v"), KeyError("k"), OSError(2, "no"), FileNotFoundError(2, "no", "f"), UnicodeDecodeError("utf8", b"x", 0, 1, "bad"),
         error.TaskAborted("x"), ZeroDivisionError(), ImportError("x"), AttributeError("a"), MemoryError("m")]


@pytest.mark.parametrize("exc", CASES, ids=lambda e: type(e).__name__)
def test_caught_by_type_and_pickled(exc):
    e = remote(exc)
    assert isinstance(e, RemoteError)
    assert isinstance(e, type(exc)) or isinstance(exc, AttributeError)
    assert (e.ename, e.evalue) == (type(exc).__name__, str(exc)) == e.args
    assert type(e.original) is type(exc)
    again = pickle.loads(pickle.dumps(e))
    assert (str(again), repr(again), type(again), again.engine_info) == (str(e), repr(e), type(e), e.engine_info)
    assert again.traceback == e.traceback == "Traceback …\n  line"
    both = CompositeError("m", [e, remote(exc, 1)])
    assert isinstance(both, type(exc)) is isinstance(e, type(exc)) and len(pickle.loads(pickle.dumps(both))) == 2


@pytest.mark.parametrize("exc", [SystemExit(3), KeyboardInterrupt(), StopIteration(1), TimeoutError("t")],
                         ids=lambda e: type(e).__name__)
def test_what_means_something_here_is_not_mixed_in(exc):
    """A remote TimeoutError must not look like ours, a remote SystemExit must not end us."""
    e = remote(exc)
    assert not isinstance(e, type(exc)) and e.ename == type(exc).__name__


def test_texts():
    e = remote(ZeroDivisionError("division by zero"), 3)
    assert str(e) == "[3:apply] ZeroDivisionError: division by zero"
    assert repr(e).startswith("<RemoteError[3]:ZeroDivisionError")
    assert e.render_traceback()[0] == "[3:apply]" and "  line" in e.render_traceback()
    assert str(RemoteError("E", "v")) == "[Engine Exception] E: v"


def test_exceptions_that_cannot_travel_keep_their_text():
    class Odd(Exception):
        def __reduce__(self):
            raise RuntimeError("no")

        def __str__(self):
            raise RuntimeError("no text")
    e = remote(Odd())
    assert e.ename == "Odd" and "no text" in e.evalue and e.original is None


def test_exception_class_unknown_here():
    data = serialize.pack_error(ValueError("x"), {"engine_id": 0}, [])
    data[1] = b"\x80\x05cno_such_module\nOdd\n."
    assert unpack_error(data).ename == "ValueError" and unpack_error(data).original is None


def test_a_dead_engine_says_why():
    e = unpack_error([json.dumps({"ename": "EngineError", "evalue": "engine 3 died while running task x", "engine": 3,
                                  "cause": {"text": "killed by SIGKILL, not by us", "stderr": "one\ntwo\n", "signal": 9}}
                                 ).encode()])
    assert isinstance(e, ipp.EngineError) and e.cause["signal"] == 9
    assert "killed by SIGKILL, not by us" in str(e) and "    two" in str(e)
    assert pickle.loads(pickle.dumps(e)).cause == e.cause


def test_composite_groups_equal_tracebacks():
    c = CompositeError("one or more", [remote(ValueError("v"), i) for i in range(3)] + [remote(KeyError("k"), 3)])
    text = str(c)
    assert text.count("ValueError: v") == 1 and "[0:apply, 1:apply, 2:apply]: ValueError" in text and "[3:apply]: KeyError" in text
    assert "\n".join(c.render_traceback()).count("Traceback …") == 2
    assert repr(c) == "CompositeError(4)" and len(c.elist[0]) == 4
    assert not isinstance(c, ValueError)
    with pytest.raises(KeyError):
        c.raise_exception(3)
    with pytest.raises(IndexError):
        c.raise_exception(4)
    again = pickle.loads(pickle.dumps(c))
    assert str(again) == text and [type(e) for e in again.errors] == [type(e) for e in c.errors]


def test_composite_of_one_kind_is_caught_by_it():
    c = CompositeError("m", [remote(ValueError("v"), i) for i in range(2)])
    assert isinstance(c, ValueError) and isinstance(c, CompositeError)
    assert isinstance(pickle.loads(pickle.dumps(c)), ValueError)


def test_composite_of_many_equal_ones():
    c = CompositeError("m", [remote(ValueError("v"), i) for i in range(20)])
    assert c.render_traceback()[0] == "[0-19:apply]" and "more exceptions" not in "\n".join([str(c), *c.render_traceback()])
    assert str(c).count("ValueError") == 1
    c = CompositeError("m", [remote(ValueError("v"), i % 2) for i in range(9)])
    assert str(c).splitlines()[1:] == ["[0:apply, 1:apply]: ValueError: v", "... 7 more exceptions ..."], "tasks of a map: each engine once, each error counted once"
    assert c.render_traceback()[0] == "[0:apply, 1:apply]" and c.render_traceback()[-1] == "... 7 more exceptions ..."
    c = CompositeError("m", [remote(ValueError("v"), 0) for i in range(7)] + [remote(KeyError("k"), 1) for i in range(4)])
    assert str(c).splitlines()[-1] == "... 9 more exceptions (6 ValueError, 3 KeyError) ..."
    c = CompositeError("m", [remote(ValueError("v"), 2 * i) for i in range(1000)])
    assert "… and 900 more]" in str(c) and len(str(c)) < 2000


@pytest.mark.parametrize("text", ["Cell \x1b[32mIn[{}]\x1b[39m, line 1", "<ipython-input-{}-7b18d017f89f>", "<object at 0x7f00{}00>"])
def test_what_differs_between_engines_by_chance_does_not_part_errors(text):
    """An engine that ran one cell more than the others numbers its cells otherwise."""
    data = [("SyntaxError", text.format(i % 3), f"Traceback …\n{text.format(i % 3)}", {"engine_id": i, "method": "execute"}) for i in range(16)]
    c = CompositeError("m", data)
    assert str(c).splitlines()[1:] == [f"[0-15:execute]: SyntaxError: {text.format(0)}"]
    c = CompositeError("m", [*data, ("SyntaxError", "else", "Traceback …", {"engine_id": 16, "method": "execute"})])
    assert "[16:execute]: SyntaxError: else" in str(c)


def test_a_composite_error_says_what_to_do_once():
    c = CompositeError("m", [("NameError", "name 'pytest' is not defined", "", {"engine_id": i}) for i in range(3)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["__main__"], "pytest", pytest, raising=False)
        assert str(c).count("%px import pytest") == 1


def test_composite_shows_four():
    c = CompositeError("m", [remote(ValueError(str(i)), i) for i in range(9)])
    assert "... 5 more exceptions ..." in str(c) and "ValueError: 4" not in str(c)


def test_collect_exceptions():
    assert error.collect_exceptions([1, 2], "m") == [1, 2]
    with pytest.raises(CompositeError, match="raised in: m"):
        error.collect_exceptions([1, remote(ValueError("x"))], "m")


def test_wrap_and_unwrap():
    try:
        1 / 0
    except ZeroDivisionError:
        content = error.wrap_exception({"engine_id": 1, "engine_uuid": "u", "method": "apply"})
    e = error.unwrap_exception(content)
    assert isinstance(e, ZeroDivisionError) and "division" in str(e) and e.engine_info["engine_id"] == 1


def test_already_displayed():
    e = error.AlreadyDisplayedError(CompositeError("m", [remote(ValueError("v"), i) for i in range(2)]))
    assert e.n == 2 and e.render_traceback() == ["2 errors"] and e.original_error.errors


def test_s2_names_that_exist_here_say_what_to_do(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "np", pickle, raising=False)
    monkeypatch.setattr(main, "limit", 5, raising=False)
    assert "%px import pickle as np" in str(remote(NameError("name 'np' is not defined")))
    assert "view.push({'limit': limit})" in str(remote(NameError("name 'limit' is not defined")))
    assert str(remote(NameError("name 'nowhere' is not defined"))).endswith("is not defined")
    monkeypatch.setattr(main, "__file__", "x", raising=False)
    assert str(remote(NameError("name '__file__' is not defined"))).endswith("is not defined")


def test_s2_modules_that_exist_here_say_what_to_do():
    text = str(remote(ModuleNotFoundError("No module named 'json'")))
    assert "sync_path" in text and "json" in text
    assert "sync_path" not in str(remote(ModuleNotFoundError("No module named 'no_such_module_anywhere'")))


def test_hierarchy():
    assert issubclass(ipp.InvalidDependency, ipp.UnmetDependency)
    assert issubclass(ipp.CompositeError, ipp.RemoteError)
    assert ipp.error.TimeoutError is TimeoutError


class WithNew(Exception):
    def __new__(cls, a, b, c):
        return Exception.__new__(cls, a, b, c)

    def __init__(self, a, b, c):
        super().__init__(a, b, c)


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(f"can't set {name}")


class OwnEvalue(Exception):
    @property
    def evalue(self):
        return "its own"


class Final(Exception):
    def __init_subclass__(cls):
        raise RuntimeError("no subclasses")


STUBBORN = [WithNew(1, 2, 3), Frozen("f"), OwnEvalue("o"), Final("n"), ExceptionGroup("g", [ValueError(1)])]


@pytest.mark.parametrize("exc", STUBBORN, ids=lambda e: type(e).__name__)
def test_a_class_that_lets_itself_not_be_mixed_is_a_plain_error(exc):
    e = remote(exc)
    assert type(e) is RemoteError and e.ename == type(exc).__name__ and str(exc) == e.evalue
    assert pickle.loads(pickle.dumps(e)).ename == e.ename
    assert [x.ename for x in CompositeError("m", [e, e]).errors] == [e.ename] * 2


@pytest.mark.parametrize("several", [False, True])
def test_a_remote_syntax_error_is_shown_like_all_others(several):
    """Python and IPython show a SyntaxError by its file and line, which are the engine's, and no text."""
    import traceback

    e = remote(SyntaxError("invalid syntax", ("<cell>", 1, 5, "foo bar")))
    shown = "".join(traceback.format_exception_only(CompositeError("m", [e, e]) if several else e))
    assert "SyntaxError: invalid syntax" in shown and not isinstance(e, SyntaxError)

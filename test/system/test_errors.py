"""Errors that people meet, on a cluster: each says what happened and what to do."""
import subprocess
import sys
import threading
import warnings

import covey as ipp
import pytest
from covey import _tasktable

np = pytest.importorskip("numpy", reason="NumPy is optional")

ENGINES = 16


@pytest.fixture(scope="module")
def rc():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPP_NONINTERACTIVE", "1")
        with ipp.Cluster(n=ENGINES, engine_timeout=100) as rc:
            yield rc


SESSION = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
c = Config(); c.HistoryManager.enabled = False; c.HistoryManager.hist_file = ':memory:'
ip = InteractiveShell.instance(config=c)
import covey as ipp
rc = ipp.Client(sys.argv[1])
rc.activate()
try:
    rc[1].execute('1', silent=False, block=True)    # its next cell has another number than the others
    ip.user_ns['here_alone'] = 1
    ip.run_cell_magic('px', sys.argv[2], sys.argv[3])
except ipp.RemoteError as e:
    print(type(e).__name__)
    print("\\n".join(e.render_traceback()))
"""


FAILS = 'def fail():\n    raise ValueError("the reason")\nfail()'


def test_px_on_sixteen_engines_says_once_what_to_do(rc):
    p = subprocess.run([sys.executable, "-c", SESSION, rc.cluster.client_file, "--stream", "here_alone"], capture_output=True, text=True, timeout=60)
    assert p.stderr.count("view.push({'here_alone': here_alone})") == 1 and p.stderr.count("name 'here_alone' is not defined") == ENGINES, p.stdout + p.stderr


@pytest.mark.parametrize("options", ["--stream --progress-after=-1", "--no-stream"])
def test_px_on_sixteen_engines_shows_equal_tracebacks_once(rc, options):
    p = subprocess.run([sys.executable, "-c", SESSION, rc.cluster.client_file, options, FAILS], capture_output=True, text=True, timeout=60)
    told = p.stderr if options.startswith("--stream") else p.stdout
    assert p.returncode == 0 and told.count("Traceback (most recent call last)") == 1, p.stdout + p.stderr
    assert "the reason" in told and len(told.splitlines()) < 2 * ENGINES
    if options.startswith("--stream"):
        assert p.stdout.splitlines() == ["AlreadyDisplayedError", f"{ENGINES} errors"]
        assert all(f"[{i}:execute]" in told for i in range(ENGINES))
    else:
        assert told.startswith("CompositeError\n[0-15:execute]\n") and "more exceptions" not in told


def test_a_function_of_another_python(rc, monkeypatch):
    monkeypatch.setattr(_tasktable, "_BY_VALUE", {"python": "3.99"})
    for view in (rc[0], rc.load_balanced_view()):
        with pytest.raises(ipp.TaskRefused) as e:
            view.apply_sync(lambda: 1)
        assert "Python 3.99" in str(e.value) and "module that engines can import" in str(e.value)
    assert rc[0].apply_sync(abs, -1) == 1, "what travels by name goes on"


def test_a_module_that_the_engine_cannot_import(rc, tmp_path, monkeypatch):
    (tmp_path / "beside_the_notebook.py").write_text("def f(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import beside_the_notebook

    for call in (lambda: rc[0].apply_sync(beside_the_notebook.f, 1), lambda: rc[0].execute("import beside_the_notebook", block=True)):
        with pytest.raises(ModuleNotFoundError) as e:
            call()
        assert "can be imported here" in str(e.value) and "sync_path()" in str(e.value)
    rc[:].sync_path()
    assert rc[0].apply_sync(beside_the_notebook.f, 1) == 2, "the advice helps"


def test_an_argument_that_cannot_travel_is_named(rc):
    settings = {"name": "x", "deep": [1, {"lock": threading.Lock()}]}
    with pytest.raises(TypeError, match=r"can't send args\[1\]\['deep'\]\[1\]\['lock'\]"):
        rc[0].apply(max, 1, settings)
    with pytest.raises(TypeError, match=r"can't send kwargs\['key'\]"):
        rc[0].apply(max, 1, key=threading.Lock())
    with pytest.raises(TypeError, match=r"can.t send (item 1, argument 0|args\[0\])"):
        rc.load_balanced_view().map(abs, [1, threading.Lock()])


HUGE = """
def huge():
    import mmap, numpy
    memory = mmap.mmap(-1, 17 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)    # no page of it is ever touched
    return numpy.frombuffer(memory, 'u1')
"""


def test_a_result_that_is_too_large(rc):
    rc[0].execute(HUGE, block=True)
    with pytest.raises(ValueError) as e:
        rc[0].apply_sync(ipp.Reference("huge"))
    assert "the result (17408 MiB in 2 buffers) can't be sent" in str(e.value) and "save it and return its path" in str(e.value)
    rc[:].execute(HUGE, block=True)
    ar = rc.load_balanced_view().map_async(ipp.interactive(lambda i: huge() if i == 3 else i), range(6), return_exceptions=True)
    values = ar.get()
    assert values[:3] + values[4:] == [0, 1, 2, 4, 5] and "can't be sent" in str(values[3]), "only that one fails"
    assert rc[0].apply_sync(abs, -1) == 1


def test_a_result_of_very_many_arrays_arrives(rc):
    """More than a message takes beside its stream."""
    got = rc[0].apply_sync(lambda: (lambda np: [np.zeros(1024) for _ in range(66_000)])(__import__("numpy")))
    assert len(got) == 66_000 and got[-1].shape == (1024,)


def test_a_function_that_carries_a_large_array_is_warned_of_once(rc):
    weights = np.zeros(100 << 17)
    direct, balanced = lambda: weights.nbytes, lambda: weights.nbytes
    for warned, view, f in ((1, rc[0], direct), (1, rc.load_balanced_view(), balanced), (0, rc[0], direct)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert view.apply_sync(f) == 100 << 20
        assert len(caught) == warned
        for w in caught:
            assert "'weights' (100 MiB)" in str(w.message) and "Reference('weights')" in str(w.message) and w.filename == __file__

"""%px and its kin, in an IPython shell of a process of its own, on two engines."""
import subprocess
import sys
import textwrap

import pytest


SESSION = """
import sys, json, os, signal, threading, re
from contextlib import contextmanager
from io import StringIO
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.error import UsageError
from traitlets.config import Config
c = Config(); c.HistoryManager.enabled = False; c.HistoryManager.hist_file = ':memory:'
ip = InteractiveShell.instance(config=c)
import covey as ipp
rc = ipp.Client(sys.argv[1])
rc[:].clear(block=True)
v = rc[:]
v.block = True
v.activate()

@contextmanager
def captured():
    class IO: pass
    io = IO()
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = a, b = StringIO(), StringIO()
    try:
        yield io
    finally:
        sys.stdout, sys.stderr = out, err
        io.stdout, io.stderr = a.getvalue(), b.getvalue()

def px(line): return ip.run_line_magic('px', line)
def cell(options, source): return ip.run_cell_magic('px', options, source)
def raises(kind, call, *args):
    try: call(*args)
    except kind as e: return e
    raise AssertionError(f'{kind} was not raised')
"""


@pytest.fixture
def session(stack):
    """run(source): runs Python lines in a fresh IPython session with a client, a view v and magics; its output."""
    def run(source):
        text = SESSION + textwrap.dedent(source) + "\nprint('FINE')\n"
        p = subprocess.run([sys.executable, "-c", text, stack.client_file], env=stack.env, capture_output=True, text=True, timeout=60)
        assert p.returncode == 0 and "FINE" in p.stdout, p.stdout + p.stderr
        return p.stdout
    return run


def test_px_runs_a_line_and_shows_output_with_the_engine(session):
    session("""
    assert px('a = 5') is None and v['a'] == [5, 5]
    with captured() as io: px('print("foo")')
    assert re.findall(r'\\[stdout:(\\d)\\] foo', io.stdout) == ['0', '1'] or sorted(re.findall(r'\\[stdout:(\\d)\\] foo', io.stdout)) == ['0', '1'], io.stdout
    with captured() as io: px('6 * 7')
    assert re.search(r'Out\\[0:\\d+\\].*42', io.stdout) and re.search(r'Out\\[1:\\d+\\].*42', io.stdout), io.stdout
    x = 'local'
    px('b = "{x}"')
    assert v['b'] == ['{x}'] * 2
    """)


def test_errors_are_shown_once_as_they_come(session):
    session("""
    with captured() as io: e = raises(ipp.error.AlreadyDisplayedError, cell, '', 'import time\\n1/0')
    assert io.stderr.count('ZeroDivisionError') >= 2 and e.render_traceback() == ['2 errors'], io.stderr
    e = raises(ipp.error.CompositeError, cell, '--no-stream', '1/0')
    assert e.elist[0][0] == 'ZeroDivisionError'
    v.targets = 0
    raises(ipp.error.RemoteError, px, '1/0')
    """)


def test_noblock_out_and_pxresult(session):
    session("""
    raises(UsageError, ip.run_line_magic, 'pxresult', '')
    ar = cell('--noblock -o kept', 'print("later"); 5')
    assert isinstance(ar, ipp.AsyncResult) and ip.user_ns['kept'] is ar
    with captured() as io: ip.run_line_magic('pxresult', '')
    assert io.stdout.count('later') == 2 and re.search(r'Out\\[1:\\d+\\].*5', io.stdout), io.stdout
    with captured() as io: ip.run_line_magic('result', '-e')
    assert io.stdout.count('later') == 2
    v.block = False
    assert isinstance(px('1'), ipp.AsyncResult)
    assert cell('-b', 'b = 3') is None and v.block is False
    """)


def test_targets_and_local(session):
    session("""
    cell('-t 1', 'only = 1')
    assert v["'only' in globals()"].get() if not v.block else v["'only' in globals()"] == [False, True]
    for spec, want in (('0', [0]), ('::2', [0]), ('[0,1]', [0, 1]), ('all', [0, 1]), ('-1:', [1])):
        ar = cell(f'--noblock --targets {spec}', '1'); ar.get()
        found = ar.engine_id if isinstance(ar.engine_id, list) else [ar.engine_id]
        assert found == want, (spec, found)
    two = 1
    ip.user_ns['two'] = 1
    ip.run_cell('%%px -t {two}\\nhere = 1')
    assert v["'here' in globals()"] == [False, True]
    with captured() as io: cell('--local', 'both = 7')
    assert ip.user_ns['both'] == 7 and v['both'] == [7, 7]
    raises(UsageError, cell, '--nonsense', '1')
    """)


def test_pxconfig_and_suffixes(session):
    session("""
    ip.run_line_magic('pxconfig', '--verbose --noblock -t 0')
    assert v.block is False and v.targets == 0
    with captured() as io: cell('', '1')
    assert io.stdout.startswith('Async parallel execution on engine(s): 0'), io.stdout
    with captured() as io: cell('--block', '1')
    assert io.stdout.startswith('Parallel execution'), io.stdout
    rc[1].activate('1')
    ip.run_line_magic('px1', 'mine = 1')
    assert rc[:].apply_sync(lambda: 'mine' in globals()) == [False, True]
    for name in ('px1', 'pxresult1', 'pxconfig1', 'autopx1', 'px', 'result'):
        assert name in ip.magics_manager.magics['line'], name
    """)


def test_px_for_programs(session):
    session("""
    magics = ip.magics_manager.registry['ParallelMagics']
    with captured() as io: assert magics.parallel_execute('print("here")', save_name='kept', targets=[1]) is None
    assert 'here' in io.stdout and '[stdout:0]' not in io.stdout and ip.user_ns['kept'].successful(), io.stdout
    ar = magics.parallel_execute('n = 3', block=False)
    ar.get(20)
    assert v['n'] == [3, 3]
    """)


def test_what_px_does_not_understand_is_named(session):
    session("""
    for options, words in (('--targets nonsense', "--targets nonsense: NameError: name 'nonsense' is not defined"),
                           ('--targets 1:x:', "--targets 1:x:: "),
                           ('--signal-on-interrupt NONE', 'no such signal: NONE'),
                           ('--targets "0', '%%px: No closing quotation'),
                           ('--nonsense', 'unrecognized arguments: --nonsense')):
        e = raises(UsageError, cell, options, 'made = 1')
        assert words in str(e), (options, str(e))
    assert raises(ipp.RemoteError, v.pull, 'made'), 'and nothing ran'
    e = raises(UsageError, ip.run_line_magic, 'pxconfig', '--nonsense')
    assert '--nonsense' in str(e)
    """)


def test_autopx(session):
    session("""
    with captured() as io:
        ip.run_line_magic('autopx', '')
        ip.run_cell('a = 5; b = 12345; c = 0')
        ip.run_cell('b *= 2')
        ip.run_cell('print(b)')
        ip.run_cell('b')
        ip.run_cell('b / c')
        ip.run_cell('%autopx')
        ip.run_cell('here = 1')
    assert io.stdout.startswith('%autopx enabled') and io.stdout.rstrip().endswith('%autopx disabled'), io.stdout
    assert 'division by zero' in io.stdout and 'ZeroDivision' not in io.stderr, (io.stdout, io.stderr)
    assert re.search(r'Out\\[\\d:\\d+\\].*24690', io.stdout) and '[stdout:' in io.stdout
    assert 'a' not in ip.user_ns and ip.user_ns['here'] == 1 and v['b'] == [24690, 24690]
    """)


def test_ctrl_c_goes_to_the_engines(session):
    session("""
    class Interrupter(StringIO):
        count = 0
        def write(self, text):
            self.count += text.count('on')
            if self.count == 2:
                self.count += 1
                os.kill(os.getpid(), signal.SIGINT)
            return super().write(text)
    with captured() as io:
        sys.stdout = Interrupter()
        assert cell('', 'import time; print("on"); time.sleep(600)') is None
    assert 'Received Keyboard Interrupt. Sending signal SIGINT to engines...' in io.stderr, io.stderr
    assert 'KeyboardInterrupt' in io.stderr and px('1') is None
    assert 'time.sleep' in io.stderr and '_on_interrupt' not in io.stderr, io.stderr
    """)


def test_what_was_printed_before_a_ctrl_c_is_shown(session):
    session("""
    import time
    source = 'import time; print("before"); time.sleep(600)'
    magics = ip.magics_manager.magics['line']['px'].__self__
    def interrupt():
        while magics.last_result is None or not all(magics.last_result.stdout): time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
    with captured() as io:
        threading.Thread(target=interrupt, daemon=True).start()
        assert cell('--no-stream', source) is None
    assert io.stdout.splitlines() == ['[stdout:0] before', '[stdout:1] before'], io.stdout
    """)


def test_output_streams_and_groups(session):
    session("""
    source = 'import sys\\nprint("one"); print("two")\\nprint("err", file=sys.stderr)\\nfrom IPython.display import display, Math\\ndisplay(Math("x"))\\n7'
    for groupby in ('engine', 'order', 'type'):
        with captured() as io: cell('--no-stream --group-outputs=' + groupby, source)
        assert io.stdout.count('one') == 2 and io.stderr.count('err') >= 2 and io.stdout.count('[output:') == 2, (groupby, io.stdout)
        engines = re.findall(r'\\[stdout:(\\d)\\]|Out\\[(\\d):', io.stdout)
        flat = [a or b for a, b in engines]
        assert flat == (['0', '0', '1', '1'] if groupby == 'engine' else ['0', '1', '0', '1']), (groupby, io.stdout)
    import tempfile
    class Spy:          # the cell goes on when what it says first is shown
        def write(self, text):
            if 'early' in text: open(go, 'w').close()
            return len(text)
        def flush(self): pass
    out, sys.stdout = sys.stdout, Spy()
    try:
        with tempfile.TemporaryDirectory() as folder:
            go = os.path.join(folder, 'go')
            cell('-t 0', f'import os, time\\nprint("early")\\nfor _ in range(3000):\\n    time.sleep(0.01)\\n    if os.path.exists({go!r}): break\\nelse: 1/0')
    finally: sys.stdout = out
    """)


def test_bars_in_a_notebook_are_one_line_for_each_engine(run_notebook):
    nbformat = pytest.importorskip("nbformat", reason="nbformat comes with nbclient")
    cells = ["import covey as ipp\ncluster = ipp.Cluster(n=2)\nrc = cluster.start_and_connect_sync(activate=True)",
             "%%px\nfrom tqdm import tqdm\nimport time\nfor _ in tqdm(range(10)): time.sleep(0.05)",
             "%%px --no-stream\nfor _ in tqdm(range(10)): time.sleep(0.02)",
             "cluster.stop_cluster_sync()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    run_notebook(notebook)
    streamed, shown = ([o.get("text") or o.data["text/plain"] for o in cell.outputs] for cell in notebook.cells[1:3])
    for texts in (streamed, shown):
        assert len(texts) == 2 and {t.partition("100%")[0] for t in texts} == {"[stderr:0] ", "[stderr:1] "}, texts

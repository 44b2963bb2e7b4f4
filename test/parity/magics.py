# SPDX-License-Identifier: BSD-3-Clause
"""Section 5: magics, in an IPython shell of a process of its own."""
from __future__ import annotations

import textwrap

from .ground import Ground, row

SESSION = """
import io, os, signal, sys, threading, time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.error import UsageError
from traitlets.config import Config
c = Config(); c.HistoryManager.enabled = False
ip = InteractiveShell.instance(config=c)
import ipyparallel as ipp
rc = ipp.Client(sys.argv[1])
rc[:].clear(block=True)

@contextmanager
def heard():
    class Heard: pass
    h, out, err = Heard(), io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err): yield h
    finally: h.out, h.err = out.getvalue(), err.getvalue()

def line(name, text=''): return ip.run_line_magic(name, text)
def cell(options, text): return ip.run_cell_magic('px', options, text)
def raised(kind, call, *args):
    try: call(*args)
    except kind as e: return e
    raise AssertionError(f'{kind} was not raised')
def names(): return ip.magics_manager.magics['line']
"""


def session(t: Ground, source: str, **env: str) -> str:
    return t.python(SESSION + textwrap.dedent(source), t.client_file, env={**t.env, **env})


@row("M001", "M002", "M003", "P011", "P021", "P067", "K125")
def registration(t: Ground) -> None:
    session(t, """
    assert {'px', 'pxresult', 'pxconfig', 'autopx', 'result'} <= set(names()) and 'px' in ip.magics_manager.magics['cell']
    line('px', 'a = 1')
    assert rc[:]['a'] == [1, 1]
    one = rc.activate(1, '_one')
    assert one.targets == 1 and one.block is True and 'px_one' in names() and 'pxresult_one' in names() and 'result_one' not in names()
    line('px_one', 'a = 2')
    assert rc[:]['a'] == [1, 2]
    rc[0].activate('_one')
    line('px_one', 'a = 3'); rc.wait()
    assert rc[:]['a'] == [3, 2]
    v = rc[:]; v.block = True; v.activate()
    with heard() as h: line('px', 'print(5)')
    assert h.out.count('5') == 2
    """)


@row("M004")
def outside_ipython(t: Ground) -> None:
    t.python("import sys, warnings, ipyparallel as ipp\nwith ipp.Client(sys.argv[1]) as rc, warnings.catch_warnings(record=True) as seen:\n"
             "    warnings.simplefilter('always'); rc[:].activate(); assert seen", t.client_file)


@row("M005", "M006", "M007", "M008", "M015", "M016")
def running(t: Ground) -> None:
    session(t, """
    v = rc[:]; v.block = True; v.activate()
    assert line('px', 'a = 1') is None
    ip.user_ns['target'] = 1
    cell('-t {target}', 'a = 2')
    assert v['a'] == [1, 2]
    ar = cell('-a', 'a = 3'); ar.get(30)
    assert isinstance(ar, ipp.AsyncResult) and v['a'] == [3, 3]
    v.block = False
    assert isinstance(line('px', 'a = 4'), ipp.AsyncResult)
    assert cell('-b', 'a = 5') is None and v.block is False
    cell('-o kept', 'a = 6')
    assert isinstance(ip.user_ns['kept'], ipp.AsyncResult) and ip.user_ns['kept'].get(30)
    v.block = True
    with heard() as h: cell('--local', 'b = 7; print(b)')
    assert ip.user_ns['b'] == 7 and v['b'] == [7, 7] and h.out.count('7') == 3
    """)


@row("M009", "M012", "M020")
def streams(t: Ground) -> None:
    source = """
    v = rc[:]; v.block = True; v.activate()
    with heard() as h: cell('--stream --progress-after 0', 'import sys; print("one"); print("two"); print("err", file=sys.stderr)')
    assert h.out.count('[stdout:0]') >= 1 and 'err' in h.err + h.out
    with heard() as h: cell('--stream -t 0', 'for i in range(3): print(i, flush=True)')
    assert h.out.count('[stdout:0]') == 1, h.out
    with heard() as h: cell('--no-stream --progress-after -1', 'print("one")')
    assert h.out.count('one') == 2
    """
    session(t, source)
    session(t, source, IPP_NONINTERACTIVE="1")


@row("C109")
def not_interactive(t: Ground) -> None:
    source = """
    v = rc[:]; v.block = True; v.activate()
    with heard(): raised(%s, cell, '', '1/0')
    """
    session(t, source % "ipp.error.AlreadyDisplayedError", IPP_NONINTERACTIVE="0")
    session(t, source % "ipp.CompositeError", IPP_NONINTERACTIVE="1")   # shown at the end, not as it comes


@row("M010", "M011", "M023", "M024")
def targets_and_settings(t: Ground) -> None:
    session(t, """
    v = rc[:]; v.block = True; v.activate()
    for i, (spec, want) in enumerate([('0', [0]), ('[1]', [1]), ('::2', [0]), ('1::2', [1]), ('all', [0, 1])]):
        cell('-t ' + spec, f'x{i} = 1')
        assert [n for n in (0, 1) if rc[n].apply_sync(ipp.interactive(lambda name: name in globals()), f'x{i}')] == want, spec
    line('pxconfig', '-t 1::2 --verbose')
    with heard() as h: line('px', 'z = 1')
    assert 'Parallel execution on engine(s): ' in h.out, h.out
    assert rc[0].apply_sync(ipp.interactive(lambda: 'z' in globals())) is False
    line('pxconfig', '-t all --noblock')
    with heard() as h: ar = line('px', 'z = 1')
    assert isinstance(ar, ipp.AsyncResult) and 'Async parallel execution on engine(s): ' in h.out, h.out
    line('pxconfig', '--no-verbose')
    with heard() as h: line('px', 'z = 1').get(30)
    assert h.out == ''
    line('pxconfig', '--block --no-stream --progress-after 1 --signal-on-interrupt SIGINT')
    assert line('px', 'z = 2') is None
    """)


@row("M013")
def interrupts(t: Ground) -> None:
    session(t, """
    v = rc[:]; v.block = True; v.activate()
    class Interrupter(io.StringIO):     # as a person who has read what all say
        seen = ''
        def write(self, text):
            before, self.seen = self.seen.count('on'), self.seen + text
            if before < 2 <= self.seen.count('on'): os.kill(os.getpid(), signal.SIGINT)
            return super().write(text)
    with heard() as h, redirect_stdout(Interrupter()): assert cell('', 'import time; print("on"); time.sleep(600)') is None
    assert 'Received Keyboard Interrupt. Sending signal SIGINT to engines...' in h.err, h.err
    """)


@row("M014", "M018", "M022")
def grouping(t: Ground) -> None:
    session(t, """
    v = rc[:]; v.block = True; v.activate()
    fresh = rc[:]; fresh.activate('_new')
    raised(UsageError, line, 'pxresult_new')
    for option in ('-e', '-r', '--group-outputs=type'):
        with heard() as h: cell('--no-stream ' + option, 'print("o"); 4711')
        assert h.out.count('[stdout:') == 2 and h.out.count('4711') == 2, (option, h.out)
    raised(UsageError, cell, '--group-outputs=colour', '1')
    with heard() as h: line('pxresult', '-e')
    assert h.out.count('[stdout:') == 2
    with heard() as h: line('pxresult', '-o again')
    assert isinstance(ip.user_ns['again'], ipp.AsyncResult)
    with heard() as h: raised(ipp.CompositeError, cell, '--no-stream', 'print("before"); 1/0')
    assert h.out.count('before') == 2
    with heard() as h: raised(ipp.RemoteError, cell, '--no-stream -t 0', '1/0')
    """)


@row("M017", "M019")
def errors_and_results(t: Ground) -> None:
    session(t, """
    v = rc[:]; v.block = True; v.activate()
    with heard() as h: e = raised(ipp.error.AlreadyDisplayedError, cell, '', '1/0')
    assert 'ZeroDivisionError' in h.err + h.out and '2 errors' in '\\n'.join(e.render_traceback())
    with heard() as h: cell('--no-stream', '4711')
    assert 'Out[0:' in h.out and 'Out[1:' in h.out and h.out.count('4711') == 2
    """)


@row("M025")
def autopx(t: Ground) -> None:
    session(t, """
    v = rc[:]; v.block = True; v.activate()
    with heard() as h:
        ip.run_cell('%autopx'); ip.run_cell('q = 11'); ip.run_cell('print(q)'); ip.run_cell('%autopx'); ip.run_cell('here = 1')
    assert '%autopx enabled' in h.out and '%autopx disabled' in h.out and h.out.count('11') == 2, h.out
    assert 'q' not in ip.user_ns and ip.user_ns['here'] == 1 and v['q'] == [11, 11]
    """)


@row("M026")
def magics_of_the_engine(t: Ground) -> None:
    session(t, """
    v = rc[:]; v.block = True; v.activate()
    line('px', 'whose = 5')
    with heard() as h: line('px', '%whos')
    assert h.out.count('whose') == 2
    line('px', '%matplotlib inline')
    with heard() as h: line('px', '%pylab inline')
    assert v.apply_sync(ipp.interactive(lambda: 'plt' in globals())) == [True, True]
    """)

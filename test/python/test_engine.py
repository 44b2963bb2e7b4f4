"""The engine's loop and shell, over a link that is a list (no C parts)."""
import json
import pickle

import pytest

from covey import serialize
from covey.datapub import publish_data
from fake_engine import APPLY, MAP, cell, outputs, results, run, task, text

STDOUT, STDERR, DISPLAY, UPDATE, CLEAR, RESULT, INPUT = 1, 2, 3, 4, 5, 6, 7
LONG_BATCHES = cell("import covey._engine\ncovey._engine.BATCH_NS = 60 * 10**9", silent=True)  # for a busy machine


def call(f, *args, seq=1, **kwargs):
    return task(APPLY, serialize.pack_apply(f, args, kwargs), seq)


def lift(f):
    """Gives a function of this test module the look of one typed in a notebook."""
    f.__module__ = "__main__"
    return f


def value(result):
    assert result[1] == 0, result[2]
    return serialize.unpack_value(result[2])


def error(result):
    assert result[1] == 1, result
    return json.loads(result[2][0])


def test_apply_uses_the_namespace_of_the_engine():
    log = run([cell("a = 5", silent=True), call(lift(lambda x: a * x), 2, seq=2), call(lift(lambda: no_such_name), seq=3)])
    ok, product, failed = results(log)
    assert value(product) == 10
    e = error(failed)
    assert (e["ename"], e["engine_info"]["method"]) == ("NameError", "apply")
    assert "no_such_name" in e["evalue"] and "covey/_engine.py" not in "".join(e["traceback"])
    assert isinstance(pickle.loads(failed[2][1]), NameError)
    assert log[-1] == ("code", 0)


def test_begin_and_end_enclose_user_code():
    log = run([call(print, "x")])
    names = [e[0] for e in log]
    assert names[0] == "begin" and names.index("end") < names.index("result")
    assert all(names.index("begin") < i < names.index("end") for i, n in enumerate(names) if n == "output")


def test_nothing_a_task_raises_ends_the_engine():
    def raiser(name):
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt()}[name]

    log = run([call(lift(raiser), "exit"), call(lift(raiser), "interrupt", seq=2), cell("raise SystemExit(4)", 3), 
               cell("exit", 4, session=8), cell("7", 5, session=9)])
    first, second, third, fourth, last = results(log)
    assert error(first)["ename"] == "SystemExit" and error(second)["ename"] == "KeyboardInterrupt"
    assert error(third)["ename"] == "SystemExit" and fourth[1] == 0 and last[1] == 0


def test_a_value_that_cannot_travel_is_an_error():
    def make():
        import threading
        return {"lock": threading.Lock()}

    failed, ok = results(run([call(lift(make)), call(abs, -1, seq=2)]))
    assert "lock" in error(failed)["evalue"] and value(ok) == 1


def test_only_covey_s_own_class_is_the_answer_of_a_dependency():
    """Status 8 sends the task to another engine; a user's class of that name is an error like others."""
    def raises_a_namesake():
        class UnmetDependency(Exception):
            pass
        raise UnmetDependency("mine")

    def raises_it():
        from covey.error import UnmetDependency
        raise UnmetDependency("covey's")

    mine, theirs = results(run([call(lift(raises_a_namesake)), call(lift(raises_it), seq=2)]))
    assert (mine[1], theirs[1]) == (1, 8) and error(mine)["evalue"] == "mine" and json.loads(theirs[2][0])["evalue"] == "covey's"


def test_execute_shows_what_a_notebook_shows():
    log = run([cell("print('one'); 40 + 2"), cell("1/0", 2), cell("3", 3, silent=True, session=8)])
    shown = json.loads(outputs(log, RESULT)[0][0])
    assert shown == {"data": {"text/plain": "42"}, "metadata": {}, "execution_count": 1}
    assert text(log, STDOUT) == "one\n" and len(outputs(log, RESULT)) == 1
    assert json.loads(outputs(log, INPUT)[0][0]) == {"code": "print('one'); 40 + 2", "execution_count": 1}
    first, failed, silent = results(log)
    assert json.loads(first[2][0])["execution_count"] == 1
    assert error(failed)["ename"] == "ZeroDivisionError" and len(error(failed)["traceback"]) > 1
    assert error(failed)["engine_info"]["method"] == "execute"
    assert "ZeroDivision" not in text(log, STDERR) + text(log, STDOUT)  # it travels with the result, once
    assert json.loads(silent[2][0])["status"] == "ok"


def test_a_failed_cell_aborts_queued_cells_of_its_client():
    log = run([cell("1/0"), cell("a = 1", 2), cell("b = 1", 3, session=8), call(abs, -2, seq=4), cell("'b' in dir(), 'a' in dir()", 5, session=8)])
    statuses = [r[1] for r in results(log)]
    assert statuses == [1, 2, 0, 0, 0]
    assert json.loads(outputs(log, RESULT)[0][0])["data"]["text/plain"] == "(True, False)"
    log = run([cell("1/0", silent=True), cell("a = 1", 2), call(lift(lambda: missing), seq=3), cell("a", 4)])
    assert [r[1] for r in results(log)] == [1, 0, 1, 0]


def test_displays_updates_and_images():
    log = run([cell("from IPython.display import display, clear_output, Image\n"
                    "h = display('a', display_id='x'); h.update('b'); clear_output(wait=True)\n"
                    "display(Image(b'\\x89PNG\\r\\n\\x1a\\n', format='png'))")])
    assert json.loads(outputs(log, UPDATE)[0][0])["transient"] == {"display_id": "x"}
    assert json.loads(outputs(log, CLEAR)[0][0]) == {"wait": True}
    first, image = (json.loads(b[0]) for b in outputs(log, DISPLAY))
    assert first["data"] == {"text/plain": "'a'"} and image["data"]["image/png"] == "iVBORw0KGgo="


def test_streams_behave_like_files():
    source = ("import sys, io\n"
              "n = sys.stdout.write('ab'); sys.stdout.writelines(['c', 'd']); sys.stdout.flush()\n"
              "sys.stdout.buffer.write(b'\\xff'); sys.stdout.close(); print('\\ud800')\n"
              "assert (n, sys.stdout.isatty(), sys.stdout.fileno(), sys.stdout.encoding) == (2, False, 1, 'utf-8')\n"
              "assert isinstance(sys.stdout, io.TextIOBase) and sys.stderr.fileno() == 2\n"
              "try: sys.stdout.write(b'x')\n"
              "except TypeError: print('bytes refused', file=sys.stderr)")
    log = run([cell(source)])
    assert results(log)[0][1] == 0, results(log)
    assert b"".join(b"".join(b) for b in outputs(log, STDOUT)) == b"abcd\xff\\ud800\n"
    assert text(log, STDERR) == "bytes refused\n"


@pytest.mark.parametrize("call, send", [("input('name? ')", "view['answer'] = input()"), ("__import__('getpass').getpass()", "view['answer'] = getpass()"),
                                        ("__import__('getpass').getpass('password: ', stream=None)", "view.apply(f, getpass())")])
def test_who_asks_on_an_engine_hears_what_to_do(call, send):
    told = error(results(run([cell(call)]))[0])
    assert told["ename"] == "StdinNotImplementedError" and "nobody can answer" in told["evalue"] and send in told["evalue"]


def test_asyncio_between_and_in_tasks(tmp_path):
    """Background tasks go on between cells, top-level await uses the same loop, asyncio.run works in a call."""
    def runs_a_loop():
        import asyncio

        async def f():
            await asyncio.sleep(0)
            return "ran"
        return asyncio.run(f())

    five, ten = (str(tmp_path / name) for name in ("5", "10"))  # made after so many ticks
    log = run([cell(f"import asyncio\nn = 0\nasync def tick():\n    global n\n    while True:\n        n += 1; await asyncio.sleep(0.01)\n"
                    f"        if n in (5, 10): open({str(tmp_path)!r} + f'/{{n}}', 'w').close()\n"
                    "t = asyncio.create_task(tick()); loop = asyncio.get_running_loop()"),
               ("until", five), call(lift(runs_a_loop), seq=2), call(lift(lambda: n), seq=3), ("until", ten),
               cell("await asyncio.sleep(0.01); assert asyncio.get_running_loop() is loop; n", 4), cell("t.cancel()", 5)])
    assert all(r[1] == 0 for r in results(log)), results(log)
    between = value(results(log)[2])
    assert between >= 5 and value(results(log)[1]) == "ran"
    assert int(json.loads(outputs(log, RESULT)[0][0])["data"]["text/plain"]) >= max(between, 10)


def test_await_is_interrupted_and_the_loop_survives():
    log = run([cell("import asyncio, os, signal\nasyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)\n"
                    "await asyncio.sleep(20)"), cell("await asyncio.sleep(0); 5", 2, session=8)])
    assert error(results(log)[0])["ename"] == "KeyboardInterrupt"
    assert results(log)[1][1] == 0


def test_a_signal_interrupts_a_call():
    def kills_itself():
        import os
        import signal
        import time
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)

    failed, ok = results(run([call(lift(kills_itself)), call(abs, -1, seq=2)]))
    assert error(failed)["ename"] == "KeyboardInterrupt" and value(ok) == 1


@pytest.mark.parametrize("kind", ["TimeoutError", "SystemExit", "KeyboardInterrupt"])
def test_an_alarm_that_a_task_has_left_behind_ends_no_engine(kind):
    def leaves(kind):
        import builtins
        import signal

        def handler(signum, frame):
            raise getattr(builtins, kind)("too late")
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.5)

    log = run([call(lift(leaves), kind), ("pause", 20), call(abs, -1, seq=2)], timeout=60)
    left, ok = results(log)
    assert value(left) is None and value(ok) == 1 and log[-1] == ("code", 0)
    assert kind in text(log, STDERR) or kind == "SystemExit"


@pytest.mark.parametrize("method", ["next", "before begin", "begin", "end", "result"])
def test_an_alarm_loses_no_task_and_runs_none_twice(method):
    """Wherever it strikes: each item begins once and has one result, its own or the handler's error."""
    def f(x):
        print(x)
        return x

    buffers = serialize.pack_map(lift(f), [(i,) for i in range(20, 24)])
    log = run([LONG_BATCHES, ("strike", method), call(lift(f), 2, seq=2), call(lift(f), 3, seq=3),
               ("strike", method), task(MAP, buffers, seq=20, count=4), ("strike", method), cell("print(30)", 30, session=8)], timeout=15)
    assert [e[1] for e in log if e[0] == "begin"] == [1, 2, 3, *range(20, 24), 30]
    assert sum(e[3] for e in results(log)) == 8 and log[-1] == ("code", 0)
    assert {e[1] for e in results(log)} <= {0, 1}
    failed = [error(e)["ename"] for e in results(log) if e[1]]
    assert set(failed) <= {"TimeoutError"} and (len(failed) > 0) == (method in ("begin", "end"))
    assert text(log, STDOUT).split() == ([str(i) for i in (2, 3, *range(20, 24), 30)] if method != "begin" else ["3", "21", "22", "23"])


def test_sigterm_leaves_in_python_s_normal_way():
    def terminated():
        import os
        import signal
        import time
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)

    log = run([call(lift(terminated)), call(abs, -1, seq=2)])
    assert log[-1] == ("code", 143) and not results(log)


def test_map_sends_ranges_and_single_errors():
    def f(x, seen=[]):
        seen.append(x)
        return seen if x != 2 else 1 // 0

    buffers = serialize.pack_map(lift(f), [(i,) for i in range(5)])
    log = run([LONG_BATCHES, task(MAP, buffers, seq=10, count=5)])
    assert [e[1] for e in log if e[0] == "begin"] == [1, 10, 11, 12, 13, 14]
    _, head, failed, tail = results(log)
    assert (head[1], head[3], head[4]) == (0, 2, 1) and serialize.unpack_values(head[2]) == [[0], [1]]
    assert (failed[1], failed[3], failed[4]) == (1, 1, 0) and error(failed)["ename"] == "ZeroDivisionError"
    assert (tail[3], tail[4]) == (2, 0) and serialize.unpack_values(tail[2]) == [[3], [4]]


def test_a_part_of_a_map_takes_its_own_items():
    buffers = serialize.pack_map(abs, [(-i,) for i in range(5)])
    part = (*task(MAP, buffers, seq=13, count=2)[:7], 3, tuple(bytes(b) for b in buffers))
    _, only = results(run([LONG_BATCHES, part]))
    assert serialize.unpack_values(only[2]) == [3, 4]


def test_the_shell_looks_like_a_kernel_s():
    source = ("import os, sys, __main__\nip = get_ipython()\n"
              "[type(ip).__name__, 'IPKernelApp' in ip.config, ip.kernel.engine_id, os.environ['MPLBACKEND'], len(sys.argv), sys.path[0],"
              " hasattr(__main__, '__file__'), __main__.__spec__, In[1][:9], os.environ['PYDEVD_DISABLE_FILE_VALIDATION']]")
    log = run([cell("1 + 1"), cell(source, 2), cell("Out[1], _2[0]", 3)])
    seen = json.loads(outputs(log, RESULT)[1][0])["data"]["text/plain"]
    assert eval(seen) == ["ZMQInteractiveShell", True, None, "module://matplotlib_inline.backend_inline", 1, "", False, None, "1 + 1", "1"]
    assert json.loads(outputs(log, RESULT)[2][0])["data"]["text/plain"] == "(2, 'ZMQInteractiveShell')"


def test_cells_that_come_again_run_in_the_shell_s_surroundings_and_calls_do_not():
    look = "seen.append((hasattr(builtins, 'exit'), sys.displayhook is get_ipython().displayhook, asyncio.get_event_loop_policy().get_event_loop() is asyncio.get_running_loop()))"
    spoil = "sys.displayhook = print; asyncio.set_event_loop(None)"
    call_looks = lift(lambda: (hasattr(builtins, "exit"), sys.displayhook is get_ipython().displayhook))
    tasks = [cell("import asyncio, builtins, sys; seen = []", silent=True)]
    for i in range(5):  # from the third time on they run from their compiled code
        tasks += [cell(look, 10 + i, silent=True), cell(spoil, 20 + i, silent=True), cell(look, 30 + i, silent=True)]
    tasks += [call(call_looks, seq=50), cell(look, 51, silent=True), call(call_looks, seq=52), call(lift(lambda: seen), seq=53)]
    log = results(run(tasks))
    assert [value(log[i]) for i in (-4, -2)] == [(True, False)] * 2
    assert value(log[-1]) == [(False, True, True)] * 11


def test_a_cell_that_comes_again_fires_events_and_fails_as_the_first_one():
    setup = ("import builtins\nfor e in ('pre_execute', 'post_execute'):\n"
             "    get_ipython().events.register(e, lambda e=e: print(e, hasattr(builtins, 'exit')))\nn = 0")
    again = "n += 1; assert n != 4, 'four'"
    log = run([cell(setup, silent=True)] + [cell(again, i, silent=True) for i in range(2, 7)] +
              [call(lift(lambda: (n, get_ipython().last_execution_succeeded, get_ipython().last_execution_result.success)), seq=9)])
    ends = results(log)
    assert [r[1] for r in ends] == [0, 0, 0, 0, 1, 0, 0] and value(ends[-1]) == (5, True, True)
    assert error(ends[4])["evalue"] == "four" and "covey/_shell.py" not in "".join(error(ends[4])["traceback"])
    assert json.loads(ends[5][2][0]) == {"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": []}
    lines = text(log, STDOUT).splitlines()
    assert lines.count("pre_execute True") == 6 and lines.count("post_execute True") == 7 and len(lines) == 13


def test_events_fire_around_cells_and_calls():
    log = run([cell("for e in ('pre_execute', 'pre_run_cell', 'post_execute', 'post_run_cell'):\n"
                    "    get_ipython().events.register(e, lambda *a, e=e: print(e))", silent=True),
               call(lift(lambda: print("call")), seq=2), cell("print('cell')", 3)])
    lines = text(log, STDOUT).split()
    events = lambda what: ["pre_execute", "pre_run_cell", what, "post_execute", "post_run_cell"]
    assert lines[-10:] == events("call") + events("cell")


def test_a_forked_child_writes_to_the_descriptor():
    log = run([cell("import os\npid = os.fork()\nif pid == 0:\n    print('child'); os._exit(0)\nelse:\n    _ = os.waitpid(pid, 0)")])
    assert results(log)[0][1] == 0 and "child" not in text(log, STDOUT)


def test_displays_hold_what_json_has_no_word_for():
    """Bytes go as base64, NumPy's numbers and arrays as Python's, anything else as its repr()."""
    pytest.importorskip("numpy", reason="NumPy is optional")
    log = run([cell("import numpy as np\nfrom IPython.display import display\n"
                    "display({'application/json': {'b': b'xy', 'n': np.int64(3), 'one': np.array([4]), 'a': np.arange(2), 's': 1j}}, raw=True)")])
    assert results(log)[0][1] == 0
    assert json.loads(outputs(log, DISPLAY)[0][0])["data"]["application/json"] == {"b": "eHk=", "n": 3, "one": 4, "a": [0, 1], "s": "1j"}


def test_data_is_published_as_a_dict_of_names():
    log = run([cell("from covey.datapub import publish_data\npublish_data([1])"), cell("publish_data({1: 2})", 2, session=8)])
    assert [error(r)["evalue"] for r in results(log)] == ["publish_data takes a dict with str keys"] * 2
    with pytest.raises(RuntimeError, match="publish_data works on engines only"):
        publish_data({"a": 1})


def test_widgets_open_comms():
    pytest.importorskip("comm", reason="comm comes with ipykernel, which is optional")
    log = run([cell("import comm\nc = comm.create_comm(target_name='t', data={'a': 1}, buffers=[b'xy'])\nc.close()")])
    opened, closed = (e[1] for e in log if e[0] == "comm")
    assert json.loads(opened[0])["content"] == {**json.loads(closed[0])["content"], "data": {"a": 1}, "target_name": "t", "target_module": None}
    assert opened[1] == b"xy" and json.loads(closed[0])["msg_type"] == "comm_close"


def test_the_warm_interpreter_has_no_numpy_and_one_thread():
    log = run([cell("import sys, threading\n"
                    "sorted(sys.modules.keys() & {'numpy', 'sqlite3', 'zmq', 'tqdm', 'ipykernel', 'jedi'}), threading.active_count(),"
                    " [m for m in sys.modules if m in ('covey.client', 'covey.view', 'covey.cluster')]")])
    assert json.loads(outputs(log, RESULT)[0][0])["data"]["text/plain"] == "([], 1, [])"

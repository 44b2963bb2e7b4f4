"""Engines as users meet them: output, interrupts, forks, asyncio, startup, with real processes."""
import os
import signal
import sys

import covey as ipp
import pytest

from .conftest import wait_until
from .stack import Stack, until_all_are_there, until_exists


@pytest.fixture
def rc(stack):
    stack.rc[:].clear(block=True)
    return stack.rc


OURS = os.path.join("covey", "_engine.py")


def own_stack(ipython_dir, **kwargs):
    return Stack(ipython_dir, **kwargs)


def run(view, source):
    """Runs a cell and returns its AsyncResult when it is done."""
    ar = view.execute(source, silent=False, block=False)
    ar.get(30)
    ar.wait_for_output(30)
    return ar


def test_clear_lets_go_of_names_and_results_without_looking_for_garbage(rc):
    def watch():
        import gc
        import sys
        sys.collections = []
        gc.callbacks.append(lambda phase, info: sys.collections.append(info["generation"]))

    def seen():
        import gc
        import sys
        gc.callbacks.pop()
        return [ref() for ref in sys.things], sys.collections.count(2)

    run(rc[0], "import sys, weakref\nclass Thing: pass\nnamed = Thing()\nsys.things = [weakref.ref(named)]")
    run(rc[0], "sys.things.append(weakref.ref(result := Thing())) or result")
    run(rc[0], "del result")
    rc[0].apply_sync(watch)
    rc[0].clear(block=True)
    assert rc[0].apply_sync(seen) == ([None, None], 0)
    assert run(rc[0], "1 + 1").metadata.execute_result and run(rc[0], "print(_, dir())").stdout.startswith("2 ")


# ---- output


def test_output_comes_in_the_order_in_which_it_was_made(rc):
    ar = run(rc[0], "import ctypes, os, subprocess\nprint('python 1')\nctypes.CDLL(None).puts(b'c 2')\nprint('python 3')\n"
                    "_ = os.system('echo shell 4')\nos.write(1, b'fd 5\\n')\n_ = subprocess.run(['echo', 'child 6'])\nprint('python 7')")
    assert ar.stdout == "python 1\nc 2\npython 3\nshell 4\nfd 5\nchild 6\npython 7\n"


def test_unfinished_c_output_is_there_when_the_task_ends(rc):
    ar = run(rc[0], "import ctypes; _ = ctypes.CDLL(None).printf(b'no newline')")
    assert ar.stdout == "no newline"


def test_output_of_a_call_and_of_stderr(rc):
    def speak():
        import logging
        import sys
        logging.getLogger("x").warning("logged")
        print("said")
        print("err", file=sys.stderr)

    ar = rc[0].apply_async(speak)
    ar.get(30)
    assert ar.stdout == "said\n" and "logged\n" in ar.stderr and ar.stderr.endswith("err\n")


def test_more_than_a_pipe_holds(rc):
    ar = run(rc[0], "import os\nfor i in range(40):\n    os.write(1, b'x' * 9999 + b'\\n')\nprint('end')")
    assert len(ar.stdout) == 400000 + 4 and ar.stdout.endswith("end\n")


def test_output_streams_while_the_task_runs(rc):
    ar = rc[0].execute("import time; print('early'); time.sleep(600)", block=False)
    wait_until(lambda: ar.stdout == "early\n", what="early output")
    assert not ar.ready()
    ar.cancel()


def test_rich_output(rc):
    ar = run(rc[0], "from IPython.display import HTML, Image, display\ndisplay(HTML('<b>x</b>'), Image(b'\\x89PNG\\r\\n\\x1a\\n', format='png')); 6 * 7")
    html, png = ar.outputs
    assert html["data"]["text/html"] == "<b>x</b>" and png["data"]["image/png"] == "iVBORw0KGgo="
    assert ar.execute_result["data"]["text/plain"] == "42"


def test_the_last_value_of_a_silent_cell_is_not_shown(rc):
    ar = rc[0].execute("1 + 1", silent=True, block=False)
    ar.get(30)
    assert not ar.execute_result


def test_a_cell_that_comes_again_is_read_as_cells_are_read_now(rc):
    annotated, constant = "def f(x: int): pass\nkind = type(f.__annotations__['x']).__name__", "value = 3"
    for source in (annotated, constant) * 3:
        rc[0].execute(source, silent=True, block=True)
    assert rc[0].pull(["kind", "value"], block=True) == ["type", 3]
    rc[0].execute("from __future__ import annotations", silent=True, block=True)
    rc[0].execute("import ast\nclass Four(ast.NodeTransformer):\n    def visit_Constant(self, node):\n"
                  "        return ast.Constant(4) if node.value == 3 else node\n"
                  "get_ipython().ast_transformers.append(Four())", silent=True, block=True)
    try:
        for _ in range(3):
            for source in (annotated, constant):
                rc[0].execute(source, silent=True, block=True)
            assert rc[0].pull(["kind", "value"], block=True) == ["str", 4]
    finally:
        rc[0].execute("get_ipython().ast_transformers.clear(); get_ipython().compile.reset_compiler_flags()", silent=True, block=True)
    rc[0].execute(constant, silent=True, block=True)
    assert rc[0].pull("value", block=True) == 3


# ---- errors


def test_errors_carry_the_engine_and_the_traceback(rc):
    with pytest.raises(ipp.RemoteError) as e:
        rc[1].execute("def f():\n    1/0\nf()", silent=False, block=True)
    assert e.value.ename == "ZeroDivisionError" and e.value.engine_info["engine_id"] == 1
    assert "Cell" in e.value.traceback and OURS not in e.value.traceback
    with pytest.raises(ipp.RemoteError) as e:
        rc[1].apply_sync(lambda: 1 / 0)
    assert e.value.engine_info["method"] == "apply" and OURS not in e.value.traceback


def test_exit_is_an_error_and_the_engine_lives(rc):
    pid = rc[0].apply_sync(os.getpid)
    with pytest.raises(ipp.RemoteError, match="SystemExit"):
        rc[0].apply_sync(sys.exit, 3)
    rc[0].execute("exit", silent=False, block=True)
    assert rc[0].apply_sync(os.getpid) == pid


def test_a_failed_cell_aborts_the_next(rc, tmp_path):
    rc[0].push({"until_exists": until_exists}, block=True)
    first = rc[0].execute(f"until_exists({str(tmp_path / 'go')!r}); 1/0", silent=False, block=False)
    second = rc[0].execute("survived = 1", silent=False, block=False)
    until_all_are_there(rc[0])
    (tmp_path / "go").touch()
    with pytest.raises(ipp.RemoteError, match="ZeroDivisionError"):
        first.get(30)
    with pytest.raises(ipp.TaskAborted):
        second.get(30)
    assert rc[0]["'survived' in globals()"] is False


# ---- stopping


def nap(path, seconds=600):
    import time
    from pathlib import Path

    Path(path).write_text("on")
    time.sleep(seconds)
    return "slept"


def test_m5_cancel_interrupts_and_the_engine_keeps_its_data(rc, tmp_path):
    rc[0].push({"kept": 5}, block=True)
    ar = rc[0].apply_async(nap, str(tmp_path / "a"))
    wait_until((tmp_path / "a").exists, what="the task")
    ar.cancel()
    assert rc[0].pull("kept", block=False).get(60) == 5


def test_s12_sigint_to_the_pid_interrupts_the_task_alone(rc, tmp_path):
    pid = rc[0].apply_sync(os.getpid)
    os.kill(pid, signal.SIGINT)  # between tasks: nothing
    assert rc[0].apply_sync(os.getpid) == pid
    ar = rc[0].apply_async(nap, str(tmp_path / "b"))
    other = rc[1].apply_async(nap, str(tmp_path / "c"), 1)
    wait_until(lambda: (tmp_path / "b").exists() and (tmp_path / "c").exists(), what="the tasks")
    os.kill(pid, signal.SIGINT)
    with pytest.raises(ipp.RemoteError, match="KeyboardInterrupt"):
        ar.get(30)
    assert other.get(30) == "slept"


def test_an_awaiting_cell_is_interrupted(rc):
    pid = rc[0].apply_sync(os.getpid)
    ar = rc[0].execute("print('on'); import asyncio; await asyncio.sleep(600)", silent=False, block=False)
    wait_until(lambda: ar.stdout, what="the cell")
    os.kill(pid, signal.SIGINT)
    with pytest.raises(ipp.RemoteError, match="KeyboardInterrupt"):
        ar.get(30)


def test_s12_sigterm_ends_that_engine_alone_in_python_s_way(ipython_dir, tmp_path):
    s = own_stack(ipython_dir)
    try:
        note = tmp_path / "atexit"
        s.rc[0].execute(f"import atexit, pathlib; atexit.register(pathlib.Path({str(note)!r}).write_text, 'left')", block=True)
        ar = s.rc[0].apply_async(nap, str(tmp_path / "on"))
        wait_until((tmp_path / "on").exists, what="the task")
        os.kill(pid_of(s, 0), signal.SIGTERM)
        with pytest.raises(ipp.EngineError):
            ar.get(30)
        wait_until(lambda: s.rc.ids == [1], what="engine 0 leaving")
        assert note.read_text() == "left"
        assert s.rc[1].apply_sync(abs, -1) == 1
    finally:
        s.stop()


def pid_of(stack, engine):
    return stack.rc._engines[engine]["pid"]


# ---- forks


def test_m6_tasks_may_fork(rc):
    def forks():
        import os
        pid = os.fork()
        if pid == 0:
            print("child speaks", flush=True)
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    pid = rc[0].apply_sync(os.getpid)
    ar = rc[0].apply_async(forks)
    assert ar.get(30) == 0 and ar.stdout == "child speaks\n"
    assert rc[0].apply_sync(os.getpid) == pid


@pytest.mark.parametrize("source", ["import os, sys\npid = os.fork()\nif pid == 0: sys.exit(7)",
                                    "import os\npid = os.fork()"])
def test_m6_a_forked_child_that_comes_back_disturbs_nobody(rc, source):
    """By sys.exit() or by running on: it ends at the task's end, the engine goes on."""
    pid = rc[0].apply_sync(os.getpid)
    rc[0].execute(source, block=True)
    status = rc[0]["os.waitpid(pid, 0)[1]"]
    assert os.waitstatus_to_exitcode(status) == (7 if "exit" in source else 1)
    assert rc[0].apply_sync(os.getpid) == pid and rc.ids == [0, 1]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_m6_tasks_may_use_multiprocessing(rc, method):
    def pools(method):
        import math
        import multiprocessing
        with multiprocessing.get_context(method).Pool(2) as pool:
            return pool.map(math.factorial, [3, 4, 5])

    assert rc[0].apply_sync(pools, method) == [6, 24, 120]


def test_m6_children_s_output_and_threads(rc):
    def mixed():
        import subprocess
        import threading
        t = threading.Thread(target=print, args=("thread",))
        t.start()
        t.join()
        subprocess.run(["sh", "-c", "echo child; echo bad >&2"])

    ar = rc[0].apply_async(mixed)
    ar.get(30)
    assert ar.stdout == "thread\nchild\n" and ar.stderr == "bad\n"


def test_m6_a_child_that_outlives_its_task_keeps_nobody_waiting(rc):
    def leaves_a_child():
        import subprocess
        return subprocess.Popen(["sleep", "600"]).pid

    pid = rc[0].apply_async(leaves_a_child).get(60)
    assert rc[0].apply_async(abs, -1).get(60) == 1
    os.kill(pid, signal.SIGKILL)


# ---- asyncio and the shell


def test_m8_background_tasks_go_on_between_cells(rc):
    run(rc[0], "import asyncio\nn = 0\nasync def tick():\n    global n\n    while True:\n        n += 1\n        await asyncio.sleep(0.01)\n"
               "ticking = asyncio.create_task(tick())")
    first = rc[0]["n"]
    wait_until(lambda: rc[0]["n"] > first + 5, what="ticks between tasks")
    assert rc[0].apply_sync(lambda: __import__("asyncio").run(__import__("asyncio").sleep(0, "ran"))) == "ran"
    assert run(rc[0], "await asyncio.sleep(0.01); n").execute_result
    run(rc[0], "ticking.cancel()")


def test_m7_the_shell(rc):
    seen = rc[1].apply_sync(lambda: (type(get_ipython()).__name__, "IPKernelApp" in get_ipython().config,  # noqa: F821
                                     get_ipython().kernel.engine_id, __import__("sys").argv, __import__("sys").path[0]))  # noqa: F821
    assert seen == ("ZMQInteractiveShell", True, 1, ["ipengine"], "")
    assert rc[0].apply_sync(lambda: __import__("os").getsid(0) == __import__("os").getpid())


def test_m7_the_application(rc):
    def applications():
        from traitlets.config import Application
        app = Application.instance()
        seen = [app.id, app.kernel is get_ipython().kernel, app.log is app.kernel.log, app.shell is get_ipython()]  # noqa: F821
        from ipykernel.kernelapp import IPKernelApp
        return [*seen, IPKernelApp.initialized(), IPKernelApp.instance() is app, Application.instance() is app]

    pytest.importorskip("ipykernel", reason="ipykernel is optional")
    assert rc[1].apply_sync(applications) == [1, True, True, True, True, True, True]


def test_m7_bars_are_widgets_and_ipykernel_is_loaded_on_need_alone(rc):
    pytest.importorskip("ipykernel", reason="ipykernel is optional")
    pytest.importorskip("ipywidgets", reason="ipywidgets is optional")

    def loaded():
        import sys
        return "ipykernel.zmqshell" in sys.modules, "ipykernel" in sys.modules

    def by_name():
        import ipykernel.zmqshell
        return ipykernel.zmqshell.ZMQInteractiveShell.__module__

    def shell_class():
        from ipykernel.zmqshell import ZMQInteractiveShell
        return ZMQInteractiveShell.__module__

    rc.shutdown(0, restart=True, block=True)
    assert rc[0].apply_sync(loaded) == (True, False)
    bar = run(rc[0], "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass")
    assert any("application/vnd.jupyter.widget-view+json" in o["data"] for o in bar.outputs), (bar.outputs, bar.stderr)
    assert rc[0].apply_sync(loaded) == (True, False) and rc[0].apply_sync(shell_class) == "ipykernel.zmqshell"
    rc.shutdown(0, restart=True, block=True)
    assert rc[0].apply_sync(by_name) == "ipykernel.zmqshell"


def test_m7_inline_figures_in_cells_and_calls(rc):
    pytest.importorskip("matplotlib", reason="matplotlib is optional")

    def draws():
        import matplotlib.pyplot as plt
        plt.plot([1, 2])

    cell = run(rc[0], "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert any("image/png" in o["data"] for o in cell.outputs)
    call = rc[0].apply_async(draws)
    call.get(30)
    assert any("image/png" in o["data"] for o in call.outputs)


def test_fresh_engines_draw_different_numbers(rc):
    def draw():
        import random

        import numpy
        return random.random(), numpy.random.rand()

    pairs = rc[:].apply_sync(draw)
    assert len({p[0] for p in pairs}) == len({p[1] for p in pairs}) == len(pairs)


def test_data_is_published_while_a_task_runs(rc):
    def work():
        import time

        from covey.datapub import publish_data
        publish_data({"done": 1})
        time.sleep(600)

    ar = rc[0].apply_async(work)
    wait_until(lambda: ar.data == {"done": 1}, what="published data")
    ar.cancel()


def test_pylab_at_the_start(ipython_dir):
    pytest.importorskip("matplotlib", reason="matplotlib is optional")
    folder = os.path.join(ipython_dir["IPYTHONDIR"], "profile_default")
    os.makedirs(folder)
    with open(os.path.join(folder, "ipengine_config.py"), "w") as f:
        f.write("c.IPKernelApp.pylab = 'inline'\nc.InlineBackend.rc = {'figure.dpi': 33}\n")
    s = own_stack(ipython_dir)
    try:
        assert s.rc[0]["plt.rcParams['figure.dpi'], np.pi > 3"] == (33, True)
    finally:
        s.stop()


def test_startup_in_each_engine(ipython_dir, tmp_path):
    """PYTHONSTARTUP, startup files, exec_lines, -c, exec_files, -s and code_to_run, in this order, which is ipyparallel's; the shell's settings."""
    folder = os.path.join(ipython_dir["IPYTHONDIR"], "profile_default")
    os.makedirs(os.path.join(folder, "startup"))

    def write(path, text):
        with open(path, "w") as f:
            f.write(text)
        return str(path)

    for name, mark in (("10.py", "startup1"), ("20.ipy", "startup2")):
        write(os.path.join(folder, "startup", name), f"order.append({mark!r})\n")
    ipython_dir["PYTHONSTARTUP"] = write(tmp_path / "first.py", "order = ['pythonstartup']\n")
    file = write(tmp_path / "file.py", "order.append('file')\n1/0\n")
    script = write(tmp_path / "script.py", "order.append('script')\n")
    write(os.path.join(folder, "ipengine_config.py"),
          f"c.InteractiveShellApp.exec_lines = ['order.append(\"line\")']\nc.InteractiveShellApp.exec_files = [{file!r}]\n"
          "c.InteractiveShellApp.extensions = ['autoreload']\nc.InteractiveShell.colors = 'nocolor'\nc.InteractiveShell.xmode = 'Minimal'\n"
          "c.InteractiveShell.cache_size = 0\nc.InteractiveShellApp.code_to_run = 'order.append(\"code\")'\nc.AliasManager.user_aliases = [('shout', 'echo loud')]\n")
    s = own_stack(ipython_dir, engine_args=["-c", "order.append('command')", "-s", script])
    try:
        want = ["pythonstartup", "startup1", "startup2", "line", "command", "file", "script", "code"]
        assert s.rc[:]["order"] == [want] * 2
        assert s.rc[:].apply_sync(lambda: get_ipython().colors) == ["nocolor"] * 2  # noqa: F821
        assert s.rc[0].apply_sync(lambda: "autoreload" in get_ipython().magics_manager.magics["line"])  # noqa: F821
        assert run(s.rc[0], "shout").stdout.split() == ["loud"]
        assert run(s.rc[0], "for i in range(9): get_ipython().run_cell(str(i), store_history=True)\nlen(Out)").execute_result["data"]["text/plain"] == "0"
        assert s.rc[0].execute("1/0").exception(20).traceback.strip() == "ZeroDivisionError: division by zero"
    finally:
        s.stop()

"""bind_kernel: Jupyter's frontends attach to an engine, which goes on serving tasks."""
import os
import stat
import threading

import covey as ipp
import pytest

from .conftest import wait_until

jupyter_client = pytest.importorskip("jupyter_client", reason="jupyter_client comes with ipykernel, which is optional")

WAIT = 60


@pytest.fixture(scope="module")
def rc():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPP_NONINTERACTIVE", "1")
        with ipp.Cluster(n=2) as rc:
            yield rc


def frontend(path):
    client = jupyter_client.BlockingKernelClient(connection_file=path)
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=WAIT)
    return client


@pytest.fixture
def kernel(rc):
    client = frontend(rc[0].apply_sync(ipp.bind_kernel))
    yield client
    client.stop_channels()


def run(kernel, code, **kwargs):
    """(reply, what was shown) of a cell."""
    shown = []
    reply = kernel.execute_interactive(code, timeout=WAIT, output_hook=shown.append, **kwargs)
    return reply["content"], [(m["msg_type"], m["content"]) for m in shown]


def value(kernel, code):
    """The text of a cell's value."""
    return [c["data"]["text/plain"] for k, c in run(kernel, code)[1] if k == "execute_result"][0]


def test_the_file_is_secret_and_the_same_again(rc, kernel):
    path = rc[0].apply_sync(ipp.bind_kernel)
    assert rc[0].apply_sync(ipp.bind_kernel) == path and os.path.basename(path) == f"kernel-{rc[0].apply_sync(os.getpid)}.json"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(RuntimeError, match="works on engines"):
        ipp.bind_kernel()


def test_cells_share_the_namespace_with_tasks(rc, kernel):
    rc[0].push({"a": 20}, block=True)
    reply, shown = run(kernel, "import sys; print('out'); print('err', file=sys.stderr); b = a + 1; b")
    assert reply["status"] == "ok", "\n".join(reply["traceback"])
    assert rc[0]["b"] == 21
    assert ["".join(c["text"] for k, c in shown if c.get("name") == name) for name in ("stdout", "stderr")] == ["out\n", "err\n"]
    assert [c["data"]["text/plain"] for k, c in shown if k == "execute_result"] == ["21"]
    _, shown = run(kernel, "from IPython.display import display, HTML; display(HTML('<b>x</b>'))")
    assert [c["data"]["text/html"] for k, c in shown if k == "display_data"] == ["<b>x</b>"]
    ar = rc[0].apply_async(print, "from a task")
    ar.get(WAIT)
    assert ar.stdout == "from a task\n", "a task's output still goes to its client"


def test_the_engine_serves_tasks_meanwhile(rc, kernel):
    done = []
    thread = threading.Thread(target=lambda: done.append(run(kernel, "import time; time.sleep(0.2); n = 5; n")))
    thread.start()
    assert rc[:].map_sync(lambda x: x + 1, range(100)) == list(range(1, 101))
    thread.join(WAIT)
    assert done[0][0]["status"] == "ok" and rc[0]["n"] == 5
    assert rc[0].apply_sync(lambda: "alive") == "alive"


def test_errors_and_cells_behind_them(kernel):
    first = kernel.execute("1/0")
    behind = kernel.execute("never = 1")
    replies = [kernel.get_shell_msg(timeout=WAIT) for _ in range(2)]
    assert [m["parent_header"]["msg_id"] for m in replies] == [first, behind]
    assert replies[0]["content"]["ename"] == "ZeroDivisionError" and "ZeroDivisionError" in replies[0]["content"]["traceback"][-1]
    assert replies[1]["content"]["status"] in ("aborted", "ok")
    assert value(kernel, "await __import__('asyncio').sleep(0, 'awaited')") == "'awaited'"


def test_requests_that_come_while_a_cell_awaits(kernel):
    """They wait, and don't stop the loop that the cell's coroutine runs in."""
    cells = [kernel.execute("import asyncio\nfor _ in range(20): await asyncio.sleep(0.01)\n'done'") for _ in range(5)]
    replies = {m["parent_header"]["msg_id"]: m["content"]["status"] for m in (kernel.get_shell_msg(timeout=WAIT) for _ in cells)}
    assert replies == dict.fromkeys(cells, "ok")


def test_interrupt(rc, kernel):
    client = jupyter_client.BlockingKernelClient(connection_file=rc[0].apply_sync(ipp.bind_kernel))
    client.load_connection_file()
    client.start_channels()
    started = threading.Event()

    def interrupt():
        started.wait(WAIT)
        client.control_channel.send(client.session.msg("interrupt_request", {}))

    thread = threading.Thread(target=interrupt)
    thread.start()
    reply = kernel.execute_interactive("print('go'); import time; time.sleep(60)", timeout=WAIT,
                                       output_hook=lambda m: m["msg_type"] == "stream" and started.set())
    thread.join()
    client.stop_channels()
    assert reply["content"]["ename"] == "KeyboardInterrupt" and rc[0].apply_sync(abs, -1) == 1


def test_input_is_asked_of_the_frontend(rc, kernel):
    reply, shown = run(kernel, "x = input('name? ')", allow_stdin=True, stdin_hook=lambda m: kernel.input("you:" + m["content"]["prompt"]))
    assert reply["status"] == "ok" and rc[0]["x"] == "you:name? "
    with pytest.raises(ipp.RemoteError, match="nobody can answer"):
        rc[0].execute("input()", block=True)


def test_completion_inspection_and_the_rest(kernel):
    run(kernel, "some_long_name = 1")
    reply = kernel.complete("some_lo", reply=True, timeout=WAIT)["content"]
    assert reply["matches"] == ["some_long_name"] and (reply["cursor_start"], reply["cursor_end"]) == (0, 7)
    assert "Return the absolute value" in kernel.inspect("abs", reply=True, timeout=WAIT)["content"]["data"]["text/plain"]
    assert not kernel.inspect("no_such_name", reply=True, timeout=WAIT)["content"]["found"]
    kernel.is_complete("for x in y:")
    assert kernel.get_shell_msg(timeout=WAIT)["content"] == {"status": "incomplete", "indent": "    "}
    assert kernel.kernel_info(reply=True, timeout=WAIT)["content"]["implementation"] == "covey"
    assert any("some_long_name" in h[2] for h in kernel.history(raw=True, reply=True, timeout=WAIT)["content"]["history"])
    assert "--existing" in "".join(c.get("text", "") for _, c in run(kernel, "%connect_info")[1])


def test_a_stranger_s_messages_are_refused(rc, kernel):
    path = rc[0].apply_sync(ipp.bind_kernel)
    stranger = jupyter_client.BlockingKernelClient(connection_file=path)
    stranger.load_connection_file()
    stranger.session.key = b"wrong"
    stranger.start_channels()
    stranger.execute("stolen = 1")
    assert value(kernel, "'stolen' in globals()") == "False"
    stranger.stop_channels()


def test_the_engine_outlives_what_frontends_do(rc, kernel):
    pid = rc[0].apply_sync(os.getpid)
    reply, _ = run(kernel, "get_ipython().payload_manager.write_payload({'source': 'x', 'what': object()}, single=False)")
    assert reply["status"] == "error" and "object" in reply["evalue"], "a reply that JSON can't say"
    run(kernel, "import comm, sys\ncomm.get_comm_manager().register_target('leaves', lambda comm, message: sys.exit(3))")
    kernel.shell_channel.send(kernel.session.msg("comm_open", {"comm_id": "1", "target_name": "leaves", "data": {}}))
    assert value(kernel, "1 + 1") == "2" and rc[0].apply_sync(os.getpid) == pid


def test_the_ports_outlive_odd_messages(rc, kernel):
    import zmq

    with zmq.Context() as context, context.socket(zmq.REQ) as beat:
        beat.linger = 0
        beat.connect(f"tcp://127.0.0.1:{kernel.hb_port}")
        for frames in ([b"one"], [b"one", b"two"], [b"three"]):
            beat.send_multipart(frames)
            assert beat.poll(WAIT * 1000) and beat.recv_multipart() == frames
    assert value(kernel, "1 + 1") == "2"


def test_closed_ports_write_into_nobody_s_file(rc):
    def write_after_the_end():
        import os
        kernel = get_ipython().kernel  # noqa: F821
        bound, number = kernel.bound, kernel.bound._wake
        bound.close()
        r, w = os.pipe()
        if r == number:
            r = os.dup(r)
        if w != number:
            os.dup2(w, number)
        os.set_blocking(r, False)
        bound._send("iopub", "status", {"execution_state": "idle"})
        try:
            return os.read(r, 8)
        except BlockingIOError:
            return b""
        finally:
            for fd in {r, w, number}:
                os.close(fd)
    rc[1].apply_sync(ipp.bind_kernel)
    assert rc[1].apply_sync(ipp.interactive(write_after_the_end)) == b""


def test_shutdown_closes_the_ports_and_the_engine_stays(rc):
    path = rc[1].apply_sync(ipp.bind_kernel)
    client = frontend(path)
    client.shutdown(reply=True, timeout=WAIT)
    wait_until(lambda: not os.path.exists(path), what="the connection file going")
    client.stop_channels()
    assert rc[1].apply_sync(abs, -2) == 2
    again = frontend(rc[1].apply_sync(ipp.bind_kernel))
    assert value(again, "1 + 1") == "2"
    again.stop_channels()
    rc.shutdown(1, block=True)
    assert not os.path.exists(path), "an engine that ends takes its file with it"

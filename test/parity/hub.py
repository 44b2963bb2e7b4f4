# SPDX-License-Identifier: BSD-3-Clause
"""Section 7: controller, schedulers, task records, what an engine's shell is like."""
from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import covey as ipp
from test.system.stack import Stack

from ..waiting import wait_until
from .ground import Ground, raises, row


def _stack(t: Ground, name: str, *controller: str, n: int = 1, engine: tuple[str, ...] = ()) -> Stack:
    stack = Stack(t.environment(name), n=n, controller_args=controller, engine_args=engine)
    t.stack.callback(stack.stop)
    return stack


@row("K100")
def asked_numbers(t: Ground) -> None:
    stack = _stack(t, "a", engine=("--IPEngine.id=5",))
    assert stack.rc.ids == [5]
    stack.run("ipengine", "--id=5")
    wait_until(lambda: len(stack.rc.ids) == 2, what="the second engine")
    assert stack.rc.ids == [5, 6]


@row("H005", "K104")
def a_killed_engine_is_noticed(t: Ground) -> None:
    stack = _stack(t, "a", n=2)
    pid = stack.rc[0].apply_sync(os.getpid)
    os.kill(pid, 9)
    wait_until(lambda: stack.rc.ids == [1], what="the engine's leaving")


@row("H009", "C080", "C081", "C124", "K078")
def a_restarted_controller(t: Ground) -> None:
    stack = _stack(t, "a", "--reuse", n=2)
    before = json.loads(Path(stack.client_file).read_text())
    pids = stack.rc[:].apply_sync(os.getpid)
    stack.rc.close()
    stack.processes[0].kill()
    stack.processes[0].wait()
    assert os.path.exists(stack.client_file), "a killed controller leaves its files"
    stack.run("ipcontroller", "--restore")
    with stack.connect() as rc:
        rc.wait_for_engines(2, timeout=30, interactive=False)
        assert rc.ids == [0, 1] and rc[:].apply_sync(os.getpid) == pids
    after = json.loads(Path(stack.client_file).read_text())
    assert after["key"] == before["key"]


@row("H017", "C077", "K087")
def high_water_mark(t: Ground) -> None:
    stack = _stack(t, "a", "--hwm=1", n=1)
    lv = stack.rc.load_balanced_view()
    first, go = t.held(lv)
    rest = [lv.apply_async(int) for _ in range(3)]
    status = stack.rc.queue_status()
    assert status[0]["tasks"] <= 1 and status["unassigned"] >= 2, status
    go()
    stack.rc.wait([first, *rest])


@row("H020", "K082")
def broadcast_to_many(t: Ground) -> None:
    rc = _stack(t, "a", n=5).rc
    pids = rc.broadcast_view(is_coalescing=True).apply_sync(os.getpid)
    assert len(set(pids)) == 5


@row("H023")
def control_works_while_busy(t: Ground) -> None:
    t.v.execute("import signal\ngot = []\nsignal.signal(signal.SIGUSR1, lambda n, f: got.append(n))", block=True)
    ar, go = t.held(t.e0)
    t.rc.send_signal("SIGUSR1", targets=0, block=True)
    go()
    ar.get(30)
    assert t.e0["len(got)"] == 1


@row("H026")
def a_wrong_key(t: Ground) -> None:
    info = json.loads(Path(t.client_file).read_text())
    info["key"] = info["key"][::-1]
    info["endpoints"] = [e for e in info["endpoints"] if e.startswith("tcp")]  # on a Unix socket the same user needs no key
    e = raises(Exception, ipp.Client, info, timeout=3)
    assert not isinstance(e, TypeError), e


@row("H032", "K091")
def records_in_memory_are_bounded(t: Ground) -> None:
    rc = _stack(t, "a", "--DictDB.record_limit=50").rc
    lv = rc.load_balanced_view()
    for i in range(120):
        lv.apply_async(int)
    rc.wait()
    wait_until(lambda: 0 < len(rc.hub_history()) <= 50, what="the limit")


@row("H033", "C079", "K083", "K092")
def records_in_a_file(t: Ground) -> None:
    stack = _stack(t, "a", "--sqlitedb")
    ar = stack.rc.load_balanced_view().apply_async(pow, 2, 3)
    assert ar.get(30) == 8
    wait_until(lambda: ar.msg_ids[0] in stack.rc.hub_history(), what="the record")
    file = Path(stack.folder) / "tasks.db"
    wait_until(file.exists, what="tasks.db")
    stack.stop()
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
        rows = db.execute('SELECT started, completed, engine_uuid FROM "ipython-tasks"').fetchall()
    assert len(rows) == 1 and all(rows[0])
    again = Stack(stack.env, n=1, controller_args=["--IPController.db_class=SQLiteDB"])
    t.stack.callback(again.stop)
    assert ar.msg_ids[0] in again.rc.hub_history()


@row("H035")
def no_records(t: Ground) -> None:
    rc = _stack(t, "a", "--nodb").rc
    ar = rc.load_balanced_view().apply_async(int)
    ar.get(30)
    for call in (rc.hub_history, lambda: rc.db_query({})):
        e = raises(Exception, call)
        assert "NoData" in f"{type(e).__mro__} {getattr(e, 'ename', '')}", repr(e)
    assert rc.resubmit(ar.msg_ids[0], block=False).get(30) == [0], "this client has the task still"
    assert rc.queue_status() and rc.result_status(ar.msg_ids)
    rc.purge_results("all")


@row("K075", "K077")
def ports_by_config(t: Ground) -> None:
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    for i, name in enumerate(("client_ports", "engine_ports", "regport")):
        stack = _stack(t, name, f"--IPController.{name}={port + i}", "--IPController.mon_port=1", "--IPController.notifier_port=2")
        assert f"tcp://127.0.0.1:{port + i}" in json.loads(Path(stack.client_file).read_text())["endpoints"], name
        said = (Path(stack.folder) / "stack.log").read_text()
        assert "IPController.mon_port (command line) has no effect here" in said and "notifier_port" in said, said
        assert name != "regport" or "IPController.regport is now called IPController.port" in said, said
    done = t.run("ipcontroller", "--IPController.ports=70000")
    assert done.returncode == 1 and "IPController.ports" in done.stderr, done.stderr


@row("H038", "H043", "C074", "C073")
def one_encrypted_port(t: Ground) -> None:
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    stack = _stack(t, "a", f"--ports={port}-{port + 20}")
    info = json.loads(Path(stack.client_file).read_text())
    assert f"tcp://127.0.0.1:{port}" in info["endpoints"], info["endpoints"]
    other = _stack(t, "b", f"--port={port + 30}")
    assert f"tcp://127.0.0.1:{port + 30}" in json.loads(Path(other.client_file).read_text())["endpoints"]
    owner = stack.processes[0].pid
    sockets = {os.readlink(f) for f in Path(f"/proc/{owner}/fd").iterdir() if f.exists() or f.is_symlink()}
    listening = [line.split() for line in Path(f"/proc/{owner}/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
    assert sum(f"socket:[{words[9]}]" in sockets for words in listening) == 1, "one port"
    with eavesdropper(port) as (near, heard), ipp.Client(dict(info, endpoints=[f"tcp://127.0.0.1:{near}"])) as rc:
        assert rc[0].apply_sync(lambda x: x, "a secret word") == "a secret word"
        assert heard[:1] == b"\x16" and len(heard) > 500 and b"a secret word" not in heard, "TLS, and nothing but TLS"


@contextlib.contextmanager
def eavesdropper(port: int) -> Iterator[tuple[int, bytearray]]:
    """A way to a port through one of ours: ours, and what clients send through it."""
    import socket
    import threading

    heard = bytearray()

    def pump(source: socket.socket, to: socket.socket, keep: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                heard.extend(data if keep else b"")
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, far = door.accept()[0], socket.create_connection(("127.0.0.1", port))
                for a, b, keep in ((client, far, True), (far, client, False)):
                    threading.Thread(target=pump, args=(a, b, keep), daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=serve, daemon=True).start()
        yield door.getsockname()[1], heard
        door.shutdown(socket.SHUT_RDWR)


@row("H044", "H048", "H049", "C112")
def the_engines_shell(t: Ground) -> None:
    def look() -> dict:
        import os
        import sys

        from IPython import get_ipython
        shell = get_ipython()
        return {"shell": type(shell).__name__, "path": sys.path[0], "kernel": shell.kernel.engine_id,
                "pydevd": os.environ.get("PYDEVD_DISABLE_FILE_VALIDATION")}
    seen = t.e0.apply_sync(look)
    assert seen["shell"] == "ZMQInteractiveShell" and seen["path"] == "" and seen["kernel"] == 0 and seen["pydevd"] == "1"
    assert t.e0.apply_sync(os.getcwd) == os.getcwd()
    assert t.e0.apply_sync(os.getpgrp) != os.getpgrp(), "a Ctrl-C in our terminal does not reach engines"


@row("H045")
def what_apply_leaves(t: Ground) -> None:
    def names() -> set:
        return set(globals())
    before = t.e0.apply_sync(ipp.interactive(names))
    t.e0.apply_sync(lambda x, y=2: x + y, 1)
    new = {n for n in t.e0.apply_sync(ipp.interactive(names)) - before if not n.startswith("__")}
    assert not new, new


@row("H047")
def engine_uuids(t: Ground) -> None:
    ar = t.e0.apply_async(int)
    ar.get(30)
    wait_until(lambda: t.rc.db_query({"msg_id": ar.msg_ids[0]}), what="the record")
    record = t.rc.db_query({"msg_id": ar.msg_ids[0]})[0]
    assert record["engine_uuid"] == ar.metadata.engine_uuid

"""covey._core against a controller played by hand (fake_controller.py): both halves of the extension."""
import collections
import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

import fake_controller as fc
from covey import _core

from test.waiting import wait_until

HELLO = {"cluster_id": "c", "boot_id": "b", "python": "3.11", "versions": "{}", "host": "here"}
APPLY, MAP = 0, 2
LOST, ABORTED, CANCELLED = 9, 2, 3
STDOUT, STDERR, DISPLAY = 1, 2, 3


@pytest.fixture
def controller():
    c = fc.Controller()
    yield c
    c.close()


@pytest.fixture
def pair(controller):
    """A connected client and the controller's end of its link."""
    client = _core.Client([controller.endpoint], HELLO)
    _, peer = controller.let_in(lambda: client.connect(PATIENCE))
    yield client, peer
    peer.close()
    client.close(0)


def submit(client, *buffers, kind=APPLY, flags=0, count=1, route=None):
    return client.submit(kind, flags, fc.NONE, count, route, buffers)


PATIENCE = 60  # seconds for what takes milliseconds, on a machine that may do something else for some of them


def events(client, *names):
    """The next events of poll(), as dicts, until all names have come."""
    seen = []
    while not set(names) <= {e.get("event") for e in seen}:
        assert client.wait_event(PATIENCE), f"only {seen}"
        seen += [json.loads(bytes(e[-1][0])) for e in client.poll() if e[0] == fc.EVENT]
    return seen


# Connecting

def test_connect_says_hello_and_returns_the_welcome(controller):
    client = _core.Client([controller.endpoint], HELLO, session=77)
    welcome, peer = controller.let_in(lambda: client.connect(timeout=PATIENCE), engines=[{"id": 0}], pid=42, python="note")
    assert welcome == {"engines": [{"id": 0}], "controller": {"pid": 42}, "python": "note"} == client.welcome
    assert peer.says["role"] == 1 and peer.says["session"] == 77 == client.session
    assert peer.says["pid"] == os.getpid() and peer.says["cluster"] == "c" and "waiting" not in peer.says
    assert client.link_state()[0] == "up"
    client.close(0)
    assert client.link_state()[0] == "closed"


@pytest.mark.parametrize("timeout", [1e11, float("inf")])
def test_a_timeout_may_be_for_ever(controller, timeout):
    client = _core.Client([controller.endpoint], HELLO)
    _, peer = controller.let_in(lambda: client.connect(timeout))
    assert client.link_state()[0] == "up"
    submit(client, b"sent before the end")
    client.close(timeout)
    assert peer.recv(fc.TASK)


def test_connect_to_nobody_names_the_endpoint():
    client = _core.Client(["unix:@covey-test-nobody"], HELLO)
    with pytest.raises(_core.LinkError, match="covey-test-nobody"):
        client.connect(1)
    assert issubclass(_core.LinkError, OSError)


def test_refused_is_a_link_error(controller):
    client = _core.Client([controller.endpoint], HELLO)
    with pytest.raises(_core.LinkError, match="stale file"):
        controller.let_in(lambda: client.connect(PATIENCE), refused="this is a stale file")


def test_a_silent_peer_is_told_in_time(controller):
    client = _core.Client([controller.endpoint], HELLO)
    with pytest.raises(_core.LinkError, match="no answer"):
        client.connect(0.3)  # the kernel accepts, nobody reads
    controller.accept_any()
    _, peer = controller.let_in(lambda: client.connect(PATIENCE))  # it may be tried again
    peer.close()
    client.close(0)


def test_what_is_submitted_right_after_connect_arrives(controller):
    for _ in range(30):
        client = _core.Client([controller.endpoint], HELLO)
        early = submit(client, b"before")
        _, peer = controller.let_in(lambda: client.connect(PATIENCE))
        late = submit(client, b"after")
        assert [peer.recv(fc.TASK).seq for _ in range(2)] == [early, late]
        peer.close()
        client.close(0)


def test_wrong_arguments_are_told():
    with pytest.raises(TypeError):
        _core.Client(["x"], "no dict")
    with pytest.raises(TypeError):
        _core.Client([1], HELLO)
    client = _core.Client(["unix:@x"], HELLO)
    with pytest.raises(ValueError, match="colour"):
        submit(client, b"x", route={"colour": 1})
    with pytest.raises(TypeError):
        submit(client, "text")
    with pytest.raises(TypeError, match="misses"):
        client.submit(0)
    with pytest.raises(TypeError, match="no argument"):
        client.wait([1], 0, what=1)


# Tasks and results

def test_submit_wait_take(pair):
    client, peer = pair
    seq = submit(client, b"call", b"", bytearray(b"data"), route={"label": "x", "targets": [1, 2], "timeout": 1.5, "after": [(7, 1, 3)],
                                                                  "dep": {"after_all": True}})
    task = peer.recv(fc.TASK)
    assert (task.session, task.seq, task.count, task.buffers) == (client.session, seq, 1, [b"call", b"", b"data"])
    route = fc.unpack(task.route)
    assert route["label"] == "x" and route["targets"] == [1, 2] and route["timeout"] == 1.5 and route["after"] == [[7, 1, 3]]
    assert not client.done(seq) and client.take(seq) is None and not client.wait([seq], 0)
    peer.result(task, [b"value", b"more"], time=5, aux=6)
    assert client.wait([seq], PATIENCE)
    status, attempt, engine, incarnation, submitted, started, completed, received, buffers, first, count = client.take(seq)
    assert (status, attempt, engine, started, completed, first, count) == (0, 1, 0, 5, 6, seq, 1)
    assert abs(received - time.time_ns()) < 10e9 and abs(submitted - time.time_ns()) < 10e9
    assert [bytes(b) for b in buffers] == [b"value", b"more"] and len(buffers[0]) == 5
    assert client.take(seq) is None and client.done(seq)  # unknown counts as done
    assert peer.recv(fc.ACK).aux == 1


def test_threads_wait_when_no_descriptor_is_left(pair):
    client, peer = pair
    seqs = [submit(client, b"x") for _ in range(4)]
    tasks = [peer.recv(fc.TASK) for _ in seqs]
    got, limits = [], resource.getrlimit(resource.RLIMIT_NOFILE)

    def wait(seq):
        try:
            got.append(client.wait([seq], PATIENCE))
        except BaseException as e:
            got.append(e)

    threads = [threading.Thread(target=wait, args=(seq,)) for seq in seqs]
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        for t in threads:
            t.start()
        assert not client.wait(seqs, 0.1)
        for task in tasks:
            peer.result(task, [b"value"])
        for t in threads:
            t.join()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert got == [True] * 4


def test_received_memory_is_writable_and_outlives_the_client(pair):
    client, peer = pair
    for size in (10, 100_000, 3 << 20):
        seq = submit(client, b"x")
        peer.result(peer.recv(fc.TASK), [bytes(size)])
        assert client.wait([seq], PATIENCE)
        view = memoryview(client.take(seq)[8][0])
        assert not view.readonly and len(view) == size
        view[0] = view[-1] = 9
        gc.collect()
        assert view[0] == 9


def test_a_result_of_a_range_serves_each_id(pair):
    client, peer = pair
    seq = submit(client, b"items", kind=MAP, count=10)
    task = peer.recv(fc.TASK)
    assert task.count == 10
    peer.result(task, [b"abc"], count=3, offset=2)
    assert client.wait([seq + 2, seq + 3, seq + 4], PATIENCE)
    assert client.done_count(range(seq, seq + 10)) == 3
    assert [client.take(seq + i)[9:] for i in (2, 4)] == [(seq + 2, 3)] * 2
    peer.result(task, [b"late"], count=10)  # covers some that were answered: those are left as they are
    assert client.wait(range(seq, seq + 10), PATIENCE)
    assert bytes(client.take(seq + 3)[8][0]) == b"abc"
    assert bytes(client.take(seq + 9)[8][0]) == b"late"


def test_wait_for_some_times_out_and_forgets(pair):
    client, peer = pair
    seqs = [submit(client, b"x") for _ in range(5)]
    tasks = [peer.recv(fc.TASK) for _ in seqs]
    t = time.monotonic()
    assert not client.wait(seqs, 0.05)
    assert time.monotonic() - t > 0.04
    peer.result(tasks[3], [b"x"])
    peer.result(tasks[1], [b"x"])
    assert client.wait(seqs, PATIENCE, 2)
    assert not client.wait(seqs, 0.01, n=3)
    client.forget(seqs[0], 1)
    assert client.wait(seqs, 0, n=3)
    peer.result(tasks[0], [b"x"])
    peer.result(tasks[2], [b"x"])
    assert client.wait([seqs[2]], PATIENCE)
    assert client.take(seqs[0]) is None
    assert client.wait([10**6], 0)  # unknown


def test_waiters_in_threads_each_get_theirs(pair):
    client, peer = pair
    seqs = [submit(client, b"x") for _ in range(40)]
    tasks = [peer.recv(fc.TASK) for _ in seqs]
    done = []
    threads = [threading.Thread(target=lambda s=s: done.append((s, client.wait([s, seqs[-1]], PATIENCE)))) for s in seqs]
    for t in threads:
        t.start()
    for task in reversed(tasks):
        peer.result(task, [b"x"])
    for t in threads:
        t.join(PATIENCE)
    assert sorted(done) == [(s, True) for s in seqs]


def test_a_signal_ends_wait_at_once(pair):
    client, _ = pair
    seq = submit(client, b"x")

    def raise_it(*_):
        raise InterruptedError("signal")

    old = signal.signal(signal.SIGALRM, raise_it)
    try:
        with pytest.raises(InterruptedError):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            client.wait([seq], PATIENCE)
    finally:
        signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("size", [65_537, 10_000_000, 70 << 20])
def test_large_payloads_both_ways(pair, size):
    client, peer = pair
    data = bytearray(os.urandom(1 << 16) * (size // (1 << 16) + 1))[:size]
    kept = bytes(data)
    seq = submit(client, b"small", data)
    copied = size <= 64 << 20
    assert client.flushed(seq) or not copied
    if copied:
        data[:100] = bytes(100)  # S4: ours again
    task = peer.recv(fc.TASK)
    assert task.buffers[0] == b"small" and task.buffers[1] == kept
    wait_until(lambda: client.flushed(seq))
    data.clear()  # no export is left: else BufferError
    peer.result(task, [b"r", kept])
    assert client.wait([seq], PATIENCE)
    small, large = client.take(seq)[8]
    assert bytes(small) == b"r" and memoryview(large) == kept


def test_small_messages_overtake_large_ones_but_direct_tasks_do_not(pair):
    client, peer = pair
    big = bytes(8 << 20)
    first = submit(client, big)
    second = submit(client, b"small")
    assert [peer.recv(fc.TASK).seq for _ in range(2)] == [second, first]
    first = submit(client, big)
    second = submit(client, b"small", flags=2)
    assert [peer.recv(fc.TASK).seq for _ in range(2)] == [first, second]


def test_fortran_order_is_fine(pair):
    np = pytest.importorskip("numpy", reason="NumPy is optional")
    client, peer = pair
    a = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    submit(client, a, np.arange(5))
    task = peer.recv(fc.TASK)
    assert task.buffers[0] == a.tobytes("F") and task.buffers[1] == np.arange(5).tobytes()
    with pytest.raises((BufferError, ValueError)):
        submit(client, np.arange(10)[::2])


# Queries, events, other messages

def test_query_and_signal_are_fetched_like_results(pair):
    client, peer = pair
    seq = client.query(b'{"query": "engines"}')
    q = peer.recv(fc.QUERY)
    assert q.json == {"query": "engines"} and q.seq == seq
    peer.send(fc.REPLY, session=q.session, seq=q.seq, buffers=[b'{"ok": []}'])
    assert client.wait([seq], PATIENCE) and bytes(client.take(seq)[8][0]) == b'{"ok": []}'
    seq = client.send(fc.SIGNAL, engine=3, buffers=[b'{"signal": 2}'])
    s = peer.recv(fc.SIGNAL)
    assert (s.engine, s.seq, s.session) == (3, seq, client.session)
    peer.send(fc.REPLY, session=s.session, seq=s.seq, buffers=[b"{}"])
    assert client.wait([seq], PATIENCE)
    client.send(fc.CANCEL, seq=5, count=2, flags=fc.F_ABORT, aux=9)
    c = peer.recv(fc.CANCEL)
    assert (c.session, c.seq, c.count, c.flags, c.aux) == (client.session, 5, 2, fc.F_ABORT, 9)


def test_poll_fileno_watch_and_wake(pair):
    client, peer = pair
    readable = lambda: bool(select.select([client.fileno()], [], [], 0)[0])
    assert client.poll() == [] and not readable() and not client.wait_event(0)
    seq = submit(client, b"x")
    client.watch([seq, 999])
    task = peer.recv(fc.TASK)
    assert [e[:6] for e in client.poll()] == [(fc.RESULT, 0, 0, client.session, 999, fc.NONE)]
    peer.send(fc.OUTPUT, status=STDOUT, session=task.session, seq=seq, engine=3, time=8, flags=fc.F_LATE, buffers=[b"hello"])
    peer.result(task, [b"v"])
    wait_until(lambda: client.done(seq))
    assert readable() and client.wait_event(PATIENCE)
    (out, done) = client.poll()
    assert out[:7] == (fc.OUTPUT, STDOUT, fc.F_LATE, client.session, seq, 3, 8) and bytes(out[7][0]) == b"hello"
    assert done == (fc.RESULT, 0, 0, client.session, seq, 0, 0, ())
    assert not readable()
    threading.Timer(0.02, client.wake).start()
    assert client.wait_event(PATIENCE) and client.poll() == [] and not client.wait_event(0)


def test_what_is_taken_can_be_put_where_it_is_to_be_kept(pair):
    client, peer = pair
    seq, taken, events = submit(client, b"x"), [], collections.deque()
    assert client.take(seq, taken, "what") is None and taken == []
    client.poll(events)
    assert not events
    client.watch([seq])
    peer.result(peer.recv(fc.TASK), [b"v"])
    wait_until(lambda: client.done(seq))
    record = client.take(seq, taken, "what")
    assert taken == [("what", record)] and bytes(record[8][0]) == b"v"
    client.poll(events)
    assert [e[0] for e in events] == [fc.RESULT]
    for wrong in ((seq, taken), (), (seq, taken, "what", 1)):
        with pytest.raises(TypeError):
            client.take(*wrong)


def test_ids_of_another_session(pair):
    client, peer = pair
    client.expect(5, 10, 2)
    assert not client.done((5, 10)) and client.done((5, 12))
    peer.send(fc.RESULT, session=5, seq=10, count=2, buffers=[b"theirs"])
    assert client.wait([(5, 10), (5, 11)], PATIENCE)
    assert bytes(client.take((5, 11))[8][0]) == b"theirs" and client.take(10) is None


def test_a_client_may_continue_an_earlier_session(controller):
    client = _core.Client([controller.endpoint], HELLO, session=99)
    client.expect(99, 5, 3)
    _, peer = controller.let_in(lambda: client.connect(PATIENCE))
    assert peer.says["waiting"] == [[5, 8]]
    peer.send(fc.RESULT, session=99, seq=5, count=1, buffers=[b"from before"])
    assert client.wait([5], PATIENCE) and bytes(client.take(5)[8][0]) == b"from before"
    assert submit(client, b"x") == 8
    peer.close()
    client.close(0)


# Losing the link

def test_reconnect_sends_again_what_is_unknown(controller, pair):
    client, peer = pair
    seqs = [submit(client, b"%d" % i) for i in range(4)]
    tasks = [peer.recv(fc.TASK) for _ in seqs]
    q = client.query(b"{}")
    peer.recv(fc.QUERY)
    peer.result(tasks[0], [b"0"])
    assert client.wait(seqs[:1], PATIENCE)
    peer.close()
    back = controller.accept()
    assert back.says["session"] == client.session
    assert back.says["waiting"] == [[seqs[1], seqs[3] + 1]]
    assert client.link_state()[0] == "away"
    late = submit(client, b"late")
    back.welcome(unknown=[[client.session, seqs[2], seqs[3] + 1]], engines=[{"id": 9}])
    got = [back.recv(fc.TASK, fc.QUERY) for _ in range(4)]
    assert [m.seq for m in got] == [seqs[2], seqs[3], q, late] and got[0].buffers == [b"2"]
    names = events(client, "link_lost", "link_back")
    assert [e["event"] for e in names] == ["link_lost", "link_back"] and names[1]["welcome"]["engines"] == [{"id": 9}]
    for m in got:
        back.send(fc.REPLY if m.type == fc.QUERY else fc.RESULT, session=m.session, seq=m.seq, count=1, buffers=[b"x"])
    back.result(tasks[1], [b"1"])
    assert client.wait([*seqs, q, late], PATIENCE)
    assert back.recv(fc.ACK).aux >= 1  # counts anew on the new link
    back.close()


def test_a_payload_that_is_gone_is_a_lost_task(controller):
    client = _core.Client([controller.endpoint], HELLO, resend_bytes=1000)
    _, peer = controller.let_in(lambda: client.connect(PATIENCE))
    old, new = submit(client, bytes(900)), submit(client, bytes(901))
    for _ in range(2):
        peer.recv(fc.TASK)
    client.query(b"{}")  # its turn comes after the budget was applied
    peer.recv(fc.QUERY)
    peer.close()
    back = controller.accept().welcome(unknown=[[client.session, old, new + 1]])
    assert back.recv(fc.TASK).seq == new
    assert client.wait([old], PATIENCE)
    record = client.take(old)
    assert record[0] == LOST and json.loads(bytes(record[8][0]))["ename"] == "LostTask"
    client.close(0)


def test_what_was_never_sent_is_kept_beyond_the_budget(controller):
    """The link holds it anyway: letting go of it would free nothing, and lose it with the link."""
    client = _core.Client([controller.endpoint], HELLO, resend_bytes=5 << 20, memfd_bytes=0)
    _, peer = controller.let_in(lambda: client.connect(PATIENCE))
    seqs = [submit(client, bytes([i]) * (4 << 20)) for i in range(8)]  # each is more than a socket takes
    client.query(b"{}")
    peer.recv(fc.QUERY)  # small, it overtakes: all have been handed to the link
    peer.close()
    back = controller.accept().welcome(unknown=[[client.session, seqs[0], seqs[-1] + 1]])
    tasks = [back.recv(fc.TASK) for _ in seqs]
    assert sorted(t.buffers for t in tasks) == [[bytes([i]) * (4 << 20)] for i in range(8)]
    client.query(b"{}")
    back.recv(fc.QUERY)  # all have been sent now, and the budget counts again
    back.close()
    back = controller.accept().welcome(unknown=[[client.session, seqs[0], seqs[-1] + 1]])
    assert back.recv(fc.TASK).seq == seqs[-1]
    assert client.wait(seqs[:-1], PATIENCE) and {client.take(s)[0] for s in seqs[:-1]} == {LOST}
    back.close()
    client.close(0)


def test_a_task_with_a_shared_function_is_sent_again_as_often_as_need_be(controller):
    """A large function counts for none of the tasks that share it: neither when they are kept nor when they are sent again."""
    client = _core.Client([controller.endpoint], HELLO, resend_bytes=1000)
    _, peer = controller.let_in(lambda: client.connect(PATIENCE))
    function = bytes(8000)
    seq = client.submit(APPLY, 0, fc.NONE, 1, None, (function, b"argument"), 1)
    for _ in range(3):
        task = peer.recv(fc.TASK)
        assert task.seq == seq and task.buffers == [b"argument"]
        client.query(b"{}")  # its turn comes after the budget was applied
        peer.recv(fc.QUERY)
        peer.close()
        peer = controller.accept().welcome(unknown=[[client.session, seq, seq + 1]])
    peer.result(peer.recv(fc.TASK), [b"done"])
    assert client.wait([seq], PATIENCE) and client.take(seq)[0] == 0
    peer.close()
    client.close(0)


def test_many_holes_fit_in_hello(controller, pair):
    client, peer = pair
    seqs = [submit(client, b"x") for _ in range(3000)]
    for _ in seqs:
        task = peer.recv(fc.TASK)
        if task.seq % 2:
            peer.result(task, [b""])
    assert client.wait(seqs, PATIENCE, n=1500)
    peer.close()
    back = controller.accept()
    assert 4096 < len(back.hello.route) < 256 << 10
    assert [s for lo, hi in back.says["waiting"] for s in range(lo, hi)] == [s for s in seqs if s % 2 == 0]
    back.welcome()
    back.close()


def test_bye_ends_all_that_is_pending(pair):
    client, peer = pair
    seq, q = submit(client, b"x"), client.query(b"{}")
    peer.recv(fc.QUERY)
    peer.send(fc.BYE, buffers=[b'{"reason": "shut down by a client"}'])
    assert client.wait([seq, q], PATIENCE)
    assert b"shut down by a client" in bytes(client.take(seq)[8][0]) and client.take(q)[0] == LOST
    assert client.link_state()[:2] == ("closed", "shut down by a client")
    last = client.poll()[-1]
    assert last[0] == fc.BYE and json.loads(bytes(last[7][0])) == {"reason": "shut down by a client"}
    with pytest.raises(_core.LinkError, match="shut down"):
        submit(client, b"x")


def test_refused_on_return_gives_up(controller, pair):
    client, peer = pair
    seq = submit(client, b"x")
    peer.recv(fc.TASK)
    peer.close()
    controller.accept().welcome(refused="another controller runs here now")
    assert client.wait([seq], PATIENCE)
    assert b"another controller" in bytes(client.take(seq)[8][0])


def test_a_controller_whose_process_is_gone_is_given_up(controller):
    """Also if nobody has waited for it: a zombie has ended."""
    child = os.fork()
    if child == 0:
        controller.sock.listen(16)  # it is the one that clients see
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    client = _core.Client([controller.endpoint], HELLO)
    _, peer = controller.let_in(lambda: client.connect(PATIENCE))
    seq = submit(client, b"x")
    peer.recv(fc.TASK)
    controller.close()
    peer.close()
    t = time.monotonic()
    assert client.wait([seq], PATIENCE)
    assert time.monotonic() - t > 3
    assert b"process is gone" in bytes(client.take(seq)[8][0])
    os.waitpid(child, 0)


def test_close_ends_waiters_and_is_idempotent(pair):
    client, peer = pair
    seq = submit(client, b"x")
    peer.recv(fc.TASK)
    threading.Timer(0.02, client.close, [0]).start()
    assert client.wait([seq], PATIENCE)
    assert client.take(seq)[0] == LOST
    client.close()
    with pytest.raises(_core.LinkError):
        submit(client, b"x")


def test_close_sends_what_is_queued(controller):
    client = _core.Client([controller.endpoint], HELLO)
    _, peer = controller.let_in(lambda: client.connect(PATIENCE))
    seqs = [submit(client, bytes(1 << 20)) for _ in range(8)]
    got = []

    def read():
        while len(got) < len(seqs):
            got.append(peer.recv(fc.TASK).seq)
        peer.close()

    t = threading.Thread(target=read)
    t.start()
    client.close(PATIENCE)
    t.join(PATIENCE)
    assert sorted(got) == seqs


def test_dropped_without_close(controller):
    client = _core.Client([controller.endpoint], HELLO)
    _, peer = controller.let_in(lambda: client.connect(PATIENCE))
    submit(client, b"x")
    threading.Timer(0.05, peer.close).start()
    del client
    gc.collect()


# Forks

def test_a_forked_child_only_gets_forked_error(pair):
    client, peer = pair
    seq = submit(client, b"x")
    task = peer.recv(fc.TASK)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for call in (lambda: submit(client, b"y"), lambda: client.wait([seq], 1), client.close, client.poll):
                try:
                    call()
                    break
                except _core.ForkedError:
                    pass
            else:
                code = 0
            del client
            gc.collect()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    peer.result(task, [b"fine"])
    assert client.wait([seq], PATIENCE) and bytes(client.take(seq)[8][0]) == b"fine"


def test_a_forked_child_holds_no_link_open(controller):
    script = f"""
import os, sys, threading
sys.path[:0] = {sys.path!r}
from covey import _core
client = _core.Client([{controller.endpoint!r}], {HELLO!r})
client.connect({PATIENCE})
if os.fork() == 0:
    os.write(1, b"forked")
    sys.stdin.read()
    sys.exit(0)     # atexit and deallocation in the child, too
os._exit(0)
"""
    p = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    peer = controller.accept().welcome()
    assert p.stdout.read(6) == b"forked"
    with pytest.raises(EOFError):  # the child lives, the link has ended
        peer.recv()
    p.communicate(timeout=PATIENCE)


# The engine half

class Engine:
    def __init__(self, controller, **fds):
        self.link = _core.Engine(controller.endpoint, {**HELLO, "uuid": "u", "number": None, "slot": 2, "host_session": "123"},
                                 uid=os.getuid(), **{"status_fd": -1, "stdout_fd": -1, "stderr_fd": -1, **fds})
        self.welcome, self.peer = controller.let_in(lambda: self.link.connect(PATIENCE), number=7)


@pytest.fixture
def engine(controller):
    e = Engine(controller)
    yield e
    e.peer.close()
    e.link.close(0)


def give(peer, seq, *buffers, count=1, session=5, attempt=1, kind=APPLY, aux=0):
    peer.send(fc.TASK, status=kind, session=session, seq=seq, count=count, attempt=attempt, engine=7, incarnation=1, buffers=buffers, aux=aux)


def test_engine_registers_and_runs(engine):
    link, peer = engine.link, engine.peer
    assert engine.welcome == {"number": 7, "incarnation": 1} and (link.number, link.incarnation) == (7, 1)
    assert peer.says["role"] == 2 and peer.says["uuid"] == "u" and peer.says["host_session"] == 123 and peer.says["slot"] == 2
    assert link.next(0) is None
    give(peer, 1, b"call", b"arg", aux=3)
    item = link.next(PATIENCE)
    assert item[:8] == (fc.TASK, APPLY, 0, 5, 1, 1, 1, 3) and [bytes(b) for b in item[8]] == [b"call", b"arg"]
    assert link.begin(5, 1, 1)
    link.end()
    link.result(0, [b"value"])
    r = peer.recv(fc.RESULT)
    assert (r.session, r.seq, r.count, r.attempt, r.status, r.engine, r.incarnation, r.buffers) == (5, 1, 1, 1, 0, 7, 1, [b"value"])
    assert 0 < r.time <= r.aux <= time.time_ns()
    with pytest.raises(ValueError):
        link.result(0, [])


def test_output_for_a_controller_that_stands_still_is_bounded(engine):
    """It does not read: some is kept for it, the result comes, and what is printed then."""
    link, peer = engine.link, engine.peer
    give(peer, 1, b"x")
    link.next(PATIENCE)
    assert link.begin(5, 1, 1)
    line = b"x" * ((1 << 20) - 1) + b"\n"
    for _ in range(400):
        link.output(STDOUT, [line])
    link.end()
    link.result(0, [b"value"])
    kept = 0
    while (m := peer.recv(fc.OUTPUT, fc.RESULT)).type == fc.OUTPUT:
        kept += len(m.buffers[0])
    assert kept < 200 << 20 and m.buffers == [b"value"]
    give(peer, 2, b"x")
    link.next(PATIENCE)
    assert link.begin(5, 2, 1)
    link.output(STDOUT, [b"heard again\n"])
    assert peer.recv(fc.OUTPUT).buffers == [b"heard again\n"]


def test_an_engine_whose_first_connection_is_cut_tries_again(controller):
    link = _core.Engine(controller.endpoint, {**HELLO, "uuid": "u", "number": None, "slot": 2, "host_session": "123"},
                        uid=os.getuid(), status_fd=-1, stdout_fd=-1, stderr_fd=-1)

    def cut_twice():
        controller.accept().close()  # after its HELLO
        controller.accept_any()
        peers.append(controller.accept().welcome(number=7))

    peers = []
    thread = threading.Thread(target=cut_twice)
    thread.start()
    assert link.connect(PATIENCE)["number"] == 7
    thread.join()
    peers[0].close()
    link.close(0)


def test_engine_fileno_tells_of_work(engine):
    link, peer = engine.link, engine.peer
    readable = lambda: bool(select.select([link.fileno()], [], [], 0)[0])
    assert not readable()
    give(peer, 1, b"x")
    wait_until(readable)
    assert link.next(0)[0] == fc.TASK and not readable()
    peer.send(fc.COMM, session=5, seq=1, buffers=[b"{}", b"bin"])
    item = link.next(PATIENCE)
    assert item[0] == fc.COMM and [bytes(b) for b in item[8]] == [b"{}", b"bin"]


def test_map_items_are_sent_in_ranges(engine):
    link, peer = engine.link, engine.peer
    give(peer, 10, b"x", count=5, kind=MAP)
    assert link.next(PATIENCE)[4:6] == (10, 5)
    for i in range(3):
        assert link.begin(5, 10 + i, 1)
        link.end()
    link.result(0, [b"two"], 2, 1)
    link.result(1, [b"error"])
    r = [peer.recv(fc.RESULT) for _ in range(2)]
    assert [(m.seq, m.count, m.status) for m in r] == [(10, 2, 0), (12, 1, 1)]


def test_take_gives_back_only_what_has_not_begun(engine):
    link, peer = engine.link, engine.peer
    give(peer, 10, b"x", count=5, kind=MAP)
    give(peer, 20, b"x")
    link.next(PATIENCE)
    assert link.begin(5, 10, 1)
    peer.send(fc.TAKE, session=5, seq=10, count=5, attempt=1)
    g = peer.recv(fc.GIVE_BACK)
    assert (g.seq, g.count, g.attempt) == (11, 4, 1)
    peer.send(fc.TAKE, session=5, seq=20, count=1, attempt=1)
    assert (peer.recv(fc.GIVE_BACK).seq, link.next(0)) == (20, None)
    peer.send(fc.TAKE, session=5, seq=10, count=1, attempt=1)
    assert peer.recv(fc.GIVE_BACK).count == 0
    link.end()
    link.result(0, [b"v"])
    assert not link.begin(5, 11, 1) and peer.recv(fc.RESULT).seq == 10


def test_cancel_of_queued_and_of_early_ones(engine):
    link, peer = engine.link, engine.peer
    give(peer, 1, b"x")
    give(peer, 2, b"x")
    peer.send(fc.CANCEL, session=5, seq=1, count=1)
    peer.send(fc.CANCEL, session=5, seq=2, count=1, flags=fc.F_ABORT)
    r = [peer.recv(fc.RESULT) for _ in range(2)]
    assert [(m.seq, m.status, m.json["ename"]) for m in r] == [(1, CANCELLED, "CancelledError"), (2, ABORTED, "TaskAborted")]
    peer.send(fc.CANCEL, session=5, seq=3, count=1)
    give(peer, 3, b"x")
    assert peer.recv(fc.RESULT).seq == 3 and link.next(0) is None


def test_cancel_between_next_and_begin(engine):
    link, peer = engine.link, engine.peer
    give(peer, 1, b"x")
    link.next(PATIENCE)
    peer.send(fc.CANCEL, session=5, seq=1, count=1)
    assert peer.recv(fc.RESULT).status == CANCELLED
    assert not link.begin(5, 1, 1)


class Interrupt(Exception):
    pass


@pytest.fixture
def handler(engine):
    calls = []

    def on_interrupt(*_):
        calls.append(engine.link.interrupted())
        if calls[-1]:
            raise Interrupt

    old = signal.signal(signal.SIGINT, on_interrupt)
    yield calls
    signal.signal(signal.SIGINT, old)


def test_cancel_interrupts_the_running_item(engine, handler):
    link, peer = engine.link, engine.peer
    give(peer, 1, b"x")
    link.next(PATIENCE)
    assert link.begin(5, 1, 1)
    with pytest.raises(Interrupt):
        threading.Timer(0.05, lambda: peer.send(fc.CANCEL, session=5, seq=1, count=1)).start()
        time.sleep(PATIENCE)
    link.end()
    assert handler == [True]


def test_signals_outside_of_user_code_do_nothing(engine, handler):
    link, peer = engine.link, engine.peer
    os.kill(os.getpid(), signal.SIGINT)
    assert link.next(0.05) is None and handler == [False]
    give(peer, 1, b"x")
    link.next(PATIENCE)
    assert link.begin(5, 1, 1)
    link.end()
    os.kill(os.getpid(), signal.SIGINT)  # while pickling
    assert handler == [False, False]
    peer.send(fc.CANCEL, session=5, seq=1, count=1)  # too late: as good as done
    link.result(0, [b"v"])
    assert peer.recv(fc.RESULT).status == 0
    give(peer, 2, b"x")
    link.next(PATIENCE)
    assert link.begin(5, 2, 1)
    with pytest.raises(Interrupt):  # from outside
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(PATIENCE)
    assert handler == [False, False, True]


def test_a_cancel_of_another_item_does_not_interrupt(engine, handler):
    link, peer = engine.link, engine.peer
    give(peer, 1, b"x")
    link.next(PATIENCE)
    assert link.begin(5, 1, 1)
    peer.send(fc.CANCEL, session=5, seq=9, count=1)
    peer.send(fc.CANCEL, session=5, seq=1, count=1, flags=fc.F_ABORT)
    peer.send(fc.TAKE, session=5, seq=9, count=1, attempt=1)
    assert peer.recv(fc.GIVE_BACK).count == 0  # so the others have been handled
    time.sleep(0)
    assert handler == []


LONG = 0.005  # seconds after which a task is said to have started


def test_started_only_for_long_tasks(engine):
    link, peer = engine.link, engine.peer
    for seq in range(1, 50):
        give(peer, seq, b"x")
        link.next(PATIENCE)
        since = time.monotonic()
        link.begin(5, seq, 1)
        link.end()
        link.result(0, [])
        took = time.monotonic() - since
        said = [peer.recv()]
        if said[0].type == fc.STARTED:
            assert took > LONG / 2, "it was not long"
            said.append(peer.recv())
        assert (said[-1].type, said[-1].seq) == (fc.RESULT, seq)
        if len(said) == 1:
            break
    else:
        pytest.fail("the machine is too busy")
    give(peer, 100, b"x")
    link.next(PATIENCE)
    link.begin(5, 100, 1)
    started = peer.recv()
    assert (started.type, started.seq) == (fc.STARTED, 100)


def test_engine_returns_with_what_it_holds(controller, engine):
    link, peer = engine.link, engine.peer
    for seq in (1, 2, 3, 4):
        give(peer, seq, b"x")
    for seq in (1, 2, 3):
        link.next(PATIENCE)
        link.begin(5, seq, 1)
        if seq < 3:
            link.end()
            link.result(0, [b"r%d" % seq])
    assert [peer.recv(fc.RESULT).seq for _ in range(2)] == [1, 2]
    peer.send(fc.ACK, aux=1)
    peer.send(fc.TAKE, session=5, seq=1, count=1, attempt=1)
    peer.recv(fc.GIVE_BACK)
    peer.close()
    back = controller.accept()
    assert back.says["number"] == 7 and back.says["incarnation"] == 1
    assert back.says["running"] == [5, 3, 1, 1] and back.says["unstarted"] == [[5, 4, 1, 1]] and back.hello.seq == 1
    link.end()
    link.result(0, [b"r3"])  # meanwhile it works on
    back.welcome(number=7)
    assert [(m.seq, m.buffers) for m in (back.recv(fc.RESULT), back.recv(fc.RESULT))] == [(2, [b"r2"]), (3, [b"r3"])]
    assert link.next(PATIENCE)[4] == 4
    engine.peer = back


def test_an_engine_that_holds_too_much_drops_what_hello_has_no_room_for(controller, engine):
    link, peer = engine.link, engine.peer
    for seq in range(1, 1000, 2):
        give(peer, seq, b"x")
    for seq in range(2001, 2501):
        give(peer, seq, b"x")
    peer.send(fc.TAKE, session=5, seq=9999, count=1, attempt=1)
    peer.recv(fc.GIVE_BACK)  # all the others have come
    peer.close()
    back = controller.accept()
    assert len(back.hello.route) < 4000
    held = [range(seq, seq + count) for _, seq, count, _ in back.says["unstarted"]]
    back.welcome(number=7)
    got = []
    while (item := link.next(0.01)) is not None:
        got.append(item[4])
    assert got == [seq for r in held for seq in r] and len(got) >= 80
    engine.peer = back


def test_engine_hears_bye(engine):
    engine.peer.send(fc.BYE, buffers=[b'{"reason": "shutdown"}'])
    for _ in range(2):
        item = engine.link.next(PATIENCE)
        assert item[0] == fc.BYE and json.loads(bytes(item[8][0])) == {"reason": "shutdown"}


def test_engine_close_flushes_results(engine):
    link, peer = engine.link, engine.peer
    give(peer, 1, b"x")
    link.next(PATIENCE)
    link.begin(5, 1, 1)
    link.end()
    link.result(0, [bytes(5 << 20)])
    got = []
    t = threading.Thread(target=lambda: (got.append(peer.recv(fc.RESULT)), peer.close()))
    t.start()
    link.close(PATIENCE)
    t.join(PATIENCE)
    assert len(got[0].buffers[0]) == 5 << 20


LINE_WAITS = 0.2  # seconds that text waits for the end of its line


@pytest.fixture
def captured(controller):
    pipes = [os.pipe(), os.pipe()]
    e = Engine(controller, stdout_fd=pipes[0][0], stderr_fd=pipes[1][0])
    e.out, e.err = pipes[0][1], pipes[1][1]
    yield e
    e.peer.close()
    e.link.close(0)
    for r, w in pipes:
        os.close(r)
        os.close(w)


def collect(peer):
    """OUTPUTs until a RESULT: [(kind, flags, bytes)], joined where kind and flags stay the same."""
    got = []
    while (m := peer.recv(fc.OUTPUT, fc.RESULT)).type == fc.OUTPUT:
        assert sum(map(len, m.buffers)) <= 32 << 10 or m.status == DISPLAY
        if got and got[-1][:2] == (m.status, m.flags):
            got[-1] = (m.status, m.flags, got[-1][2] + m.buffers[0])
        else:
            got.append((m.status, m.flags, m.buffers[0]))
    return got


def test_output_keeps_its_order_and_precedes_the_result(captured):
    link, peer = captured.link, captured.peer
    give(peer, 1, b"x")
    link.next(PATIENCE)
    link.begin(5, 1, 1)
    os.write(captured.out, b"from C, ")
    link.output(STDOUT, [b"from Python, "])
    os.write(captured.out, "then \N{SNOWMAN}".encode())
    link.output(DISPLAY, [bytes(100_000)])
    os.write(captured.err, b"last words")
    link.end()
    link.result(0, [b"v"])
    # Between the pipes nobody knows the order; within one it is kept.
    got = collect(peer)
    assert got[0] == (STDOUT, 0, "from C, from Python, then \N{SNOWMAN}".encode())
    assert sorted(g[0] for g in got[1:]) == [STDERR, DISPLAY] and (STDERR, 0, b"last words") in got


def in_a_task(captured, body):
    """Runs `body` as a task's, again until it took less than the time that text waits for the end of its line."""
    for seq in range(1, 50):
        give(captured.peer, seq, b"x")
        captured.link.next(PATIENCE)
        captured.link.begin(5, seq, 1)
        since = time.monotonic()
        got = body()
        took = time.monotonic() - since
        captured.link.end()
        captured.link.result(0, [b"v"])
        got += collect(captured.peer)
        if took < LINE_WAITS:
            return got
    pytest.fail("the machine is too busy")


def test_pieces_of_a_line_leave_together(captured):
    """They would be shown apart where other engines' lines come between them."""
    link, peer = captured.link, captured.peer

    def body():
        link.output(STDOUT, [b"one "])
        peer.recv(fc.STARTED)  # of the I/O thread, which sends what there is
        link.output(STDOUT, [b"line\n"])
        return [(m.status, m.flags, m.buffers[0]) for m in [peer.recv(fc.OUTPUT)]]

    assert in_a_task(captured, body) == [(STDOUT, 0, b"one line\n")]


def test_a_flush_lets_the_start_of_a_line_go(captured):
    link, peer = captured.link, captured.peer

    def body():
        link.output(STDOUT, [b"one "])
        link.output(STDOUT, [])
        got = peer.recv(fc.OUTPUT)
        link.output(STDOUT, [b"line\n"])
        return [(got.status, got.flags, got.buffers[0])]

    assert in_a_task(captured, body) == [(STDOUT, 0, b"one "), (STDOUT, 0, b"line\n")]


def test_the_start_of_a_line_does_not_wait_for_ever(captured):
    link, peer = captured.link, captured.peer
    give(peer, 1, b"x")
    link.next(PATIENCE)
    link.begin(5, 1, 1)
    link.output(STDOUT, [b"no end"])
    assert peer.recv(fc.OUTPUT).buffers == [b"no end"]


def test_late_output_is_flagged_and_early_output_has_no_task(captured):
    link, peer = captured.link, captured.peer
    link.output(STDOUT, [b"before any task"])
    give(peer, 1, b"x")
    link.next(PATIENCE)
    link.begin(5, 1, 1)
    link.end()
    link.result(0, [b"v"])
    assert collect(peer) == []
    os.write(captured.out, b"late")
    m = peer.recv(fc.OUTPUT)
    assert (m.flags, m.seq, m.buffers) == (fc.F_LATE, 1, [b"late"])


def test_much_output_through_the_pipe_stays_whole(captured):
    link, peer = captured.link, captured.peer
    give(peer, 1, b"x")
    link.next(PATIENCE)
    link.begin(5, 1, 1)
    text = ("\N{SNOWMAN}" * 100_000).encode()
    os.write(captured.out, text)  # the I/O thread drains while we block in write
    link.end()
    link.result(0, [b"v"])
    whole = b""
    while (m := peer.recv(fc.OUTPUT, fc.RESULT)).type == fc.OUTPUT:
        m.buffers[0].decode()  # no character is cut
        whole += m.buffers[0]
    assert whole == text


def test_status_page(controller):
    fd = os.memfd_create("page")
    os.ftruncate(fd, 1 << 16)
    e = Engine(controller, status_fd=fd)
    u32 = lambda at: int.from_bytes(os.pread(fd, 4, at), sys.byteorder)
    u64 = lambda at: int.from_bytes(os.pread(fd, 8, at), sys.byteorder)
    assert (u32(4), u32(8), u32(12)) == (7, 1, 1)
    give(e.peer, 31, b"x")
    e.link.next(PATIENCE)
    e.link.begin(5, 31, 1)
    assert u32(12) == 2 and (u64(16), u64(24), u32(32)) == (5, 31, 1)
    e.link.output(STDERR, [b"oh no"])
    assert u64(48) == 5 and os.pread(fd, 5, 56) == b"oh no"
    e.link.end()
    assert u32(12) == 2
    e.link.result(0, [])
    assert u32(12) == 1 and u32(36) == 1
    give(e.peer, 40, b"x", count=4, kind=MAP)
    e.link.next(PATIENCE)
    for done, seq in enumerate((40, 41, 42), 1):  # what has ended counts, though its result is not made yet
        assert e.link.begin(5, seq, 1) and u32(36) == done
        e.link.end()
    e.link.result(0, [b"v"], 2, 1)
    assert u32(36) == 3
    e.link.result(0, [b"v"])
    assert u32(36) == 4
    assert e.link.begin(5, 43, 1) and u32(36) == 4
    e.link.end()
    e.link.result(ABORTED, [b"{}"])
    assert u32(36) == 4  # it did not run
    e.peer.close()
    e.link.close(0)
    os.close(fd)


def test_fork_in_a_task(engine):
    link, peer = engine.link, engine.peer
    give(peer, 1, b"x")
    link.next(PATIENCE)
    link.begin(5, 1, 1)
    pid = os.fork()
    if pid == 0:
        try:
            link.output(STDOUT, [b"no"])
        except _core.ForkedError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    link.end()
    link.result(0, [b"v"])
    assert peer.recv(fc.RESULT).buffers == [b"v"]


def test_submitters_wait_for_room(controller, pair):
    client, peer = pair
    first, second = submit(client, bytes(10)), submit(client, bytes(10))
    client.wait_room(3, 1000)  # there is
    done = []
    for limits in ((2, 1000), (100, 20)):
        t = threading.Thread(target=lambda: (client.wait_room(*limits), done.append(limits)))
        t.start()
        t.join(0.1)
        assert t.is_alive() and not done
        task = peer.recv(fc.TASK)
        peer.result(task, [b"x"])
        t.join(PATIENCE)
        assert done.pop() == limits
        submit(client, bytes(10))
    client.forget(first, 1)
    client.forget(second, 1)
    with pytest.raises(TypeError):
        client.wait_room(1)
    t = threading.Thread(target=lambda: (client.wait_room(1, 1), done.append(0)))
    t.start()
    client.close(0)  # what is pending is lost, and nobody waits for it any more
    t.join(PATIENCE)
    assert done == [0]

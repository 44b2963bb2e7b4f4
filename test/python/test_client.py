# SPDX-License-Identifier: BSD-3-Clause
"""The Client on a fake core, and what it says about connection files."""
import concurrent.futures
import copy
import inspect
import itertools
import json
import os
import threading
import types

import numpy as np
import pytest

import covey as ipp
from covey import _connect, client
from covey.task import OUTPUT, STDOUT, Task

from fakecore import EVENT, NONE

GOOD = {"cluster_id": "", "boot_id": "0123456789abcdef", "endpoints": ["unix:@covey-test", "tcp://127.0.0.1:1"],
        "location": "127.0.0.1", "key": "0" * 64}


@pytest.fixture
def two(fake):
    rc, core = fake()
    return types.SimpleNamespace(rc=rc, core=core, dv=rc[:], e0=rc[0], lv=rc.load_balanced_view())


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    (tmp_path / "profile_default" / "security").mkdir(parents=True)
    return tmp_path


def write(path, content=None, mode=0o600):
    text = json.dumps(GOOD if content is None else content) if not isinstance(content, str) else content
    path.write_bytes(text.encode(errors="surrogateescape"))
    path.chmod(mode)
    return path


def test_a_missing_profile_is_told_at_once(home):
    with pytest.raises(OSError, match="no Controller could be found"):
        ipp.Client(profile="nope")


def test_waiting_for_the_file(home, capsys):
    with pytest.raises(OSError, match="ipcontroller-x-client.json not found after 0.2 s"):
        ipp.Client(cluster_id="x", timeout=0.2)
    assert "Waiting for connection file: " in capsys.readouterr().err


def test_what_fails_on_one_event_loses_no_other(two, until, capsys):
    """A listener raises; the result that came with its event is told all the same."""
    def listener(event):
        raise RuntimeError("a listener's own")

    told = []
    ar = two.e0.apply_async(abs, -3)
    ar.add_done_callback(told.append)
    two.rc._listeners.append(listener)
    with two.core.cond:
        two.core.events.append((EVENT, 0, 0, two.core.session, 0, NONE, 0, (b'{"event": "engine_back", "id": 0}',)))
        two.core.finish(ar._tasks[0].seq, 3)
    until(lambda: told == [ar])
    assert ar.get(60) == 3


def test_a_result_survives_what_interrupts_its_arrival(two, monkeypatch):
    ar = two.e0.map_async(abs, [-3, -4])
    for t in ar._tasks:
        two.core.finish(t.seq, [3, 4])
    poll = two.core.poll

    def interrupted(into):
        monkeypatch.setattr(two.core, "poll", poll)
        raise KeyboardInterrupt

    monkeypatch.setattr(two.core, "poll", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ar.get(60)
    assert ar.get(60) == [3, 4] and ar.metadata[0]["status"] == "ok"


@pytest.mark.parametrize("method", ["take", "poll"])
def test_ctrl_c_right_after_a_call_of_c_loses_nothing(two, monkeypatch, method):
    """A signal's handler runs as soon as the call has returned, before its value has a name."""
    ars = two.e0.map_async(abs, [-3, -4]), two.e0.apply_async(abs, -5)
    for t, value in zip([*ars[0]._tasks, *ars[1]._tasks], ([3, 4], 5), strict=True):
        two.core.finish(t.seq, value)
    two.core.events.append((EVENT, 0, 0, two.core.session, 0, NONE, 0, (b'{"event": "engine_died", "id": 1}',)))
    call = getattr(two.core, method)
    interrupts = []

    def interrupted(*args):
        call(*args)
        if len(interrupts) < 4:
            interrupts.append(args)
            raise KeyboardInterrupt
        return None

    def patiently(call):
        while True:
            try:
                return call()
            except KeyboardInterrupt:
                pass

    monkeypatch.setattr(two.core, method, interrupted)
    assert patiently(lambda: ars[0].get(60)) == [3, 4]
    assert patiently(lambda: ars[1].get(60)) == 5
    assert patiently(lambda: two.rc.ids) == [0] and interrupts


def test_ctrl_c_while_an_event_is_taken_in(two):
    def listener(event):
        two.rc._listeners.clear()
        raise KeyboardInterrupt

    seen = []
    ar = two.e0.apply_async(abs, -3)
    two.rc._listeners.append(listener)
    with two.core.cond:
        two.core.events.append((EVENT, 0, 0, two.core.session, 0, NONE, 0, (b'{"event": "engine_died", "id": 1}',)))
    with pytest.raises(KeyboardInterrupt):
        two.rc.ids
    two.rc._listeners.append(seen.append)
    assert two.rc.ids == [0] and [e["event"] for e in seen] == ["engine_died"]
    two.core.finish(ar._tasks[0].seq, 3)
    assert ar.get(60) == 3


@pytest.mark.parametrize("where", ["_the_metadata", "_stream"])
def test_ctrl_c_while_output_is_filed_or_shown_neither_loses_nor_doubles_it(two, monkeypatch, where):
    owner = Task if where == "_the_metadata" else type(two.rc)
    call = getattr(owner, where)

    def interrupted(*args):
        monkeypatch.setattr(owner, where, call)
        raise KeyboardInterrupt

    ar = two.e0.apply_async(abs, -3)
    seq = ar._tasks[0].seq
    two.rc._streamers.append(types.SimpleNamespace(tasks=(), output=None))
    two.core.events.append((OUTPUT, STDOUT, 0, two.core.session, seq, 0, 0, (b"once",)))
    monkeypatch.setattr(owner, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        two.rc._pump()
    two.core.finish(seq, 3)
    assert ar.get(60) == 3 and ar.stdout == "once"
    two.rc._streamers.clear()


@pytest.mark.parametrize("content, mode, text", [
    (None, 0o644, "chmod 600"), ('{"cluster_id": "x", "boo', 0o600, "not a whole connection file"),
    ({"a": 1}, 0o600, "has no 'boot_id'"), ({"registration": 1}, 0o600, "one of ipyparallel itself.*python -m covey.cluster start"),
    ([1], 0o600, "no JSON object"), ("", 0o600, "not a whole"), ("\udcff\udcfe\0", 0o600, "not a whole"), ("[" * 100_000, 0o600, "not a whole"),
    *((dict(GOOD, endpoints=[e]), 0o600, "tcp://HOST:PORT") for e in ("", "unix:", "h:1", "tcp://h", "tcp://h:0", "tcp://h:99999", "tcp://h\0:1")),
    (dict(GOOD, location="h\ud800"), 0o600, "'location' has characters")])
def test_bad_files_say_what_is_wrong(tmp_path, content, mode, text):
    path = write(tmp_path / "f.json", content, mode)
    for call in (lambda: ipp.Client(path), lambda: ipp.Client(url_file=str(path))):
        with pytest.raises(OSError, match=text) as e:
            call()
        assert GOOD["key"] not in str(e.value)


def test_missing_path_and_urls(tmp_path):
    with pytest.raises(OSError, match="not found"):
        ipp.Client(tmp_path / "none.json")
    with pytest.raises(ValueError):
        ipp.Client("tcp://h:1")
    with pytest.raises(OSError, match="no 'boot_id'"):
        ipp.Client({})


def test_the_file_that_is_meant(home, monkeypatch):
    seen = []

    def connect(config, timeout, session=None, path=None):
        seen.append(config["cluster_id"])
        raise OSError("stop here")
    monkeypatch.setattr(_connect, "connect", connect)
    for infix, id in (("", ""), ("-a", "a")):
        write(home / "profile_default" / "security" / f"ipcontroller{infix}-client.json", dict(GOOD, cluster_id=id))
    (home / "profile_ssh" / "security").mkdir(parents=True)
    path = write(home / "profile_ssh" / "security" / "ipcontroller-client.json", dict(GOOD, cluster_id="ssh"))
    for options in ({}, {"cluster_id": "a"}, {"profile": "ssh"}, {"profile_dir": str(home / "profile_ssh")},
                    {"ipython_dir": str(home), "profile": "ssh"}, {"url_file": path}, {"connection_info": GOOD}):
        with pytest.raises(OSError, match="stop here"):
            ipp.Client(**options)
    assert seen == ["", "a", "ssh", "ssh", "ssh", "ssh", ""]


def test_an_edited_location_is_tried_first():
    unix, tcp = _connect._endpoints(dict(GOOD, location="node7"))
    assert unix == ["unix:@covey-test"] and tcp == ["tcp://node7:1", "tcp://127.0.0.1:1"]
    assert _connect._endpoints(GOOD)[1] == ["tcp://127.0.0.1:1"]


def test_nobody_is_asked_for_the_name_of_this_machine(monkeypatch):
    """Where names are answered slowly or not at all, a client beside its controller would wait for them."""
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    assert _connect._endpoints(dict(GOOD, location="node7"))[1] == ["tcp://127.0.0.1:1"]
    assert _connect._endpoints(dict(GOOD, location="node8"))[1] == ["tcp://node8:1", "tcp://127.0.0.1:1"]


def test_options_that_mean_nothing_are_named_once(monkeypatch, capsys):
    def connect(config, timeout, session=None, path=None):
        raise OSError("stop here")
    monkeypatch.setattr(_connect, "connect", connect)
    monkeypatch.setattr(client, "_named", set())  # other tests may have named some
    with pytest.raises(OSError):
        ipp.Client(GOOD, packer="json", context=object())
    assert "context, packer: not needed here" in capsys.readouterr().err
    with pytest.raises(OSError):
        ipp.Client(GOOD, packer="json")
    assert capsys.readouterr().err == ""
    with pytest.raises(OSError, match="sshkey: there is no file"):
        ipp.Client(GOOD, sshserver="host", sshkey="/no/such/key")


def test_close(two):
    with two.rc as rc:
        pass
    assert repr(rc) == "<Client: closed>" and two.core.closed
    rc.close()
    with pytest.raises(RuntimeError, match="closed"):
        two.e0.apply(max, 1)


def test_m6_a_forked_child_does_not_close_its_parents_client(two):
    pid = os.fork()
    if pid == 0:
        two.rc.close()
        two.rc.__del__()
        os._exit(two.core.closed)
    assert os.waitpid(pid, 0)[1] == 0 and not two.core.closed


def test_wait(two):
    a, b = two.dv.apply_async(max, 1), two.e0.apply_async(max, 1)
    assert two.rc.outstanding == set(a.msg_ids + b.msg_ids)
    assert two.rc.wait(a, 0.01) is False and two.rc.wait(timeout=0.01) is False
    two.core.finish(1), two.core.finish(2)
    assert two.rc.wait(a, 60) and two.rc.wait([a.msg_ids[0], 1], 60) and two.dv.wait(timeout=60)
    two.core.finish(3)
    assert two.rc.wait(timeout=60) and two.rc.wait(b, 60) and not two.rc.outstanding
    with pytest.raises(TypeError):
        two.rc.wait(1.5)


def test_wait_for_engines(two):
    assert two.rc.wait_for_engines(2, timeout=60) is None
    with pytest.raises(TimeoutError, match="2 of 9 engines"):
        two.rc.wait_for_engines(9, timeout=0.1, interactive=False)
    with pytest.raises(TypeError):
        two.rc.wait_for_engines()
    future = two.rc.wait_for_engines(3, timeout=60, block=False)
    two.core.event(event="engine_joined", engine={"id": 2, "uuid": "u", "state": "up"})
    assert not future.cancel() and future.result(60) is None
    future = two.rc.wait_for_engines(4, timeout=60, block=False)
    two.core.event(event="engine_died", id=1, cause={"text": "engine 1: the host was asked to stop", "planned": True})
    two.core.event(event="engine_died", id=2, cause={"text": "engine 2: killed by SIGKILL"})
    with pytest.raises(ipp.EngineError, match="SIGKILL"):
        future.result(60)


def test_abort_and_its_targets(two):
    two.dv.apply_async(max, 1)
    two.rc.abort(targets=[1])
    (_, sent), = two.core.sent
    assert (sent["seq"], sent["count"], sent["flags"]) == (2, 1, 1 << 6)
    with pytest.raises(TypeError):
        two.rc.abort(1.5)


def test_resubmit(two):
    ar = two.dv.apply_async(max, 1, 2)
    two.core.finish(1, 2), two.core.finish(2, 2)
    again = two.rc.resubmit(ar.msg_ids)
    assert {two.core.pending[s][2] for s in (3, 4)} == {0, 1} and set(again.msg_ids).isdisjoint(ar.msg_ids)
    assert two.core.pending[3][4] and two.core.pending[3][1] == 2
    two.core.finish(3, 7), two.core.finish(4, 8)
    assert again.get() == [7, 8]


def test_resubmit_of_what_is_not_kept_here(two):
    asked = []

    def answer(query):
        asked.append(query)
        return {"error": {"ename": "KeyError", "evalue": "no record of task"}}
    two.core.answer = answer
    with pytest.raises(KeyError):
        two.rc.resubmit("0000000000000001_1")
    assert asked == [{"query": "call", "id": "0000000000000001_1"}]


def test_s14_queue_status(two):
    two.core.answer = lambda q: {"ok": {"0": {"queue": 1, "tasks": 0, "completed": 2}, "unassigned": 0}}
    status = two.rc.queue_status()
    assert status[np.int64(0)]["completed"] == 2 and copy.deepcopy(status) == status and status["unassigned"] == 0
    assert two.rc.queue_status(0) == {"queue": 1, "tasks": 0, "completed": 2}


def test_db_query_turns_dates(two):
    asked = []

    def answer(query):
        asked.append(query)
        return {"ok": [{"msg_id": "x", "submitted": "2024-01-02T03:04:05.000006+00:00"}]}
    two.core.answer = answer
    record, = two.rc.db_query({"label": {"$glob": "a*"}}, keys="submitted")
    assert record["submitted"].year == 2024 and asked[0]["keys"] == ["submitted"]
    two.rc.db_query({"submitted": {"$gt": record["submitted"]}})
    assert asked[1]["where"]["submitted"]["$gt"].startswith("2024-01-02T03")


def test_errors_of_queries_are_remote_errors(two):
    two.core.answer = lambda q: {"error": {"ename": "KeyError", "evalue": "no such task"}}
    with pytest.raises(KeyError) as e:
        two.rc.hub_history()
    assert isinstance(e.value, ipp.RemoteError)
    ar = two.rc.get_result("0000000000000001_5")
    assert isinstance(ar, ipp.AsyncHubResult)
    with pytest.raises(ipp.RemoteError):
        ar.get(60)


def test_who_waits_for_another_client_s_task_is_told_that_nobody_can_be_asked_any_more(two):
    ars, told = [two.rc.get_result(f"0000000000000001_{i}") for i in range(2)], []
    ars[0].add_done_callback(told.append)
    assert sum(t.name == "covey-hub-result" for t in threading.enumerate()) == 1
    two.rc.close()
    done, pending = concurrent.futures.wait(ars[:1], 60)
    assert not pending and told == ars[:1] and isinstance(ars[0].exception(), ipp.error.LostTask)


def test_result_status(two):
    ar = two.dv.apply_async(max, 1)
    two.core.finish(2, 5)
    assert two.rc.result_status(ar.msg_ids) == {"status": "ok", "pending": ar.msg_ids[:1], "completed": ar.msg_ids[1:]}
    two.core.finish(1, 4)
    status = two.rc.result_status(ar.msg_ids, status_only=False)
    assert [status[i] for i in ar.msg_ids] == [4, 5]


def test_get_result_is_local_when_it_can_be(two):
    ar = two.e0.apply_async(max, 1)
    for again in (two.rc.get_result(), two.rc.get_result(0), two.rc.get_result(ar), two.rc.get_result(ar.msg_ids[0])):
        assert type(again) is ipp.AsyncResult
    two.core.finish(1, 5)
    ready = two.rc.get_result(block=True)
    assert isinstance(ready, ipp.AsyncResult) and ready.ready() and ready.get() == 5
    two.rc.block = True
    assert two.rc.get_result(ar).get() == 5


def test_s5_purging(two):
    ar = two.e0.apply_async(max, 1)
    with pytest.raises(RuntimeError):
        two.rc.purge_local_results("all")
    with pytest.raises(ValueError):
        two.rc.purge_local_results()
    two.core.finish(1, 5)
    assert len(two.rc.results) == 1
    two.rc.purge_local_results(ar)
    assert len(two.rc.results) == 0 and ar.get() == 5
    two.e0.apply_async(max, 1)
    two.core.finish(2, 5)
    two.rc.purge_everything()
    assert two.rc.history == [] and len(two.rc.metadata) == 0
    two.e0.apply_async(max, 1), two.rc[1].apply_async(max, 1)
    two.core.finish(max(two.core.pending) - 1, 5), two.core.finish(max(two.core.pending), 5)
    two.rc.purge_local_results(targets=0)
    assert len(two.rc.metadata) == 1


def test_caches_are_mutable_mappings(two):
    two.rc.results["x"] = 1
    assert two.rc.results.pop("x") == 1 and dict(two.rc.results) == {}
    with pytest.raises(KeyError):
        two.rc.metadata["unknown"]


def test_a_link_that_is_cut_is_told(two):
    two.core.event(event="link_lost", why="connection reset")
    assert "waiting for the controller, away since" in repr(two.rc)
    two.core.event(event="link_back", welcome=json.dumps({"engines": [{"id": 1, "uuid": "u", "state": "up"}]}))
    assert two.rc.ids == [1] and repr(two.rc) == "<Client: 1 engine>"


def test_status_table(two):
    two.core.answer = lambda q: {"ok": {"0": {"queue": 1, "tasks": 0, "completed": 2}, "unassigned": 4}}
    assert "4 tasks wait" in repr(two.rc.status()) and "<table>" in two.rc.status()._repr_html_()


def test_signals_by_name(two):
    asked = []
    two.core.answer = lambda q: asked.append(q) or {"ok": None}
    two.rc.send_signal("SIGINT", 0), two.rc.send_signal("INT"), two.rc.send_signal(2)
    assert [q["signal"] for q in asked] == [2, 2, 2] and asked[0]["targets"] == [0]
    with pytest.raises(ipp.RemoteError):
        two.rc.send_signal("SIGNONSENSE")


def test_public_names():
    for name in ("Client", "DirectView", "LoadBalancedView", "BroadcastView", "AsyncResult", "AsyncMapResult",
                 "AsyncHubResult", "ViewExecutor", "RemoteFunction", "ParallelFunction", "Reference", "Dependency", "depend",
                 "require", "interactive", "use_dill", "use_cloudpickle", "use_pickle", "Metadata", "ExecuteReply",
                 "register_joblib_backend", "CompositeError", "RemoteError", "EngineError", "TaskAborted", "version_info",
                 "ALL_COMPLETED", "can", "uncan", "serialize", "error", "util", "remote", "parallel"):
        assert hasattr(ipp, name), name
    for kind in (ipp.Client, ipp.DirectView, ipp.LoadBalancedView, ipp.AsyncResult, ipp.AsyncMapResult, ipp.ViewExecutor):
        for name, member in vars(kind).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                assert (member.__doc__ or getattr(member, "fget", member).__doc__), f"{kind.__name__}.{name} has no help"


def test_when_the_controller_has_stopped_there_are_no_engines(two):
    ar = two.e0.apply_async(max, 1)
    with two.core.cond:
        two.core.events.append((24, 0, 0, two.core.session, 0, 0xFFFFFFFF, 0, (b'{"reason": "a client asked for the shutdown"}',)))
    assert two.rc.ids == [] and len(two.rc) == 0 and not ar.ready()
    with pytest.raises(ipp.NoEnginesRegistered, match="any more: a client asked"):
        two.rc.direct_view().apply(max, 1)
    with pytest.raises(ipp.error.EngineError, match="no engines will come any more: a client asked"):
        two.rc.wait_for_engines(1, timeout=60)
    with pytest.raises(IndexError, match="no engine 0: a client asked"):
        two.rc[0]
    with pytest.raises(ipp.error.EngineError, match="a client asked"):
        two.e0.apply(max, 1)


@pytest.mark.parametrize("key, value", [("cluster_id", 5), ("boot_id", 7), ("key", b"x"), ("location", 1), ("endpoints", "unix:@x"),
                                        ("endpoints", [3])])
def test_a_dict_of_wrong_types_is_told(key, value):
    with pytest.raises(OSError, match=f"connection_info given: '{key}' is a"):
        ipp.Client(dict(GOOD, **{key: value}))


def test_shutdown_asks_for_a_restart(two, monkeypatch):
    asked = []
    monkeypatch.setattr(two.core, "answer", lambda query: asked.append(query) or {"ok": None})
    two.rc.shutdown(1, restart=True)
    assert asked == [{"query": "shutdown", "targets": [1], "restart": True, "hub": False}]
    with pytest.raises(ValueError, match="hub=True"):
        two.rc.shutdown(restart=True, hub=True)


def test_engines_that_do_not_come_back_are_named(two, monkeypatch):
    monkeypatch.setattr(two.core, "answer", lambda query: {"ok": None})
    monkeypatch.setattr(client, "time", types.SimpleNamespace(monotonic=itertools.count(0, 5).__next__))
    with pytest.raises(TimeoutError, match=r"^engines \[1\] are not back after 30 s$"):
        two.rc.shutdown(1, restart=True, block=True)


class Door:
    """Stands for `_core` in `connect`: each attempt ends as the test says."""

    class LinkError(OSError):
        def __init__(self, text, lasting=False):
            super().__init__(text)
            self.lasting = lasting

    def __init__(self, *outcomes):
        self.outcomes, self.tried, self.closed = list(outcomes), [], 0

    def Client(self, endpoints, hello, session=None, tls=None):  # noqa: N802
        door = self

        class Core:
            def connect(self, timeout):
                door.tried.append(endpoints)
                outcome = door.outcomes.pop(0) if len(door.outcomes) > 1 else door.outcomes[0]
                if outcome is not None:
                    raise outcome

            def close(self, linger):
                door.closed += 1
        return Core()


@pytest.fixture
def door(monkeypatch):
    def use(*outcomes):
        core = Door(*outcomes)
        monkeypatch.setattr(ipp, "_core", core, raising=False)
        return core
    return use


UNIX = dict(GOOD, endpoints=["unix:@covey-test"])


def test_connect_tries_again(door):
    core = door(Door.LinkError("closed during the handshake"), Door.LinkError("nobody listens"), None)
    assert _connect.connect(UNIX, 60) is not None
    assert len(core.tried) == 3 and core.closed == 2


def test_connect_gives_up_at_once_when_it_is_no_use(door):
    core = door(Door.LinkError("closed"), Door.LinkError("wrong key", lasting=True))
    with pytest.raises(OSError, match="wrong key"):
        _connect.connect(UNIX, 60)
    assert len(core.tried) == 2


@pytest.fixture
def clock(monkeypatch):
    """A time for _connect that goes on only while it sleeps."""
    clock = types.SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(_connect, "time", clock)
    return clock


def test_connect_ends_in_time(door, clock):
    core = door(Door.LinkError("nobody listens"))
    with pytest.raises(TimeoutError, match="within 0.3 s: nobody listens"):
        _connect.connect(UNIX, 0.3)
    assert 2 <= len(core.tried) <= 4 and core.closed == len(core.tried) and clock.now <= 1000.3


def test_the_reason_is_not_that_of_an_attempt_that_the_timeout_cut_short(door, clock, monkeypatch):
    """The last attempt has no time left to learn what is wrong: what the one before it has said counts."""
    door(None)
    said = iter(["tcp://h:1: refused"])

    def attempt(_core, endpoints, hello, session, key, timeout, ssh):
        if (why := next(said, None)) is None:
            clock.sleep(timeout)
            why = f"tcp://h:1: no answer within {timeout:.3g} s"
        raise Door.LinkError(why)
    monkeypatch.setattr(_connect, "_try", attempt)
    config = {"boot_id": "b", "key": "0" * 64, "endpoints": ["tcp://h:1"]}
    with pytest.raises(TimeoutError, match="tcp://h:1: refused") as e:
        _connect._connect(config, 0.2, clock.now + 0.2, None, None, None)
    assert "no answer" not in str(e.value)


def _documented(owner, name):
    found = inspect.getattr_static(owner, name)
    found = getattr(found, "__func__", found)
    return not (callable(found) or isinstance(found, property)) or bool(inspect.getdoc(found))


def test_every_public_name_has_a_docstring():
    public = [n for n in dir(ipp) if not n.startswith("_")]
    bare = [n for n in public if callable(v := getattr(ipp, n)) and not inspect.getdoc(v)]
    bare += [n for n in public if inspect.ismodule(v := getattr(ipp, n)) and not v.__doc__]
    for c in (ipp.Client, ipp.DirectView, ipp.LoadBalancedView, ipp.AsyncResult, ipp.AsyncMapResult, ipp.Cluster):
        bare += [f"{c.__name__}.{n}" for n in dir(c) if not n.startswith("_") and not _documented(c, n)]
    assert bare == []

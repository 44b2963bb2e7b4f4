"""Task records: what a file of them brings, and questions about them."""
import json
import os
import pickle
import sqlite3
import subprocess
import time
from datetime import datetime, timezone

import pytest

import covey as ipp
from covey._programs import program_argv

from .conftest import wait_until
from .stack import Stack


@pytest.fixture
def stack_of(ipython_dir):
    """Starts stacks with the same profile, one after the other; stops those that still run."""
    made = []

    def make(*controller_args, n=1):
        made.append(Stack(ipython_dir, n, controller_args=controller_args))
        return made[-1]
    yield make
    for stack in made:
        stack.stop()


def table(folder, query, *args, file="tasks.db"):
    db = sqlite3.connect(os.path.join(folder, file))
    try:
        return db.execute(query, args).fetchall()
    finally:
        db.close()


def fill(rc):
    """Tasks of every kind; their AsyncResults, all done."""
    lb, dv = rc.load_balanced_view(), rc[:]
    with lb.temp_flags(label="sum"):
        call = lb.apply_async(sum, [1, 2])
    run = dv.execute("print('said'); x = 1")
    mapped = lb.map_async(abs, range(-40, 0))
    failed = lb.apply_async(divmod, 1, 0)
    rc.wait([call, run, mapped, failed], 20)
    return call, run, mapped, failed


def test_the_file_outlives_controller_and_client(stack_of):
    first = stack_of("--sqlitedb")
    call, run, mapped, failed = fill(first.rc)
    ids = first.rc.hub_history()
    assert len(ids) == len(set(ids)) == 43
    first.stop()

    second = stack_of("--db", "sqlite")
    rc = second.rc
    assert rc.hub_history() == ids
    assert rc.get_result(call.msg_ids[0]).get(30) == 3
    assert rc.get_result(mapped.msg_ids).get(30) == mapped.get()
    again = rc.get_result(run.msg_ids[0])
    assert again.get(30).status == "ok" and again.stdout.strip() == "said"
    with pytest.raises(ZeroDivisionError):
        rc.get_result(failed.msg_ids[0]).get(30)
    record, = rc.db_query({"label": "sum"})
    assert record["status"] == "ok" and record["completed"].tzinfo is not None and record["engine_uuid"]
    assert rc.result_status([*mapped.msg_ids, call.msg_ids[0]])["completed"][:1]
    # and run them once more
    new = rc.resubmit([call.msg_ids[0], mapped.msg_ids[3]])
    assert new.get(30) == [3, mapped.get()[3]]
    assert rc.db_query({"msg_id": call.msg_ids[0]}, keys="resubmitted")[0]["resubmitted"] == new.msg_ids[0]
    rc.purge_hub_results(mapped.msg_ids[5:15])
    assert len(rc.hub_history()) == 43 - 10 + 2
    rc.purge_hub_results("all")
    assert rc.hub_history() == []


def test_s6_others_read_tasks_db(stack_of):
    stack = stack_of("--sqlitedb")
    call, run, mapped, failed = fill(stack.rc)
    stack.rc.hub_history()  # by now they are in the file
    rows = table(stack.folder, 'SELECT started, completed, engine_uuid FROM "ipython-tasks"')
    assert len(rows) == 43
    for started, completed, uuid in rows:
        assert datetime.fromisoformat(started) <= datetime.fromisoformat(completed) <= datetime.now(timezone.utc)
        assert uuid == rows[0][2]
    columns = [c[1] for c in table(stack.folder, 'PRAGMA table_info("ipython-tasks")')]
    assert columns == ["msg_id", "header", "metadata", "content", "buffers", "submitted", "client_uuid", "engine_uuid",
                       "started", "completed", "resubmitted", "received", "result_header", "result_metadata",
                       "result_content", "result_buffers", "queue", "execute_input", "execute_result", "error", "stdout",
                       "stderr", "label"]
    (code, out, queue), = table(stack.folder, 'SELECT execute_input, stdout, queue FROM "ipython-tasks" WHERE msg_id = ?',
                                run.msg_ids[0])
    assert code == "print('said'); x = 1" and out == "said\n" and queue == "mux"
    (buffers, label, metadata), = table(stack.folder, 'SELECT result_buffers, label, metadata FROM "ipython-tasks" WHERE msg_id = ?',
                                        call.msg_ids[0])
    assert pickle.loads(pickle.loads(buffers)[0]) == 3 and label == "sum" and json.loads(metadata) == {"label": "sum"}
    (metadata,), = table(stack.folder, 'SELECT metadata FROM "ipython-tasks" WHERE msg_id = ?', run.msg_ids[0])
    assert json.loads(metadata) == {"label": None}
    assert len(table(stack.folder, 'SELECT msg_id FROM "ipython-tasks" WHERE stdout = ? AND queue = ?', "", "task")) == 42
    odd = stack.rc.load_balanced_view(label='a "b"\n\tc\\d').apply_async(abs, -1)
    odd.get(30)
    stack.rc.hub_history()
    (metadata,), = table(stack.folder, 'SELECT metadata FROM "ipython-tasks" WHERE msg_id = ?', odd.msg_ids[0])
    assert json.loads(metadata) == {"label": 'a "b"\n\tc\\d'}


def test_names_and_places(stack_of, tmp_path):
    stack = stack_of("--IPController.db_class=ipyparallel.controller.sqlitedb.SQLiteDB", "--SQLiteDB.filename=mine.db",
                     f"--SQLiteDB.location={tmp_path}/records", "--SQLiteDB.table=t")
    stack.rc[0].apply_sync(abs, 1)
    assert len(stack.rc.hub_history()) == 1
    assert table(tmp_path / "records", "SELECT count(*) FROM t", file="mine.db") == [(1,)]
    assert not os.path.exists(os.path.join(stack.folder, "tasks.db"))


def test_ipcluster_passes_it_on(ipython_dir, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", ipython_dir["IPYTHONDIR"])
    with ipp.Cluster(n=1, controller_args=["--sqlitedb"], profile="p") as rc:
        rc[0].apply_sync(abs, 1)
    folder = os.path.join(ipython_dir["IPYTHONDIR"], "profile_p")
    assert table(folder, 'SELECT count(*) FROM "ipython-tasks"') == [(1,)]


def run_controller(env, *args):
    return subprocess.run(program_argv("ipcontroller", args), env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=30)


def test_a_file_that_is_none_of_ours_is_named(ipython_dir, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("what I have to do: " * 100)
    done = run_controller(ipython_dir, "--sqlitedb", f"--SQLiteDB.filename={notes}")
    assert done.returncode == 1 and str(notes) in done.stderr and "not an SQLite database" in done.stderr
    assert notes.read_text().startswith("what I have to do")
    done = run_controller(ipython_dir, "--sqlitedb", f"--SQLiteDB.filename={notes}/below/tasks.db")
    assert done.returncode == 1 and "notes.txt" in done.stderr
    done = run_controller(ipython_dir, "--db=postgres")
    assert done.returncode == 1 and "postgres" in done.stderr and "sqlite" in done.stderr


def test_another_controller_has_the_file(stack_of, ipython_dir, capfd):
    first = stack_of("--sqlitedb")
    first.rc[0].apply_sync(abs, 1)
    second = first.run("ipcontroller", "--sqlitedb", "--cluster-id=b")
    try:
        path = os.path.join(first.folder, "security", "ipcontroller-b-client.json")
        wait_until(lambda: os.path.exists(path), what="the second controller")
        with ipp.Client(path) as rc:
            assert rc.hub_history() == []  # its own, in memory
            wait_until(lambda: rc.queue_status() and "used by another controller (pid " in capfd.readouterr().err,
                       what="the notice")
    finally:
        second.terminate()
        second.wait(30)
    assert len(first.rc.hub_history()) == 1


def test_a_full_disk_costs_no_task(stack_of, capfd):
    """A limit of the file size is what a full disk looks like; lifted, all that is in memory is written."""
    import resource

    stack = stack_of("--sqlitedb", "--SQLiteDB.retry=0.2")
    controller = stack.processes[0].pid
    before = resource.prlimit(controller, resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    lb = stack.rc.load_balanced_view()
    ar = lb.map_async(bytes, [2000] * 400, chunksize=1)
    assert len(ar.get(30)) == 400
    told = []

    def notice(text):
        told.append(capfd.readouterr().err)
        lb.apply_sync(abs, -1)  # tasks go on
        return text in "".join(told)
    wait_until(lambda: notice("kept in memory only"), what="the notice of the full disk")
    assert set(ar.msg_ids) <= set(stack.rc.hub_history())
    resource.prlimit(controller, resource.RLIMIT_FSIZE, before)
    wait_until(lambda: notice("written to"), what="the notice that it is over")
    ids = stack.rc.hub_history()
    assert set(ar.msg_ids) <= set(ids)
    stack.stop()
    assert {i for i, in table(stack.folder, 'SELECT msg_id FROM "ipython-tasks"')} >= set(ids)
    assert table(stack.folder, "PRAGMA integrity_check") == [("ok",)]


@pytest.fixture(scope="module")
def kept(cluster):
    """A client with tasks of known kinds and ends, for questions."""
    rc = cluster.connect_client_sync()
    rc.wait_for_engines(2, timeout=20, interactive=False)
    rc.marks = fill(rc)
    yield rc
    rc.close()


def ids_of(rc, query):
    session = rc.marks[0].msg_ids[0].split("_")[0]
    return [r["msg_id"] for r in rc.db_query({"client_uuid": session, **query}, keys="msg_id")]


def test_operators(kept):
    call, run, mapped, failed = kept.marks
    everything = ids_of(kept, {})
    assert len(everything) == 44
    assert ids_of(kept, {"label": "sum"}) == ids_of(kept, {"label": {"$glob": "s?m"}}) == call.msg_ids
    assert ids_of(kept, {"label": None}) == ids_of(kept, {"label": {"$exists": False}}) == everything[1:]
    assert ids_of(kept, {"kind": {"$in": ["nothing", "execute"]}}) == run.msg_ids
    assert ids_of(kept, {"kind": {"$nin": ["execute", "nothing"]}}) == [*call.msg_ids, *mapped.msg_ids, *failed.msg_ids]
    assert ids_of(kept, {"engine": {"$in": [0, 1, "x", None]}}) == everything
    assert ids_of(kept, {"status": {"$ne": "ok"}}) == failed.msg_ids
    assert ids_of(kept, {"$or": [{"status": "error"}, {"label": "sum"}]}) == [*call.msg_ids, *failed.msg_ids]
    assert ids_of(kept, {"$and": [{"state": "failed"}, {"label": None}]}) == failed.msg_ids
    assert ids_of(kept, {"engine": {"$mod": [1, 0]}}) == everything
    assert ids_of(kept, {"msg_id": {"$in": [failed.msg_ids[0], "nonsense", call.msg_ids[0]]}, "queue": "task"}) == \
        [*call.msg_ids, *failed.msg_ids]
    when = kept.db_query({"msg_id": failed.msg_ids[0]})[0]["submitted"]
    assert ids_of(kept, {"submitted": {"$lt": when}}) == everything[:-1]
    assert ids_of(kept, {"submitted": {"$gte": when}}) == failed.msg_ids
    assert ids_of(kept, {"submitted": {"$gt": when}}) == ids_of(kept, {"submitted": {"$lt": "never"}}) == []
    assert ids_of(kept, {"submitted": {"$lte": when}}) == everything
    for query in ({"nokey": 1}, {"label": {"$regex": "x"}}, {"label": {"$in": "abc"}}, {"$or": {}}, {"engine": {"$mod": [0, 1]}}):
        with pytest.raises(KeyError):
            kept.db_query(query)


def test_the_files_indexes_change_no_answer(stack_of):
    """A question in an "$or" is answered by looking at all records; on its own the file's indexes are used."""
    stack = stack_of("--sqlitedb", n=2)
    rc = stack.rc
    fill(rc)
    waits = rc[0].apply_async(time.sleep, 600)
    records = rc.db_query({}, keys=["submitted", "completed", "engine_uuid"])
    times = sorted(r["completed"] for r in records if r["completed"])
    engine = next(r["engine_uuid"] for r in records if r["engine_uuid"])
    some = [times[0], times[len(times) // 2], times[-1], times[0].replace(year=1960), times[0].replace(year=2500)]
    questions = [{field: {op: when}} for field in ("completed", "submitted") for op in ("$lt", "$lte", "$gt", "$gte", "$eq", "$ne") for when in some]
    questions += [{"completed": None}, {"completed": {"$exists": False}}, {"completed": {"$exists": True}}, {"completed": {"$gt": some[1], "$lt": some[2]}},
                  {"engine_uuid": engine}, {"engine_uuid": engine, "completed": {"$gte": some[1]}}, {"engine_uuid": {"$ne": engine}},
                  {"engine_uuid": None}, {"engine_uuid": engine, "submitted": {"$lt": some[1]}}, {"state": "failed"}, {"state": "pending"},
                  {"state": "done"}, {"status": "ok"}, {"status": "error"}, {"status": None}, {"$and": [{"state": "failed"}, {"engine_uuid": engine}]}]
    found = 0
    for question in questions:
        answer = rc.db_query(question, keys="msg_id")
        assert answer == rc.db_query({"$or": [question]}, keys="msg_id"), question
        found += bool(answer)
    assert found > 30
    waits.cancel()


def test_records_as_ipyparallels_programs_read_them(kept):
    call, run, mapped, failed = kept.marks
    record, = kept.db_query({"msg_id": call.msg_ids[0]})
    assert {"msg_id", "header", "metadata", "content", "submitted", "client_uuid", "engine_uuid", "started", "completed",
            "resubmitted", "received", "result_header", "result_metadata", "result_content", "queue", "execute_input",
            "execute_result", "error", "stdout", "stderr", "label"} <= set(record)
    assert "buffers" not in record and record["header"]["msg_type"] == "apply_request" and record["header"]["date"] == record["submitted"]
    assert record["result_metadata"]["status"] == "ok" and record["result_metadata"]["engine"] == record["engine_uuid"]
    record, = kept.db_query({"msg_id": run.msg_ids[1]}, keys=["content", "stdout", "execute_input"])
    assert record == {"msg_id": run.msg_ids[1], "content": {"code": "print('said'); x = 1"}, "stdout": "said\n",
                      "execute_input": "print('said'); x = 1"}
    record, = kept.db_query({"msg_id": failed.msg_ids[0]})
    assert record["error"]["ename"] == record["result_content"]["ename"] == "ZeroDivisionError"
    record, = kept.db_query({"msg_id": call.msg_ids[0]}, keys=["buffers", "result_buffers"])
    assert pickle.loads(record["result_buffers"][0]) == 3 and isinstance(record["buffers"][0], bytes)
    with pytest.raises(KeyError):
        kept.db_query({}, keys=["nokey"])


@pytest.mark.parametrize("args", [(), ("--sqlitedb",)])
def test_metadata_says_how_a_task_was_submitted(stack_of, args):
    rc = stack_of(*args, n=2).rc
    lv = rc.load_balanced_view([0])
    plain = rc[0].apply_async(abs, 1)
    told = lv.set_flags(label="x", retries=2, timeout=30, priority=3).apply_async(abs, 1)
    for ar in (plain, told):
        ar.get(30)
    metadata = [rc.db_query({"msg_id": ar.msg_ids[0]}, keys="metadata")[0]["metadata"] for ar in (plain, told)]
    assert metadata == [{"label": None}, {"label": "x", "retries": 2, "timeout": 30.0, "priority": 3, "targets": [0]}]
    assert rc.db_query({"label": "x"})[0]["metadata"] == metadata[1]
    rc[:].set_flags(label='"y"', retries=1).apply_async(abs, 1).get(30)  # its route names all engines, in each of its records
    assert [r["metadata"] for r in rc.db_query({"label": '"y"'})] == [{"label": '"y"'}] * 2


def test_a_result_is_asked_for_before_its_task_was_sent(stack_of, monkeypatch):
    """Who hands an id over at once may be quicker than the task itself."""
    stack = stack_of()
    first = stack.rc[0].apply_async(abs, 1)
    first.get(30)
    session, seq = first.msg_ids[0].split("_")
    monkeypatch.setattr("covey._hub.UNSENT_PATIENCE", 600)
    with ipp.Client(stack.client_file) as other:
        early = other.get_result(f"{session}_{int(seq) + 1}")
        assert not early.ready()
        task = stack.rc[0].apply_async(abs, -7)
        assert task.msg_ids == early.msg_ids and early.get(30) == 7
        monkeypatch.setattr("covey._hub.UNSENT_PATIENCE", 0.05)
        with pytest.raises(KeyError, match="no task .* is known here"):
            other.get_result(f"{session}_{int(seq) + 1000}").get(30)
        nobody_s = other.get_result(f"{'0' * 16}_5")
        assert nobody_s.ready() and not nobody_s.successful(), "its client is not there: no need to wait"


def test_resubmit_by_another_client(kept, cluster):
    call, run, mapped, failed = kept.marks
    with cluster.connect_client_sync() as rc:
        assert rc.resubmit(call.msg_ids[0]).get(30) == [3]
        assert rc.resubmit(mapped.msg_ids[::13]).get(30) == mapped.get()[::13]
        again = rc.resubmit(run.msg_ids)
        assert [r.status for r in again.get(30)] == ["ok", "ok"] and sorted(again.engine_id) == sorted(run.engine_id)
        with pytest.raises(ZeroDivisionError):
            rc.resubmit(failed.msg_ids[0]).get(30)


def test_an_expired_result_is_a_typed_error(stack_of):
    stack = stack_of("--DictDB.record_limit=20")
    ar = stack.rc[0].apply_async(abs, 5)
    ar.get(30)
    later = [stack.rc[0].apply_async(abs, i) for i in range(40)]
    stack.rc.wait(later, 20)
    with ipp.Client(stack.client_file) as other:
        with pytest.raises(ipp.error.ResultExpired, match="kept for a while") as e:
            other.get_result(ar.msg_ids[0]).get(30)
        assert isinstance(e.value, KeyError) and isinstance(e.value, ipp.RemoteError)
        assert other.result_status(ar.msg_ids) == {"status": "ok", "pending": [], "completed": ar.msg_ids}
    assert len(stack.rc.hub_history()) == 20


@pytest.mark.parametrize("args", [["--nodb"], ["--DictDB.record_limit=10"], ["--sqlitedb", "--DictDB.record_limit=10"]])
def test_tasks_wait_for_what_has_expired(stack_of, args):
    """Their records are gone; how they ended is not."""
    rc = stack_of(*args).rc
    lv = rc.load_balanced_view()
    good, bad = lv.apply_async(int, "3"), lv.apply_async(int, "x")
    assert good.get(30) == 3
    with pytest.raises(ValueError):
        bad.get(30)
    lv.map(int, range(40), chunksize=1).get(30)
    assert lv.set_flags(after=[good]).apply_async(int, "4").get(30) == 4
    assert lv.set_flags(after=ipp.Dependency([good, bad], all=False)).apply_async(int, "5").get(30) == 5
    assert lv.set_flags(after=ipp.Dependency([bad], success=False, failure=True)).apply_async(int, "6").get(30) == 6
    with pytest.raises(ipp.ImpossibleDependency) as e:
        lv.set_flags(after=[good, bad]).apply_async(int, "7").get(30)
    assert bad.msg_ids[0] in str(e.value)
    with pytest.raises(ipp.ImpossibleDependency, match="not known"):
        lv.set_flags(after=None, follow=[good]).apply_async(int, "8").get(30)
    with pytest.raises(ipp.InvalidDependency):
        lv.set_flags(after="0123456789abcdef_7", follow=None).apply_async(int, "9").get(30)


def test_nodb_says_that_there_is_nothing(stack_of):
    stack = stack_of("--nodb")
    ar = stack.rc[0].apply_async(abs, 5)
    assert ar.get(30) == 5
    for ask in (stack.rc.hub_history, lambda: stack.rc.db_query({})):
        with pytest.raises(ipp.error.NoData, match="--nodb"):
            ask()
    with ipp.Client(stack.client_file) as other, pytest.raises(ipp.error.NoData, match="--nodb"):
        other.get_result(ar.msg_ids[0]).get(30)
    assert stack.rc.queue_status()[0]["completed"] == 1
    stack.rc.purge_hub_results("all")


def test_mongodb_is_said_once_and_goes_to_memory(stack_of):
    stack = stack_of("--mongodb")
    stack.rc[0].apply_sync(abs, 1)
    assert len(stack.rc.hub_history()) == 1
    with open(os.path.join(stack.folder, "stack.log")) as log:
        assert "--db=sqlite" in log.read()


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_a_long_question_holds_up_no_task(stack_of, backend):
    """The reply to a question about many records comes after that of a task which was submitted behind it."""
    stack = stack_of(f"--db={backend}", "--DictDB.record_limit=200000")
    rc, core = stack.rc, stack.rc._core
    assert len(rc.load_balanced_view().map(abs, range(20_000), chunksize=1, block=True)) == 20_000
    rc.hub_history()  # by now they are in the file
    question = core.query(b'{"query": "db_query", "where": {"label": null}, "keys": null}')
    ar = rc[0].apply_async(abs, -1)
    assert core.wait([ar._tasks[0].key, question], 60)
    reply = core.take(question)
    assert ar.get(30) == 1 and ar.received.timestamp() * 1e9 < reply[7]
    assert len(bytes(reply[8][0])) > 10_000_000


@pytest.mark.parametrize("db", ["memory", "sqlite"])
def test_large_results_and_errors_are_kept(stack_of, db):
    rc = stack_of("--db=" + db).rc
    large = rc[0].apply_async(lambda: b"r" * 3_000_000)
    assert len(large.get(30)) == 3_000_000
    failed = rc[0].apply_async(lambda: {}["k" * 3_000_000])
    with pytest.raises(ipp.RemoteError):
        failed.get(30)
    row, = rc.db_query({"msg_id": large.msg_ids[0]}, keys=["result_buffers"])
    if row["result_buffers"]:
        assert b"r" * 3_000_000 in bytes(b"".join(bytes(b) for b in row["result_buffers"]))
    row, = rc.db_query({"msg_id": failed.msg_ids[0]}, keys=["result_content"])
    assert row["result_content"]["status"] == "error"  # the rest is kept in a file only
    assert rc[0].apply_sync(abs, -1) == 1


def test_the_value_of_a_cell_is_kept(cluster, capsys):
    """Another client has it when the one that ran the cell is gone."""
    with cluster.connect_client_sync() as rc:
        cells = [rc[0].execute(code, silent=False) for code in ("print('said'); 6 * 7", "x = 1", "'y' * 2**21")]
        for ar in cells:
            ar.get(30)
        rc[0].apply_sync(lambda: get_ipython().run_cell("8", silent=False) and None)
        cells.append(rc[0].execute("x = 2", silent=False))
        cells[-1].get(30)
    valued, *others = [ar.msg_ids[0] for ar in cells]
    with cluster.connect_client_sync() as rc:
        again = rc.get_result(valued)
        assert again.get(30).data == again.execute_result["data"] == {"text/plain": "42"}
        assert repr(again.get()) == f"<ExecuteReply[{again.execute_result['execution_count']}]: 42>"
        again.display_outputs()
        assert capsys.readouterr().out.splitlines() == ["said", f"Out[0:{again.get().execution_count}]: 42"]
        assert [rc.get_result(i).get(30).execute_result for i in others] == [None] * 3, "none, too large, another's"
        assert rc.db_query({"msg_id": valued}, keys="execute_result")[0]["execute_result"] == again.execute_result
        asked = rc.db_query({"msg_id": {"$in": [valued, *others]}, "execute_result": {"$ne": None}}, keys="msg_id")
        assert asked == [{"msg_id": valued}]


def test_an_answer_is_bounded_as_records_are(stack_of):
    """A list that takes more than records may is refused with what to do, and costs no client its connection."""
    rc = stack_of("--db=sqlite", "--DictDB.size_limit=80000000").rc
    view = rc[0]
    ids = [view.apply_async(lambda: b"r" * 900_000) for _ in range(80)]
    rc.wait(ids, 30)
    ids = [ar.msg_ids[0] for ar in ids]
    with pytest.raises(ipp.RemoteError, match=r"longer than 76 MiB.*keys=.*DictDB.size_limit") as e:
        rc.db_query({"msg_id": {"$in": ids}}, keys="result_buffers")
    assert e.value.ename == "ValueError"
    assert len(rc.db_query({"msg_id": {"$in": ids[:40]}}, keys="result_buffers")) == 40
    assert len(rc.db_query({}, keys="msg_id")) == 80
    assert view.apply_sync(abs, -1) == 1

"""Clients that come and go leave nothing behind (short; `make scale` does a thousand of each kind)."""
import covey as ipp

from . import churn


def test_clients_that_come_and_go(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    with ipp.Cluster(n=1, log_level=40) as rc:
        rc.wait_for_engines(1)
        controller = rc._query("status")["pid"]
        file = str(rc._source)
        churn.in_turn(file, 10)
        churn.in_threads(file, 8)
        churn.killed(file, 3)
        before = churn.State(rc, controller, tmp_path)
        churn.in_turn(file, 40)
        churn.in_threads(file, 40)
        churn.killed(file, 10)
        churn.settle(rc, controller, before)
        assert before.grown(churn.State(rc, controller, tmp_path), share=0.2, floor=4 << 20) == []

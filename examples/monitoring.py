"""What a cluster is at: queues, records of tasks, a task's story, and what a dead engine leaves behind."""
import os
import time

import covey as ipp


def main(rc):
    view = rc.load_balanced_view()
    ar = view.map_async(time.sleep, [0.05] * 8, label="naps")
    print("engines in the status:", sorted(k for k in rc.queue_status() if isinstance(k, int)))
    ar.get()
    records = rc.db_query({"label": {"$glob": "nap*"}}, keys=["started", "completed", "engine_uuid"])
    print("records:", len(records) > 0, "all ended:", all(r["completed"] for r in records))
    print("states:", rc.result_status(ar.msg_ids)["pending"])
    print("its story:", bool(ar.explain()))

    victim = rc[1].apply_async(os._exit, 3)
    try:
        victim.get()
    except ipp.EngineError as e:
        print("engine 1:", "exit" in str(e) or "code" in str(e))
    print("left:", rc.ids, rc.load_balanced_view().apply_sync(abs, -1))


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)

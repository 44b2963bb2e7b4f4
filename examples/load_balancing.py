"""Tasks of unequal length on whichever engine is free: retries, labels, priorities and a time limit."""
import os
import time

import covey as ipp


def work(seconds):
    import os                                            # engines have names of their own
    import time

    time.sleep(seconds)
    return os.getpid()


def unreliable(path):
    """Fails the first time that it runs."""
    import os

    if not os.path.exists(path):
        open(path, "w").close()
        raise OSError("not yet")
    os.unlink(path)
    return "done at the second try"


def main(rc):
    view = rc.load_balanced_view()
    ars = [view.apply_async(work, 0.02 * i) for i in range(8)]
    pids = [ar.get() for ar in ars]
    print("tasks of each engine:", sorted(pids.count(p) for p in set(pids)))

    with view.temp_flags(retries=2, label="flaky"):
        ar = view.apply_async(unreliable, f"/tmp/covey-example-{os.getpid()}")
    print(ar.get())
    print("records with that label:", len(rc.db_query({"label": "flaky"})))

    busy = rc[:].apply_async(time.sleep, 0.3)
    with view.temp_flags(timeout=0.05):                  # must have started by then
        late = view.apply_async(work, 0)
    try:
        late.get()
    except ipp.TaskTimeout as e:
        print("too late:", e.evalue)
    with view.temp_flags(priority=1):                    # before what waits with priority 0
        urgent = view.apply_async(work, 0)
    urgent.get()
    busy.get()


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)

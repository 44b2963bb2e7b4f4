"""Results that are not there yet: waiting, output, times, errors, callbacks, and leaving and coming back."""
import pickle
import time

import covey as ipp


def talk(n):
    import time                                          # engines have names of their own

    for i in range(n):
        print("step", i, flush=True)
        time.sleep(0.05)
    return n


def main(rc):
    ar = rc[:].apply_async(talk, 3)
    print(ar, "ready:", ar.ready())
    with ar.stream_output():                             # what it prints, as it comes
        ar.wait()
    print("results", ar.get(), "by engine", ar.get_dict())
    print(f"work {ar.serial_time > 0.2}, engines {ar.engine_id}")

    bad = rc[:].apply_async(lambda: 1 / 0)
    try:
        bad.get()
    except ipp.CompositeError as e:
        print("failed:", len(e), "engines;", e.elist[0][0])
    try:
        rc[0].apply_sync(lambda: {}["key"])
    except KeyError as e:                                # a RemoteError can be caught by its type there
        print("a KeyError of engine", e.engine_info["engine_id"])

    done = []
    later = rc[0].apply_async(talk, 1)
    later.add_done_callback(lambda f: done.append(f.result()))
    while not done:
        time.sleep(0.01)
    print("called back with", done)

    kept = pickle.dumps(rc.load_balanced_view().apply_async(pow, 2, 10))   # another process may unpickle it
    print("after pickle:", pickle.loads(kept).get())


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)

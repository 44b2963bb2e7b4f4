"""A graph of tasks: each starts when those that it needs have ended, and runs where its data is."""
import covey as ipp

GRAPH = {"fetch": [], "clean": ["fetch"], "stats": ["clean"], "plot": ["clean"], "report": ["stats", "plot"]}


def step(name):
    import time

    time.sleep(0.02)
    return name


def main(rc):
    view = rc.load_balanced_view()
    results = {}
    for name, needs in GRAPH.items():
        with view.temp_flags(after=[results[n] for n in needs]):
            results[name] = view.apply_async(step, name)
    rc.wait(list(results.values()))
    order = sorted(results, key=lambda n: results[n].started)
    print("order:", " ".join(order))
    assert all(results[n].completed <= results[name].started for name, needs in GRAPH.items() for n in needs)

    with view.temp_flags(follow=results["fetch"]):       # on the engine that ran it
        beside = view.apply_async(step, "beside")
    beside.get()
    print("same engine:", beside.engine_id == results["fetch"].engine_id)

    failed = view.apply_async(lambda: 1 / 0)
    with view.temp_flags(after=ipp.Dependency(failed, success=False, failure=True)):
        print("only after a failure:", view.apply_sync(step, "clean up"))
    with view.temp_flags(after=failed):
        try:
            view.apply_sync(step, "never")
        except ipp.ImpossibleDependency as e:
            print("it can't run:", type(e).__name__, e.ename)


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)

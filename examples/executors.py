"""Engines under other names: concurrent.futures, asyncio and joblib."""
import asyncio
import concurrent.futures

import joblib

import covey as ipp


def cube(x):
    return x**3


async def gathered(view):
    return await asyncio.gather(*(asyncio.wrap_future(view.apply_async(cube, i)) for i in range(4)))


async def awaited(view):
    return await view.apply_async(cube, 5)


def main(rc):
    with rc.executor() as ex:
        futures = [ex.submit(cube, i) for i in range(5)]
        print(sorted(f.result() for f in concurrent.futures.as_completed(futures)))
        print(list(ex.map(cube, range(5))))

    view = rc.load_balanced_view()
    print(asyncio.run(gathered(view)), asyncio.run(awaited(view)))

    view.register_joblib_backend("engines")
    with joblib.parallel_backend("engines"):
        print(joblib.Parallel()(joblib.delayed(cube)(i) for i in range(5)))


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)

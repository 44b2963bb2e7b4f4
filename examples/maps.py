"""Python's map on engines: ordered, as they come, in chunks, lazily, and with errors in the results' place."""
import itertools

import covey as ipp


def inverse(x):
    return 1 / x


def main(rc):
    view = rc.load_balanced_view()
    print(sum(view.map_sync(lambda x: x * x, range(1000))))

    ar = view.map_async(pow, range(10), [2] * 10, chunksize=3)
    print("items:", len(ar), "tasks:", len(ar.msg_ids), "results:", ar.get())

    total = 0
    for value in view.map_async(lambda x: x % 7, range(100), ordered=False):  # as they come
        total += value
    print("as they come:", total)

    primes = view.imap(lambda n: n if all(n % d for d in range(2, n)) else None, itertools.count(2))  # no end
    print("primes:", list(itertools.islice(filter(None, primes), 10)))
    primes.cancel()

    results = view.map_async(inverse, range(-1, 2), return_exceptions=True).get()
    for x, result in zip(range(-1, 2), results):
        print(x, "->", result.ename if isinstance(result, ipp.RemoteError) else result)


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)

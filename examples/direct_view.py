"""Work on every engine: variables, functions, parts of a list, files and imports.

A DirectView is some engines, all of which do what it is told.
"""
import os

import covey as ipp


def main(rc):
    view = rc[:]
    print("processes:", view.apply_sync(os.getpid))

    view["base"] = 10                                    # a variable on every engine
    view.scatter("part", list(range(12)))                # a part of a list on each
    view.execute("total = base + sum(part)", block=True)
    print("totals:", view["total"])
    print("the list again:", view.gather("part", block=True))

    with view.sync_imports():                            # imported here and there
        import math
    print(math.pi > 3)
    view.execute("areas = round(math.pi * base**2, 1)", block=True)
    print("areas:", view["areas"])

    one = rc[0]                                          # one engine: results are no lists
    print("first engine:", one.apply_sync(sum, [1, 2, 3]), one["part"])


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)

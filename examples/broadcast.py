"""The same large array for every engine: it is sent once to each machine, and each engine has its own to write to."""
import numpy as np

import covey as ipp


def norm_of(rows, a):
    import numpy as np

    return float(np.linalg.norm(a[rows]))


def main(rc):
    view = rc.broadcast_view()
    a = np.arange(1_000_000.0)
    view["a"] = a
    view.execute("import numpy as np; a[0] = 1.0", block=True)  # each engine's own
    print("sums differ by one:", [float(s - a.sum()) for s in view.apply_sync(ipp.Reference("a.sum"))])
    print("norms:", [round(n) for n in view.apply_sync(norm_of, slice(0, 10), ipp.Reference("a"))])


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)

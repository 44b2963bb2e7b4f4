"""Heat on a rod, a part on each engine, without MPI: the client passes the edges on between steps.

Arrays travel in buffers of their own, and what arrives may be written to.
"""
import numpy as np

import covey as ipp


def step(rod, left, right, times, rate=0.4):
    """Some steps of one part; `left` and `right` are its neighbours' edges."""
    import numpy as np

    rod = np.concatenate([[left], rod, [right]])
    for _ in range(times):
        rod[1:-1] += rate * (rod[2:] - 2 * rod[1:-1] + rod[:-2])
    return rod[1:-1]


def main(rc):
    rod = np.zeros(40)
    rod[:20] = 100.0
    parts = np.array_split(rod, len(rc))
    for _ in range(200):
        edges = [(p[0], p[-1]) for p in parts]
        left = [edges[0][0]] + [e[1] for e in edges[:-1]]
        right = [e[0] for e in edges[1:]] + [edges[-1][1]]
        ars = [engine.apply_async(step, p, a, b, 1) for engine, p, a, b in zip(rc, parts, left, right)]
        parts = [ar.get() for ar in ars]

    alone = rod.copy()
    for _ in range(200):
        alone = step(alone, alone[0], alone[-1], 1)
    print("same as on one process:", np.allclose(np.concatenate(parts), alone))
    print("temperatures:", np.round(np.concatenate(parts)[::10], 1).tolist())


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)

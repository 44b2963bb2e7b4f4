"""A real job on a cluster of all cores: Monte Carlo prices of call options, checked against Black and Scholes.

Run it with `make demo`, or `python examples/demo.py [-n ENGINES] [--paths MILLIONS]`.
Each task draws its own random numbers, prices every strike on the same paths and returns sums;
the client adds them up as they come. At the end `%px` shows what every engine has to say.
"""
import argparse
import math
import time

import covey as ipp

SPOT, RATE, VOLATILITY, YEARS = 100.0, 0.03, 0.2, 1.0
STRIKES = [80.0, 90.0, 100.0, 110.0, 120.0]


def simulate(paths, seed):
    """Sums of the discounted payoffs, and of their squares, of `paths` simulated years for each strike."""
    import math
    import random

    rng = random.Random(seed)
    drift = (RATE - VOLATILITY**2 / 2) * YEARS
    scale = VOLATILITY * math.sqrt(YEARS)
    discount = math.exp(-RATE * YEARS)
    sums, squares = [0.0] * len(STRIKES), [0.0] * len(STRIKES)
    for _ in range(paths):
        price = SPOT * math.exp(drift + scale * rng.gauss(0.0, 1.0))
        for i, strike in enumerate(STRIKES):
            payoff = discount * max(price - strike, 0.0)
            sums[i] += payoff
            squares[i] += payoff * payoff
    return paths, sums, squares


def black_scholes(strike):
    """The exact price that the simulation should come close to."""
    def normal(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    scale = VOLATILITY * math.sqrt(YEARS)
    d1 = (math.log(SPOT / strike) + (RATE + VOLATILITY**2 / 2) * YEARS) / scale
    return SPOT * normal(d1) - strike * math.exp(-RATE * YEARS) * normal(d1 - scale)


def show_table(results):
    """Prints prices with their standard errors; returns the largest distance from the exact price in standard errors."""
    paths = sum(n for n, _, _ in results)
    worst = 0.0
    print(f"\n{'strike':>8} {'simulated':>10} {'std. error':>11} {'exact':>8} {'off by':>8}")
    for i, strike in enumerate(STRIKES):
        mean = sum(s[i] for _, s, _ in results) / paths
        variance = sum(q[i] for _, _, q in results) / paths - mean**2
        error = math.sqrt(variance / paths)
        off = (mean - black_scholes(strike)) / error
        worst = max(worst, abs(off))
        print(f"{strike:8.0f} {mean:10.4f} {error:11.4f} {black_scholes(strike):8.4f} {off:+7.1f}σ")
    return worst


def show_px(rc):
    """What every engine says to one line of code, as in a notebook cell."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))  # no history file
    rc.activate()
    print("\n%px import os; print('engine of process', os.getpid())")
    shell.run_line_magic("px", "import os; print('engine of process', os.getpid())")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=None, help="engines (default: as many as there are cores)")
    parser.add_argument("--paths", type=float, default=1.0, help="millions of simulated years (default: 1)")
    options = parser.parse_args()

    started = time.perf_counter()
    with ipp.Cluster(n=options.n) as rc:
        print(f"{len(rc)} engines are up after {time.perf_counter() - started:.2f} s")
        view = rc.load_balanced_view()
        rc[:].push({"SPOT": SPOT, "RATE": RATE, "VOLATILITY": VOLATILITY, "YEARS": YEARS, "STRIKES": STRIKES}, block=True)
        tasks = 50
        job = view.map_async(simulate, [int(options.paths * 1e6 / tasks)] * tasks, range(tasks))
        job.wait_interactive()
        worst = show_table(job.get())
        print(f"\n{tasks} tasks, {job.serial_time:.1f} s of work in {job.wall_time:.1f} s")
        show_px(rc)
    print("\nThe cluster is stopped, nothing is left behind.")
    if worst > 5:
        raise SystemExit("the simulation is too far from the exact prices: something is wrong")


if __name__ == "__main__":
    main()

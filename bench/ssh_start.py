# SPDX-License-Identifier: BSD-3-Clause
"""From `ipcluster start` to the last engine usable, on two machines with four engines each by ssh: covey, and ipyparallel with the same recipe.

    python bench/ssh_start.py [--stock VENV] [--rounds N]

`make deploy-start` is the same with ipyparallel from PyPI, and fails above a quarter. The machines are name spaces with an sshd each
(test/deploy/boxes.py; needs root). VENV: an environment with ipyparallel and ipykernel. The clock runs until a client has a result of all eight engines; the client looks for the connection file every 20 ms.
"""
import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from test.deploy.boxes import Boxes, why_not  # noqa: E402

CONFIG = """\
c = get_config()
c.Cluster.n = 8
c.Cluster.engine_launcher_class = 'ssh'
c.Cluster.controller_ip = '*'
c.SSHEngineSetLauncher.engines = {'host1': 4, 'host2': 4}
"""

CLIENT = """
import os, time
import ipyparallel as ipp
path = os.path.expanduser('~/.ipython/profile_default/security/ipcontroller-client.json')
print('up', flush=True)
while not os.path.exists(path):
    time.sleep(0.02)
while True:
    try:
        rc = ipp.Client(path, timeout=60)
        break
    except ValueError:      # half a file
        time.sleep(0.02)
while len(rc.ids) < 8:
    time.sleep(0.02)
assert len(rc[:].apply_sync(lambda: 1)) == 8
print('usable', flush=True)
rc.close()
"""


def once(bin_folder, env):
    """Seconds from the command to the last engine's first result."""
    path = f"{bin_folder}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    with tempfile.TemporaryDirectory(prefix="covey-ssh-start-") as folder, \
            Boxes(Path(folder) / "boxes", ["laptop", "host1", "host2"], path=path, env=env, see=(str(Path(bin_folder).parent),)) as boxes:
        laptop = boxes["laptop"]
        laptop.write(".ipython/profile_default/ipcluster_config.py", CONFIG)
        for host in ("host1", "host2"):
            laptop.run("ssh", host, "python -c 'import IPython'")     # host keys, and files that are read for the first time
        client = laptop.popen("python", "-W", "ignore", "-u", "-c", CLIENT)
        client.wait_output("up", 60)
        began = time.monotonic()
        laptop.popen("ipcluster", "start")
        client.wait_output("usable", 180)
        return time.monotonic() - began


def measure(stock=None, rounds=3):
    """{"covey": median seconds, "ipyparallel": …, "ratio": …}, the last two if there is an environment with ipyparallel; each round to stderr."""
    kinds = {"covey": (str(Path(sys.executable).parent), None)}
    if stock:
        kinds["ipyparallel"] = (f"{Path(stock).resolve()}/bin", {"LANG": "C.UTF-8"})
    seconds = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, kind in kinds.items():
            seconds[name].append(once(*kind))
            print(f"{name:12} {seconds[name][-1]:.2f} s", file=sys.stderr)
    medians = {name: round(statistics.median(v), 2) for name, v in seconds.items()}
    if stock:
        medians["ratio"] = round(medians["covey"] / medians["ipyparallel"], 3)
    return medians


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--stock", metavar="VENV", help="an environment with ipyparallel")
    p.add_argument("--rounds", type=int, default=3)
    args = p.parse_args()
    if why_not():
        sys.exit(why_not())
    print(json.dumps(measure(args.stock, args.rounds)))


if __name__ == "__main__":
    main()

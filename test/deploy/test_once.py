# SPDX-License-Identifier: BSD-3-Clause
"""What goes to all engines of another machine crosses the cable once and is there once, however they were started."""
import contextlib
import re
import signal

import pytest

from .boxes import why_not
from .conftest import need, wait_until
from .slurm import DAEMONS, Slurm

pytestmark = pytest.mark.timeout(300)
SIZE = 64 << 20

PUSH = """
import ipyparallel as ipp, numpy, os, sys
rc = ipp.Client()
rc.wait_for_engines(8, timeout=40)
data = numpy.frombuffer(os.urandom(64 << 20), 'u1')
rc[:].apply_sync(lambda: None)
print('ready', flush=True)
sys.stdin.readline()
rc[:].push({'data': data}, block=True)
print('pushed', flush=True)
sys.stdin.readline()
import hashlib
assert set(rc[:].apply_sync(lambda: __import__('hashlib').sha256(data).digest())) == {hashlib.sha256(data).digest()}
maps = rc[:].apply_sync(lambda: sorted(line.split()[4] for line in open('/proc/self/maps') if 'memfd:covey-buffer' in line))
assert maps[0] and all(m == maps[0] for m in maps), maps
print('whole', flush=True)
rc.close()
"""


@pytest.fixture
def start(request, machines):
    """(laptop, node, a function that starts eight engines on the node)."""
    boxes = machines("laptop", "node")
    laptop, node = boxes["laptop"], boxes["node"]
    with contextlib.ExitStack() as stack:
        if request.param == "srun ipengine":
            need(why_not(*DAEMONS))
            slurm = stack.enter_context(Slurm(boxes.folder / "slurm", nodes=["node"], boxes=boxes, controller="laptop"))
            yield laptop, node, lambda: [laptop.popen("srun", "--ntasks=8", "ipengine", env=slurm.env)]
        elif request.param == "ipengine -n 8":
            yield laptop, node, lambda: [node.popen("ipengine", "-n", "8")]
        else:
            yield laptop, node, lambda: [node.popen("ipengine") for _ in range(8)]


@pytest.mark.parametrize("start", ["ipengine -n 8", "8 x ipengine", "srun ipengine"], indirect=True)
def test_64_mb_for_8_engines_cross_the_cable_once(start):
    laptop, node, start_engines = start
    controller = laptop.popen("ipcontroller", "--ip=*")
    controller.wait_output("listening on")
    node.run("mkdir", "-p", ".ipython/profile_default/security")
    laptop.run("rsync", "-a", ".ipython/profile_default/security/ipcontroller-engine.json", "node:.ipython/profile_default/security/")
    engines = start_engines()
    client = laptop.popen("python", "-c", PUSH, stdin=-1)
    client.wait_output("ready", 60)
    before = node.received()
    client.say("")
    client.wait_output("pushed", 60)
    crossed = node.received() - before
    assert SIZE < crossed < 1.1 * SIZE, f"{crossed / SIZE:.2f} times 64 MiB"
    client.say("")
    client.wait_output("whole", 60)
    assert client.wait() == 0
    controller.kill(signal.SIGTERM)
    assert controller.wait() == 0
    for e in engines:
        e.wait()
    ours = re.compile("ipcontroller|ipengine|covey.engine")     # Slurm's daemons stay
    wait_until(lambda: not [line for box in (laptop, node) for line in box.processes().values() if ours.search(line)], what="the end of all processes")

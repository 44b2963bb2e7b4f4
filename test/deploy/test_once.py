# SPDX-License-Identifier: BSD-3-Clause
"""What goes to all engines of another machine crosses the cable once, however they were started."""
import signal

import pytest

pytestmark = pytest.mark.timeout(120)
SIZE = 64 << 20

PUSH = """
import ipyparallel as ipp, os, sys
rc = ipp.Client()
rc.wait_for_engines(8, timeout=40)
data = os.urandom(64 << 20)
rc[:].apply_sync(lambda: None)
print('ready', flush=True)
sys.stdin.readline()
rc[:].push({'data': data}, block=True)
print('pushed', flush=True)
sys.stdin.readline()
import hashlib
assert set(rc[:].apply_sync(lambda: __import__('hashlib').sha256(data).digest())) == {hashlib.sha256(data).digest()}
print('whole', flush=True)
rc.close()
"""


@pytest.mark.parametrize("started", ["ipengine -n 8", "8 x ipengine"])
def test_64_mb_for_8_engines_cross_the_cable_once(machines, started):
    boxes = machines("laptop", "node")
    laptop, node = boxes["laptop"], boxes["node"]
    controller = laptop.popen("ipcontroller", "--ip=*")
    controller.wait_output("listening on")
    node.run("mkdir", "-p", ".ipython/profile_default/security")
    laptop.run("rsync", "-a", ".ipython/profile_default/security/ipcontroller-engine.json", "node:.ipython/profile_default/security/")
    engines = [node.popen("ipengine", "-n", "8")] if started == "ipengine -n 8" else [node.popen("ipengine") for _ in range(8)]
    client = laptop.popen("python", "-c", PUSH, stdin=-1)
    client.wait_output("ready", 60)
    before = node.received()
    client.process.stdin.write(b"\n")
    client.process.stdin.flush()
    client.wait_output("pushed", 60)
    crossed = node.received() - before
    assert SIZE < crossed < 1.1 * SIZE, f"{crossed / SIZE:.2f} times 64 MiB"
    client.process.stdin.write(b"\n")
    client.process.stdin.flush()
    client.wait_output("whole", 60)
    assert client.wait() == 0
    controller.kill(signal.SIGTERM)
    assert controller.wait() == 0
    for e in engines:
        e.wait()
    assert node.wait_idle() == {} and laptop.wait_idle() == {}

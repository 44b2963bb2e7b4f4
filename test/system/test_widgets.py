"""Widgets of engines in the client's notebook: comms both ways (a notebook's kernel is played by a list)."""
import os
import subprocess
import sys
import textwrap

import pytest

from .conftest import wait_gone
from .stack import Stack

pytest.importorskip("comm", reason="comm comes with ipykernel, which is optional")

SESSION = """
import sys, time, comm
from comm.base_comm import BaseComm, CommManager
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
c = Config(); c.HistoryManager.enabled = False; c.HistoryManager.hist_file = ':memory:'
ip = InteractiveShell.instance(config=c)
ip.kernel = object()
browser = []          # what a notebook would show
class KernelComm(BaseComm):
    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        browser.append((msg_type, self.comm_id, data, [bytes(b) for b in buffers or ()], keys.get('target_name')))
manager = CommManager()
comm.create_comm = KernelComm
comm.get_comm_manager = lambda: manager
import covey as ipp
rc = ipp.Client(sys.argv[1])

def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, browser
        time.sleep(0.01)

rc[0].execute('''
import comm
got = []
c = comm.create_comm(target_name="jupyter.widget", data={"state": {"value": 5}}, buffers=[b"abc"])
c.on_msg(lambda m: (got.append((m["content"]["data"], [bytes(b) for b in m["buffers"]])), c.send({"echo": len(got)})))
c.on_close(lambda m: got.append("closed"))
''', block=True)
until(lambda: browser)
kind, id, data, buffers, target = browser[0]
assert (kind, data, buffers, target) == ('comm_open', {'state': {'value': 5}}, [b'abc'], 'jupyter.widget'), browser
twin = manager.get_comm(id)
twin.handle_msg({'content': {'comm_id': id, 'data': {'value': 6}}, 'buffers': [b'xy'], 'metadata': {}})
until(lambda: len(browser) == 2)                     # the engine answers between tasks, without a call of ours
assert browser[1][0] == 'comm_msg' and browser[1][2] == {'echo': 1}
assert rc[0]['got'] == [({'value': 6}, [b'xy'])]
"""


def session(tail, client_file, env):
    p = subprocess.run([sys.executable, "-c", SESSION + textwrap.dedent(tail) + "\nprint('FINE')\n", client_file], env=env,
                       capture_output=True, text=True, timeout=100)
    assert p.returncode == 0 and "FINE" in p.stdout, p.stdout + p.stderr


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("widgets")
    env = dict(os.environ, IPYTHONDIR=str(folder))
    for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID"):
        env.pop(name, None)
    s = Stack(env, n=1)
    yield s
    s.stop()
    assert not wait_gone(folder)


def test_m7_messages_go_both_ways_and_the_engine_closes(stack):
    session("""
    rc[0].execute('c.close({"why": "done"})', block=True)
    until(lambda: len(browser) == 3)
    assert browser[2][0] == 'comm_close' and manager.comms == {}
    """, stack.client_file, stack.env)


def test_m7_the_browser_closes(stack):
    session("""
    twin.handle_close({'content': {'comm_id': id, 'data': {}}, 'metadata': {}})
    until(lambda: rc[0]['got'][-1] == 'closed')
    """, stack.client_file, stack.env)

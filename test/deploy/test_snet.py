# SPDX-License-Identifier: BSD-3-Clause
"""A controller here, engines on two machines by ssh: the minimal configuration that people have followed for years, as it was published."""
import pytest

from . import seeds

pytestmark = pytest.mark.timeout(300)

SESSION = """\
import ipyparallel as ipp
rc = ipp.Client(profile='snet')
print(rc.ids)
rc.activate()
%px import socket; name = socket.gethostname()
get_ipython().run_cell('%%px\\nprint("on", name)\\n')
print(sorted(rc[:]['name']))
rc.close()
"""


def write_profile(laptop):
    """`ipython profile create --parallel --profile=snet`, and then the lines of the document at the ends of its files."""
    laptop.run("ipython", "profile", "create", "--parallel", "--profile=snet")
    for name, text in (("ipcluster", seeds.SNET_CLUSTER), ("ipcontroller", seeds.SNET_CONTROLLER)):
        path = laptop.home / f".ipython/profile_snet/{name}_config.py"
        path.write_text(path.read_text() + text.format(ip=laptop.address, here=laptop.name))


def test_six_engines_on_two_machines(machines):
    boxes = machines("laptop", "host1", "host2")
    laptop, host1 = boxes["laptop"], boxes["host1"]
    write_profile(laptop)
    cluster = laptop.popen("ipcluster", "start", "--profile=snet")
    cluster.wait_output("Engines appear to have started successfully", 40)
    laptop.write("session.ipy", SESSION)
    out = laptop.run("ipython", "session.ipy").stdout
    assert "[0, 1, 2, 3, 4, 5]" in out and out.count("on host1") == 2 and out.count("on laptop") == 4, out
    assert "['host1', 'host1', 'laptop', 'laptop', 'laptop', 'laptop']" in out
    key = next(line for line in (laptop.home / ".ipython/profile_snet/security/ipcontroller-client.json").read_text().splitlines()
               if '"key"' in line).split('"')[3]
    assert len(key) == 64 and not [line for box in boxes for line in box.processes().values() if key in line]
    laptop.run("ipcluster", "stop", "--profile=snet")
    assert cluster.wait() == 0
    assert [box.wait_idle() for box in boxes] == [{}] * 3
    assert not list(host1.home.glob(".ipython/profile_snet/security/*"))
    assert not list(laptop.home.glob(".ipython/profile_snet/security/*.json"))

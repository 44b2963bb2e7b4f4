# SPDX-License-Identifier: BSD-3-Clause
"""Bad days of clusters across a login node and two nodes of a real Slurm, all of them at once on the same machines: engines by the Slurm launcher, by
MPI's `srun` and `mpiexec` (by ssh), and a job that has controller and engines in it, with clients on the login node, behind six forwards, and behind
`ipcluster tunnel`. The tests are one story, in their order: a network that is gone for 20 s, killed ssh connections, a node without power."""
import contextlib
import re
import signal

import pytest

from . import seeds
from .boxes import VENV_BIN, Boxes, why_not
from .conftest import need, wait_until
from .slurm import DAEMONS, Slurm
from .test_daint import missing_mpi4py, submit

pytestmark = pytest.mark.timeout(300)

# by the launchers: four engines on two nodes each, the controller on the login node
PROFILES = {
    "slurm": """\
c.Cluster.engine_launcher_class = 'slurm'
c.SlurmLauncher.batch_template = '''#!/bin/sh
#SBATCH --export=ALL --nodes=2 --ntasks={n} --ntasks-per-node=2 --no-kill --no-requeue --output={output_file}
srun --no-kill {program_and_args}
'''
""",
    "srun": """\
c.Cluster.engine_launcher_class = 'mpi'
c.MPILauncher.mpi_cmd = ['srun']
c.MPILauncher.mpi_args = ['--ntasks-per-node=2']
""",
    "mpiexec": """\
c.Cluster.engine_launcher_class = 'mpi'
c.MPILauncher.mpi_cmd = ['mpiexec.openmpi']
c.MPILauncher.mpi_args = ['--host', 'nid1:2,nid2:2']
"""}
COMMON = "c.Cluster.controller_ip = '*'\nc.Cluster.n = 4\n"
MPI = {"OMPI_MCA_btl": "self,tcp", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
GRACE = 20

SESSION = """
import ipyparallel as ipp, sys
def where(t=0):
    import os, socket, time
    time.sleep(t)
    return socket.gethostname(), os.getpid()
def step(name):
    print(name, flush=True)
    sys.stdin.readline()
rc = ipp.Client(profile={profile!r}, timeout=60)
rc.wait_for_engines(4, timeout=60)
before = rc[:].apply_sync(where)
ranks = [host for host, _ in before]
assert sorted(ranks) == ['nid1', 'nid1', 'nid2', 'nid2'], ranks
direct = rc[:].apply_async(where, 5)
balanced = rc.load_balanced_view().map_async(where, [0.1] * 40, chunksize=1)
step('ready')
assert direct.get(90) == before, (list(direct), before)
assert len(balanced.get(90)) == 40
assert rc.ids == [0, 1, 2, 3] and rc[:].apply_sync(where) == before
step('all there')
assert rc[:].apply_sync(where) == before
step('there again')     # three clients have the job's engines: none may be busy before all have said so
def held(_):
    import os, socket, time
    while not os.path.exists('/srv/root/go'):
        time.sleep(0.05)
    time.sleep(0.2)
    return socket.gethostname(), os.getpid()
held = rc.load_balanced_view(retries=2).map_async(held, range(24), chunksize=1)
step('busy')
try:
    print('done on', sorted({{host for host, _ in held.get(150)[-4:]}}))
except Exception as e:
    print('told:', type(e).__name__, e)
rc.close()
"""


def go_on(session):
    session.process.stdin.write(b"\n")
    session.process.stdin.flush()


class Site:
    """The machines, and what runs on them: `clusters` are {profile: `ipcluster start`}, `sessions` {name: a client}."""

    def __init__(self, boxes, slurm):
        self.boxes, self.slurm, self.daint = boxes, slurm, boxes["daint"]
        slurm.daint = self.daint        # of submit()
        self.env = {**slurm.env, **MPI}
        self.clusters, self.sessions = {}, {}

    def start(self):
        """All that is to go wrong. The nodes are reached from the login node and from each other alone."""
        addresses = {name: self.boxes[name].address for name in ("daint", "nid1", "nid2")}
        for name in ("nid1", "nid2"):
            self.boxes[name].firewall(others_from=",".join(a for other, a in addresses.items() if other != name))
        self.daint.write(".bash_profile", f"export PATH={VENV_BIN}:$PATH OMPI_MCA_btl=self,tcp\n")
        for profile, text in PROFILES.items():
            self.daint.write(f".ipython/profile_{profile}/ipcluster_config.py", COMMON + text)
            self.daint.write(f".ipython/profile_{profile}/ipcontroller_config.py", f"c.IPController.away_grace = {GRACE}\n")
            self.clusters[profile] = self.daint.popen("ipcluster", "start", f"--profile={profile}", env=self.env)
        self.job = submit(self.slurm, seeds.DAINT_SBATCH.replace("sleep 10", ""))
        self.tunnel = self.boxes["laptop"].popen("ipcluster", "tunnel", "daint", self.job)
        for cluster in self.clusters.values():
            cluster.wait_output("Engines appear to have started successfully", 90)
        self.boxes["desk"].write("connect.sh", seeds.DAINT_CONNECT)
        self.forward()
        self.tunnel.wait_output("works now", 60)
        for name, box, profile in (*((p, "daint", p) for p in PROFILES), ("job", "daint", f"job_{self.job}"), ("forwards", "desk", f"job_{self.job}"),
                                   ("tunnel", "laptop", f"job_{self.job}")):
            self.sessions[name] = self.boxes[box].popen("python", "-c", SESSION.format(profile=profile), stdin=-1, env=self.env)
        self.all_say("ready")
        return self

    def forward(self):
        """What the notes do by hand on the desk: the profile, with the node's name in it, and six forwards to that."""
        desk, profile = self.boxes["desk"], f".ipython/profile_job_{self.job}"
        desk.run("sh", "-c", f"mkdir -p ~/.ipython && rsync -a daint:{profile} ~/.ipython")
        desk.run("bash", "connect.sh", f"/srv/root/{profile}")

    def all_say(self, text):
        for name, session in self.sessions.items():
            try:
                session.wait_output(text, 90)
            except AssertionError as e:
                raise AssertionError(f"{name}: {e}") from None

    def all_go_on(self):
        for session in self.sessions.values():
            go_on(session)

    def ours(self, box):
        """Processes of ours on a box."""
        return [line for line in box.processes().values() if re.search("ipengine|ipcontroller|ipcluster|covey", line)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    need(why_not(*DAEMONS, "rsync", "mpiexec.openmpi", "iptables"))
    need(missing_mpi4py())
    with contextlib.ExitStack() as stack:
        boxes = stack.enter_context(Boxes(tmp_path_factory.mktemp("kill") / "boxes", ["laptop", "desk", "daint", "nid1", "nid2"],
                                          shared=("daint", "nid1", "nid2")))
        slurm = stack.enter_context(Slurm(boxes.folder / "slurm", nodes=["nid1", "nid2"], boxes=boxes, controller="daint", patience=120))
        yield Site(boxes, slurm).start()


def test_controllers_that_cannot_be_reached_for_20_s(site):
    """The login node and the job's first node lose their network: every controller, slurmctld, srun, mpiexec. Nobody dies, nothing runs twice."""
    cut = [site.daint, site.boxes["nid1"]]
    for box in cut:
        box.cable(False)
    site.boxes["nid2"].popen("sleep", "20").wait(60)        # what is tested is this time
    for box in cut:
        box.cable(True)
    site.all_go_on()
    site.all_say("all there")


def test_ssh_connections_that_are_killed(site):
    """The tunnel's comes back by itself; forwards by hand are made again, and the clients go on. mpiexec's are its ranks' lives, and it is said."""
    for pid in site.daint.sshd_sessions():
        site.daint.kill(pid)
    site.tunnel.wait_output("connected again", 60)
    desk = site.boxes["desk"]
    wait_until(lambda: not [line for line in desk.processes().values() if line.startswith("ssh ")], what="the forwards' end")
    waits = desk.run("python", "-c", f"import ipyparallel as ipp; ipp.Client(profile='job_{site.job}', timeout=2)", check=False)
    assert waits.returncode and "connection refused" in waits.stderr.lower(), waits.stderr
    site.forward()
    site.all_go_on()
    site.all_say("there again")
    site.all_go_on()
    site.all_say("busy")
    sshs = site.boxes["nid2"].sshd_sessions()
    assert sshs
    for pid in sshs:
        site.boxes["nid2"].kill(pid)
    site.clusters["mpiexec"].wait_output("the engines of set 0 have ended", 60)


def test_a_node_without_power(site):
    """It is named by `ipcluster`; its tasks run elsewhere where engines are left; MPI's ranks and a job without --no-kill end as a whole, and it is said."""
    site.boxes["nid2"].power_off()
    site.slurm.run("scontrol", "update", "NodeName=nid2", "State=DOWN", "Reason=test")
    site.all_go_on()
    told = re.compile(r"engines 2, 3 on nid2: the link is lost: .*; what runs there is waited for, 20 s at most")
    site.clusters["slurm"].wait_output(told, 60)
    site.clusters["srun"].wait_output("the engines of set 0 have ended", 60)
    (site.daint.home / "go").touch()        # for the tasks, which all nodes see
    for name, session in site.sessions.items():
        if name in ("srun", "mpiexec"):
            session.wait_output("waiting for engines: there are none; start some", 60)
            session.kill(signal.SIGINT)
        session.wait()
    assert "done on ['nid1']" in site.sessions["slurm"].output, site.sessions["slurm"].output
    assert re.search(r"engine 2 \(pid \d+ on nid2\) was not heard of for \d+ s and is given up", site.clusters["slurm"].output)
    for name in ("job", "forwards", "tunnel"):
        assert "told: " in site.sessions[name].output, (name, site.sessions[name].output)


def test_the_end(site):
    """Nothing is left in the queue or on a machine."""
    site.tunnel.kill(signal.SIGTERM)
    assert site.tunnel.wait() == 0
    for profile, cluster in site.clusters.items():
        site.daint.run("ipcluster", "stop", f"--profile={profile}", env=site.env)
        cluster.wait()
    site.slurm.run("scancel", site.job)
    site.slurm.wait(lambda: not site.slurm.queue(), 60, "an empty queue")
    for name in ("daint", "nid1", "laptop"):
        wait_until(lambda box=site.boxes[name]: not site.ours(box), 60, f"nothing of ours on {name}")

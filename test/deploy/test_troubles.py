# SPDX-License-Identifier: BSD-3-Clause
"""What the pages of docs/deploying quote in their tables of troubles is what people get: each trouble is made, and its words are looked for."""
import shutil
import signal

import pytest

from . import pages
from .boxes import VENV_BIN, why_not
from .conftest import need, wait_until
from .slurm import DAEMONS, Slurm
from .test_daint import missing_mpi4py

pytestmark = pytest.mark.timeout(300)

SSH = """\
c.Cluster.engine_launcher_class = "ssh"
c.Cluster.controller_ip = {ip!r}
c.Cluster.engine_timeout = {timeout}
c.SSHEngineSetLauncher.engines = {engines!r}
"""
SECURITY = ".ipython/profile_default/security"


class Troubles:
    """The outputs that were got for the rows of a page."""

    def __init__(self, page):
        self.page, self.rows, self.got = page, pages.troubles(page), {}

    def __setitem__(self, row, output):
        assert row in self.rows, f"{self.page} has no row {row!r}"
        assert pages.said(row, " ".join(output.split())), f"{self.page} quotes {row!r}, and it is:\n{output}"
        self.got[row] = output

    def end(self):
        assert self.rows and set(self.got) == set(self.rows)


def client(box, arguments="", then="pass"):
    """What an attempt to connect ends with."""
    r = box.run("python", "-c", f"import covey as ipp; rc = ipp.Client({arguments}); {then}", check=False, timeout=60)
    assert r.returncode == 1, r.stdout + r.stderr
    return r.stderr


def fails(box, *command, **options):
    r = box.run(*command, check=False, timeout=90, **options)
    assert r.returncode != 0, r.stdout + r.stderr
    return r.stdout + r.stderr


def controller(box, *args):
    running = box.popen("ipcontroller", *args)
    running.wait_output("listening on")
    return running


def test_laptop(machines):
    laptop = machines("laptop")["laptop"]
    told = Troubles("laptop")
    told["no Controller could be found: there is no profile folder"] = client(laptop, "profile='nothing'")
    (laptop.home / ".ipython/profile_empty").mkdir(parents=True)
    told["connection file … not found after"] = client(laptop, "profile='empty', timeout=0.5")
    laptop.run("ipcluster", "start", "-n", "0", "--daemonize")
    told["already running"] = fails(laptop, "ipcluster", "start", "-n", "0", "--daemonize")
    told["NoEnginesRegistered"] = client(laptop, then="rc[:].apply_sync(abs, 1)")
    laptop.run("ipcluster", "engines", "-n", "1", "--daemonize")
    told["EngineError"] = client(laptop, then="rc.wait_for_engines(1); rc[0].apply_sync(lambda: __import__('os')._exit(3))")
    laptop.run("ipcluster", "stop")
    alone = controller(laptop)
    alone.kill(signal.SIGKILL)
    alone.wait()
    told["has ended without a word"] = client(laptop)
    told.end()


ELSEWHERE = """\
c.Cluster.controller_launcher_class = "ssh"
c.SSHLauncher.hostname = "host1"
c.Cluster.engine_timeout = 5
c.Cluster.n = 1
"""


def test_a_controller_elsewhere_for_engines_here(machines):
    """The same words, whichever of the two is at the other end; not when the engines go through ssh."""
    laptop = machines("laptop", "host1")["laptop"]
    words = "the controller listens on its own machine only"
    path = laptop.write(".ipython/profile_lab/ipcluster_config.py", ELSEWHERE)
    assert words in fails(laptop, "ipcluster", "start", "--profile=lab", "--daemonize")
    path.write_text(ELSEWHERE.replace("= 5", "= 60") + "c.ControllerLauncher.controller_args = ['--enginessh=host1']\n")
    r = laptop.run("ipcluster", "start", "--profile=lab", "--daemonize")
    assert words not in r.stderr, r.stderr
    laptop.run("ipcluster", "stop", "--profile=lab")


def test_ssh(machines):
    boxes = machines("laptop", "host1", needs=("iptables",))
    laptop, host1 = boxes["laptop"], boxes["host1"]
    told = Troubles("ssh")

    def start(engines, ip="*", timeout=60):
        path = laptop.home / ".ipython/profile_lab/ipcluster_config.py"
        path.unlink(missing_ok=True)
        laptop.write(".ipython/profile_lab/ipcluster_config.py", SSH.format(engines=engines, ip=ip, timeout=timeout))
        return fails(laptop, "ipcluster", "start", "--profile=lab", "--daemonize")
    told["Permission denied"] = start({"nobody1@host1": 1})
    told["Could not resolve hostname"] = start({"host9": 1})
    told["Connection refused (no sshd listens there)"] = start({"host1:23": 1})
    unknown = ["-oStrictHostKeyChecking=yes", "-oUserKnownHostsFile=/dev/null"]
    told["Host key verification failed"] = start({"host1": {"n": 1, "ssh_args": unknown}})
    told["can be run there: name an interpreter that has covey"] = start({"host1": {"n": 1, "remote_python": "python3.99"}})
    host1.write("bare/python3", "#!/bin/sh\nexec %s -I -S \"$@\"\n" % shutil.which("python3", path=boxes.path)).chmod(0o755)
    told["has no covey: install it there"] = start({"host1": {"n": 1, "remote_python": "~/bare/python3"}})
    host1.write("old/covey/__init__.py", "__version__ = '0.0.1'\n")
    told["covey is installed there in another version"] = start({"host1": {"n": 1, "prologue": ["export PYTHONPATH=~/old"]}})
    failed = start({"host1": {"n": 1, "prologue": ["true", "module load python"]}})
    assert "module: command not found" in failed
    told["of the prologue failed"] = failed
    told["and without a word"] = start({"host1": {"n": 1, "remote_python": "/bin/false"}})
    host1.run("sh", "-c", "mkdir ~/full && mount -t tmpfs -o size=4k tmpfs ~/full && ! head -c 1M /dev/zero > ~/full/file")
    failed = start({"host1": {"n": 1, "remote_profile_dir": "full/lab"}})
    assert "No space left on device" in failed
    told["can't write the connection file there"] = failed
    told["is OpenSSH installed?"] = start({"host1": {"n": 1, "ssh_cmd": ["openssh"]}})
    told["has no setting"] = start({"host1": {"n": 1, "user": "me"}})
    told["the controller listens on its own machine only"] = start({"host1": 1}, ip="127.0.0.1", timeout=5)
    laptop.write(".ipython/profile_lab/ipcluster_config.py", SSH.format(engines={"host1": 1}, ip="*", timeout=60))
    cluster = laptop.popen("ipcluster", "start", "--profile=lab")
    cluster.wait_output("Engines appear to have started successfully", 40)
    for pid in host1.sshd_sessions():
        host1.kill(pid)
    told["what runs there goes on for 20 s and then ends"] = cluster.wait_output("goes on for 20 s")
    laptop.run("ipcluster", "stop", "--profile=lab")
    host1.firewall(1)
    told["timed out (a firewall"] = start({"host1": 1})
    told.end()


def test_firewall(machines):
    boxes = machines("laptop", "server", needs=("iptables",))
    laptop, server = boxes["laptop"], boxes["server"]
    told = Troubles("firewall")
    server.firewall()
    running = controller(server, "--ip=*")
    shutil.copy(server.home / SECURITY / "ipcontroller-client.json", laptop.home / "c.json")
    told["A firewall drops it"] = client(laptop, "'c.json', timeout=3")
    told["Permission denied"] = client(laptop, "'c.json', sshserver='nobody1@server', timeout=20")
    laptop.run("sh", "-c", "cp ~/.ssh/id_ed25519 ~/open && chmod 644 ~/open")
    told["others can read the key's file"] = client(laptop, "'c.json', sshserver='root@server', sshkey='open', timeout=20")
    told["the key's file is not there"] = fails(laptop, "ipengine", "--file=c.json", "--ssh=nobody1@server", "--sshkey=none", "--timeout=5")
    running.kill(signal.SIGTERM)
    running.wait()
    told["works, but nobody answers at"] = client(laptop, "'c.json', sshserver='root@server', timeout=10")
    (laptop.home / ".ssh/known_hosts").write_text(f"server {(boxes.keys / 'user.pub').read_text()}")
    told["host key is another one than before"] = client(laptop, "'c.json', sshserver='root@server', timeout=10")
    (laptop.home / ".ssh/known_hosts").unlink()
    laptop.firewall(1)
    laptop.write(".ipython/profile_lab/ipcluster_config.py", SSH.format(engines={"server": 1}, ip="*", timeout=12))
    told["engines were there after"] = fails(laptop, "ipcluster", "start", "--profile=lab", "--daemonize")
    told.end()


def test_login_node(machines):
    boxes = machines("laptop", "login", "node", shared=("login", "node"))
    laptop, login, node = boxes["laptop"], boxes["login"], boxes["node"]
    told = Troubles("login-node")
    told["no readable"] = fails(laptop, "ipcluster", "tunnel", "root@login", "77")
    failed = fails(laptop, "ipcluster", "tunnel", "nobody1@login", "77")
    assert "`ssh nobody1@login` must work from here, and without a question" in failed, failed
    told["Permission denied"] = failed
    running = controller(node)
    shutil.copy(login.home / SECURITY / "ipcontroller-client.json", laptop.home / "c.json")
    told["works, but nobody answers at"] = client(laptop, "'c.json', sshserver='root@login', timeout=10")
    running.kill(signal.SIGTERM)
    running.wait()
    told.end()


def test_containers(machines):
    boxes = machines("controller", "engines", shared=("controller", "engines"), needs=("iptables",))
    there, here = boxes["controller"], boxes["engines"]
    told = Troubles("containers")
    running = controller(there, "--ip=*", "--location=4f2a9cbd1e07")
    there.firewall()
    told["is not known here"] = client(here, "timeout=3")
    path = here.home / SECURITY / "ipcontroller-client.json"
    path.chmod(0o644)
    told["others can read it"] = client(here)
    path.chmod(0o600)
    (here.srv / "demo").mkdir(exist_ok=True)
    shutil.move(path, here.srv / "demo/ipcontroller-client.json")
    told["Permission denied: …client.json"] = fails(here, "python", "-c", "import covey; covey.Client('/srv/demo/ipcontroller-client.json')", user="demo")
    running.kill(signal.SIGTERM)
    running.wait()
    there.open()
    running = controller(there)
    told["connection refused"] = fails(here, "ipengine", "--timeout=5")
    running.kill(signal.SIGTERM)
    running.wait()
    told.end()


MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def test_mpi(machines):
    laptop = machines("laptop", needs=("mpiexec.openmpi",))["laptop"]
    told = Troubles("mpi")

    def start(n, program="mpiexec.openmpi", env=None):
        return fails(laptop, "ipcluster", "start", "--engines=mpi", f"-n={n}", f"--MPILauncher.mpi_cmd={program}", env=env)
    told["attempt to run as root"] = start(2)
    told["not enough slots"] = start(1000, env=MPI)
    told["can't start 'mpiexec…': No such file"] = start(2, "mpiexec.none")
    told.end()


JOB = """\
c.Cluster.engine_launcher_class = "slurm"
c.Cluster.controller_ip = {ip!r}
c.Cluster.n = 2
c.SlurmLauncher.batch_template = '''#!/bin/sh
#SBATCH --export=ALL --ntasks={{n}} --output={{output_file}}
srun {srun} {{program_and_args}}
'''
"""
IMPORT = """
import covey as ipp
rc = ipp.Client(profile="mpi")
rc.wait_for_engines(1, timeout=60)
rc[rc.ids[0]].execute("from mpi4py import MPI", block=True)
"""
BATCH = """\
#!/bin/bash -l
#SBATCH --output=job.out
ipcontroller --ip="*" --profile=job
"""


def test_slurm(machines):
    """Login node and node have one home; /tmp is each machine's own."""
    need(why_not(*DAEMONS))
    need(missing_mpi4py())
    boxes = machines("login", "node", shared=("login", "node"))
    login = boxes["login"]
    told = Troubles("slurm")
    with Slurm(boxes.folder / "slurm", nodes=["node"], boxes=boxes, controller="login") as slurm:
        def start(folder, ip="*", srun=""):
            login.run("sh", "-c", f"mkdir -p {folder} && cat >{folder}/ipcluster_config.py", input=JOB.format(ip=ip, srun=srun))
            return login.run("ipcluster", "start", f"--profile-dir={folder}", "--daemonize", env=slurm.env).stderr

        def stop(folder):
            login.run("ipcluster", "stop", f"--profile-dir={folder}", env=slurm.env)
            slurm.wait(lambda: not slurm.queue(), 60, "an empty queue")

        def log(folder, text):
            read = lambda: login.run("sh", "-c", f"cat {folder}/log/*").stdout  # noqa: E731
            return wait_until(lambda: text in (said := read()) and said, 60, text)
        told["can't start 'sbatch': No such file"] = fails(login, "ipcluster", "start", "--engines=slurm", "-n=1", env={"PATH": VENV_BIN})
        shared, own = "/srv/root/.ipython/profile_{}", "/tmp/profile_own"
        told["the controller listens on its own machine only"] = start(shared.format("alone"), ip="127.0.0.1")
        told["can't reach the controller"] = log(shared.format("alone"), "can't reach the controller")
        stop(shared.format("alone"))
        start(shared.format("mpi"), srun="--mpi=none")
        told["MPI_ERRORS_ARE_FATAL"] = fails(login, "python", "-c", IMPORT)
        stop(shared.format("mpi"))
        assert "pmix" in login.run("sh", "-c", "srun --mpi=list 2>&1", env=slurm.env).stdout
        start(own)
        told["is not there: it did not run, or its nodes do not see that folder"] = log(own, "is not there: ")
        stop(own)
        login.write("job.sbatch", BATCH)
        fails(login, "sbatch", "--wait", "job.sbatch", env=slurm.env)
        told["ipcontroller: command not found"] = (login.home / "job.out").read_text()
    told.end()

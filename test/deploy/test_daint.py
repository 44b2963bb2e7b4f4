# SPDX-License-Identifier: BSD-3-Clause
"""A cluster inside a Slurm job of two nodes, as published notes for a supercomputer do it: the batch script starts controller and engines
itself. Way 1: the client runs on the job's machine. Way 2: on a laptop, with the profile copied and six ports forwarded by ssh. The scripts are the
notes' but for modules, mail, constraint and the number of tasks; MPI is the real one, the engines are its ranks."""
import re
import shlex
from pathlib import Path

import pytest

from . import seeds
from .boxes import VENV_BIN, why_not
from .conftest import blocks, need, wait_until
from .slurm import DAEMONS, Slurm

pytestmark = pytest.mark.timeout(300)

CLIENT = """\
import ipyparallel as ipp
c = ipp.Client(profile='job_{job}')
c.wait_for_engines(4, timeout=60)
c.activate()
view = c[:]
%%px
from mpi4py import MPI
x = MPI.COMM_WORLD.rank
total = MPI.COMM_WORLD.allreduce(x)
#---
import socket
print('x', view['x'], view['x'][1], view['total'])
print('hosts', view.apply_sync(lambda: __import__('socket').gethostname()))
c.close()
"""


LAUNCHER = """\
import socket
import covey as ipp
template = '#!/bin/sh\\n#SBATCH --export=ALL --nodes=2 --ntasks={n} --ntasks-per-node=2 --output={output_file}\\nsrun {program_and_args}\\n'
with ipp.Cluster(engines='slurm', n=4, controller_ip='*', config={'SlurmLauncher': {'batch_template': template}}) as rc:
    rc.wait_for_engines(4, timeout=60)
    print(socket.gethostname(), sorted(rc[:].apply_sync(socket.gethostname)))
"""


def session(job):
    """The notes' cells, as an IPython script."""
    before, magic = CLIENT.format(job=job).split("%%px\n")
    cell, after = magic.split("#---\n")
    return f"{before}get_ipython().run_cell_magic('px', '', {cell!r})\n{after}"


# What a browser does with the notebook's URL: a kernel, the cells in it, and what they print.
BROWSER = """\
import asyncio, json, sys, urllib.request, uuid
from tornado.websocket import websocket_connect

async def main(base, token, code):
    page = urllib.request.urlopen(f'{base}/?token={token}')
    assert page.status == 200 and b'upyter' in page.read()
    ask = urllib.request.Request(f'{base}/api/kernels', b'{}', {'Authorization': f'token {token}'}, method='POST')
    kernel = json.load(urllib.request.urlopen(ask))['id']
    socket = await websocket_connect(f'ws{base[4:]}/api/kernels/{kernel}/channels?token={token}')
    header = {'msg_id': uuid.uuid4().hex, 'msg_type': 'execute_request', 'username': '', 'session': uuid.uuid4().hex, 'version': '5.3', 'date': ''}
    await socket.write_message(json.dumps({'channel': 'shell', 'header': header, 'parent_header': {}, 'metadata': {},
                                           'content': {'code': code, 'silent': False}}))
    while True:
        said = json.loads(await socket.read_message())
        if said['msg_type'] in ('stream', 'error'):
            print(said['content'].get('text') or said['content'], end='')
        if said['msg_type'] == 'execute_reply':
            break
asyncio.run(main(sys.argv[1], sys.argv[2], sys.stdin.read()))
"""


@pytest.fixture
def site(machines, tmp_path):
    """A laptop, a login node and two compute nodes; the last three have one home."""
    need(why_not(*DAEMONS, "rsync", "mpiexec"))
    need(missing_mpi4py())
    boxes = machines("laptop", "daint", "nid1", "nid2", shared=("daint", "nid1", "nid2"))
    with Slurm(boxes.folder / "slurm", nodes=["nid1", "nid2"], boxes=boxes, controller="daint") as slurm:
        slurm.laptop, slurm.daint = boxes["laptop"], boxes["daint"]
        # what the notes' `module load` lines do: the script's login shell has forgotten the environment
        slurm.daint.write(".bash_profile", f"export PATH={VENV_BIN}:$PATH OMPI_MCA_btl=self,tcp\n")
        yield slurm


def missing_mpi4py():
    try:
        import mpi4py  # noqa: F401
    except ImportError:
        return "no mpi4py in this Python (tools/deploy-deps.sh)"


def missing_notebook():
    return None if (Path(VENV_BIN) / "jupyter-notebook").exists() else "no jupyter-notebook in this Python (tools/deploy-deps.sh)"


def submit(slurm, script):
    """sbatch on the login node; the job's number, when the controller's file is there."""
    slurm.daint.write("run.sbatch", script)
    job = slurm.run("sbatch", "--parsable", "run.sbatch", cwd="/srv/root").strip()
    files = [slurm.daint.home / f".ipython/profile_job_{job}/security/ipcontroller-{role}.json" for role in ("client", "engine")]
    slurm.wait(lambda: all(f.exists() for f in files), 60, "the controller's files")
    return job


def check(said):
    assert "x [0, 1, 2, 3] 1 [6, 6, 6, 6]" in said, said       # an engine's number is its rank
    assert "hosts ['nid1', 'nid1', 'nid2', 'nid2']" in said, said


def end(slurm, job):
    slurm.run("scancel", job)
    slurm.wait(lambda: not slurm.queue(), 60, "an empty queue")
    for box in (slurm.boxes["nid1"], slurm.boxes["nid2"]):
        wait_until(lambda box=box: not [line for line in box.processes().values() if "ipengine" in line or "ipcontroller" in line], 60,
                   "engines and controller ending")


def test_client_on_the_jobs_machines(site):
    job = submit(site, seeds.DAINT_SBATCH)
    site.daint.write("session.ipy", session(job))
    check(site.boxes["nid1"].run("ipython", "session.ipy", timeout=120).stdout)
    check(site.daint.run("ipython", "session.ipy", timeout=120).stdout)       # the login node reaches the compute nodes
    end(site, job)


def test_a_notebook_in_the_job(site):
    """The notes' first script with its notebook: the URL from the log, forwarded to the laptop, and the cells run there."""
    need(missing_notebook())
    site.daint.write(".jupyter/jupyter_server_config.py", "c.ServerApp.allow_root = True\n")     # the tests' user
    job = submit(site, seeds.DAINT_JUPYTER)
    log, laptop = site.daint.home / f"jupyter-log-{job}.out", site.laptop
    url = re.compile(r"http://(10\.77\.0\.\d+):(\d+)/\S*\?token=(\w+)")
    host, port, token = site.wait(lambda: log.exists() and url.search(log.read_text()), 60, "the notebook's URL").groups()
    laptop.run("sh", "-c", f"ssh -L {port}:{host}:{port} daint -f -N >/dev/null 2>&1")
    check(laptop.run("python", "-c", BROWSER, f"http://localhost:{port}", token, input=session(job), timeout=120).stdout)
    end(site, job)


def test_client_on_a_laptop(site):
    """rsync, connect.sh with its six forwards and sed, and Client(profile=…)."""
    job = submit(site, seeds.DAINT_SBATCH)
    laptop = site.laptop
    laptop.run("sh", "-c", f"mkdir -p ~/.ipython && rsync -a daint:.ipython/profile_job_{job} ~/.ipython")
    laptop.write("connect.sh", seeds.DAINT_CONNECT)
    said = laptop.run("bash", "connect.sh", f"/srv/root/.ipython/profile_job_{job}").stdout
    assert "ipcontroller host: nid1" in said and said.count("bind ") == 6, said
    assert '"location": "localhost",' in (laptop.home / f".ipython/profile_job_{job}/security/ipcontroller-client.json").read_text()
    laptop.write("session.ipy", session(job))
    check(laptop.run("ipython", "session.ipy", timeout=120).stdout)
    end(site, job)


def test_the_page_and_no_secret_in_command_lines(site):
    """With the batch script of docs/deploying/slurm.md, whose engines work as the notes' do."""
    job = submit(site, blocks("slurm", "sh")[2])
    site.daint.write("session.ipy", session(job))
    check(site.daint.run("ipython", "session.ipy", timeout=120).stdout)
    key = next(line for line in (site.daint.home / f".ipython/profile_job_{job}/security/ipcontroller-client.json").read_text().splitlines()
               if '"key"' in line).split('"')[3]
    lines = [line for box in site.boxes for line in box.processes().values()]
    assert len(key) == 64 and not [line for line in lines if key in line], shlex.join(lines)
    end(site, job)


def test_the_launcher_across_machines(site):
    """Controller and client on the login node, engines in a job of two other machines; nothing is left anywhere."""
    site.daint.write("launcher.py", LAUNCHER)
    said = site.run(f"{VENV_BIN}/python", "launcher.py", cwd="/srv/root", timeout=120)
    assert said == "daint ['nid1', 'nid1', 'nid2', 'nid2']\n", said
    site.wait(lambda: not site.queue(), 60, "an empty queue")
    for box in site.boxes:
        wait_until(lambda box=box: not [line for line in box.processes().values() if "ipengine" in line or "ipcontroller" in line], 60, "engines ending")


SRUN = """\
import socket
import covey as ipp
with ipp.Cluster(engines='mpi', n=4, controller_ip='*', config={'MPILauncher': {'mpi_cmd': ['srun'], 'mpi_args': ['--ntasks-per-node=2']}}) as rc:
    rc.wait_for_engines(4, timeout=60)
    view = rc[:]
    view.execute('from mpi4py import MPI; x = MPI.COMM_WORLD.rank; total = MPI.COMM_WORLD.allreduce(x)', block=True)
    print(view['x'], view['total'], view.apply_sync(socket.gethostname))
"""


def test_the_mpi_launcher_with_srun(site):
    """srun in mpiexec's place, which allocates the nodes itself: an engine's number is its rank, and the end leaves no job."""
    site.daint.write("launcher.py", SRUN)
    said = site.run(f"{VENV_BIN}/python", "launcher.py", cwd="/srv/root", timeout=120, env={"OMPI_MCA_btl": "self,tcp"})
    assert said == "[0, 1, 2, 3] [6, 6, 6, 6] ['nid1', 'nid1', 'nid2', 'nid2']\n", said
    nothing_is_left(site)


def nothing_is_left(site):
    site.wait(lambda: not site.queue(), 60, "an empty queue")
    for box in site.boxes:
        wait_until(lambda box=box: not [line for line in box.processes().values() if "ipengine" in line or "ipcontroller" in line], 60, "engines ending")


ABORT = """
import time
import covey as ipp
def abort():
    from mpi4py import MPI
    MPI.COMM_WORLD.Abort(7)
launcher = {{'mpi_cmd': {command!r}, 'mpi_args': ['--ntasks-per-node=2']}}
batch = '#!/bin/sh\\n#SBATCH --export=ALL --nodes=2 --ntasks={{n}} --ntasks-per-node=2 --output={{output_file}}\\nsrun {{program_and_args}}\\n'
config = {{'MPILauncher': launcher, 'SlurmLauncher': {{'batch_template': batch}},
          'SSHControllerLauncher': {{'hostname': 'nid2', 'remote_python': {python!r}}}}}
with ipp.Cluster(engines={engines!r}, n=4, controller={controller!r}, controller_ip='*', config=config) as rc:
    rc.wait_for_engines(4, timeout=60)
    rc[:].execute('from mpi4py import MPI', block=True)     # MPI_Init waits for all ranks
    others = [rc[i].apply_async(time.sleep, 600) for i in (0, 2, 3)]
    for ar in (rc[1].apply_async(abort), *others):
        try:
            ar.get(30)
        except ipp.EngineError as e:
            print('told:', str(e).splitlines()[0], flush=True)
    print(rc.ids)
"""


# One that loads modules, and stays; one that srun replaces; a class of the user's.
WRAPPER = "#!/bin/sh\necho modules are loaded\nsrun \"$@\"\n"
EXEC = "#!/bin/sh\nexec srun \"$@\"\n"
CLASS = "from covey.launcher import MPIEngineSetLauncher\nclass Mine(MPIEngineSetLauncher):\n    pass\n"
SRUN_ENDED = r"its MPI job has ended, as when a rank calls MPI_Abort or dies: srun exited with code \d+"


@pytest.mark.parametrize("engines,command,controller,end", [
    ("mpi", ["srun"], "local", SRUN_ENDED + ": srun: "), ("slurm", [], "local", r"its batch job \d+ has ended: FAILED"),
    ("mpi", ["/srv/root/wrapper"], "local", SRUN_ENDED), ("mpi", ["/srv/root/exec"], "local", SRUN_ENDED), ("mine:Mine", ["srun"], "local", SRUN_ENDED),
    ("mpi", ["srun"], "ssh", SRUN_ENDED)], ids=["srun", "slurm", "wrapper", "exec", "class", "controller by ssh"])
def test_abort_under_srun(site, engines, command, controller, end):
    """MPI_Abort: Slurm kills ranks and their hosts at once, and the set's end says so of all, long before the grace time (300 s) has passed."""
    for name, text in (("wrapper", WRAPPER), ("exec", EXEC), ("mine.py", CLASS)):
        site.daint.write(name, text).chmod(0o755)
    site.daint.write("abort.py", ABORT.format(engines=engines, command=command, controller=controller, python=f"{VENV_BIN}/python"))
    said = site.run(f"{VENV_BIN}/python", "abort.py", cwd="/srv/root", timeout=120, env={"OMPI_MCA_btl": "self,tcp", "PYTHONPATH": "/srv/root"})
    told = re.findall("^told: .*", said, re.M)
    assert len(told) == 4 and said.endswith("[]\n") and re.search(end, "\n".join(told)), said
    nothing_is_left(site)

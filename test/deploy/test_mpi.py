# SPDX-License-Identifier: BSD-3-Clause
"""Engines as ranks of a real MPI program: OpenMPI, and MPICH where it is installed beside it. mpi4py calls the same library as mpiexec."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import covey as ipp
import pytest
from covey._programs import program_argv

from ..system.conftest import files_of, wait_gone
from .boxes import REPOSITORY, why_not
from .conftest import blocks, need, wait_until

pytestmark = pytest.mark.timeout(300)

ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
# what mpi4py is to load: the wheel takes the first libmpi that it finds
KINDS = {"openmpi": ("mpiexec.openmpi", "openmpi"), "mpich": ("mpiexec.hydra", "mpich")}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An IPYTHONDIR of this test's; at its end nothing of it runs."""
    for name, value in {"IPYTHONDIR": str(tmp_path / "ipython"), "IPP_NONINTERACTIVE": "0", "OMPI_MCA_rmaps_base_oversubscribe": "1", **ROOT}.items():
        monkeypatch.setenv(name, value)
    for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "ipython"
    assert wait_gone(tmp_path / "ipython") == {} and files_of(tmp_path / "ipython") == []


@pytest.fixture(params=KINDS)
def mpi_config(request, home, monkeypatch):
    """Traits for one of the two, if it is here with mpi4py."""
    command, abi = KINDS[request.param]
    need(None if shutil.which(command) else f"not installed here: {command}")
    need(why_no_mpi4py(command, abi, monkeypatch, home.parent / "lib"))
    return {"MPILauncher": {"mpi_cmd": [command]}}


def why_no_mpi4py(command, abi, monkeypatch, folder):
    monkeypatch.setenv("MPI4PY_MPIABI", abi)
    mpich = next(Path("/usr/lib").glob("*/libmpich.so.12"), None)
    if abi == "mpich" and mpich:        # Debian's name of what everybody else calls libmpi.so.12
        folder.mkdir()
        (folder / "libmpi.so.12").symlink_to(mpich)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    r = subprocess.run([command, "-n", "2", sys.executable, "-c", "from mpi4py import MPI; print(MPI.COMM_WORLD.size)"],
                       capture_output=True, text=True, timeout=60)
    return None if r.stdout.count("2") == 2 else f"mpi4py does not run under {command}: {(r.stdout + r.stderr)[-300:]}"


def test_engines_are_ranks(mpi_config):
    """An engine's number is its rank, and they can talk to each other."""
    with ipp.Cluster(engines="mpi", n=3, config=mpi_config) as rc:
        view = rc[:]
        view.execute("from mpi4py import MPI; x = MPI.COMM_WORLD.rank; total = MPI.COMM_WORLD.allreduce(x)", block=True)
        assert (view["x"], view["total"]) == ([0, 1, 2], [3, 3, 3])
        assert view["x"][1] == 1


def abort():
    from mpi4py import MPI
    MPI.COMM_WORLD.Abort(7)


def test_abort_on_one_rank_ends_all(mpi_config):
    """MPI_Abort: every engine goes, each task's error says why, nothing goes on waiting, and the log has mpiexec's words."""
    c = ipp.Cluster(engines="mpi", n=3, config=mpi_config)
    with c as rc:
        rc[:].execute("from mpi4py import MPI", block=True)     # MPI_Init waits for all ranks
        others = [rc[i].apply_async(time.sleep, 600) for i in (0, 2)]
        # OpenMPI asks the other ranks to end and says so with SIGTERM, MPICH kills all of them at once
        for ar in (rc[1].apply_async(abort), *others):
            with pytest.raises(ipp.EngineError, match="MPI_Abort"):
                ar.get(60)
        wait_until(lambda: rc.ids == [], 60, "all ranks ending")
        wait_until(lambda: not json.loads(Path(c.cluster_file).read_text())["engines"], 60, "mpiexec's end")
        assert "mpi_abort" in log_of(c).lower()
        c.start_engines_sync(2)         # the controller is as good as new
        rc.wait_for_engines(2, timeout=60)
        assert rc[:].apply_sync(os.getpid)


def log_of(c):
    return "".join(p.read_text(errors="replace") for p in sorted(Path(c.profile_dir).glob("log/*")) if p.is_file())


def test_a_start_that_fails_is_told(home, monkeypatch):
    """Not enough slots: exit code and mpiexec's own words, by `ipcluster` and by `Cluster`."""
    need(None if shutil.which("mpiexec.openmpi") else "not installed here: mpiexec.openmpi")
    monkeypatch.setenv("OMPI_MCA_rmaps_base_oversubscribe", "0")
    profile = home / "profile_m"
    profile.mkdir(parents=True)
    (profile / "ipcluster_config.py").write_text("c.MPILauncher.mpi_cmd = ['mpiexec.openmpi']\n")
    n = str(4 * os.cpu_count())
    r = subprocess.run([*program_argv("ipcluster"), "start", "--profile=m", "--engines=mpi", "-n", n], capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and "not enough slots" in r.stderr, r.stderr
    with pytest.raises(ipp.cluster.ClusterError, match="not enough slots"):
        ipp.Cluster(engines="mpi", n=int(n), config={"MPILauncher": {"mpi_cmd": ["mpiexec.openmpi"]}}).start_cluster_sync()


def test_the_page(home, monkeypatch):
    """docs/deploying/mpi.md: its Python and its profile as they stand; an engine's number is its rank."""
    need(None if shutil.which("mpiexec.openmpi") else "not installed here: mpiexec.openmpi")
    need(why_no_mpi4py(*KINDS["openmpi"], monkeypatch, home.parent / "lib"))
    program, config = blocks("mpi", "python")
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert said.stdout == "[0, 1, 2] [3, 3, 3]\n", said
    profile = home / "profile_remotempi"
    profile.mkdir(parents=True)
    (profile / "ipcluster_config.py").write_text(config)
    r = subprocess.run([*program_argv("ipcluster"), "start", "--profile=remotempi", "-n", "4", "--daemonize"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    with ipp.Client(profile="remotempi") as rc:
        rc.wait_for_engines(4, timeout=60)
        ranks = rc[:].apply_sync(lambda: int(__import__("os").environ["OMPI_COMM_WORLD_RANK"]))
        assert ranks == [0, 1, 2, 3] == rc.ids
    assert subprocess.run([*program_argv("ipcluster"), "stop", "--profile=remotempi"], timeout=60).returncode == 0


def test_two_kinds_of_mpi(home, monkeypatch):
    """The page's `Every rank says size 1`: one kind's mpiexec, the other's library, which the page's command names and MPI4PY_MPIABI chooses."""
    need(None if shutil.which("mpiexec.openmpi") else "not installed here: mpiexec.openmpi")
    need(why_no_mpi4py(*KINDS["mpich"], monkeypatch, home.parent / "lib"))
    command, = re.findall(r"`(python -c .*?)`", (REPOSITORY / "docs/deploying/mpi.md").read_text())
    for abi, kind, size in (("mpich", "MPICH", 1), ("openmpi", "Open MPI", 2)):
        monkeypatch.setenv("MPI4PY_MPIABI", abi)
        said = subprocess.run(command.replace("python", sys.executable, 1), shell=True, capture_output=True, text=True, timeout=60)
        assert said.stdout.startswith(kind), said
        with ipp.Cluster(engines="mpi", n=2, config={"MPILauncher": {"mpi_cmd": ["mpiexec.openmpi"]}}) as rc:
            rc[:].execute("from mpi4py import MPI; size = MPI.COMM_WORLD.size", block=True)
            assert rc[:]["size"] == [size, size]


ELSEWHERE = """
import os, socket, subprocess
import covey as ipp
args = ['--host', 'host1:2,host2:2', '--prefix', '/usr', '--mca', 'btl', 'self,tcp', '--mca', 'btl_tcp_if_include', 'eth0', '--mca', 'oob_tcp_if_include', 'eth0']
config = {'MPILauncher': {'mpi_cmd': ['mpiexec.openmpi'], 'mpi_args': args}}
with ipp.Cluster(profile='default', cluster_id='', engines='mpi', n=4, controller_ip='*', config=config) as rc:
    print(rc[:].apply_sync(socket.gethostname))
    words = os.environ['WORDS'].split()
    print(subprocess.run([words[0] + '.openmpi', *args[2:], *words[1:]], cwd=os.environ['HOME'], stdout=subprocess.PIPE, text=True).stdout)
    def total():
        from mpi4py import MPI
        return MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank)
    rc[:].execute('from mpi4py import MPI', block=True)
    first = rc[0].apply_async(total)
    print(first.wait(1), rc[1:].apply_sync(total), first.get(30))
"""


def test_ranks_of_other_machines(machines):
    """The page's last two: what `mpiexec --host` shows, and a collective call that waits for the other engines."""
    need(why_not("mpiexec.openmpi", "rsync"))
    boxes = machines("login", "host1", "host2", shared=("login", "host1", "host2"), env={**ROOT, "MPI4PY_MPIABI": "openmpi"})
    page = (REPOSITORY / "docs/deploying/mpi.md").read_text()
    command, = re.findall(r"`(mpiexec --host .*?)`", page)
    assert "`rc[1:].apply_sync(total)`" in page
    said = boxes["login"].run("python", "-c", ELSEWHERE, env={"WORDS": command}, timeout=100).stdout
    assert said.startswith("['host1', 'host1', 'host2', 'host2']\n") and said.endswith("False [6, 6, 6] 6\n"), said
    assert said.count("ipcontroller-engine.json\n") == 2, said
    for box in boxes:
        assert box.wait_idle() == {}

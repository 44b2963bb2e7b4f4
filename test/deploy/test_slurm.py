# SPDX-License-Identifier: BSD-3-Clause
"""Engines as a job of a real Slurm: what its ends do to them, to their tasks and to the queue. Two nodes, both this machine."""
import ast
import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import covey as ipp
import pytest
from covey._programs import program_argv

from ..system.conftest import files_of, wait_gone
from .boxes import why_not
from .conftest import blocks, need, wait_until
from .slurm import DAEMONS, Slurm

pytestmark = pytest.mark.timeout(300)

COUNT = """\
#!/bin/sh
echo "$(date +%s.%N) $*" >> {log}
exec {real} "$@"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm of two nodes, its commands ready to use in this process' environment; squeue calls are counted."""
    need(why_not(*DAEMONS))
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "squeue").write_text(COUNT.format(log=tmp_path / "queries", real=shutil.which("squeue")))
    (bin / "squeue").chmod(0o755)
    with Slurm(tmp_path / "slurm") as s:
        for name, value in {**s.env, "PATH": f"{bin}:{os.environ['PATH']}", "IPYTHONDIR": str(tmp_path / "ipython"), "IPP_NONINTERACTIVE": "0"}.items():
            monkeypatch.setenv(name, value)
        for name in ("IPP_PROFILE_DIR", "IPP_CLUSTER_ID"):
            monkeypatch.delenv(name, raising=False)
        s.home = tmp_path / "ipython"
        s.queries = lambda: (tmp_path / "queries").read_text().splitlines() if (tmp_path / "queries").exists() else []
        s.queue = lambda: dict(line.split() for line in s.run(shutil.which("squeue", path=os.environ["PATH"].partition(":")[2]), "-h", "-o", "%i %T",
                                                               check=False).split("\n") if line)
        yield s
    assert wait_gone(s.home) == {} and files_of(s.home) == []


def cluster(n=4, **traits):
    """A cluster with its engines in the queue. Two nodes of one machine: the loopback interface reaches everybody."""
    return ipp.Cluster(engines="slurm", n=n, config={"SlurmLauncher": traits})


SPREAD = "#!/bin/sh\n#SBATCH --export=ALL\n#SBATCH --ntasks={n}\n#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=2\n" \
         "#SBATCH --output={output_file}\n#SBATCH --partition=normal\n%s\nsrun {program_and_args}\n"


def where(_=None):
    import os
    return os.environ["SLURMD_NODENAME"]


def test_engines_of_a_job(slurm):
    """One job, engines on both nodes; nothing is asked while all are connected; after the end the queue is empty."""
    with cluster(batch_template=SPREAD % "") as rc:
        assert len(rc) == 4 and sorted(rc[:].apply_sync(where)) == ["n1", "n1", "n2", "n2"]
        (job,) = slurm.queue()
        state = json.loads(Path(rc.cluster.cluster_file).read_text())["engines"]["0"]
        assert (state["class"], state["job_id"], state["undo"]) == ("Slurm", job, f"scancel {job}")
        assert slurm.queries() == []
    slurm.wait(lambda: not slurm.queue(), 60, "an empty queue")


def test_a_folder_with_blanks(slurm, tmp_path):
    """In directives, too."""
    folder = tmp_path / "it's my folder/profile_x"
    with ipp.Cluster(engines="slurm", n=1, profile_dir=str(folder)) as rc:
        assert rc[:].apply_sync(where) == ["n1"] and list(folder.glob("log/*.out"))
    slurm.wait(lambda: not slurm.queue(), 60, "an empty queue")


def test_engines_are_usable_as_they_arrive(slurm):
    """Two jobs' worth of engines, room for one: the first work while the others are in the queue."""
    blocker = slurm.run("sbatch", "--parsable", "--nodes=1", "--exclusive", "--nodelist=n2", "--output=/dev/null", "--wrap=sleep 600").strip()
    slurm.wait(lambda: slurm.queue().get(blocker) == "RUNNING", 60, "the other job's start")
    c = cluster(2)
    rc = c.start_and_connect_sync()
    c.start_engines_sync(24)        # more than there are free cpus
    assert rc[:].apply_sync(where) == ["n1", "n1"]
    assert sorted(slurm.queue().values()) == ["PENDING", "RUNNING", "RUNNING"]
    rc.close()
    c.stop_cluster_sync()
    slurm.wait(lambda: list(slurm.queue()) == [blocker], 60, "a queue without our jobs")
    slurm.run("scancel", blocker)


def ended_in_log(c, timeout=90):
    """What the log says of the job's end."""
    return wait_until(lambda: "".join(line for line in log_of(c).splitlines(True) if "job " in line and " has ended: " in line and "engine" not in line), timeout, "a word of the job's end")


def log_of(c):
    return "".join(p.read_text(errors="replace") for p in sorted(Path(c.profile_dir).glob("log/*")) if p.is_file())


def queries_a_minute(slurm):
    """The most status queries in any minute, but for the time that one may take to start."""
    times = [float(line.split()[0]) for line in slurm.queries()]
    return max((sum(t <= other < t + 50 for other in times) for t in times), default=0)


def test_one_question_about_all_jobs(slurm):
    """Three jobs in the queue, two of which somebody cancels: one squeue asks for all, and tells of both ends."""
    blocker = slurm.run("sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 600").strip()
    slurm.wait(lambda: slurm.queue().get(blocker) == "RUNNING", 60, "the other job's start")
    c = cluster(1)
    c.start_cluster_sync()
    for _ in range(2):
        c.start_engines_sync(1)
    slurm.wait(lambda: len(slurm.queue()) == 4, 60, "the last job's submission")
    jobs = sorted(set(slurm.queue()) - {blocker})
    slurm.run("scancel", *jobs[:2])
    wait_until(lambda: all(f"job {job} has ended: CANCELLED" in log_of(c) for job in jobs[:2]), 60, "a word of both ends")
    (query,) = slurm.queries()
    assert sorted(query.split()[-1].split(",")) == jobs
    c.stop_cluster_sync()
    slurm.wait(lambda: list(slurm.queue()) == [blocker], 60, "a queue without our jobs")
    slurm.run("scancel", blocker)


def test_scancel_from_outside(slurm):
    """The job is cancelled by somebody: its tasks say so, those that may be retried go to other engines, and the log says how the job ended."""
    c = cluster(2)
    with c as rc:
        (job,) = slurm.queue()
        ar = rc[:].apply_async(time.sleep, 600)
        slurm.run("scancel", job)
        with pytest.raises(ipp.CompositeError) as e:
            ar.get(60)
        assert f"the host was asked to stop by SIGTERM, as when batch job {job} is cancelled" in str(e.value), str(e.value)
        wait_until(lambda: rc.ids == [], 60, "engines leaving")
        assert f"job {job} has ended: CANCELLED" in ended_in_log(c)
        later = rc.load_balanced_view().apply_async(where)
        c.start_engines_sync(2)
        assert later.get(60) == "n1"
    assert queries_a_minute(slurm) == 1


def test_walltime_that_ends(slurm):
    """Out of time: a direct task fails and names the job; a balanced one waits for other engines, which costs it no retry."""
    c = cluster(2, batch_template=SPREAD.replace("--nodes=2", "--nodes=1") % "#SBATCH --time=1")
    with c as rc:
        (job,) = slurm.queue()
        direct = rc[0].apply_async(time.sleep, 600)
        balanced = rc.load_balanced_view([1]).apply_async(wait_for_file, str(slurm.home / "go"))
        anywhere = rc.load_balanced_view().apply_async(wait_for_file, str(slurm.home / "go"))
        slurm.run("scontrol", "update", f"JobId={job}", "EndTime=now")      # Slurm looks twice a minute
        with pytest.raises(ipp.EngineError, match=f"batch job {job} .*out of time"):
            direct.get(60)
        with pytest.raises(ipp.RemoteError):
            balanced.get(60)    # the only engine that it may run on is gone
        assert f"job {job} has ended: TIMEOUT" in ended_in_log(c)
        (slurm.home / "go").touch()
        c.start_engines_sync(1)
        assert anywhere.get(60) == "done"
    assert queries_a_minute(slurm) == 1


def wait_for_file(path):
    import os
    import time
    while not os.path.exists(path):
        time.sleep(0.05)
    return "done"


def test_a_node_that_dies(slurm):
    """One node of two is gone, slurmd and engines, without a goodbye: its task fails, retried ones go to the other node's engines."""
    c = cluster(batch_template=SPREAD % "#SBATCH --no-kill\n#SBATCH --no-requeue".replace("srun", "srun --no-kill"))
    with c as rc:
        nodes = dict(zip(rc.ids, rc[:].apply_sync(where), strict=True))
        view = rc.load_balanced_view(retries=1)
        tasks = [view.apply_async(wait_for_file, str(slurm.home / "go")) for _ in range(4)]
        direct = {i: rc[i].apply_async(where) for i in rc.ids}
        wait_until(lambda: sum(q["tasks"] for i, q in rc.queue_status().items() if i != "unassigned") >= 4, 60, "tasks on engines")
        slurm.kill_node("n2")
        lost = {i for i, node in nodes.items() if node == "n2"}
        wait_until(lambda: set(rc.ids) == set(nodes) - lost, 60, "the dead node's engines leaving")
        (slurm.home / "go").touch()
        assert [t.get(60) for t in tasks] == ["done"] * 4
        for i, ar in direct.items():
            if i in lost:
                with pytest.raises(ipp.EngineError):
                    ar.get(60)
            else:
                assert ar.get(60) == "n1"
    slurm.wait(lambda: not slurm.queue(), 60, "an empty queue")


def test_preemption_and_requeue(slurm):
    """A job of more importance takes the nodes: ours is requeued, its engines come back as new ones and do what may be retried."""
    c = cluster(2, batch_template=SPREAD.replace("--nodes=2", "--nodes=1") % "#SBATCH --requeue")
    with c as rc:
        (job,) = slurm.queue()
        view = rc.load_balanced_view(retries=1)
        task = view.apply_async(wait_for_file, str(slurm.home / "go"))
        slurm.wait(lambda: rc.queue_status()["unassigned"] == 0, 60, "the task on an engine")
        urgent = slurm.run("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 600").strip()
        slurm.wait(lambda: slurm.queue().get(job) == "PENDING" and slurm.queue().get(urgent) == "RUNNING", 60, "the preemption")
        wait_until(lambda: rc.ids == [], 60, "engines leaving")
        (slurm.home / "go").touch()
        slurm.run("scancel", urgent)
        slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now+2")   # not in the second in which its credential was revoked; two minutes by itself
        assert task.get(60) == "done"
        assert list(slurm.queue()) == [job]
    slurm.wait(lambda: not slurm.queue(), 60, "an empty queue")
    assert queries_a_minute(slurm) <= 1


def test_a_job_that_fails_at_once_is_quoted(slurm):
    """A script with a mistake: what it wrote is told, not only that it ended."""
    c = cluster(1, batch_template="#!/bin/sh\n#SBATCH --output={output_file}\nsrun /no/such/ipengine {n}\n")
    c.start_cluster_sync()
    try:
        text = ended_in_log(c)
        assert "has ended: FAILED" in text
        assert "/no/such/ipengine" in log_of(c)
    finally:
        c.stop_cluster_sync()


def test_the_page(slurm):
    """docs/deploying/slurm.md: its Python, its profile and its commands, as they stand."""
    program, config, *_ = blocks("slurm", "python")
    start_and_stop, template, _ = blocks("slurm", "sh")
    start, stop = start_and_stop.splitlines()
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert sorted(ast.literal_eval(said.stdout)) == ["0", "1", "2"], said
    slurm.wait(lambda: not slurm.queue(), 60, "an empty queue")
    profile = slurm.home / "profile_q"
    profile.mkdir(parents=True)
    (profile / "ipcluster_config.py").write_text(config)
    run = partial(subprocess.run, shell=True, capture_output=True, text=True, timeout=60,
                  env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
    assert (said := run(start)).returncode == 0, said
    with ipp.Client(profile="q") as rc:
        rc.wait_for_engines(3, timeout=60)
        assert rc.ids == [0, 1, 2] and set(rc[:].apply_sync(where)) <= {"n1", "n2"}
        assert slurm.run("squeue", "-h", "-o", "%P %l %j").split() == ["normal", "10:00", "ipengine-"]
        (script,) = profile.glob("log/*.sh")
        assert {line.partition("=")[0].partition(" {")[0] for line in template.splitlines()} <= {line.partition("=")[0].split(" /")[0]
                                                                                           for line in script.read_text().splitlines()}
    assert (said := run(stop)).returncode == 0, said
    slurm.wait(lambda: not slurm.queue(), 60, "an empty queue")


def test_a_refused_submission(slurm):
    said = subprocess.run([*program_argv("ipcluster"), "start", "--engines=slurm", "-n", "1", "--SlurmLauncher.queue=nowhere"],
                          capture_output=True, text=True, timeout=60)
    assert said.returncode == 1 and "invalid partition specified: nowhere" in said.stderr, said.stderr

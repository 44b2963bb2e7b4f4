# SPDX-License-Identifier: BSD-3-Clause
"""Launchers other than local: MPI, and batch systems whose commands are ours (fakebatch.py); what they leave behind."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import covey as ipp
import pytest
from covey._programs import program_argv
from traitlets import TraitError

from . import fakebatch
from .conftest import files_of, processes_of, wait_gone, wait_until
from .stack import other_engines


class Batch:
    """The fake batch systems: what was called."""

    def __init__(self, folder):
        self.folder = folder

    def pid(self, id):
        """The process of a job that runs."""
        path = self.folder / f"job{id}"
        return int(path.read_text() or 0) if path.exists() else 0

    def calls(self, name=None):
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        return [c["args"] for c in map(json.loads, lines) if name in (None, c["name"])]


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """The commands of the fake batch systems, first on PATH."""
    folder = tmp_path / "batch"
    folder.mkdir()
    program = folder / "program"
    program.write_text(f"#!{sys.executable}\n" + Path(fakebatch.__file__).read_text())
    program.chmod(0o755)
    for name in fakebatch.COMMANDS:
        (folder / name).symlink_to(program)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKEBATCH", str(folder))
    return Batch(folder)


def log_files(home):
    return sorted(p.name for p in Path(home).glob("profile_default/log/*"))


SYSTEMS = {"Slurm": ("sbatch", "scancel", "4711"), "PBS": ("qsub", "qdel", "88[]"), "SGE": ("qsub", "qdel", "77"),
           "LSF": ("bsub", "bkill", "321"), "HTCondor": ("condor_submit", "condor_rm", "55")}


@pytest.mark.parametrize("kind", SYSTEMS)
def test_engines_of_a_batch_system(home, batch, kind):
    submit, delete, id = SYSTEMS[kind]
    with ipp.Cluster(engines=kind.lower(), n=2) as rc:
        assert sorted(rc[:].apply_sync(os.getpid)) and len(rc) == 2
        state = json.loads(Path(rc.cluster.cluster_file).read_text())["engines"]["0"]
        assert (state["class"], state["job_id"], state["undo"]) == (kind, id, f"{delete} '{id}'" if "[" in id else f"{delete} {id}")
        assert len(batch.calls(submit)) == 1 and batch.calls(delete) == []
    assert batch.calls(delete) == [[id]]
    assert wait_gone(home) == {} and files_of(home) == []      # the batch system takes its time
    assert not [name for name in log_files(home) if name.endswith(".sh")]


@pytest.mark.parametrize("block, delete, id", [(2, "qdel", "88[]"), (3, "mydel", "901")])
def test_other_systems_as_the_page_has_them(home, batch, block, delete, id):
    """The profiles of docs/deploying/slurm.md for PBS and for a system of one's own."""
    page = (Path(__file__).parents[2] / "docs/deploying/slurm.md").read_text()
    profile = Path(home) / "profile_q"
    profile.mkdir(parents=True)
    (profile / "ipcluster_config.py").write_text(re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)[block])
    with ipp.Cluster(profile="q", n=2) as rc:
        assert len(set(rc[:].apply_sync(os.getpid))) == 2
        assert json.loads(Path(rc.cluster.cluster_file).read_text())["engines"]["0"]["job_id"] == id
    assert batch.calls(delete) == [[id]] and wait_gone(home) == {}


def test_htcondor_reads_the_arguments_as_they_were_meant(home, batch):
    with ipp.Cluster(engines="htcondor", n=1, config={"EngineLauncher": {"environment": {"WHERE": "it's \"here\" {i}"}}}) as rc:
        assert rc[0].apply_sync(lambda: __import__("os").environ["WHERE"]) == "it's \"here\" 0"


STATUS = {"Slurm": "squeue", "PBS": "qstat", "SGE": "qstat", "LSF": "bjobs", "HTCondor": "condor_q"}


@pytest.mark.parametrize("kind", SYSTEMS)
def test_one_question_about_all_jobs(home, batch, kind):
    """Three jobs that wait, one of which is gone: one status command for all of them, and who was told that a job has ended says so."""
    (batch.folder / "hold").touch()
    first = int(SYSTEMS[kind][2].strip("[]"))
    ids = [f"{first + i}{'[]' if kind == 'PBS' else ''}" for i in range(3)]
    cluster = ipp.Cluster(engines=kind.lower(), n=2)
    try:
        cluster.start_cluster_sync()
        cluster.start_engines_sync(2)
        cluster.start_engines_sync(2)
        pid, *_ = wait_until(lambda: all(map(batch.pid, ids)) and [batch.pid(ids[1])], what="three jobs")
        os.killpg(pid, signal.SIGKILL)
        (batch.folder / f"job{ids[1]}").unlink()
        calls = wait_until(lambda: batch.calls(STATUS[kind]), timeout=40, what="the question")
        assert [set(args) & set(ids) or set(args[-1].split(",")) for args in calls] == [set(ids)]
        if kind == "Slurm":     # the others only forget a job, which is believed the second time
            wait_until(lambda: f"job {ids[1]} has ended: CANCELLED" in "".join(map(Path.read_text, Path(home).glob("profile_default/log/ipengine*.log"))),
                       what="the job's end")
    finally:
        cluster.stop_cluster_sync()
    assert len(batch.calls(STATUS[kind])) == 1


@pytest.mark.parametrize("by", ["ipcluster stop", "Cluster"])
def test_a_job_that_can_t_be_deleted_is_told(home, batch, by):
    """With the batch system's words; `ipcluster stop` fails, a Cluster warns."""
    told = "job 4711 was not deleted and may still be in its queue: scancel: error: no permission"
    cluster = ipp.Cluster(engines="slurm", n=1, cluster_id="k")
    cluster.start_and_connect_sync().close()
    (batch.folder / "scancel").rename(batch.folder / "scancel.real")
    (batch.folder / "scancel").write_text("#!/bin/sh\necho 'scancel: error: no permission' >&2; exit 1\n")
    (batch.folder / "scancel").chmod(0o755)
    pid = batch.pid("4711")
    if by == "Cluster":
        with pytest.warns(RuntimeWarning, match=told):
            cluster.stop_cluster_sync()
    else:
        r = subprocess.run([*program_argv("ipcluster"), "stop", "--cluster-id=k"], timeout=60, capture_output=True, text=True)
        assert r.returncode == 1 and told in r.stderr, r
        cluster._supervisor.process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)      # what the job is here, if its engine has not ended it


@pytest.mark.parametrize("scancel, words", [("exec sleep 600", "it did not end"), ("sleep 7; echo no answer; exit 1", "no answer")])
@pytest.mark.parametrize("supervised", [True, False])
def test_a_batch_system_that_does_not_answer_holds_up_no_stop(home, batch, scancel, words, supervised):
    """Its command is not waited for for ever, what it has left is named, and the exit code says so. Without a supervisor the file stays for another try."""
    told = f"job 4711 was not deleted and may still be in its queue: `scancel 4711`: {words}"
    cluster = ipp.Cluster(engines="slurm", n=1, cluster_id="k")
    cluster.start_and_connect_sync().close()
    real = (batch.folder / "scancel").rename(batch.folder / "scancel.real")
    (batch.folder / "scancel").write_text(f"#!/bin/sh\n{scancel}\n")
    (batch.folder / "scancel").chmod(0o755)
    pid = batch.pid("4711")
    if not supervised:
        state = json.loads(Path(cluster.cluster_file).read_text())
        os.kill(state["engines"]["0"]["pid"], signal.SIGSTOP)       # it can't react to its parent's death
        os.kill(state["pid"], signal.SIGKILL)
        os.kill(state["engines"]["0"]["pid"], signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{p}").exists() for p in (state["engines"]["0"]["pid"], state["controller"]["pid"])), what="their ends")
    stop = [*program_argv("ipcluster"), "stop", "--cluster-id=k"]
    r = subprocess.run(stop, timeout=60, capture_output=True, text=True)
    assert r.returncode == 1 and told in r.stderr, r
    assert Path(cluster.cluster_file).exists() == (not supervised)
    cluster._supervisor.process.wait()
    if supervised:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)      # what the job is here, if its engine has not ended it
    else:
        real.rename(batch.folder / "scancel")
        assert subprocess.run(stop, timeout=60, capture_output=True).returncode == 11 and not batch.pid("4711")
    assert wait_gone(home) == {}


def test_a_stop_while_a_job_is_submitted(home, batch):
    """The submission is cut short; that it may have come to a job all the same is told."""
    (batch.folder / "sbatch").unlink()
    (batch.folder / "sbatch").write_text(f"#!/bin/sh\ntouch {batch.folder}/submitting\nexec sleep 600\n")
    (batch.folder / "sbatch").chmod(0o755)
    start = subprocess.Popen([*program_argv("ipcluster"), "start", "--engines=slurm", "-n", "1"], stderr=subprocess.PIPE, text=True)
    wait_until((batch.folder / "submitting").exists, what="the submission")
    stop = run_ipcluster("stop")
    told = "Slurm had not answered to a submission: a job of it may be in its queue"
    assert stop.returncode == 1 and told in stop.stderr, stop
    assert told in start.communicate(timeout=60)[1]
    assert wait_gone(home) == {}


def test_a_controller_in_a_queue(home, batch):
    with ipp.Cluster(controller="SlurmControllerLauncher", n=1) as rc:
        assert rc[0].apply_sync(abs, -1) == 1
    assert batch.calls("scancel") == [["4711"]] and wait_gone(home) == {}
    assert not [name for name in log_files(home) if name.endswith((".sh", ".events"))]


def test_config_and_signals_of_a_batch_system(home, batch, tmp_path):
    """Traits of the profile, a template of the user's; signals go by the batch system if the engines aren't here."""
    profile = Path(home) / "profile_q"
    profile.mkdir(parents=True)
    (profile / "ipcluster_config.py").write_text(
        "c.IPClusterEngines.engine_launcher = 'IPython.parallel.apps.launcher.SlurmEngineSetLauncher'\n"
        f"c.SlurmEngineSetLauncher.batch_file_name = '{tmp_path}/mine.sbatch'\n"
        "c.SlurmLauncher.batch_template = '#!/bin/sh\\n#SBATCH --export=ALL\\n#SBATCH --ntasks={n}\\n# {hours}\\nsrun {program_and_args}\\n'\n"
        "c.SlurmLauncher.namespace = {'hours': 7}\n")
    env = dict(os.environ)
    ipcluster = subprocess.Popen([*program_argv("ipcluster"), "start", "--profile=q", "-n", "2"], env=env, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        for line in ipcluster.stderr:
            said += line
            if "Engines appear to have started successfully" in line:
                break
        assert "--ip='*'" in said       # the controller listens on the loopback interface only
        assert "# 7\n" in (tmp_path / "mine.sbatch").read_text()
        with ipp.Cluster.from_file(profile="q").connect_client_sync() as rc:
            rc.wait_for_engines(2, timeout=60, interactive=False)
            assert ipp.Cluster.from_file(profile="q").engine_launcher_class.__name__ == "SlurmEngineSetLauncher"
            assert len(rc[:].apply_sync(os.getpid)) == 2
            (batch.folder / "engines").write_text("")
        assert subprocess.run([*program_argv("ipcluster"), "stop", "--profile=q"], env=env, timeout=60).returncode == 0
    finally:
        ipcluster.terminate()
        ipcluster.communicate(timeout=60)
    assert batch.calls("scancel") == [["4711"]] and not (tmp_path / "mine.sbatch").exists()


@pytest.mark.parametrize("words, code", [("stop --cluster-id=k", 11), ("stop --all", 0), ("clean", 0), ("start --cluster-id=k -n 0 --daemonize", 0)])
def test_a_killed_supervisor_leaves_no_job(home, batch, words, code):
    """SIGKILL to supervisor and agent: the agent's job is in the file, which stays; who finds it deletes the job."""
    cluster = ipp.Cluster(engines="slurm", n=1, cluster_id="k")
    rc = cluster.start_and_connect_sync()
    rc.close()
    state = json.loads(Path(cluster.cluster_file).read_text())
    agent = state["engines"]["0"]["pid"]
    os.kill(agent, signal.SIGSTOP)      # it can't react to its parent's death
    os.kill(state["pid"], signal.SIGKILL)
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{agent}").exists(), what="the agent's end")
    cluster._supervisor.process.wait()
    wait_until(lambda: not Path(f"/proc/{state['controller']['pid']}").exists(), what="the controller's end")
    ended = subprocess.run([*program_argv("ipcluster"), *words.split()], timeout=60, capture_output=True, text=True)
    assert ended.returncode == code and batch.calls("scancel") == [["4711"]], ended.stderr
    if words.startswith("start"):
        subprocess.run([*program_argv("ipcluster"), "stop", "--cluster-id=k"], timeout=60, check=True, capture_output=True)
    assert not Path(cluster.cluster_file).exists()


def test_a_cluster_of_another_machine(home, batch):
    """A shared home: nobody but `clean --force` touches its file or job, and a start says whose file it replaces."""
    def run(*words):
        r = subprocess.run([*program_argv("ipcluster"), *words], timeout=60, capture_output=True, text=True)
        return r.returncode, r.stderr
    home = Path(home)
    file = home / "profile_default/security/cluster-k.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    state = json.dumps({"cluster_id": "k", "host": "login1", "pid": 2**22, "pid_start": 1, "profile_dir": str(home / "profile_default"),
                        "engines": {"0": {"class": "Slurm", "pid": 2**22, "pid_start": 1, "job_id": "7", "undo": "scancel 7", "n": 1}}})
    file.write_text(state)
    client = file.parent / "ipcontroller-k-client.json"
    client.write_text("{}")
    for words in (["stop", "--cluster-id=k"], ["stop", "--all"], ["clean"]):
        code, said = run(*words)
        assert code == 1 and "was started on login1" in said, said
        assert file.read_text() == state and client.exists() and batch.calls() == []
    code, said = run("start", "--cluster-id=k", "-n", "0", "--daemonize")
    assert code == 0 and "was started on login1" in said and "its file is replaced" in said and batch.calls() == []
    assert run("stop", "--cluster-id=k")[0] == 0
    file.write_text(state)
    assert run("clean", "--force")[0] == 0 and batch.calls("scancel") == [["7"]] and not file.exists()


@pytest.mark.parametrize("own, words", [({"job_id_regexp": r"(?P<id>\d+)"}, "regular expression"),
                                        ({"job_id_regexp": "job ([0-9]+)", "job_id_regexp_group": 2}, "no group")])
def test_a_job_whose_id_could_not_be_read_is_not_submitted(home, batch, own, words):
    with pytest.raises(ipp.cluster.ClusterError) as e:
        ipp.Cluster(engines="slurm", n=1, config={"SlurmLauncher": own}).start_cluster_sync()
    assert "job_id_regexp" in str(e.value) and words in str(e.value) and batch.calls() == []


def test_an_agent_without_a_supervisor_deletes_its_job(home, batch):
    cluster = ipp.Cluster(engines="slurm", n=1)
    cluster.start_and_connect_sync().close()
    os.kill(cluster._supervisor.pid, signal.SIGKILL)
    wait_until(lambda: batch.calls("scancel") == [["4711"]], what="the job's deletion")
    cluster._supervisor.process.wait()


def test_an_agent_hears_what_came_with_its_request(batch, tmp_path):
    """The stop of a start that failed at once may be there before the agent is."""
    order = {"do": "start", "script": "#!/bin/sh\n", "path": str(tmp_path / "job.sh"), "job_id": "[0-9]+",
             "submit": ["echo", "job 4711"], "delete": ["scancel"], "status": ["false"]}
    agent = subprocess.Popen([*program_argv("ipcluster"), "batch-job"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    agent.stdin.write(b"".join(json.dumps(o).encode() + b"\n" for o in (order, {"do": "stop"})))
    agent.stdin.flush()
    assert agent.wait(timeout=60) == 0 and batch.calls("scancel") == [["4711"]]
    agent.stdin.close()


@pytest.mark.parametrize("more", [[], ["--daemonize"]])
def test_ipcluster_engines_by_a_batch_system(home, batch, more):
    """In the foreground or left running: SIGTERM to it, or the agent's, deletes the job."""
    with ipp.Cluster(n=0) as rc:
        line = [*program_argv("ipcluster"), "engines", "--engines=slurm", "-n", "1", f"--cluster-id={rc.cluster.cluster_id}", *more]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        rc.wait_for_engines(1, timeout=60, interactive=False)
        pid = next(p for p, said in processes_of(home).items() if said.endswith("batch-job"))
        assert (pid == process.pid) == (not more)
        os.kill(pid, signal.SIGTERM)
        process.communicate(timeout=60)
        wait_until(lambda: batch.calls("scancel") == [["4711"]] and rc.ids == [], what="the job's end")
    assert wait_gone(home) == {}


@pytest.mark.parametrize("submit, words", [("echo sorry >&2; exit 3", ["exited with code 3", "sorry"]), ("echo welcome", ["no job id", "welcome"])])
def test_a_submission_that_fails_says_why(home, batch, submit, words):
    (batch.folder / "sbatch").unlink()
    (batch.folder / "sbatch").write_text(f"#!/bin/sh\n{submit}\n")
    (batch.folder / "sbatch").chmod(0o755)
    with pytest.raises(ipp.cluster.ClusterError) as e:
        ipp.Cluster(engines="slurm", n=1).start_cluster_sync()
    assert all(word in str(e.value) for word in words), str(e.value)


OWN = """
import traitlets
from covey import launcher


class Own(launcher.SlurmEngineSetLauncher):
    hours = traitlets.Integer(1, config=True)
    batch_file_name = traitlets.Unicode("own.sbatch")
    default_template = traitlets.Unicode("#!/bin/sh\\n#SBATCH --export=ALL\\n#SBATCH --ntasks={n}\\n# {hours} {n//2}\\nsrun {program_and_args}\\n")

    def start(self, n):
        self.context["hours"] = self.hours
        return super().start(n)
"""


def test_m9_a_batch_class_of_ones_own(home, batch, tmp_path, monkeypatch):
    """By dotted name: it has its own traits, its job's id is in the cluster file, signals and the stop reach it."""
    (tmp_path / "ownlaunchers.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = {"Own": {"hours": 7}, "BatchSystemLauncher": {"queue": "q"}}
    c = ipp.Cluster(engines="ownlaunchers.Own", n=2, config=config)
    monkeypatch.chdir(tmp_path)
    with c as rc:
        assert len(rc[:].apply_sync(os.getpid)) == 2
        script = (tmp_path / "own.sbatch").read_text()
        assert script.count("#SBATCH --partition=q\n") == script.count("#SBATCH --output=") == 1 and "\n# 7 1\n" in script
        state = json.loads(Path(c.cluster_file).read_text())["engines"]["0"]
        assert (state["class"], state["launcher"], state["job_id"], state["undo"]) == ("Python", "ownlaunchers.Own", "4711", "scancel 4711")
        assert ipp.Cluster.from_file(c.cluster_file).to_dict()["engines"]["0"]["launcher"] == "ownlaunchers.Own"
        listed = subprocess.run([*program_argv("ipcluster"), "list"], timeout=60, capture_output=True, text=True).stdout
        assert listed.splitlines()[1].split()[-1] == "ownlaunchers.Own"
        pids = rc[:].apply_sync(os.getpid)
        c.restart_engines_sync()
        wait_until(lambda: other_engines(rc, 2, pids), what="new engines")
    assert batch.calls("scancel") == [["4711"], ["4712"]] and wait_gone(home) == {}


def test_m9_a_class_that_cannot_be_imported(home):
    """A local class as a controller and one for engines with a coroutine; both ends as they should."""
    from covey.launcher import LocalControllerLauncher, LocalEngineSetLauncher

    class Controller(LocalControllerLauncher):
        controller_args = ["--log-level=10"]

    class Engines(LocalEngineSetLauncher):
        async def start(self, n):
            self.environment = {"OWN": "yes"}
            return super().start(n)

    with ipp.Cluster(engines=Engines, controller=Controller, n=2) as rc:
        assert rc[:].apply_sync(lambda: __import__("os").environ["OWN"]) == ["yes"] * 2
        assert rc.cluster.engine_launcher_class is Engines
        pids = rc[:].apply_sync(os.getpid)
        rc.cluster.signal_engines_sync(signal.SIGTERM)
        wait_until(lambda: rc.ids == [], what="engines leaving")
    assert not set(pids) & set(processes_of(home)) and wait_gone(home) == {} and files_of(home) == []


def test_m9_an_entry_point(home, tmp_path, monkeypatch):
    """A third party's package: its entry point's name is a launcher; what its start raises is quoted."""
    (tmp_path / "mesos").mkdir()
    (tmp_path / "mesos" / "__init__.py").write_text(
        "from covey.launcher import EngineLauncher\nclass Mesos(EngineLauncher):\n"
        "    def start(self, n): raise RuntimeError(f'no mesos for {n}')\n")
    info = tmp_path / "mesos-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: mesos\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ipyparallel.engine_launchers]\nmesos = mesos:Mesos\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ipp.cluster.ClusterError, match="no mesos for 3"):
        ipp.Cluster(engines="Mesos", n=3).start_cluster_sync()


CLOUDY = """
import os
from ipyparallel.cluster import launcher
from traitlets import Unicode


class CloudyMixin:
    def start(self, *n):
        self.environment = {**self.environment, "ZONE": self.zone}
        with open(os.environ["CLOUDY"], "a") as f:
            f.write(f"start {type(self).__name__} {self.zone}\\n")
        return super().start(*n)

    async def stop(self):
        with open(os.environ["CLOUDY"], "a") as f:
            f.write(f"stop {type(self).__name__}\\n")
        super().stop()


class CloudyControllerLauncher(CloudyMixin, launcher.LocalControllerLauncher):
    zone = Unicode("near", help="where").tag(config=True)


class CloudyEngineSetLauncher(CloudyMixin, launcher.LocalEngineSetLauncher):
    zone = Unicode("near", help="where").tag(config=True)
"""


@pytest.fixture
def cloudy(tmp_path, monkeypatch):
    """Somebody's package of launchers, installed: written for ipyparallel, with traits of its own. The file in which it says what it does."""
    package = tmp_path / "site" / "cloudy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CLOUDY)
    info = tmp_path / "site" / "cloudy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cloudy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ipyparallel.controller_launchers]\ncloudy = cloudy:CloudyControllerLauncher\n"
                                           "[ipyparallel.engine_launchers]\ncloudy = cloudy:CloudyEngineSetLauncher\n")
    compat = Path(__file__).resolve().parents[2] / "compat"
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{compat}")
    monkeypatch.setenv("CLOUDY", str(tmp_path / "told"))
    return tmp_path / "told"


def run_ipcluster(*args):
    return subprocess.run([*program_argv("ipcluster"), *args], capture_output=True, text=True, timeout=60)


def test_a_package_of_launchers_by_ipcluster(home, cloudy):
    profile = Path(home) / "profile_c"
    profile.mkdir(parents=True)
    (profile / "ipcluster_config.py").write_text(
        "c.Cluster.controller_launcher_class = 'cloudy'\nc.Cluster.engine_launcher_class = 'Cloudy'\n"
        "c.CloudyControllerLauncher.zone = 'west'\nc.CloudyEngineSetLauncher.zone = 'east'\n")
    started = run_ipcluster("start", "--profile=c", "-n", "2", "--daemonize", "--CloudyEngineSetLauncher.zone=north")
    assert started.returncode == 0, started.stderr
    assert "WARNING" not in started.stderr
    with ipp.Client(profile="c") as rc:
        assert rc[:].apply_sync(os.getenv, "ZONE") == ["north"] * 2
    assert run_ipcluster("stop", "--profile=c").returncode == 0
    assert wait_gone(home) == {} and files_of(home) == []
    assert sorted(cloudy.read_text().splitlines()) == ["start CloudyControllerLauncher west", "start CloudyEngineSetLauncher north",
                                                       "stop CloudyControllerLauncher", "stop CloudyEngineSetLauncher"]


def test_a_package_of_launchers_by_cluster(home, cloudy):
    config = {"CloudyEngineSetLauncher": {"zone": "east"}}
    with ipp.Cluster(controller="cloudy", engines="cloudy", n=1, config=config) as rc:
        assert rc[:].apply_sync(os.getenv, "ZONE") == ["east"]
        pids = rc[:].apply_sync(os.getpid)
        rc.cluster.restart_engines_sync()
        wait_until(lambda: other_engines(rc, 1, pids), what="another engine")
        assert rc[:].apply_sync(os.getenv, "ZONE") == ["east"]
    assert wait_gone(home) == {} and files_of(home) == []
    assert sorted(cloudy.read_text().splitlines()) == ["start CloudyControllerLauncher near", *["start CloudyEngineSetLauncher east"] * 2,
                                                       "stop CloudyControllerLauncher", *["stop CloudyEngineSetLauncher"] * 2]


def test_a_batch_class_of_ones_own_by_ipcluster(home, batch, tmp_path, monkeypatch):
    """Its traits from the profile and the command line; `ipcluster stop` deletes its job."""
    (tmp_path / "ownlaunchers.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    profile = Path(home) / "profile_own"
    profile.mkdir(parents=True)
    (profile / "ipcluster_config.py").write_text("c.Cluster.engine_launcher_class = 'ownlaunchers.Own'\nc.Own.hours = 3\nc.SlurmLauncher.queue = 'q'\n")
    started = run_ipcluster("start", "--profile=own", "-n", "2", "--daemonize", "--Own.hours=9")
    assert started.returncode == 0, started.stderr
    script = (tmp_path / "own.sbatch").read_text()
    assert "#SBATCH --partition=q\n" in script and "\n# 9 1\n" in script
    with ipp.Client(profile="own") as rc:
        rc.wait_for_engines(2, timeout=60, interactive=False)
    assert run_ipcluster("stop", "--profile=own").returncode == 0
    assert batch.calls("scancel") == [["4711"]] and wait_gone(home) == {} and files_of(home) == []


def test_what_is_not_there_is_refused(home):
    for name in ("winhpc", "Mesos", 3):
        with pytest.raises(ipp.cluster.ClusterError, match=str(name)):
            ipp.Cluster(engines=name, n=1).start_cluster_sync()


@pytest.mark.parametrize("option", ["engines", "controller"])
def test_a_name_that_is_no_launcher_s_is_told_before_anything_starts(home, monkeypatch, option):
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kw: pytest.fail("something was started"))
    with pytest.raises(ipp.cluster.ClusterError, match=f"^{option}='nosuch': there is no launcher 'nosuch'; there are .*local.*slurm"):
        ipp.Cluster(**{option: "nosuch"}, n=1)
    later = ipp.Cluster(n=1)
    setattr(later, f"{option.removesuffix('s')}_launcher_class", "nosuch")
    with pytest.raises(TraitError, match="there is no launcher 'nosuch'"):
        later.start_cluster_sync()


mpi = pytest.mark.skipif(shutil.which("mpiexec") is None, reason="no mpiexec on PATH")
ROOT = ["--allow-run-as-root", "--oversubscribe"]


def mpi_args():
    said = subprocess.run(["mpiexec", "--version"], capture_output=True, text=True).stdout
    return ROOT if "Open" in said else []


@mpi
def test_mpi_engines_are_ranks(home):
    """M14: an engine's number is its rank; TERM to mpiexec ends all."""
    config = {"MPILauncher": {"mpi_args": mpi_args()}}
    with ipp.Cluster(engines="MPIEngineSetLauncher", n=3, config=config) as rc:
        ranks = rc[:].apply_sync(lambda: __import__("os").environ.get("PMIX_RANK") or __import__("os").environ["PMI_RANK"])
        assert ranks == ["0", "1", "2"] and rc.ids == [0, 1, 2]
        pids = rc[:].apply_sync(os.getpid)
        rc[:].execute("import signal; hits = []; signal.signal(signal.SIGUSR1, lambda *a: hits.append(1))", block=True)
        rc.cluster.signal_engines_sync(signal.SIGUSR1)
        wait_until(lambda: rc[:].pull("hits", block=True) == [[1]] * 3, what="signals at all ranks")
    assert wait_gone(home) == {} and not set(pids) & set(processes_of(home))


@mpi
def test_an_mpi_controller(home):
    config = {"MPILauncher": {"mpi_args": mpi_args()}}
    with ipp.Cluster(controller="mpi", n=1, config=config) as rc:
        assert rc[0].apply_sync(abs, -1) == 1
    assert wait_gone(home) == {} and files_of(home) == []


FAKE_MPIEXEC = """#!/bin/bash
trap 'echo told >>"$0.told"; kill $(jobs -p)' TERM
n=$2; shift 2
ranks=()
for ((i = 0; i < n; i++)); do OMPI_COMM_WORLD_RANK=$i {before} "$@" & ranks+=($!); done
code=0
for pid in "${{ranks[@]}}"; do
    wait "$pid"; status=$?
    while [ $status -gt 128 ] && kill -0 "$pid" 2>/dev/null; do wait "$pid"; status=$?; done
    [ $status -eq 0 ] || code=$status
done
echo $code >>"$0.codes"
exit $code
"""


@pytest.mark.parametrize("before, told", [("", False), ("python3 -c 'import subprocess, sys; "
                         "p = subprocess.Popen([sys.executable, \"-c\", \"import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))\", *sys.argv[1:]]); sys.exit(p.wait())'", True)])
def test_ranks_are_told_themselves_to_end(home, tmp_path, before, told):
    """mpiexec waits a second when it is told; it is, where its ranks are not found below it."""
    fake = tmp_path / "mpiexec"
    fake.write_text(FAKE_MPIEXEC.format(before=before))
    fake.chmod(0o755)
    with ipp.Cluster(engines="mpi", controller="local" if told else "mpi", n=2, config={"MPILauncher": {"mpi_cmd": [str(fake)]}}) as rc:
        pids = rc[:].apply_sync(os.getpid)
        if not told:
            rc.cluster.restart_engines_sync()
            wait_until(lambda: other_engines(rc, 2, pids), what="new ranks")
    assert wait_gone(home) == {} and os.path.exists(f"{fake}.told") == told
    if not told:
        assert (tmp_path / "mpiexec.codes").read_text().split() == ["0", "0", "0"], "a rank that ends with a failure would end all"


@mpi
def test_mpiexec_that_fails_is_quoted(home):
    config = {"MPILauncher": {"mpi_args": ["--no-such-option"]}}
    with pytest.raises(ipp.cluster.ClusterError) as e:
        ipp.Cluster(engines="mpi", n=1, config=config).start_cluster_sync()
    assert "no-such-option" in str(e.value)

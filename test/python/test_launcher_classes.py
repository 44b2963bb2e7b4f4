"""The base classes of launchers, used as people who derive from them do: no cluster, real processes."""
import json
import os
import signal
import subprocess
import sys

import pytest
from traitlets.config import Config

from covey.launcher import (BaseLauncher, HTCondorEngineSetLauncher, LauncherError, LocalControllerLauncher, LocalEngineSetLauncher,
                            LocalProcessLauncher, LSFEngineSetLauncher, MPIControllerLauncher, MPIEngineSetLauncher, PBSEngineSetLauncher,
                            ProcessStateError, SGEControllerLauncher, SlurmControllerLauncher, SlurmEngineSetLauncher, find_launcher_class)

from test.waiting import wait_until

DEAF = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def test_what_a_subclass_must_say():
    class Mine(BaseLauncher):
        pass
    mine = Mine(cluster_id="c", profile_dir="/p")
    for name, args in (("find_args", ()), ("start", ()), ("stop", ()), ("signal", (2,))):
        with pytest.raises(NotImplementedError, match=rf"Mine\.{name}"):
            getattr(mine, name)(*args)
    assert mine.get_output() == "" and not mine.running and mine.identifier == f"mine-c-{os.getpid()}"
    assert mine.get_env() == {"IPP_CLUSTER_ID": "c", "IPP_PROFILE_DIR": "/p"} and mine.cluster_args == ["--profile-dir=/p", "--cluster-id=c"]
    with pytest.raises(LauncherError, match="environment.'GPU'.*take {i} out"):
        Mine(environment={"GPU": "{i}"}).get_env()


ENDS = """
import sys
from covey.launcher import EngineLauncher, LocalEngineSetLauncher
class Word(EngineLauncher):
    def start(self, n=1):
        self.notify_start(n)
        self.notify_stop({"job": 7, "state": "gone"})
class Command(LocalEngineSetLauncher):
    engine_cmd = [sys.executable, "-c", "raise SystemExit(3)"]
class Killed(LocalEngineSetLauncher):
    engine_cmd = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
"""


@pytest.mark.parametrize("what,name,code,words", [("engines", "Word", 1, "its launcher ends:Word says that they have ended: {'job': 7, 'state': 'gone'}"),
                                                  ("controller", "Word", 1, None), ("engines", "Command", 1, None), ("engines", "Killed", 137, None)])
def test_what_the_end_of_engines_means(tmp_path, what, name, code, words):
    """A launcher's own word counts; that its command has ended says nothing of engines elsewhere, and an exit code tells what was killed."""
    (tmp_path / "ends.py").write_text(ENDS)
    request = {"do": "start", "what": what, "n": 2, "profile_dir": str(tmp_path), "cluster_id": "", "work_dir": ".", "args": []}
    agent = subprocess.Popen([sys.executable, "-m", "covey.launcher", f"ends:{name}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    agent.stdin.write(json.dumps(request) + "\n")
    agent.stdin.flush()
    said, errors = agent.stdout.read(), agent.stderr.read()
    assert agent.wait(timeout=30) == code, errors
    assert [json.loads(line) for line in said.splitlines()] == ([{"event": "set_ended", "why": words}] if words else [])
    for pipe in (agent.stdin, agent.stdout, agent.stderr):
        pipe.close()


def test_a_process_from_start_to_end(tmp_path):
    ended = []
    output = tmp_path / "out"
    launcher = LocalProcessLauncher(cmd_and_args=[sys.executable, "-c", "import os; print('A is', os.environ['A'], os.getcwd()); raise SystemExit(3)"],
                                    environment={"A": "seven"}, output_file=str(output), work_dir=str(tmp_path))
    assert launcher.state == "before" and launcher.poll() is None and launcher.stop() is None and launcher.arg_str.startswith(sys.executable)
    launcher.on_stop(ended.append)
    assert launcher.start() == launcher.pid and launcher.state == "running"
    with pytest.raises(ProcessStateError, match="'running'"):
        launcher.start()
    wait_until(lambda: ended, what="the process's end")
    assert ended == [{"exit_code": 3, "pid": launcher.pid, "identifier": launcher.identifier}] and launcher.state == "after" and launcher.poll() == 3
    launcher.on_stop(ended.append)
    assert len(ended) == 2, "who asks later hears it at once"
    assert launcher.get_output() == launcher.get_output(remove=True) == f"A is seven {tmp_path}\n" and not output.exists()
    assert launcher.get_output() == ""


def test_stopping_a_process_that_does_not_listen(tmp_path):
    output = tmp_path / "out"
    launcher = LocalProcessLauncher(cmd_and_args=[sys.executable, "-c", DEAF], output_file=str(output), stop_seconds_until_kill=0)
    launcher.start()
    wait_until(lambda: "deaf" in launcher.get_output(), what="the process's beginning")
    launcher.stop()
    assert launcher.poll() == -signal.SIGKILL


def test_signals_reach_the_process(tmp_path):
    launcher = LocalProcessLauncher(cmd_and_args=["sleep", "60"], output_file=str(tmp_path / "out"))
    launcher.signal(signal.SIGTERM)     # nothing runs: nothing happens
    launcher.start()
    launcher.signal(signal.SIGTERM)
    wait_until(lambda: launcher.poll() == -signal.SIGTERM, what="the end by the signal")


def test_command_lines():
    where = {"profile_dir": "/p", "cluster_id": "c"}
    which = ["--profile-dir=/p", "--cluster-id=c"]
    config = Config({"EngineLauncher": {"engine_cmd": ["e"], "engine_args": ["-x"]}, "ControllerLauncher": {"controller_cmd": ["k"], "controller_args": ["-y"]},
                     "MPILauncher": {"mpi_cmd": ["srun"], "mpi_args": ["--mpi=none"]}})
    assert LocalControllerLauncher(config=config, **where).args == ["k", *which, "-y"]
    assert LocalEngineSetLauncher(config=config, n=3, **where).args == ["e", *which, "--n=3", "-x"]
    assert MPIControllerLauncher(config=config, **where).args == ["srun", "-n", "1", "--mpi=none", "k", *which, "-y"]
    assert MPIEngineSetLauncher(config=config, n=3, **where).args == ["srun", "-n", "3", "--mpi=none", "e", *which, "--n=1", "-x"]


def test_a_launcher_as_a_dict():
    known = LocalEngineSetLauncher(n=3, cluster_id="c", environment={"A": "1"}).to_dict()
    assert (known["n"], known["cluster_id"], known["environment"], known["state"]) == (3, "c", {"A": "1"}, "before")
    again = LocalEngineSetLauncher.from_dict({**known, "unknown": 1})
    assert (again.n, again.cluster_id) == (3, "c")


@pytest.mark.parametrize("kind", [SlurmEngineSetLauncher, SlurmControllerLauncher, PBSEngineSetLauncher, SGEControllerLauncher, LSFEngineSetLauncher])
def test_a_batch_script_has_each_line_once(tmp_path, kind):
    """Also that of a controller, which is no array; a path with blanks is one word."""
    launcher = kind(output_file="/my dir/o", queue="q", work_dir=str(tmp_path), program=["run"], program_args=["a b"])
    launcher.write_batch_script(2)
    text = (tmp_path / launcher.batch_file_name).read_text()
    assert text.count("'/my dir/o'") == 1 and "run 'a b'\n" in text and "{" not in text
    assert ("-t 1-2" in text or "[1-2]" in text) == (kind in (PBSEngineSetLauncher, LSFEngineSetLauncher))


def test_arguments_as_htcondor_reads_them(tmp_path):
    launcher = HTCondorEngineSetLauncher(work_dir=str(tmp_path), program=["run"], program_args=["it's", 'a "b"', "", "--c=d"])
    launcher.write_batch_script(2)
    text = (tmp_path / launcher.batch_file_name).read_text()
    assert """arguments = "'it''s' 'a ""b""' '' --c=d"\n""" in text and "executable = run\n" in text


def test_a_submission_without_a_job_id_is_shown(tmp_path):
    launcher = SlurmEngineSetLauncher(work_dir=str(tmp_path))
    with pytest.raises(LauncherError, match=r"no job id \(.*\) in what sbatch said: 'sbatch: your account has expired'"):
        launcher.parse_job_id("sbatch: your account has expired")
    assert launcher.parse_job_id("Submitted batch job 17 on cluster x") == launcher.job_id == "17"


def test_a_name_that_is_no_launcher():
    with pytest.raises(ValueError, match="^json.dumps is a function, not a launcher's class$"):
        find_launcher_class("json:dumps", "engine")
    with pytest.raises(ValueError, match="^there is no launcher 'sluurm'; there are .*slurm.*, and classes by their dotted path$"):
        find_launcher_class("sluurm", "engine")

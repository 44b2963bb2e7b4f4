# SPDX-License-Identifier: BSD-3-Clause
"""Command lines and config of ipcluster, ipcontroller, ipengine, by the ids of the feature list (C…: command line, K…: settings)."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from covey._programs import program_argv
from covey.config import RENAMED

from .conftest import wait_until

ROOT = Path(__file__).resolve().parents[2]
COMPAT = ROOT / "compat"
VERBS = ("start", "engines", "stop", "list", "clean")


def run(env, program, *args, check=None, **more):
    """One command to its end."""
    done = subprocess.run([*program_argv(program), *args], env={**env, **more}, capture_output=True, text=True, timeout=60)
    assert check is None or done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def config(env, program, *args, **more):
    """What --show-config prints, and what was said beside it."""
    done = run(env, program, *args, "--show-config-json", check=0, **more)
    return json.loads(done.stdout), done.stderr


def profile_file(env, name, text, profile="default"):
    folder = Path(env["IPYTHONDIR"]) / f"profile_{profile}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


# ---- 1.1 programs and common conventions


@pytest.mark.parametrize("args", [(), ("frobnicate",)], ids=["C001-none", "C001-unknown"])
def test_ipcluster_without_a_verb(ipython_dir, args):
    done = run(ipython_dir, "ipcluster", *args, check=1)
    assert all(verb in done.stdout for verb in VERBS)


def test_ipcluster_help(ipython_dir):
    done = run(ipython_dir, "ipcluster", "help", check=0)
    assert done.stdout == run(ipython_dir, "ipcluster", "--help", check=0).stdout and done.stderr == ""


@pytest.mark.parametrize("module, start", [("cluster", "usage: ipcluster"), ("controller", "usage: ipcontroller"), ("engine", "usage: ipengine")])
@pytest.mark.parametrize("package", ["covey", "ipyparallel"])
def test_modules_are_the_programs(ipython_dir, package, module, start):  # C004
    env = dict(ipython_dir, PYTHONPATH=os.pathsep.join([str(COMPAT), ipython_dir.get("PYTHONPATH", "")]))
    args = ["start"] if module == "cluster" else []
    done = subprocess.run([sys.executable, "-m", f"{package}.{module}", *args, "--help"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.lower().startswith(start)


@pytest.mark.parametrize("program", [("ipcluster",), ("ipcluster", "start"), ("ipcontroller",), ("ipengine",)], ids=" ".join)
@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_c008_version(ipython_dir, program, flag):
    done = run(ipython_dir, program[0], *program[1:], flag, check=0)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("program", [*((("ipcluster", v)) for v in VERBS), ("ipcontroller",), ("ipengine",)], ids=" ".join)
def test_c009_c010_help(ipython_dir, program):
    short = run(ipython_dir, program[0], *program[1:], "-h", check=0).stdout
    assert short == run(ipython_dir, program[0], *program[1:], "--help", check=0).stdout
    every = run(ipython_dir, program[0], *program[1:], "--help-all", check=0).stdout
    assert every.startswith(short)
    assert len(re.findall(r"^--\w+\.\w+=<\w+>$", every, re.M)) > 20
    if program[-1] in ("start", "engines"):  # C011
        assert "slurm" in short and "sshproxy" in short


N = [("--n=4",), ("--n", "4"), ("-n", "4"), ("-n=4",), ("-n4",), ("--Cluster.n=4",), ("-N=4",), ("-N", "4"), ("--IPClusterEngines.n=4",)]


@pytest.mark.parametrize("words", N, ids=lambda words: "C012 " + " ".join(words))
def test_spellings_of_a_value(ipython_dir, words):
    assert config(ipython_dir, "ipcluster", "start", *words)[0]["Cluster"] == {"n": 4}


@pytest.mark.parametrize("program, words, says", [
    ("ipcluster", ("start", "--bogus=3"), "unknown option --bogus"),
    ("ipcluster", ("start", "--profil=x"), "did you mean --profile?"),
    ("ipcluster", ("start", "--controller-args=x"), "unknown option --controller-args"),
    ("ipcontroller", ("--prot=1",), "did you mean --port?"),
    ("ipengine", ("--profile-dri=x",), "did you mean --profile-dir?"),
    ("ipengine", ("word",), "'word' is not an option"),
])
def test_c014_c098_unknown_options(ipython_dir, program, words, says):
    done = run(ipython_dir, program, *words, check=2)
    assert says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("program, words, says", [
    ("ipcluster", ("list", "-o=bad"), "text or json"),
    ("ipcluster", ("start", "-n", "x"), "Cluster.n (command line) must be a whole number, not \"x\""),
    ("ipcontroller", ("--port=99999",), "IPController.port (command line) is neither a port between 1 and 65535"),
    ("ipcontroller", ("--scheme=best",), "there is no scheme 'best' (leastload, lru"),
    ("ipengine", ("-n=0",), "IPEngine.n (command line) must be from 1 to"),
])
def test_c014_c097_bad_values(ipython_dir, program, words, says):
    Path(ipython_dir["IPYTHONDIR"], "profile_default").mkdir(parents=True)
    done = run(ipython_dir, program, *words, check=1)
    assert says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("program, words, says", [
    ("ipcluster", ("start", "--Clustr.n=4"), "Clustr.n (command line) is not known and has no effect; did you mean Cluster.n?"),
    ("ipcluster", ("start", "--Cluster.m_timeout=4"), "Cluster.m_timeout (command line) is not known and has no effect"),
    ("ipcontroller", ("--IPController.locaton=4",), "did you mean IPController.location?"),
    ("ipengine", ("--IPEngine.tiemout=4",), "did you mean IPEngine.timeout?"),
])
def test_c015_unknown_settings_are_told(ipython_dir, program, words, says):
    assert says in config(ipython_dir, program, *words)[1]


@pytest.mark.parametrize("words", [("--IPEngine.timeout=5",), ("--InteractiveShell.colors=nocolor",), ("--ZMQInteractiveShell.x=1",),
                                   ("--MyLauncher.x=1",), ("--InteractiveShellApp.exec_PYTHONSTARTUP=False",)], ids=lambda w: w[0])
def test_k110_settings_of_others_are_not_told(ipython_dir, words):
    assert config(ipython_dir, "ipengine", *words)[1] == ""


@pytest.mark.parametrize("words", [("ipengine",), ("ipcluster", "engines"), ("ipcluster", "stop"), ("ipcluster", "list"), ("ipcluster", "clean")],
                         ids=" ".join)
def test_c016_a_missing_profile(ipython_dir, words):
    done = run(ipython_dir, words[0], *words[1:], "--profile=nope", check=1)
    assert "nope" in done.stderr and "not found" in done.stderr


@pytest.mark.parametrize("spelling", ["--profile-dir", "--profile_dir"], ids=["C017", "C018"])
def test_profile_dir(ipython_dir, tmp_path, spelling):
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "ipengine_config.json").write_text('{"IPEngine": {"n": 3}}')
    assert config(ipython_dir, "ipengine", f"{spelling}={folder}")[0]["IPEngine"]["n"] == 3


def test_c019_c101_c102_where_profiles_are(ipython_dir, tmp_path):
    def n(*args, **more):
        return config(ipython_dir, "ipengine", *args, **more)[0].get("IPEngine", {}).get("n")

    for i, name in enumerate(("a/profile_default", "b/profile_x", "c"), 1):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "ipengine_config.json").write_text(json.dumps({"IPEngine": {"n": i}}))
    assert n(f"--ipython-dir={tmp_path}/a") == 1
    assert n("--profile=x", IPYTHONDIR=f"{tmp_path}/b") == 2
    assert n("--profile=x", IPYTHONDIR=f"{tmp_path}/b", IPP_PROFILE_DIR=f"{tmp_path}/c") == 3
    assert n(f"--profile-dir={tmp_path}/a/profile_default", IPP_PROFILE_DIR=f"{tmp_path}/c") == 1


def test_c020_c120_order_of_files(ipython_dir, tmp_path):
    """Later wins: ipython_config, APP.py, APP.json, --config, the command line."""
    extra = tmp_path / "extra.py"
    extra.write_text("c.Cluster.n = 4")
    profile_file(ipython_dir, "ipython_config.py", "c.Cluster.n = 1")
    assert config(ipython_dir, "ipcluster", "start")[0]["Cluster"]["n"] == 1
    profile_file(ipython_dir, "ipcluster_config.py", "c = get_config()\nc.Cluster.n = 2")
    assert config(ipython_dir, "ipcluster", "start")[0]["Cluster"]["n"] == 2
    profile_file(ipython_dir, "ipcluster_config.json", '{"Cluster": {"n": 3}}')  # C118
    assert config(ipython_dir, "ipcluster", "start")[0]["Cluster"]["n"] == 3
    assert config(ipython_dir, "ipcluster", "start", f"--config={extra}")[0]["Cluster"]["n"] == 4
    assert config(ipython_dir, "ipcluster", "start", f"--config={extra}", "-n=5")[0]["Cluster"]["n"] == 5
    assert "no/such.py" in run(ipython_dir, "ipcluster", "start", "--config=no/such.py", check=1).stderr


@pytest.mark.parametrize("program, words, name", [("ipcluster", ("start",), "ipcluster"), ("ipcontroller", (), "ipcontroller"),
                                                  ("ipengine", (), "ipengine")], ids=lambda v: str(v))
def test_c027_init(ipython_dir, program, words, name):
    path = Path(ipython_dir["IPYTHONDIR"]) / "profile_default" / f"{name}_config.py"
    run(ipython_dir, program, *words, "--init", check=0)
    text = path.read_text()
    assert all(line.startswith("#") or not line for line in text.splitlines())
    assert text == run(ipython_dir, program, *words, "--help-all=config", check=0).stdout
    path.write_text("c.X.y = 1")
    run(ipython_dir, program, *words, "--init", check=0)
    assert path.read_text() == "c.X.y = 1"


def test_c117_profile_create_parallel(ipython_dir):
    env = dict(ipython_dir, PYTHONPATH=os.pathsep.join([str(COMPAT), ipython_dir.get("PYTHONPATH", "")]))
    done = subprocess.run([sys.executable, "-m", "IPython", "profile", "create", "--parallel", "--profile=snet"], env=env, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    folder = Path(ipython_dir["IPYTHONDIR"]) / "profile_snet"
    assert len(list(folder.glob("*.py"))) == 5
    for name, words in (("ipcluster", ("start",)), ("ipcontroller", ()), ("ipengine", ())):
        text = (folder / f"{name}_config.py").read_text()
        assert text == run(ipython_dir, name, *words, "--help-all=config", check=0).stdout
        evaluated = re.sub(r"^# (c\.\S+ = )", r"\1", text, flags=re.M)  # every line of it can be switched on
        (folder / f"{name}_config.py").write_text(evaluated)
        assert config(ipython_dir, name, *words, "--profile=snet")[1] == ""


# ---- 1.8, 1.9: every option of stock is accepted

CONTROLLER = ["--ip=*", "--location=h", "--ssh=u@h:2", "--enginessh=h", "--transport=tcp", "--port=21500", "--ports=21001-21018,300", "--ping=250",
              "--scheme=lru", "--hwm=0", "--usethreads", "--dictdb", "--sqlitedb", "--mongodb", "--nodb", "--reuse", "--restore", "--secure",
              "--no-secure", "--ident=x", "--user=x", "--keyfile=/x", "--log-to-file", "--clean-logs=True", "--log-url=tcp://h:1", "--debug",
              "--quiet", "--log-level=30", "--work-dir=/tmp", "--cluster-id=5"]
ENGINE = ["--file=/f", "--location=h", "--url=tcp://h:1", "-c=x=1", "--c=x=1", "-s=x.py", "--s=x.py", "--timeout=5", "--mpi", "--mpi=mpi4py", "--secure",
          "--no-secure", "--ident=x", "--user=x", "--keyfile=/x", "--log-to-file", "--clean-logs", "--log-url=tcp://h:1", "--debug", "--quiet",
          "--log-level=DEBUG", "--work-dir=/tmp", "--cluster-id=5", "--n=1"]
START = ["--n=4", "--engines=MPI", "--engines=sshproxy", "--controller=LOCAL", "--delay=2", "--ip=*", "--location=h", "--daemonize", "--daemonize=True",
         "--engines=IPython.parallel.apps.launcher.SSHEngineSetLauncher", "--engines=ipyparallel.apps.launcher.PBSEngineSetLauncher",
         "--log-to-file", "--clean-logs=False", "--log-url=x", "--debug", "--quiet", "--work-dir=/tmp", "--cluster-id=a", "--reuse"]


@pytest.mark.parametrize("option", CONTROLLER)
def test_options_of_ipcontroller(ipython_dir, option):
    config(ipython_dir, "ipcontroller", option)


@pytest.mark.parametrize("option", ENGINE)
def test_options_of_ipengine(ipython_dir, option):
    config(ipython_dir, "ipengine", option)


@pytest.mark.parametrize("option", START)
def test_options_of_ipcluster_start(ipython_dir, option):
    config(ipython_dir, "ipcluster", "start", option)


@pytest.mark.parametrize("verb, option", [
    ("engines", "-n=1"), ("engines", "--engines=mpi"), ("engines", "--daemonize"), ("stop", "--all"), ("stop", "--signal=9"), ("list", "-o=json"),
    ("list", "--o=JSON"), ("list", "--cluster-id=x"), ("clean", "--force"), ("clean", "--all"), ("clean", "--debug")])
def test_options_of_the_other_verbs(ipython_dir, verb, option):
    config(ipython_dir, "ipcluster", verb, option)


# ---- 2: settings

FORMER = [
    ("ipcontroller", "c.HubFactory.ip = '*'", "HubFactory.ip", ("IPController", "ip", "*"), "K113"),
    ("ipcontroller", "c.HubFactory.client_ip = 'h'", "HubFactory.client_ip", ("IPController", "client_ip", "h"), "K114"),
    ("ipcontroller", "c.IPControllerApp.reuse_files = True", "IPControllerApp.reuse_files", ("IPController", "reuse_files", True), "K112"),
    ("ipcontroller", "c.HubFactory.regport = 7", "HubFactory.regport", ("IPController", "port", 7), "K077"),
    ("ipengine", "c.EngineFactory.timeout = 1", "EngineFactory.timeout", ("IPEngine", "timeout", 1), "K115"),
    ("ipengine", "c.IPEngineApp.startup_script = 'x'", "IPEngineApp.startup_script", ("IPEngine", "startup_script", "x"), "K115b"),
    ("ipcluster", "c.IPClusterApp.log_level = 10", "IPClusterApp.log_level", ("IPCluster", "log_level", 10), "K116"),
    ("ipcluster", "c.IPClusterEngines.engine_launcher_class = 'SSH'", "IPClusterEngines.engine_launcher_class",
     ("Cluster", "engine_launcher_class", "SSH"), "K117"),
    ("ipcluster", "c.IPClusterStart.controller_launcher_class = 'Local'", "IPClusterStart.controller_launcher_class",
     ("Cluster", "controller_launcher_class", "Local"), "K118"),
    ("ipcluster", "c.IPClusterStart.controller_location = 'h'", "IPClusterStart.controller_location", ("Cluster", "controller_location", "h"), "K119"),
    ("ipcluster", "c.IPClusterEngines.n = 3", "IPClusterEngines.n", ("Cluster", "n", 3), "K120"),
    ("ipcluster", "c.IPClusterEngines.engine_launcher = 'IPython.parallel.apps.launcher.SSHEngineSetLauncher'", "IPClusterEngines.engine_launcher",
     ("Cluster", "engine_launcher_class", "IPython.parallel.apps.launcher.SSHEngineSetLauncher"), "K121-K122"),
    ("ipcluster", "c.MPIExecEngineSetLauncher.mpi_args = ['-x']", "MPIExecEngineSetLauncher.mpi_args",
     ("MPIEngineSetLauncher", "mpi_args", ["-x"]), "K123"),
    ("ipengine", "c.MPI.use = 'mpi4py'", "MPI.use", ("IPEngine", "use_mpi", "mpi4py"), "K126"),
]


@pytest.mark.parametrize("program, line, old, new", [f[:4] for f in FORMER], ids=[f[4] for f in FORMER])
def test_former_names(ipython_dir, program, line, old, new):
    path = profile_file(ipython_dir, f"{program}_config.py", f"\n{line}\n")
    tree, said = config(ipython_dir, program, *(("start",) if program == "ipcluster" else ()))
    assert tree[new[0]][new[1]] == new[2]
    assert said == f"{old} is now called {new[0]}.{new[1]} ({path}:2)\n"


def test_k120_todays_name_wins(ipython_dir):
    profile_file(ipython_dir, "ipcluster_config.py", "c.IPClusterStart.n = 3\nc.Cluster.n = 5")
    tree, said = config(ipython_dir, "ipcluster", "start")
    assert tree["Cluster"]["n"] == 5 and "IPClusterStart.n is now called Cluster.n, which is set too and wins" in said


def test_k112_former_names_on_the_command_line(ipython_dir):
    profile_file(ipython_dir, "ipcontroller_config.json", '{"IPController": {"ip": "a"}}')
    tree, said = config(ipython_dir, "ipcontroller", "--HubFactory.ip=b")
    assert tree["IPController"]["ip"] == "b" and said == "HubFactory.ip is now called IPController.ip (command line)\n"


def test_the_python_class_knows_the_programs_former_names(ipython_dir):
    said = json.loads(run(ipython_dir, "ipcluster", "start", "--help-all=json", check=0).stdout)["renamed"]
    ours = {(r["class"], r["name"]): r["to_name"] or r["name"] for r in said if r["to_class"] == "Cluster"}
    assert ours == RENAMED


NO_EFFECT = [("ipcontroller", "c.HeartMonitor.period = 250", "HeartMonitor.period", "K088"), ("ipcontroller", "c.Session.packer = 'pickle'", "Session.packer", "K009"),
             ("ipcontroller", "c.IPController.use_threads = True", "IPController.use_threads", "K080"),
             ("ipcontroller", "c.MongoDB.database = 'x'", "MongoDB.database", "K093"), ("ipengine", "c.IPEngine.enable_nanny = False", "IPEngine.enable_nanny", "K104"),
             ("ipcluster", "c.Cluster.delay = 5", "Cluster.delay", "K020"), ("ipcluster", "c.SSHLauncher.scp_cmd = ['x']", "SSHLauncher.scp_cmd", "K045"),
             ("ipcluster", "c.LocalEngineSetLauncher.delay = 1", "LocalEngineSetLauncher.delay", "K040"),
             ("ipcluster", "c.IPClusterEngines.early_shutdown = 0", "IPClusterEngines.early_shutdown", "K013")]


@pytest.mark.parametrize("program, line, name", [n[:3] for n in NO_EFFECT], ids=[n[3] for n in NO_EFFECT])
def test_settings_without_effect_say_so_once(ipython_dir, program, line, name):
    path = profile_file(ipython_dir, f"{program}_config.py", line)
    said = config(ipython_dir, program, *(("start",) if program == "ipcluster" else ()))[1]
    assert said.startswith(f"{name} ({path}:1) has no effect here: ") and said.count("\n") == 1


@pytest.mark.parametrize("name, text, line", [("ipcluster_config.py", "# c.Cluster.n = 1\nc.Cluster.n = 'four'\n", 2),
                                              ("ipcluster_config.json", '{"Cluster":\n  {\n"n": "four"}}', 3)])
def test_a_bad_value_names_its_line(ipython_dir, name, text, line):
    path = profile_file(ipython_dir, name, text)
    said = run(ipython_dir, "ipcluster", "start", check=1).stderr
    assert f'Cluster.n ({path}:{line}) must be a whole number, not "four"' in said


@pytest.mark.parametrize("line, says", [("c.MPILauncher.mpi_args = {'a': 1}", "MPILauncher.mpi_args ({path}:1) must be a list of words"),
                                        ("c.EngineLauncher.environment = {'A': 1}", "EngineLauncher.environment ({path}:1) must be a dict of texts"),
                                        ("c.EngineLauncher.engine_args = [1]", "EngineLauncher.engine_args ({path}:1) must be a list of texts"),
                                        ("c.Cluster.controller_args = 3", "Cluster.controller_args ({path}:1) must be a list of words"),
                                        ("c.SSHLauncher.nothing = 3", "SSHLauncher.nothing ({path}:1) is not known and has no effect")])
def test_a_launchers_bad_setting_names_its_line(ipython_dir, line, says):
    path = profile_file(ipython_dir, "ipcluster_config.py", line)
    done = run(ipython_dir, "ipcluster", "engines", "-n", "1", "--engines=mpi", "--IPEngine.timeout=0.1")
    assert done.returncode != 0 and says.format(path=path) in done.stderr


def test_settings_of_the_tables_are_read_somewhere():
    """A row of the catalog that no program and no part of the package reads is a mistake."""
    sources = [p for p in (ROOT / "src").rglob("*.c") if p.parent.name != "catalog"] + list((ROOT / "python").rglob("*.py"))
    text = "\n".join(p.read_text() for p in sources)
    for program, words in (("ipcluster", ("start",)), ("ipcontroller", ()), ("ipengine", ())):
        done = subprocess.run([*program_argv(program), *words, "--help-all=json"], capture_output=True, text=True, check=True, timeout=60)
        unread = [f"{r['class']}.{r['name']}" for r in json.loads(done.stdout)["settings"]
                  if not r["no_effect"] and not re.search(rf"\b{r['name']}\b", text)]
        assert not unread


def test_documents_say_what_the_programs_say():
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "options_doc.py"), "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- 1.10, 1.11


def test_c055_c056_c099_nothing_to_stop(ipython_dir):
    Path(ipython_dir["IPYTHONDIR"], "profile_default").mkdir(parents=True)
    assert "Could not find cluster file" in run(ipython_dir, "ipcluster", "stop", check=11).stderr
    run(ipython_dir, "ipcluster", "stop", "a", "b", check=11)
    run(ipython_dir, "ipcluster", "stop", "--all", check=0)


def test_c058_c061_lists(ipython_dir):
    assert run(ipython_dir, "ipcluster", "list", check=0).stdout.split() == ["PROFILE", "CLUSTER", "ID", "RUNNING", "ENGINES", "LAUNCHER"]
    assert run(ipython_dir, "ipcluster", "list", "-o", "JSON", check=0).stdout == "[]"


def test_c022_a_work_dir_that_is_not_there(ipython_dir, tmp_path):
    done = run(ipython_dir, "ipcluster", "start", "-n", "1", f"--work-dir={tmp_path / 'nowhere'}", check=1)
    assert "work_dir" in done.stderr and f"must be a folder that is there, not {tmp_path / 'nowhere'}" in done.stderr


def cluster_file(ipython_dir, name, **more):
    """The file of a cluster whose processes are gone."""
    path = os.path.join(ipython_dir["IPYTHONDIR"], "profile_default", "security", f"cluster-{name}.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    local = {"class": "Local", "pid": 2**22 + 1, "pid_start": 5, "log": "/dev/null"}
    state = {"class": "covey.cluster.Cluster", "cluster_id": name, "profile_dir": os.path.dirname(os.path.dirname(path)),
             "host": socket.gethostname(), "pid": 2**22 + 1, "pid_start": 5, "control": "@gone", "controller": local,
             "engines": {"0": dict(local, n=2)}, **more}
    with open(path, "w") as f:
        json.dump(state, f)
    return path


def test_c060_a_stale_file_is_shown_once(ipython_dir):
    gone = cluster_file(ipython_dir, "gone")
    there = cluster_file(ipython_dir, "there", host="another-machine")
    job = cluster_file(ipython_dir, "job", engines={"0": {"class": "Slurm", "n": 2, "job_id": "17"}})
    shown = json.loads(run(ipython_dir, "ipcluster", "list", "-o", "json").stdout)
    assert [(c["cluster_id"], c["running"]) for c in shown] == [("gone", False), ("job", False), ("there", False)]
    assert not os.path.exists(gone) and os.path.exists(there) and os.path.exists(job)
    shown = json.loads(run(ipython_dir, "ipcluster", "list", "-o", "json").stdout)
    assert [c["cluster_id"] for c in shown] == ["job", "there"]


@pytest.mark.parametrize("text", ["x", "3x", " 3", "-1", "999999", "99999999999999999999"])
def test_events_descriptor_is_a_number_of_an_open_one(ipython_dir, text):
    done = run(ipython_dir, "ipcluster", "start", "-n", "0", check=1, COVEY_EVENTS_FD=text)
    assert f"COVEY_EVENTS_FD={text[:40]} is not the number of an open descriptor" in done.stderr


# ---- S10: an engine's place on its host

def variable(rc, name):
    return rc[:].apply_sync(lambda n: __import__("os").environ.get(n), name)


@pytest.fixture
def cluster(ipython_dir, monkeypatch):
    """Makes a Cluster with this config of ipcluster; all are stopped."""
    import covey

    for name in ("IPYTHONDIR", "IPP_NONINTERACTIVE"):
        monkeypatch.setenv(name, ipython_dir[name])
    made = []

    def make(text="", **options):
        profile_file(ipython_dir, "ipcluster_config.py", text)
        made.append(covey.Cluster(profile="default", cluster_id="", **options))
        return made[-1].start_and_connect_sync()

    yield make
    for c in made:
        c.stop_cluster_sync()


def test_s10_place_in_the_environment(cluster):
    rc = cluster("c.EngineLauncher.environment = {'PLACE': 'gpu{i}-{i}', 'SAME': 'x'}", n=3)
    assert sorted(variable(rc, "PLACE")) == ["gpu0-0", "gpu1-1", "gpu2-2"]
    assert variable(rc, "SAME") == ["x"] * 3


def test_s10_one_engine(cluster):
    assert variable(cluster("c.BaseLauncher.environment = {'PLACE': '{i}'}", n=1), "PLACE") == ["0"]


@pytest.mark.parametrize("visible, seen", [("4,5,7,8", ["4,5", "7,8"]), (None, ["0,1", "2,3"])])
def test_s10_gpus_per_engine(cluster, monkeypatch, visible, seen):
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    else:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if os.path.exists("/dev/nvidia0"):
            pytest.skip("this machine's own GPUs would be counted")
    assert sorted(variable(cluster(n=2, gpus_per_engine=2), "CUDA_VISIBLE_DEVICES")) == seen


def test_s10_too_few_gpus_say_so(ipython_dir):
    done = run(ipython_dir, "ipcluster", "start", "-n", "3", "--gpus-per-engine=1", check=1, CUDA_VISIBLE_DEVICES="0,1")
    assert "gpus_per_engine=1: 3 engines here need 3 GPUs, but CUDA_VISIBLE_DEVICES names 2" in done.stderr


def test_s10_a_wrapper_for_each_engine(cluster, tmp_path):
    wrapper = tmp_path / "wrapper"
    wrapper.write_text('#!/bin/sh\nWRAPPED=$1; export WRAPPED; shift; exec "$@"\n')
    wrapper.chmod(0o755)
    rc = cluster(f"c.EngineLauncher.engine_cmd = [{str(wrapper)!r}, 'w{{i}}', {sys.executable!r}, '-m', 'covey.engine']\n"
                 "c.EngineLauncher.environment = {'PLACE': '{i}'}", n=2)
    assert sorted(variable(rc, "WRAPPED")) == ["w0", "w1"] and sorted(variable(rc, "PLACE")) == ["0", "1"]


def test_s10_a_wrapper_for_all(cluster, tmp_path):
    log = tmp_path / "log"
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\necho once >> {log}\nexec "$@"\n')
    wrapper.chmod(0o755)
    rc = cluster(f"c.EngineLauncher.engine_cmd = [{str(wrapper)!r}, {sys.executable!r}, '-m', 'covey.engine']", n=2)
    assert len(rc) == 2 and log.read_text() == "once\n"


def test_s10_places_where_nobody_fills_them_in(ipython_dir):
    profile_file(ipython_dir, "ipcluster_config.py", "c.ControllerLauncher.environment = {'X': '{i}'}")
    assert "environment[X] has {i}" in run(ipython_dir, "ipcluster", "start", "-n", "0", check=1).stderr


# ---- 1.3: engines for a controller that is there


@pytest.fixture
def controller(ipython_dir):
    """A controller in the foreground of its own; what engines join it is ended with it."""
    process = subprocess.Popen(program_argv("ipcontroller"), env=ipython_dir, stderr=subprocess.DEVNULL)
    folder = Path(ipython_dir["IPYTHONDIR"]) / "profile_default" / "security"
    wait_until(lambda: (folder / "ipcontroller-engine.json").exists(), what="the connection file")
    yield folder
    process.terminate()
    assert process.wait(30) == 0  # C082


def pid_in(text):
    return int(re.search(r"process (\d+)", text)[1])


def test_c047_daemonized_engines_are_there(ipython_dir, controller):
    import covey

    done = run(ipython_dir, "ipcluster", "engines", "-n", "2", "--daemonize", check=0)
    assert "2 engines are running" in done.stderr
    with covey.Client(str(controller / "ipcontroller-client.json")) as rc:
        assert len(rc) == 2  # at once
    os.kill(pid_in(done.stderr), signal.SIGTERM)


def test_c052_daemonized_engines_that_fail_say_why(ipython_dir, controller):
    done = run(ipython_dir, "ipcluster", "engines", "-n", "2", "--daemonize", "--IPEngine.engine_module=no_such_module", check=1)
    assert "CRITICAL | an engine failed" in done.stderr or "ipengine ended" in done.stderr
    assert "no_such_module" in done.stderr


def test_c052_daemonized_engines_without_a_controller(ipython_dir):
    Path(ipython_dir["IPYTHONDIR"], "profile_default").mkdir(parents=True)
    done = run(ipython_dir, "ipcluster", "engines", "-n", "1", "--daemonize", "--engine-timeout=1", check=1)
    assert "0 of 1 engines were there after 1 s" in done.stderr
    done = run(ipython_dir, "ipcluster", "engines", "-n", "1", "--daemonize", "--IPEngine.timeout=0.5", check=1)
    assert "ipengine ended; it said last:" in done.stderr and "connection file" in done.stderr


@pytest.mark.parametrize("words,code,says", [(("tunnel", "nowhere.invalid", "p"), 0, "[tunnel] closed\n"), (("doctor",), 130, "")])
def test_an_early_ctrl_c_is_no_traceback(ipython_dir, tmp_path, words, code, says):
    """One that comes while Python still starts."""
    (tmp_path / "sitecustomize.py").write_text("import os\nos.kill(os.getpid(), 2)\n")
    done = run(ipython_dir, "ipcluster", *words, check=code, PYTHONPATH=str(tmp_path))
    assert (done.stdout, done.stderr) == ("", says)

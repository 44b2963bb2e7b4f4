# SPDX-License-Identifier: BSD-3-Clause
"""Rows of section 1: programs, options, exit codes, environment, files."""
from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import covey as ipp

from ..waiting import wait_until
from .ground import Ground, raises, row

VERBS = ("start", "engines", "stop", "list", "clean")
PROGRAMS = [*(("ipcluster", v) for v in VERBS), ("ipcontroller",), ("ipengine",)]


def says(t: Ground, *words: str, code: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """A command that ends with this code."""
    done = t.run(*words, env=env)
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def shown(t: Ground, *words: str, env: dict[str, str] | None = None) -> dict:
    """The config that --show-config prints; nothing is said beside it."""
    done = says(t, *words, "--show-config", env=env)
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


def profile(env: dict[str, str], name: str = "default") -> Path:
    folder = Path(env["IPYTHONDIR"]) / f"profile_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def controller(t: Ground, *words: str, env: dict[str, str]) -> Iterator[Path]:
    """A controller; the folder of its files. It ends in order."""
    process = t.start("ipcontroller", *words, env=env)
    security = profile(env) / "security"
    wait_until(lambda: list(security.glob("ipcontroller*-engine.json")) or process.poll() is not None, what="the connection file")
    yield security
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def client_of(t: Ground, security: Path, name: str = "ipcontroller-client.json") -> ipp.Client:
    rc = t.stack.enter_context(ipp.Client(str(security / name)))
    return rc


# ---- 1.1


@row("C001")
def no_verb(t: Ground) -> None:
    for words in ((), ("frobnicate",)):
        assert all(v in says(t, "ipcluster", *words, code=1).stdout for v in VERBS)


@row("C008", "C009", "C010", "C011")
def help_and_version(t: Ground) -> None:
    assert says(t, "ipcluster", "--version").stdout == says(t, "ipcontroller", "--version").stdout
    for words in PROGRAMS:
        assert re.fullmatch(r"[\d.]+\n", says(t, *words, "--version").stdout) and says(t, *words, "-V").stdout
        short, every = says(t, *words, "-h").stdout, says(t, *words, "--help-all").stdout
        assert says(t, *words, "--help").stdout == short and every.startswith(short)
        assert len(re.findall(r"^--\w+\.\w+=", every, re.M)) > 20
        assert "Equivalent to" in short and re.search(r" --profile=NAME .*\[--\w+\.profile\]$", short, re.M)
        assert re.search(r" --debug .*\[--\w+\.log_level=10\]$", short, re.M)
        if words[-1] in ("start", "engines"):
            assert all(kind in short for kind in ("sshproxy", "slurm", "mpi", "htcondor"))


@row("C012", "C013")
def spellings(t: Ground) -> None:
    for words in (["--n=4"], ["--n", "4"], ["-n", "4"], ["-n=4"], ["--Cluster.n=4"], ["-N=4"], ["-N", "4"]):
        assert shown(t, "ipcluster", "start", *words)["Cluster"] == {"n": 4}


@row("C014", "C015", "C098")
def wrong_words(t: Ground) -> None:
    assert "did you mean --profile?" in says(t, "ipcluster", "start", "--profil=3", code=2).stderr
    assert "unknown option" in says(t, "ipcluster", "start", "--controller-args=x", code=2).stderr
    profile(t.environment())
    assert "text or json" in says(t, "ipcluster", "list", "-o=bad", code=1).stderr
    done = says(t, "ipcluster", "start", "--Clustr.n=3", "--Cluster.enigne_timeout=3", "--show-config")
    assert "did you mean Cluster.n?" in done.stderr and "did you mean Cluster.engine_timeout?" in done.stderr


@row("C016", "C017", "C018", "C019", "C021", "C101", "C102", "C103")
def profiles(t: Ground) -> None:
    for words in PROGRAMS[1:5] + [("ipengine",)]:
        assert "not found" in says(t, *words, "--profile=nope", code=1).stderr
    for i, name in enumerate(("a/profile_default", "b/profile_x", "c"), 1):
        (t.tmp / name).mkdir(parents=True)
        (t.tmp / name / "ipengine_config.json").write_text(json.dumps({"IPEngine": {"n": i}}))
    env, b = t.environment(), t.environment("b")
    for number, words, where in ((1, [f"--ipython-dir={t.tmp}/a"], env), (2, ["--profile=x"], b), (3, ["--profile=x"], {**b, "IPP_PROFILE_DIR": f"{t.tmp}/c"}),
                                 (1, [f"--profile-dir={t.tmp}/a/profile_default"], {**b, "IPP_PROFILE_DIR": f"{t.tmp}/c"}), (3, [f"--profile_dir={t.tmp}/c"], env)):
        assert shown(t, "ipengine", *words, env=where)["IPEngine"]["n"] == number
    for words, more in ((["--cluster-id=abc"], {}), ([], {"IPP_CLUSTER_ID": "abc"})):
        with controller(t, *words, env={**env, **more}) as security:
            assert {p.name for p in security.iterdir()} == {"ipcontroller-abc-client.json", "ipcontroller-abc-engine.json"}


@row("C020", "C118", "C119", "C120")
def config_files(t: Ground) -> None:
    folder, extra = profile(t.environment()), t.tmp / "extra.py"
    (folder / "sub.py").write_text("c.Cluster.engine_timeout = 7")
    extra.write_text("c = get_config()\nc.Cluster.n = 4")
    os.mkdir(t.tmp / "cwd")
    (t.tmp / "cwd" / "ipcluster_config.py").write_text("c.Cluster.n = 9")
    for name, text, n in (("ipython_config.py", "c.Cluster.n = 1", 1), ("ipcluster_config.py", "c.Cluster.n = 2\nload_subconfig('sub.py')", 2),
                          ("ipcluster_config.json", '{"Cluster": {"n": 3}}', 3)):
        (folder / name).write_text(text)
        done = t.run("ipcluster", "start", "--show-config", cwd=t.tmp / "cwd")
        assert json.loads(done.stdout)["Cluster"]["n"] == n, name
    assert shown(t, "ipcluster", "start")["Cluster"]["engine_timeout"] == 7
    assert shown(t, "ipcluster", "start", f"--config={extra}")["Cluster"]["n"] == 4
    assert shown(t, "ipcluster", "start", f"--config={extra}", "-n", "5")["Cluster"]["n"] == 5


@row("C022", "C089", "C090", "C085", "C086", "C084", "C123", "C141", "K102")
def an_engine_with_everything(t: Ground) -> None:
    env = t.environment()
    (profile(env) / "startup").mkdir()
    (profile(env) / "startup" / "00.py").write_text("at_startup = 43\n")
    (profile(env) / "ipengine_config.py").write_text("c.IPKernelApp.exec_lines = ['q = 1']\nc.IPKernelApp.exec_files = [%r]\n" % str(t.tmp / "f.py"))
    (t.tmp / "f.py").write_text("r = 2\n")
    (t.tmp / "st.py").write_text("from_file = 42\n")
    (t.tmp / "work").mkdir()
    with controller(t, "--ip=*", "--location=nowhere.invalid", "--no-unix", env=env) as security:
        copy = t.tmp / "elsewhere.json"
        shutil.copy(security / "ipcontroller-engine.json", copy)
        copy.chmod(0o400)
        engine = t.start("ipengine", f"--file={copy}", "--location=localhost", "-c", "zz = 41", "-s", str(t.tmp / "st.py"),
                         f"--work-dir={t.tmp / 'work'}", env=env)
        rc = client_of(t, security)
        rc.wait_for_engines(1, timeout=30, interactive=False)
        assert rc[0]["zz"] == 41 and rc[0]["from_file"] == 42 and rc[0]["at_startup"] == 43 and rc[0]["q"] == 1 and rc[0]["r"] == 2
        assert rc[0].apply_sync(os.getcwd) == str(t.tmp / "work")
        rc.close()
        engine.terminate()
        engine.wait(20)


@row("C023", "C024", "C068", "C069", "C070", "C071", "C121", "C122", "C082", "C002", "C067", "C036", "C037")
def a_controller_with_everything(t: Ground) -> None:
    env = t.environment()
    with controller(t, "--ip=*", "--location=h1", "--ssh=u@gate:2222", "--enginessh=gate2", "--log-to-file", "--debug", env=env) as security:
        client, engine = (json.loads((security / f"ipcontroller-{who}.json").read_text()) for who in ("client", "engine"))
        assert (client["location"], client["ssh"], engine["ssh"]) == ("h1", "u@gate:2222", "gate2") and client["interface"] == "tcp://*"
        for who in ("client", "engine"):
            path = security / f"ipcontroller-{who}.json"
            assert path.stat().st_mode & 0o777 == 0o600
            text = path.read_text()
            assert all(re.search(rf'^ *"{label}": \d+,$', text, re.M) for label in ("registration", "control", "mux", "task", "iopub", "notification"))
            location = re.search(r'^( *"location": ).*$', text, re.M)
            edited = text.replace(location[0], location[1] + '"localhost",')
            assert json.loads(edited)["location"] == "localhost"  # what scripts do with sed
        log = list((profile(env) / "log").glob("ipcontroller--*.log"))
        assert len(log) == 1 and re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[IPController\] ", log[0].read_text(), re.M)
    assert not list(security.iterdir())
    before = t.log("ipcontroller")
    process = t.start("ipcontroller", "--quiet", env=env)
    wait_until(lambda: (security / "ipcontroller-engine.json").exists(), what="the connection file")
    assert json.loads((security / "ipcontroller-client.json").read_text())["location"] == socket.gethostname()
    process.send_signal(signal.SIGABRT)
    assert process.wait(20) == 0 and not list(security.iterdir()) and t.log("ipcontroller") == before


@row("C027", "C117", "C115", "C116")
def files_of_comments(t: Ground) -> None:
    for words in (("ipcluster", "start"), ("ipcontroller",), ("ipengine",)):
        says(t, *words, "--init")
    env = t.environment("ipython")
    t.python("import sys; sys.argv = ['ipython', 'profile', 'create', '--parallel', '--profile=snet']; from IPython import start_ipython; "
             "start_ipython()", env=env)
    written = sorted(p.name for p in profile(env, "snet").glob("*.py"))
    assert written == ["ipcluster_config.py", "ipcontroller_config.py", "ipengine_config.py", "ipython_config.py", "ipython_kernel_config.py"]
    for app in ("ipcluster", "ipcontroller", "ipengine"):
        text = (profile(env, "snet") / f"{app}_config.py").read_text()
        assert text == (profile(t.environment()) / f"{app}_config.py").read_text()
        assert all(line.startswith("#") or not line for line in text.splitlines())


@row("C028")
def show_config(t: Ground) -> None:
    assert shown(t, "ipcluster", "start", "-n", "7")["Cluster"]["n"] == 7
    assert shown(t, "ipcontroller", "--hwm=3")["TaskScheduler"]["hwm"] == 3
    as_json = says(t, "ipcluster", "start", "-n", "7", "--show-config-json")
    assert json.loads(as_json.stdout)["Cluster"]["n"] == 7


# ---- 1.2 to 1.6


@row("C030", "C031", "C033", "C039", "C042", "C058", "C059", "C060", "C061", "C032", "C053", "C127")
def a_cluster_by_hand(t: Ground) -> None:
    env = t.environment()
    profile(env, "x")
    security, folder = profile(env) / "security", profile(env)
    says(t, "ipcluster", "start", "-n", "2", "--daemonize")
    rc = client_of(t, security)
    assert len(rc) == 2 and {p.name for p in security.iterdir()} == {"cluster-.json", "ipcontroller-client.json", "ipcontroller-engine.json"}
    assert "already running" in says(t, "ipcluster", "start", "-n", "1", code=10).stderr
    rc[:].execute("import signal, os\nseen = []\nsignal.signal(signal.SIGUSR1, lambda *a: seen.append(1))", block=True)
    listed = json.loads(says(t, "ipcluster", "list", "-o", "json").stdout)
    assert len(listed) == 1 and listed[0]["running"]
    assert any(re.fullmatch(r"ipcontroller-.*\.log", p.name) for p in (folder / "log").iterdir()), list((folder / "log").iterdir())
    table = says(t, "ipcluster", "list").stdout.splitlines()
    assert table[0].split() == ["PROFILE", "CLUSTER", "ID", "RUNNING", "ENGINES", "LAUNCHER"]
    assert table[1].split() == ["default", "''", "True", "2", "Local"]
    assert len(says(t, "ipcluster", "list", "--profile=x").stdout.splitlines()) == 1
    os.kill(listed[0]["pid"], signal.SIGUSR1)
    wait_until(lambda: rc[:]["seen"] == [[1], [1]], what="the relayed signal")
    rc.close()
    says(t, "ipcluster", "stop")
    assert not list(security.iterdir())
    dead = json.dumps({**listed[0], "pid": 999999, "pid_start": 1})
    (security / "cluster-.json").write_text(dead)
    assert [c["running"] for c in json.loads(says(t, "ipcluster", "list", "-o", "json").stdout)] == [False]
    assert not (security / "cluster-.json").exists() and json.loads(says(t, "ipcluster", "list", "-o", "json").stdout) == []
    (security / "cluster-.json").write_text(dead)
    says(t, "ipcluster", "start", "-n", "1", "--daemonize")     # that one does not run
    says(t, "ipcluster", "stop", "--profile=default")


@row("C054", "C055", "C056", "C096", "C099")
def stops(t: Ground) -> None:
    env = t.environment()
    security = profile(env) / "security"
    assert "Could not find cluster file" in says(t, "ipcluster", "stop", code=11).stderr
    says(t, "ipcluster", "stop", "--all")
    for id in ("b", "c", "d"):
        says(t, "ipcluster", "start", "-n", "1", f"--cluster-id={id}", "--daemonize")
    says(t, "ipcluster", "stop", "b", "c")
    assert {p.name for p in security.glob("cluster-*")} == {"cluster-d.json"}
    says(t, "ipcluster", "stop", "--all")
    assert not list(security.iterdir())


@row("C062", "C063", "C064", "C065", "C097", "C129")
def cleaning(t: Ground) -> None:
    env = t.environment()
    folder, other = profile(env), profile(env, "x")
    process = t.start("ipcluster", "start", "-n", "1", env=env)
    wait_until(lambda: "successfully" in t.log("ipcluster"), what="the start")
    assert says(t, "ipcluster", "clean", code=1).stderr
    says(t, "ipcluster", "clean", "--force")
    assert process.wait(20) == 0 and not list((folder / "security").iterdir()) and not list((folder / "pid").iterdir())
    kept = [folder / "tasks.db", folder / "security" / "kernel-1.json", folder / "ipcluster_config.py", folder / "pid" / "1"]
    gone = [folder / "security" / "cluster-.json", folder / "log" / "old.log", folder / "security" / "ipcontroller-client.json"]
    for path in (*kept, *gone[1:]):
        path.touch()
    gone[0].write_text('{"pid": 999999, "pid_start": 1}')
    (other / "log").mkdir()
    (other / "log" / "old.log").touch()
    says(t, "ipcluster", "clean")
    assert all(p.exists() for p in kept) and not any(p.exists() for p in gone) and list((other / "log").iterdir())
    says(t, "ipcluster", "clean", "--all")
    assert not list((other / "log").iterdir())


@row("C041", "C046")
def in_the_foreground(t: Ground) -> None:
    env = t.environment()
    folder = profile(env)
    for number in (signal.SIGINT, signal.SIGTERM):
        process = t.start("ipcluster", "start", "-n", "1", env=env)
        wait_until(lambda: "successfully" in t.log("ipcluster"), what="the start")
        assert list((folder / "log").iterdir())
        process.send_signal(number)
        assert process.wait(20) == 0 and not list((folder / "security").iterdir()) and not list((folder / "log").iterdir())
        (t.tmp / "ipcluster.log").write_text("")


@row("C040")
def words_for_the_controller(t: Ground) -> None:
    env = t.environment()
    (profile(env) / "ipcluster_config.py").write_text("c.Cluster.controller_args = ['--nodb']\n")
    says(t, "ipcluster", "start", "-n", "1", "--daemonize", "--", "--sqlitedb")
    rc = client_of(t, profile(env) / "security")
    ar = rc[0].apply_async(int)
    ar.get(30)
    wait_until(lambda: ar.msg_ids[0] in rc.hub_history() and (profile(env) / "tasks.db").exists(), what="the record in the file")
    rc.close()
    says(t, "ipcluster", "stop")


@row("C043", "C044")
def ends_that_nobody_asked_for(t: Ground) -> None:
    env = t.environment()
    process = t.start("ipcluster", "start", "-n", "1", env=env)
    wait_until(lambda: "successfully" in t.log("ipcluster"), what="the start")
    state = json.loads((profile(env) / "security" / "cluster-.json").read_text())
    os.kill(state["controller"]["pid"], signal.SIGKILL)
    assert process.wait(20) != 0 and "controller" in t.log("ipcluster")
    done = says(t, "ipcluster", "start", "-n", "1", "--EngineLauncher.engine_args=--bad=1", code=1)
    assert "unknown option --bad" in done.stderr


@row("C034", "C035", "C038")
def launchers(t: Ground) -> None:
    for kind in ("batch", "HTCondor", "local", "LSF", "mpi", "PBS", "sge", "Slurm", "ssh", "sshproxy", "ipyparallel.cluster.launcher.MPIEngineSetLauncher"):
        assert shown(t, "ipcluster", "start", f"--engines={kind}")["Cluster"]["engine_launcher_class"] == kind
    done = says(t, "ipcluster", "start", "-n", "1", "--controller=LOCAL", "--delay=0", "--daemonize")
    assert "--delay has no effect here" in done.stderr
    says(t, "ipcluster", "stop")


@row("C047", "C048", "C049", "C050", "C052", "C095")
def engines_alone(t: Ground) -> None:
    env = t.environment()
    profile(env)
    assert "engines were there" in says(t, "ipcluster", "engines", "-n", "1", "--daemonize", "--engine-timeout=0.5", code=1).stderr
    with controller(t, env=env) as security:
        engines = t.start("ipcluster", "engines", env=env)
        rc = client_of(t, security)
        rc.wait_for_engines(len(os.sched_getaffinity(0)), timeout=30, interactive=False)
        ar, _ = t.held(rc[[0]])
        engines.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in str(raises(ipp.RemoteError, ar.get, 60))
        assert engines.poll() is None and len(rc) == len(os.sched_getaffinity(0))
        rc.close()
        engines.send_signal(signal.SIGTERM)
        code = engines.wait(60)
        assert code == 1, f"{code}: {t.log('ipcluster')}"


@row("C057")
def ignored_options(t: Ground) -> None:
    assert "--signal has no effect here" in says(t, "ipcluster", "stop", "--signal=9", code=11).stderr


# ---- 1.9 to 1.12


@row("C093", "C094")
def an_engine_without_a_file(t: Ground) -> None:
    profile(t.environment())
    done = says(t, "ipengine", "--IPEngine.wait_for_url_file=0.5", code=1)
    assert "connection file" in done.stderr


@row("C104")
def connection_info(t: Ground) -> None:
    env = t.environment()
    with controller(t, env=env) as security:
        info = (security / "ipcontroller-engine.json").read_text()
        other = t.environment("other", IPP_CONNECTION_INFO=info)
        profile(other)
        engine = t.start("ipengine", env=other)
        rc = client_of(t, security)
        rc.wait_for_engines(1, timeout=30, interactive=False)
        rc.close()
        engine.terminate()
        engine.wait(20)


@row("C110")
def suppressed_errors(t: Ground) -> None:
    folder = profile(t.environment())
    (folder / "ipcluster_config.py").write_text("c.Cluster.n = 3\n1/0\n")
    assert "ipcluster_config.py:2: ZeroDivisionError" in says(t, "ipcluster", "start", code=1).stderr
    done = says(t, "ipcluster", "start", "--show-config", env=t.environment(IPYTHON_SUPPRESS_CONFIG_ERRORS="1"))
    assert "ZeroDivisionError" in done.stderr and "Cluster" not in json.loads(done.stdout)


@row("C111")
def python_startup(t: Ground) -> None:
    (t.tmp / "startup.py").write_text("begun = 7\n")
    os.environ["PYTHONSTARTUP"] = str(t.tmp / "startup.py")
    try:
        assert t.cluster(1)[0]["begun"] == 7
    finally:
        del os.environ["PYTHONSTARTUP"]


@row("C105", "C106", "C107", "C108")
def variables_without_effect(t: Ground) -> None:
    for name in ("IPP_SESSION_KEY", "IPP_ENABLE_CURVE", "IPP_CURVE_SECRETKEY", "IPP_CURVE_PUBLICKEY"):
        done = says(t, "ipcontroller", "--show-config", env=t.environment(**{name: "secret-text"}))
        assert f"{name} has no effect here: " in done.stderr and "secret-text" not in done.stderr


@row("C140", "C139", "C138")
def a_copied_profile(t: Ground) -> None:
    env = t.environment()
    with controller(t, "--ip=*", "--no-unix", env=env) as security:
        copy = t.tmp / "copied" / "profile_job"
        shutil.copytree(profile(env), copy)
        path = copy / "security" / "ipcontroller-client.json"
        path.write_text(re.sub(r'("location": )"[^"]*"', r'\1"localhost"', path.read_text()))
        code = "import covey, sys; rc = covey.Client(profile='job'); print(rc.ids)"
        done = subprocess.run([sys.executable, "-c", code], env=t.environment("copied"), capture_output=True, text=True, timeout=30)
        assert done.stdout == "[]\n", done.stderr
        assert security.exists()



# SPDX-License-Identifier: BSD-3-Clause
"""Rows of section 2: settings. Those that do nothing here say so; former names become today's. What a setting does is checked here
for launchers without ssh, and by the rows of what it is about; ssh launchers' settings are accepted without a word here, and
test/system/test_ssh.py, test_launchers.py and test/deploy see what they do."""
from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import covey as ipp
from covey.config import load_config
from test.system import fakebatch

from .commands import profile, says
from .ground import Ground, row

APPS = {"ipcluster": ("ipcluster", "start"), "ipcontroller": ("ipcontroller",), "ipengine": ("ipengine",)}
EFFECTIVE = {
    "K001": ("ipcontroller", {"BaseParallelApplication": {"cluster_id": "a"}}),
    "K002": ("ipcontroller", {"BaseParallelApplication": {"log_to_file": True}}),
    "K005": ("ipengine", {"BaseParallelApplication": {"work_dir": "/tmp"}}),
    "K008": ("ipengine", {"ProfileDir": {"location": ""}}),
    "K012": ("ipcluster", {"IPClusterEngines": {"daemonize": True}}),
    "K015": ("ipcluster", {"IPClusterStop": {"all_cluster_ids": True}}),
    "K016": ("ipcluster", {"IPClusterList": {"output_format": "json"}}),
    "K017": ("ipcluster", {"IPClusterClean": {"force": True, "all_profiles": True}}),
    "K025": ("ipcluster", {"Cluster": {"controller_launcher_class": "SSH"}}),
    "K043": ("ipcluster", {"SSHLauncher": {"ssh_cmd": ["x"]}}),
    "K044": ("ipcluster", {"SSHLauncher": {"ssh_args": ["-4"]}}),
    "K046": ("ipcluster", {"SSHControllerLauncher": {"hostname": "h"}}),
    "K047": ("ipcluster", {"SSHLauncher": {"user": "u"}}),
    "K048": ("ipcluster", {"SSHLauncher": {"location": "u@h"}}),
    "K049": ("ipcluster", {"SSHEngineSetLauncher": {"to_send": []}}),
    "K050": ("ipcluster", {"SSHControllerLauncher": {"to_fetch": []}}),
    "K051": ("ipcluster", {"SSHLauncher": {"remote_profile_dir": ".ipython/profile_x"}}),
    "K052": ("ipcluster", {"SSHLauncher": {"remote_python": "python3"}}),
    "K053": ("ipcluster", {"SSHEngineSetLauncher": {"engines": {"h": 2}}}),
    "K054": ("ipcluster", {"SSHEngineSetLauncher": {"engines": {"h": [2, ["--x"]]}}}),
    "K055": ("ipcluster", {"SSHProxyEngineSetLauncher": {"ipcluster_cmd": ["x"]}}),
    "K056": ("ipcluster", {"SSHProxyEngineSetLauncher": {"ipcluster_args": ["-x"]}}),
    "K070": ("ipcontroller", {"IPController": {"ip": "*"}}),
    "K073": ("ipcontroller", {"IPController": {"location": "h"}}),
    "K074": ("ipcontroller", {"IPController": {"ssh_server": "h", "engine_ssh_server": "g"}}),
    "K094": ("ipengine", {"IPEngine": {"url_file": "/cluster/ipcontroller-engine.json"}}),
    "K095": ("ipengine", {"IPEngine": {"url_file_name": "x.json"}}),
    "K098": ("ipengine", {"IPEngine": {"location": "h"}}),
    "K099": ("ipengine", {"IPEngine": {"timeout": 5.0}}),
    "K101": ("ipengine", {"IPEngine": {"startup_command": "x", "startup_script": "y"}}),
    "K103": ("ipengine", {"IPEngine": {"sshserver": "h", "sshkey": "k"}}),
    "K110": ("ipengine", {"ZMQInteractiveShell": {"x": 1}, "InteractiveShell": {"colors": "nocolor"}, "IPythonKernel": {"x": 1}, "Kernel": {"x": 1},
                          "IPythonParallelKernel": {"x": 1}, "IPKernelApp": {"exec_lines": ["x"]}}),
}
NOTHING = {
    "K003": ("ipcluster", "IPClusterStart", "clean_logs"), "K004": ("ipcontroller", "BaseParallelApplication", "log_url"),
    "K009": ("ipcontroller", "Session", "packer"), "K010": ("ipcluster", "IPClusterStart", "auto_create"),
    "K011": ("ipcluster", "IPClusterStart", "clean_logs"), "K013": ("ipcluster", "IPClusterEngines", "early_shutdown"),
    "K014": ("ipcluster", "IPClusterStop", "signal"), "K020": ("ipcluster", "Cluster", "delay"),
    "K027": ("ipcluster", "Cluster", "send_engines_connection_env"), "K030": ("ipcluster", "BaseLauncher", "output_limit"),
    "K031": ("ipcluster", "BaseLauncher", "stop_timeout"), "K035": ("ipcluster", "ControllerLauncher", "connection_info_timeout"),
    "K038": ("ipcluster", "LocalProcessLauncher", "poll_seconds"), "K039": ("ipcluster", "LocalProcessLauncher", "stop_seconds_until_kill"),
    "K040": ("ipcluster", "LocalEngineSetLauncher", "delay"), "K045": ("ipcluster", "SSHLauncher", "scp_cmd"),
    "K067": ("ipcluster", "WindowsHPCLauncher", "scheduler"), "K071": ("ipcontroller", "IPController", "monitor_ip"),
    "K072": ("ipcontroller", "IPController", "transport"), "K076": ("ipcontroller", "IPController", "hb"),
    "K079": ("ipcontroller", "IPController", "engine_json_file"), "K080": ("ipcontroller", "IPController", "use_threads"),
    "K081": ("ipcontroller", "IPController", "enable_curve"), "K084": ("ipcontroller", "IPController", "registration_timeout"),
    "K085": ("ipcontroller", "IPController", "auto_create"), "K088": ("ipcontroller", "HeartMonitor", "period"),
    "K089": ("ipcontroller", "HeartMonitor", "max_heartmonitor_misses"), "K090": ("ipcontroller", "HeartMonitor", "debug"),
    "K093": ("ipcontroller", "MongoDB", "database"), "K097": ("ipengine", "IPEngine", "registration_url"),
    "K105": ("ipengine", "IPEngine", "max_heartbeat_misses"), "K107": ("ipengine", "IPEngine", "curve_serverkey"),
    "K108": ("ipengine", "IPEngine", "out_stream_factory"), "K109": ("ipengine", "IPEngine", "log_url"),
}
FORMER = {
    "K096": ("ipengine", ("IPEngine", "wait_for_url_file"), ("IPEngine", "timeout")),
    "K112": ("ipcontroller", ("IPControllerApp", "reuse_files"), ("IPController", "reuse_files")),
    "K113": ("ipcontroller", ("HubFactory", "ip"), ("IPController", "ip")),
    "K114": ("ipcontroller", ("HubFactory", "client_ip"), ("IPController", "client_ip")),
    "K115": ("ipengine", ("EngineFactory", "timeout"), ("IPEngine", "timeout")),
    "K116": ("ipcluster", ("IPClusterApp", "log_level"), ("IPCluster", "log_level")),
    "K118": ("ipcluster", ("IPClusterStart", "controller_launcher_class"), ("Cluster", "controller_launcher_class")),
    "K119": ("ipcluster", ("IPClusterStart", "controller_location"), ("Cluster", "controller_location")),
    "K121": ("ipcluster", ("IPClusterEngines", "engine_launcher"), ("Cluster", "engine_launcher_class")),
    "K123": ("ipcluster", ("MPIExecEngineSetLauncher", "mpi_args"), ("MPIEngineSetLauncher", "mpi_args")),
    "K126": ("ipengine", ("MPI", "use"), ("IPEngine", "use_mpi")),
}
VALUES = {"reuse_files": True, "timeout": 1, "wait_for_url_file": 1, "log_level": 10, "use": "mpi4py", "mpi_args": ["-x"],
          "engine_launcher": "MPI", "controller_launcher_class": "Local"}


def told(t: Ground, app: str, tree: dict) -> tuple[dict, str]:
    folder = profile(t.environment())
    (folder / f"{app}_config.json").write_text(json.dumps(tree))
    done = says(t, *APPS[app], "--show-config")
    return json.loads(done.stdout), done.stderr


@row(*EFFECTIVE)
def accepted_without_a_word(t: Ground) -> None:
    for id, (app, tree) in EFFECTIVE.items():
        for name in APPS:
            (profile(t.environment()) / f"{name}_config.json").unlink(missing_ok=True)
        config, said = told(t, app, tree)
        assert not said, f"{id}: {said}"
        assert all(config[cls][name] == v for cls, traits in tree.items() for name, v in traits.items()), id


def program(t: Ground, name: str, text: str) -> str:
    """A program of the shell that notes its arguments in t.tmp / NAME.calls first."""
    path = t.tmp / name
    path.write_text(f"#!/bin/sh\nprintf '%s ' \"$@\" >> {shlex.quote(str(path))}.calls\n{text}\n")
    path.chmod(0o755)
    return str(path)


@row("K029", "K032", "K033", "K034", "K036", "K037")
def local_launchers(t: Ground) -> None:
    folder = profile(t.environment())
    controller, engine = (program(t, name, f'exec {sys.executable} -m covey.{name} "$@"') for name in ("controller", "engine"))
    config = {"ControllerLauncher": {"controller_cmd": [controller], "controller_args": ["--location=h1"]},
              "EngineLauncher": {"engine_cmd": [engine], "engine_args": ["--log-level=10"], "environment": {"A": "from the config"}}}
    (folder / "ipcluster_config.json").write_text(json.dumps(config))
    rc = t.cluster(1, profile_dir=str(folder))
    info = json.loads(Path(rc.cluster.client_file).read_text())
    assert info["location"] == "h1" and info["interface"] == "tcp://127.0.0.1"
    assert rc[0].apply_sync(os.getenv, "A") == "from the config"
    assert "--location=h1" in Path(f"{controller}.calls").read_text() and "--log-level=10" in Path(f"{engine}.calls").read_text()
    rc.cluster.stop_cluster_sync()
    config["LocalControllerLauncher"] = {"controller_args": ["--ip=*"]}
    (folder / "ipcluster_config.json").write_text(json.dumps(config))
    rc = t.cluster(0, profile_dir=str(folder))
    assert json.loads(Path(rc.cluster.client_file).read_text())["interface"] == "tcp://*"


@row("K041", "K042")
def mpi(t: Ground) -> None:
    mpiexec = program(t, "mympi", 'while [ "$1" != -x ]; do shift; done; shift; exec "$@"')
    rc = t.cluster(1, engines="mpi", config={"MPILauncher": {"mpi_cmd": [mpiexec], "mpi_args": ["-x"]}})
    said = Path(f"{mpiexec}.calls").read_text()
    assert rc[0].apply_sync(int) == 0 and said.startswith("-n 1 -x "), said


def batch(t: Ground, kind: str, config: str) -> tuple[dict, str, list]:
    """Engines of a batch system whose commands are fakebatch.py's: the cluster file's words on them, the job's script, what was called."""
    env = t.environment(kind)
    folder, script = t.tmp / f"fake-{kind}", t.tmp / f"{kind}.script"
    folder.mkdir()
    (folder / "program").write_text(f"#!{sys.executable}\n" + Path(fakebatch.__file__).read_text())
    (folder / "program").chmod(0o755)
    for name in fakebatch.COMMANDS:
        (folder / name).symlink_to(folder / "program")
    env.update(PATH=f"{folder}:{env['PATH']}", FAKEBATCH=str(folder))
    (profile(env) / "ipcluster_config.py").write_text(f"c.BatchSystemLauncher.batch_file_name = {str(script)!r}\n{config}\n")
    says(t, "ipcluster", "start", "-n", "1", f"--engines={kind}", "--daemonize", env=env)
    try:
        with ipp.Client(str(profile(env) / "security" / "ipcontroller-client.json")) as rc:
            rc.wait_for_engines(1, timeout=30, interactive=False)
        state = json.loads((profile(env) / "security" / "cluster-.json").read_text())["engines"]["0"]
        text = script.read_text()
    finally:
        says(t, "ipcluster", "stop", env=env)
    return state, text, [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


@row("K058", "K061", "K062", "K064", "K065", "K066")
def lines_of_a_batch_script(t: Ground) -> None:
    state, text, _ = batch(t, "slurm", f"""
c.BatchSystemLauncher.queue = 'long'
c.BatchSystemLauncher.output_file = '{t.tmp}/out.log'
c.BatchSystemLauncher.job_id_regexp = r'job (\\d+)'
c.BatchSystemLauncher.job_id_regexp_group = 1
c.SlurmLauncher.account = 'mine'
c.SlurmLauncher.qos = 'high'
c.SlurmLauncher.timelimit = '1:00:00'
c.SlurmLauncher.options = '--unused'""")
    for word in ("--partition=long", f"--output={t.tmp}/out.log", "--account=mine", "--qos=high", "--time=1:00:00"):
        assert f"#SBATCH {word}\n" in text, text
    assert state["job_id"] == "4711" and "--unused" not in text


@row("K057", "K059", "K060", "K063")
def batch_templates(t: Ground) -> None:
    template = "#!/bin/sh\n#PBS -V\n# {walltime} {n} {cluster_id}\n{program_and_args}\n"
    submit = program(t, "mysubmit", 'exec qsub "$@"')
    _, text, calls = batch(t, "pbs", f"""
c.PBSLauncher.submit_command = ['{submit}']
c.PBSLauncher.batch_template = {template!r}
c.BatchSystemLauncher.namespace = {{'walltime': 7}}""")
    assert "# 7 1 \n" in text and Path(f"{submit}.calls").read_text()
    assert [c["name"] for c in calls if c["name"] in ("qsub", "qdel")] == ["qsub", "qdel"]
    (t.tmp / "template").write_text(template.replace("#PBS", "#$"))
    _, text, _ = batch(t, "sge", f"c.SGELauncher.batch_template_file = '{t.tmp}/template'\nc.BatchSystemLauncher.namespace = {{'walltime': 8}}")
    assert "# 8 1 \n" in text


@row("K122")
def launchers_of_every_era(t: Ground) -> None:
    (profile(t.environment()) / "ipcluster_config.py").write_text(
        "c.IPClusterEngines.engine_launcher = 'IPython.parallel.apps.launcher.SSHEngineSetLauncher'\n")
    done = says(t, "ipcluster", "start", "-n", "2", code=1)
    assert "SSHEngineSetLauncher.engines" in done.stderr  # it is the ssh launcher, which wants hosts
    assert load_config("ipcluster", str(profile(t.environment())))["Cluster"]["engine_launcher_class"].endswith("SSHEngineSetLauncher")


@row(*NOTHING)
def said_to_have_no_effect(t: Ground) -> None:
    for id, (app, cls, name) in NOTHING.items():
        said = told(t, app, {cls: {name: 1}})[1]
        assert f"{cls}.{name} (" in said and "has no effect here: " in said and said.count("\n") == 1, f"{id}: {said}"


@row(*FORMER)
def former_names(t: Ground) -> None:
    for id, (app, old, new) in FORMER.items():
        value = VALUES.get(old[1], "x")
        config, said = told(t, app, {old[0]: {old[1]: value}})
        assert config[new[0]][new[1]] == value, id
        assert f"{'.'.join(old)} is now called {'.'.join(new)}" in said, f"{id}: {said}"

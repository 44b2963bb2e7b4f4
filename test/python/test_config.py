"""Config files through `python -m covey.config`, and what Cluster makes of its options (no processes of a cluster)."""
import json
import os
import subprocess
import sys

import pytest

from covey.config import ConfigError, load_config, load_file, read_files


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def command(*args):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    return subprocess.run([sys.executable, "-m", "covey.config", *args], env=env, capture_output=True, text=True, timeout=30)


def test_the_merged_tree_as_json(tmp_path):
    write(tmp_path, "ipython_config.py", "c.InteractiveShell.colors = 'nocolor'\nc.IPEngine.timeout = 1")
    write(tmp_path, "sub.py", "c.IPEngine.startup_script = 'sub'")
    write(tmp_path, "ipengine_config.py", "print('noise')\nc = get_config()\nload_subconfig('sub.py')\nc.IPEngine.timeout = 2\n"
                                          "c.InteractiveShellApp.extensions.append('autoreload')\nc.Foo.bar = {'a': (1, 2), 'b': int}")
    write(tmp_path, "ipengine_config.json", '{"IPEngine": {"log_level": 10, "startup_script": "json"}}')
    extra = write(tmp_path, "extra.py", "c.IPEngine.log_level = 30")
    p = command("ipengine", f"--profile-dir={tmp_path}", "--config", extra)
    assert p.returncode == 0, p.stderr
    assert json.loads(p.stdout) == {
        "InteractiveShell": {"colors": "nocolor"}, "IPEngine": {"timeout": 2, "startup_script": "json", "log_level": 30},
        "InteractiveShellApp": {"extensions": ["autoreload"]}, "Foo": {"bar": {"a": [1, 2], "b": "builtins:int"}}}
    assert "noise" in p.stderr


@pytest.mark.parametrize("where", ["beside", "in IPYTHONDIR"])
def test_a_file_of_another_profile(tmp_path, monkeypatch, where):
    """As `ipython profile create` once wrote them; of a profile that is not there nothing is taken, as in IPython."""
    base = tmp_path if where == "beside" else tmp_path / "elsewhere"
    monkeypatch.setenv("IPYTHONDIR", str(base))
    for folder in (base / "profile_other", tmp_path / "profile_mine"):
        folder.mkdir(parents=True)
    write(base / "profile_other", "ipengine_config.py", "c.IPEngine.timeout = 7\nload_subconfig('deeper.py')")
    write(base / "profile_other", "deeper.py", "c.IPEngine.startup_script = 'deeper'")
    write(tmp_path / "profile_mine", "ipengine_config.py", "load_subconfig('ipengine_config.py', profile='other')\n"
                                                           "load_subconfig('ipengine_config.py', profile='nobody')\nc.IPEngine.id = 3")
    p = command("ipengine", f"--profile-dir={tmp_path / 'profile_mine'}")
    assert p.returncode == 0, p.stderr
    assert json.loads(p.stdout) == {"IPEngine": {"timeout": 7, "startup_script": "deeper", "id": 3}}


@pytest.mark.parametrize("text, where", [("c.X.y = 1\nc.X.z = 1/0\n", ":2: ZeroDivisionError"), ("c.X.y = = 2\n", ":1: SyntaxError"),
                                         ("import sys\n\nsys.exit('no')\n", ":3: SystemExit")])
def test_errors_name_file_and_line(tmp_path, text, where):
    path = write(tmp_path, "ipcluster_config.py", text)
    p = command("ipcluster", f"--profile-dir={tmp_path}")
    assert p.returncode == 1 and p.stdout == "" and f"{path}{where}" in p.stderr and "Traceback" not in p.stderr


def test_errors_in_json_and_missing_files(tmp_path):
    path = write(tmp_path, "ipcluster_config.json", '{"A": {\n"b": }}')
    with pytest.raises(ConfigError, match=f"{path}:2: not JSON"):
        load_file(path)
    with pytest.raises(ConfigError, match="no such config file"):
        load_config("ipengine", "", str(tmp_path / "none.py"))


def test_m11_former_names(tmp_path, capsys):
    write(tmp_path, "ipcluster_config.py", "c.IPClusterEngines.engine_launcher = 'MPIEngineSetLauncher'\nc.IPClusterEngines.n = 3\n"
                                           "c.Cluster.n = 5\nc.IPClusterStart.daemonize = True")
    assert load_config("ipcluster", str(tmp_path)) == {
        "Cluster": {"n": 5, "engine_launcher_class": "MPIEngineSetLauncher"}, "IPClusterStart": {"daemonize": True}}
    told = capsys.readouterr().err
    assert "IPClusterEngines.engine_launcher is now called Cluster.engine_launcher_class\n" in told
    assert "IPClusterEngines.n is now called Cluster.n, which is set too and wins" in told


def test_lists_grow_from_their_defaults(tmp_path):
    write(tmp_path, "ipcluster_config.py", "c.MPIEngineSetLauncher.mpi_cmd.append('-v')\nc.EngineLauncher.engine_cmd.insert(0, 'nice')\n"
                                           "c.SSHLauncher.ssh_cmd.extend(['-4'])\nc.Mine.words.append('x')\nc.Mine.names.update({'a'})")
    tree = read_files("ipcluster", str(tmp_path))
    assert tree == {"MPIEngineSetLauncher": {"mpi_cmd": ["mpiexec", "-v"]}, "SSHLauncher": {"ssh_cmd": ["ssh", "-4"]},
                    "EngineLauncher": {"engine_cmd": ["nice", sys.executable, "-m", "covey.engine"]}, "Mine": {"words": ["x"], "names": ["a"]}}


def test_lists_and_dicts_grow_over_files(tmp_path):
    write(tmp_path, "ipython_config.py", "c.EngineLauncher.engine_args = ['a']\nc.BaseLauncher.environment = {'X': '1'}")
    write(tmp_path, "ipcluster_config.py", "c.EngineLauncher.engine_args.append('b')\nc.EngineLauncher.engine_args.extend(['c'])\n"
                                           "c.EngineLauncher.engine_args.insert(0, 'z')\nc.BaseLauncher.environment.update({'Y': '2'})\n"
                                           "c.ControllerLauncher.controller_args.prepend(['p'])")
    assert read_files("ipcluster", str(tmp_path)) == {
        "EngineLauncher": {"engine_args": ["z", "a", "b", "c"]}, "BaseLauncher": {"environment": {"X": "1", "Y": "2"}},
        "ControllerLauncher": {"controller_args": ["p"]}}

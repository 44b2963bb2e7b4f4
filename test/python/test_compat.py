"""The import name ipyparallel (compat/): names, deep imports, type names, profile files. Each in a fresh interpreter."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPAT = Path(__file__).parents[2] / "compat"


def python(source, tmp_path, *args):
    env = dict(os.environ, IPYTHONDIR=str(tmp_path), PYTHONPATH=os.pathsep.join([str(COMPAT), *(p for p in sys.path if p)]))
    return subprocess.run([sys.executable, *(args or ("-c", source))], env=env, capture_output=True, text=True, timeout=60)


def run(source, tmp_path):
    p = python(source, tmp_path)
    assert p.returncode == 0, p.stdout + p.stderr
    return p.stdout


def test_deep_names_after_a_bare_import(tmp_path):
    run("""
import ipyparallel as ipp, covey
assert ipp.Client is covey.Client and ipp.client.view.ViewExecutor and ipp.client.asyncresult.AsyncResult is ipp.AsyncResult
assert ipp.error.RemoteError is ipp.RemoteError and ipp.util.interactive and ipp.cluster.ClusterManager
assert ipp.serialize.pack_apply_message and ipp.apps and ipp.controller and ipp.engine
for name in 'Reference depend require dependent interactive can uncan use_dill use_cloudpickle use_pickle CompositeError TaskAborted Cluster'.split():
    assert getattr(ipp, name)
for path in ('client.client.Metadata', 'client.client.ExecuteReply', 'client.asyncresult._FOREVER', 'Client._asyncresult_from_jobs',
             'serialize.canning.CannedArray', 'client.view.LazyMapIterator', 'bind_kernel'):
    value = ipp
    for part in path.split('.'): value = getattr(value, part)
import logging, io
from ipyparallel.engine.log import EnginePUBHandler
handler = EnginePUBHandler(type('E', (), {'id': 3}))
handler.setStream(text := io.StringIO())
handler.emit(logging.makeLogRecord({'msg': 'hello'}))
assert text.getvalue().strip() == 'engine.3 hello'
from ipyparallel.traitlets import PortList, Launcher
from traitlets import HasTraits, TraitError
class T(HasTraits):
    ports = PortList()
    launcher = Launcher(entry_point_group='ipyparallel.engine_launchers')
assert T(ports='1-3,7').ports == [1, 2, 3, 7] and T(launcher='slurm').launcher is ipp.cluster.launcher.SlurmEngineSetLauncher
for bad in ({'ports': [0]}, {'launcher': 'no such'}):
    try: T(**bad)
    except TraitError: pass
    else: raise AssertionError(bad)
class Mine(ipp.Client): pass
from ipyparallel import _version
assert (_version.__version__, _version.version_info) == (ipp.__version__, ipp.version_info) == ('9.2.0', (9, 2, 0))
""", tmp_path)


def test_names_that_are_taken_from_other_modules(tmp_path):
    run("""
import ipyparallel as ipp
for path in ('traitlets.PortList', 'client.futures', 'cluster.launcher.LocalEngineSetLauncher', 'controller.dependency.Dependency', 'engine.datapub.publish_data'):
    value = ipp
    for part in path.split('.'): value = getattr(value, part)
for package in (ipp, ipp.client, ipp.cluster, ipp.controller, ipp.engine):
    assert not hasattr(package, 'nothing')
from ipyparallel.client.client import AsyncHubResult, AsyncResult, BroadcastView, DirectView, LoadBalancedView, PrePickled, Reference
from ipyparallel.client.view import Dependency, PrePickled as packed, dependent, getname
from ipyparallel.client.remotefunction import PrePickled as again, getname as same
from ipyparallel.client.asyncresult import compare_datetimes, progress, utcnow
from ipyparallel.controller.dependency import AsyncResult as result, can
from ipyparallel.apps.ipcontrollerapp import main
from ipyparallel.cluster import abbreviate_profile_dir
assert DirectView is ipp.DirectView and result is AsyncResult is ipp.AsyncResult and packed is again is PrePickled and Dependency is ipp.Dependency
assert same is getname and getname(len) == 'len' and getname(type('F', (), {})()) == 'F'
""", tmp_path)


@pytest.mark.parametrize("name", ["_version", "client.client", "client.view", "client.asyncresult", "client.remotefunction", "client.magics", "client.map",
                                  "client._joblib", "datapub", "engine.datapub", "error", "joblib", "serialize.canning", "serialize.codeutil",
                                  "serialize.serialize", "util", "traitlets", "engine.log", "controller.sqlitedb", "controller.dictdb", "cluster.cluster", "cluster.app", "controller.dependency",
                                  "apps.ipclusterapp", "apps.ipcontrollerapp", "apps.ipengineapp"])
def test_each_submodule_can_be_imported_first(tmp_path, name):
    if name in ("joblib", "client._joblib"):
        pytest.importorskip("joblib", reason="joblib is optional")
    run(f"import ipyparallel.{name} as m; assert m", tmp_path)


def test_a_star_import_gives_modules_too(tmp_path):
    run("from ipyparallel import *\nassert Client and error.RemoteError and util.interactive and serialize.can and client.view and version_info", tmp_path)


def test_types_say_ipyparallel(tmp_path):
    out = run("import ipyparallel as ipp\nprint(ipp.DirectView, ipp.Client, ipp.AsyncMapResult, ipp.Cluster)\n"
              "from ipyparallel.apps.ipclusterapp import ALREADY_STARTED, ALREADY_STOPPED, NO_CLUSTER\n"
              "assert (ALREADY_STARTED, ALREADY_STOPPED, NO_CLUSTER) == (10, 11, 12)", tmp_path)
    assert out.count("ipyparallel.") == 4


def test_errors_and_what_is_not_sent_say_ipyparallel(tmp_path):
    run("""
import ipyparallel as ipp
for kind in (getattr(ipp.error, name) for name in ipp.error.__all__):
    assert not isinstance(kind, type) or kind in (ipp.TimeoutError, ipp.error.CancelledError) or kind.__module__ == 'ipyparallel.error', kind
for name in 'ViewExecutor RemoteFunction ParallelFunction ExecuteReply RemoteError CompositeError'.split():
    assert getattr(ipp, name).__module__.startswith('ipyparallel.'), name
import pickle
e = pickle.loads(pickle.dumps(ipp.error._remake('ValueError', 'no', '', {})))
assert isinstance(e, ValueError) and isinstance(e, ipp.RemoteError) and repr(type(e)) == "<class 'ipyparallel.error.RemoteError'>", repr(type(e))
""", tmp_path)


def test_ipython_profile_create_parallel(tmp_path):
    p = python("", tmp_path, "-m", "IPython", "profile", "create", "job", "--parallel")
    assert p.returncode == 0, p.stderr
    folder = tmp_path / "profile_job"
    files = sorted(f.name for f in folder.glob("*_config.py"))
    assert [f for f in files if f.startswith("ip") and not f.startswith("ipython")] == ["ipcluster_config.py", "ipcontroller_config.py", "ipengine_config.py"]
    text = (folder / "ipcontroller_config.py").read_text()
    assert all(line.startswith("#") or not line.strip() for line in text.splitlines())


@pytest.mark.parametrize("last", ["ours", "theirs"])
def test_an_environment_with_both_says_so(tmp_path, last):
    """ipyparallel and covey-ipyparallel in one folder: whichever __init__ came last."""
    import covey

    site = tmp_path / "site"
    shutil.copytree(COMPAT / "ipyparallel", site / "ipyparallel")
    (site / "ipyparallel" / "util.py").write_text("")
    shutil.copytree(Path(covey.__file__).parent, site / "covey", ignore=shutil.ignore_patterns("bin"))
    if last == "theirs":
        (site / "ipyparallel" / "__init__.py").write_text("")
    module = "ipyparallel" if last == "ours" else "covey.client"
    p = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); import {module}"], capture_output=True, text=True, timeout=60)
    assert (p.returncode == 0) == (last == "theirs"), p.stderr
    assert f"both ipyparallel and covey-ipyparallel are installed in {site}" in p.stderr and "pip uninstall ipyparallel covey-ipyparallel covey`" in p.stderr


def test_modules_of_test_suites_can_be_imported_on_engines(tmp_path):
    run("from ipyparallel.tests import add_engines, launchers, setup, teardown; assert launchers == []", tmp_path)


def test_the_import_waits_for_no_ipython(tmp_path):
    run("import sys, ipyparallel as ipp\n"
        "assert not {'IPython', 'traitlets', 'numpy'} & set(sys.modules)\n"
        "assert ipp.client.magics.ParallelMagics and ipp.MultipleInstanceError.__module__.startswith('traitlets')\n"
        "assert not hasattr(ipp.client, 'nothing') and not hasattr(ipp, 'nothing')\n", tmp_path)


def test_a_program_by_its_module_path_starts_without_the_package(tmp_path):
    """Clusters of ipyparallel's programs start `python -m ipyparallel.controller`: what they don't need costs them half of it."""
    for module in ("cluster", "controller", "engine"):
        p = python("", tmp_path, "-X", "importtime", "-m", f"ipyparallel.{module}", "--version")
        assert p.returncode == 0 and p.stdout == "9.2.0\n", p.stderr
        assert "covey._programs" in p.stderr and "covey.client" not in p.stderr
    assert python("", tmp_path, "-m", "ipyparallel.cluster", "stop").returncode == 11
    assert "ipyparallel.util" in run("import sys; sys.argv = ['-m']; import ipyparallel; print(ipyparallel.util)", tmp_path).replace("covey", "ipyparallel"), "no program"


def test_launchers_are_imported_without_ipython(tmp_path):
    run("import sys, covey.launcher; assert 'IPython' not in sys.modules and 'importlib.metadata' not in sys.modules\n"
        "assert covey.launcher.SlurmEngineSetLauncher().formatter.format('{n//2}', n=9) == '4'", tmp_path)

"""`pip install .` gives working commands wherever pip puts them; what the wheel and the sdist carry; `make deps`.

The source is packed as an sdist, unpacked into a path with spaces, built there once (unoptimized, to be quick) and
installed into each place. pip's `--python` serves all of them with the pip of the running environment, whose
packages IPython and so on are shown to them by links: nothing is downloaded.
"""
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from .conftest import files_of, processes_of, wait_gone, wait_until

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROGRAMS = sorted(PYPROJECT["project"]["scripts"])
BASE_PYTHON = sys._base_executable  # the interpreter that the running venv was made from: it may use --user
BUILD = ["--no-build-isolation", "-Cbuild-dir=build/py", "-Csetup-args=-Doptimization=0", "-Ccompile-args=-j2"]

pytestmark = pytest.mark.timeout(900)
pytest.importorskip("mesonpy", reason="building covey without isolation takes meson-python")

TASK = """
import json, sys, covey

def where():
    import covey, sys
    return [covey.__file__, sys.executable]

with covey.Client(timeout=30) as rc:
    rc.wait_for_engines(int(sys.argv[1]), timeout=30, interactive=False)
    print(json.dumps([where(), *rc[:].apply_sync(where)]))
"""


def clean_env(**more):
    """This process's environment without anything that shows it a covey, a venv or settings of Python and pip."""
    drop = ("PYTHON", "COVEY_", "IPP_", "PIP_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(drop) and k not in ("VIRTUAL_ENV", "IPYTHONDIR", "LD_PRELOAD")}
    env["PATH"] = os.pathsep.join(p for p in env["PATH"].split(os.pathsep) if not os.path.exists(os.path.join(p, "ipcluster")))
    return {**env, "PIP_CONFIG_FILE": os.devnull, **more}


def build_env(**more):
    """The same, with the build tools of the running environment on PATH."""
    env = clean_env(**more)
    env["PATH"] = sysconfig.get_path("scripts") + os.pathsep + env["PATH"]
    return env


def checked(command, **options):
    """Runs a command; a failure shows what it said. Returns what it wrote to stdout."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=400, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pip(python, *args, **env):
    checked([sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "-q", *args], env=build_env(**env))


class Place:
    """Where covey is installed: `python`, the folder of its commands, the environment to call them in."""

    def __init__(self, folder, python, bin=None, **env):
        self.folder, self.python, self.bin = folder, str(python), bin
        self.ipython_dir, self.tmp = folder / "ipython", folder / "tmp"
        self.tmp.mkdir(parents=True)
        self.env = clean_env(HOME=str(folder / "home"), IPYTHONDIR=str(self.ipython_dir), TMPDIR=str(self.tmp), **env)
        if bin:
            self.env["PATH"] = str(bin) + os.pathsep + self.env["PATH"]

    def start(self, *command):
        return subprocess.Popen(command, env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, *command):
        return checked(command, env=self.env, cwd=self.folder)

    def task(self, engines):
        """What a client and the engines say of themselves: [file of covey, interpreter] each."""
        return json.loads(self.run(self.python, "-c", TASK, str(engines)))

    def nothing_left(self):
        assert not wait_gone(self.ipython_dir)
        left = {str(p.relative_to(self.ipython_dir)) for p in self.ipython_dir.rglob("*") if p.is_file() and p.parent.name != "log"}
        assert left <= {"profile_default/pid/ipcluster.lock"} and not list(self.tmp.iterdir())


@pytest.fixture
def place_in():
    """Makes Places; what a failed test left running in them is killed."""
    made = []

    def make(*args, **env):
        made.append(Place(*args, **env))
        return made[-1]
    yield make
    for place in made:
        for pid in processes_of(place.ipython_dir):
            os.kill(pid, signal.SIGKILL)


def cycle(place, package):
    """A cluster by the place's commands, one more engine by `ipengine`, a task, and all gone."""
    version = PYPROJECT["project"]["version"]
    for program in PROGRAMS:
        assert shutil.which(program, path=place.env["PATH"]) == str(place.bin / program)
        assert version in place.run(program, "--version")
    place.run("ipcluster", "start", "-n", "1", "--daemonize")
    engine = place.start("ipengine")
    try:
        said = place.task(2)
        program = os.readlink(f"/proc/{engine.pid}/exe")
    finally:
        engine.terminate()
    assert said == [[str(package / "__init__.py"), place.python]] * 3
    assert os.path.basename(program) == "ipengine"   # pip's script became the program: same process
    engine.wait(20)
    place.run("ipcluster", "stop")
    place.nothing_left()
    return program


# ---------------------------------------------------------------- built once

@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of this source tree as git sees it, without what was built."""
    folder = tmp_path_factory.mktemp("tree") / "covey"
    git = shutil.which("git") and subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if not git or git.returncode != 0:
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "build", "build-*", "dist", "__pycache__"))
        return folder
    for name in filter(None, git.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def sdist(tree, tmp_path_factory):
    """The archive that meson-python makes; None without git, which Meson asks for the files."""
    if not shutil.which("git"):
        return None
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    checked([*git, "init", "-q"], cwd=tree)
    checked([*git, "add", "-A"], cwd=tree)
    checked([*git, "commit", "-q", "-m", "all"], cwd=tree)
    out = tmp_path_factory.mktemp("sdist")
    checked([sys.executable, "-c", "import mesonpy, sys; mesonpy.build_sdist(sys.argv[1])", out], cwd=tree, env=build_env())
    return next(out.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def source(tree, sdist, tmp_path_factory):
    """The source in a path with spaces, as a user unpacked it; its package folder has been imported from."""
    folder = tmp_path_factory.mktemp("source") / "a path with spaces"
    if sdist:
        shutil.unpack_archive(sdist, folder)
        folder = next(folder.iterdir())
    else:
        shutil.copytree(tree, folder)
    cache = folder / "python" / "covey" / "__pycache__"
    cache.mkdir()
    (cache / "client.cpython-311.pyc").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--no-index", *BUILD, "-w", out, source)
    return next(out.iterdir())


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory):
    """A folder of links to all packages of the running environment but covey."""
    folder = tmp_path_factory.mktemp("dependencies")
    for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(site).iterdir():
            if not entry.name.lstrip("_").startswith(("covey", "ipyparallel", "pycache__")) and entry.suffix != ".pth":
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture
def venv(dependencies):
    """Makes a venv without pip that sees the dependencies; returns its interpreter and its site-packages."""
    def make(folder):
        checked([BASE_PYTHON, "-m", "venv", "--without-pip", folder], env=clean_env())
        python = folder / "bin" / "python"
        site = Path(checked([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], env=clean_env()).strip())
        (site / "dependencies.pth").write_text(f"{dependencies}\n")
        return python, site
    return make


# ---------------------------------------------------------------- the places

@pytest.mark.parametrize("name", ["venv", "a venv with spaces"])
def test_m12_in_a_venv(name, wheel, venv, place_in, tmp_path):
    folder = tmp_path / name
    python, site = venv(folder)
    pip(python, "install", "--no-deps", "--no-index", wheel)
    assert cycle(place_in(folder / "home", python, folder / "bin"), site / "covey") == str(site / "covey" / "bin" / "ipengine")
    pip(python, "uninstall", "-y", "covey")
    assert not list(site.glob("*covey*")) and not list((folder / "bin").glob("ip[ce]*"))


def test_m12_for_a_user(wheel, dependencies, place_in, tmp_path):
    base = tmp_path / "local"
    pip(BASE_PYTHON, "install", "--user", "--break-system-packages", "--no-warn-script-location", "--no-deps", "--no-index", wheel, PYTHONUSERBASE=str(base))
    site = next(base.rglob("covey/__init__.py")).parents[1]
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    cycle(place_in(tmp_path / "home", BASE_PYTHON, base / "bin", PYTHONUSERBASE=str(base)), site / "covey")


def test_m12_in_a_prefix(wheel, dependencies, place_in, tmp_path):
    prefix = tmp_path / "prefix"
    pip(BASE_PYTHON, "install", "--prefix", prefix, "--break-system-packages", "--no-warn-script-location", "--no-deps", "--no-index", wheel)
    site = next(prefix.rglob("covey/__init__.py")).parents[1]
    bin = next(p.parent for p in prefix.rglob("ipcluster") if p.parent != site / "covey" / "bin")
    cycle(place_in(tmp_path / "home", BASE_PYTHON, bin, PYTHONPATH=f"{site}{os.pathsep}{dependencies}"), site / "covey")


def test_m12_editable(source, wheel, venv, place_in, tmp_path):
    """The programs run from the build folder and find each other there, too. (After the wheel: it is built already.)"""
    python, site = venv(tmp_path / "venv")
    pip(python, "install", "--no-deps", "--no-index", *BUILD, "-e", source)
    assert not (site / "covey").exists()
    program = cycle(place_in(tmp_path / "home", python, tmp_path / "venv" / "bin"), source / "python" / "covey")
    assert Path(program).is_relative_to(source / "build")


def test_m12_as_modules(wheel, venv, place_in, tmp_path):
    """`python -m covey.controller`, `.engine` and `.cluster`, where no command is on PATH."""
    python, site = venv(tmp_path / "venv")
    pip(python, "install", "--no-deps", "--no-index", wheel)
    place = place_in(tmp_path / "home", python)
    where = [str(site / "covey" / "__init__.py"), str(python)]
    started = [place.start(str(python), "-m", "covey.controller"), place.start(str(python), "-m", "covey.engine")]
    try:
        wait_until(lambda: files_of(place.ipython_dir), what="connection files")
        assert place.task(1) == [where] * 2
        assert [os.path.basename(os.readlink(f"/proc/{p.pid}/exe")) for p in started] == ["ipcontroller", "ipengine"]
    finally:
        for p in reversed(started):
            p.terminate()
            p.wait(20)
    place.nothing_left()
    place.run(str(python), "-m", "covey.cluster", "start", "-n", "1", "--daemonize")
    assert place.task(1) == [where] * 2
    place.run(str(python), "-m", "covey.cluster", "stop")
    place.nothing_left()


def test_only_the_source_on_the_path(tree, dependencies):
    """A checkout that was not installed: one sentence, no traceback."""
    env = clean_env(PYTHONPATH=f"{tree / 'python'}{os.pathsep}{dependencies}", PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run([sys.executable, "-m", "covey.cluster", "start"], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "is covey installed (`pip install .`)" in done.stderr and "Traceback" not in done.stderr, done.stderr


# ---------------------------------------------------------------- what is packed

def test_the_wheel_has_all_and_nothing_else(wheel):
    """Every module, stub and marker of the package, the two extensions, the three programs; no tests, caches, build files."""
    package = {f"covey/{p.name}" for p in (ROOT / "python" / "covey").iterdir() if p.suffix in (".py", ".pyi", ".typed")}
    assert {"covey/py.typed", "covey/_core.pyi", "covey/_tls.pyi"} <= package
    built = {"covey/_core.abi3.so", "covey/_tls.abi3.so", *(f"covey/bin/{p}" for p in PROGRAMS)}
    with zipfile.ZipFile(wheel) as archive:
        modes = {i.filename: i.external_attr >> 16 for i in archive.infolist() if ".dist-info/" not in i.filename}
        info = wheel.name.rsplit("-", 3)[0] + ".dist-info/"
        metadata = archive.read(info + "METADATA").decode()
        names = archive.namelist()
    assert set(modes) == package | built
    assert all(stat.S_ISREG(modes[f"covey/bin/{p}"]) and modes[f"covey/bin/{p}"] & 0o555 == 0o555 for p in PROGRAMS)
    assert not [n for n in package if modes[n] & 0o111]
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]
    assert "License-Expression: BSD-3-Clause\n" in metadata and any(n.startswith(info) and n.endswith("LICENSE") for n in names)
    assert all(f"Requires-Dist: {name}" in metadata for name in ("ipython", "traitlets", "cloudpickle", "tqdm"))


def test_the_sdist_has_what_a_build_takes(sdist):
    if not sdist:
        pytest.skip("Meson packs a source tree with git, which is not here")
    with tarfile.open(sdist) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    assert {"PKG-INFO", "LICENSE", "README.md", "pyproject.toml", "meson.build", "meson.options", "src/wire/header.c", "python/covey/py.typed"} <= names
    assert not [n for n in names if n.startswith(("build", ".venv")) or "__pycache__" in n or n.endswith((".so", ".o", ".pyc"))]


def test_an_isolated_build_gets_its_tools():
    """pip reads what to fetch from `requires` alone; `make` uses the same versions."""
    requires = PYPROJECT["build-system"]["requires"]
    assert sorted(r.partition(">=")[0] for r in requires) == ["meson", "meson-python", "ninja"]
    assert set(requires) <= set((ROOT / "tools" / "requirements.txt").read_text().split("\n"))
    built_with = (ROOT / "meson.build").read_text()
    assert f"version: '{PYPROJECT['project']['version']}'" in built_with and "meson_version: '>=1.4'" in built_with and "meson>=1.4" in requires


# ---------------------------------------------------------------- make deps

@pytest.fixture
def poor_user():
    """`run(missing, **variables)`: `make deps` as somebody without root, on a machine that lacks the named libraries.

    pkg-config, cc, Python, pip and sudo are stand-ins on PATH: nothing is installed, whatever this machine allows.
    """
    folder = Path(tempfile.mkdtemp(prefix="covey-deps-"))
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    stubs = {
        "pkg-config": 'for a; do case " $MISSING " in *" $a "*) exit 1;; esac; done; exit 0',
        "cc": "exit 0",
        "sudo": "echo asked for sudo >&2; exit 1",
        "python3": 'case "$*" in *Python.h*) [ -z "$NO_HEADERS" ];; "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip";; esac',
    }
    stubs["python3.13"] = stubs["python3"]
    try:
        shutil.copy2(ROOT / "Makefile", folder)
        shutil.copytree(ROOT / "tools", folder / "tools")
        (folder / "stubs").mkdir()
        for name, text in stubs.items():
            (folder / "stubs" / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / "stubs" / name).chmod(0o755)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
            if nobody:
                os.chown(path, nobody["user"], nobody["group"])

        def run(missing="", *args, **variables):
            env = {"PATH": f"{folder / 'stubs'}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "MISSING": missing, **variables}
            return subprocess.run(["make", "deps", *args], cwd=folder, env=env, capture_output=True, text=True, timeout=30, **nobody), folder
        yield run
    finally:
        shutil.rmtree(folder)


def test_deps_without_root_says_two_lines(poor_user):
    done, folder = poor_user("libuv jansson msgpack msgpack-c msgpackc", NO_HEADERS="1")
    assert done.returncode != 0 and not (folder / ".venv").exists()
    apt, conda = ([line.strip() for line in done.stderr.splitlines() if word in line] for word in ("apt-get install", "conda install"))
    assert len(apt) == len(conda) == 1
    wanted = apt[0].partition("apt-get install -y ")[2].split()
    assert set(wanted) in [{"libuv1-dev", "libjansson-dev", "python3-dev", m} for m in ("libmsgpack-c-dev", "libmsgpack-dev")]
    assert {"libuv", "openssl", "jansson", "sqlite", "cmocka", "msgpack-c", "c-compiler"} <= set(conda[0].split())
    for line in (apt[0], conda[0]):   # to be pasted into a shell
        checked(["sh", "-n", "-c", line.partition(":")[2]])


def test_deps_names_the_packages_of_another_python(poor_user):
    done, _ = poor_user("openssl >= 3.0", "PYTHON=python3.13", NO_HEADERS="1")
    assert "apt-get install -y libssl-dev python3.13-dev\n" in done.stderr, done.stderr


def test_deps_with_the_compiler_of_conda(poor_user):
    """conda's compiler is named by CC alone; there is no cc."""
    done, _ = poor_user(CC="no-such-compiler -O1")
    assert "not installed: build-essential." in done.stderr
    done, _ = poor_user(CC="sh -O1")
    assert done.returncode == 0, done.stderr


def test_deps_with_all_there_asks_for_nothing(poor_user):
    done, folder = poor_user()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and (folder / ".venv" / "meson-native.ini").exists()
    done, _ = poor_user("libuv")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout   # it is not even looked at again

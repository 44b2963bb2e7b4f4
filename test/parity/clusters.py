# SPDX-License-Identifier: BSD-3-Clause
"""Rows 4.11 and 4.12: Cluster and ClusterManager."""
from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import covey as ipp
from traitlets import TraitError

from ..waiting import wait_until
from .ground import ROOT, Ground, raises, row


def _profile(t: Ground, name: str = "p", **files: str) -> str:
    folder = t.tmp / f"profile_{name}"
    (folder / "security").mkdir(parents=True)
    for file, text in files.items():
        (folder / f"{file}.py").write_text(text)
    return str(folder)


@row("P141")
def keywords(t: Ground) -> None:
    parameters = inspect.signature(ipp.Cluster).parameters.values()
    names = {p.name for p in parameters}
    assert {"n", "engines", "controller", "profile", "profile_dir", "cluster_id", "controller_args", "controller_ip", "controller_location",
            "delay", "engine_timeout", "shutdown_atexit", "config", "log", "log_level", "load_profile"} <= names | set(vars(ipp.Cluster(n=1))), names
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)
    assert ipp.Cluster(n=2, profile_dir=_profile(t), parent=None, cluster_file=str(t.tmp / "c.json"), send_engines_connection_env=True).n == 2
    raises(TypeError, ipp.Cluster, engines="local", engine_launcher_class="local")


@row("P142", "K019", "K028", "K117", "K120")
def profiles(t: Ground) -> None:
    folder = _profile(t, ipcluster_config="c = get_config()\nc.Cluster.n = 3\nc.Cluster.engine_launcher_class = 'MPI'\n")
    made = ipp.Cluster(profile_dir=folder)
    assert made.n == 3 and "MPI" in made.engine_launcher_class.__name__
    assert ipp.Cluster(profile_dir=folder, n=1).n == 1 and ipp.Cluster(profile_dir=folder, load_profile=False).n is None
    assert ipp.Cluster(profile_dir=folder).cluster_id != made.cluster_id and re.fullmatch(r"\d+-[a-z0-9]{4}", made.cluster_id)


@row("P143", "P146", "P147", "P148", "P149", "P150", "P152", "P153", "P155", "P145")
def methods(t: Ground) -> None:
    async def main() -> None:
        c = ipp.Cluster(n=1, profile_dir=_profile(t, "a"), delay=0)
        assert c.controller is None and c.engine_set is None
        await c.start_controller()
        try:
            raises(RuntimeError, c.start_controller_sync)
            first = await c.start_engines(1)
            second = await c.start_engines(1)
            assert first != second and set(c.engines) == {first, second} and c.engine_set is not None and c.controller is not None
            rc = await c.connect_client()
            assert rc.cluster is c
            rc.wait_for_engines(2, timeout=30, interactive=False)
            await c.signal_engines(18)  # SIGCONT
            await c.stop_engines(second)
            wait_until(lambda: len(rc) == 1, what="one engine")
            raises(KeyError, c.stop_engines_sync, "x")
            pids = rc[:].apply_sync(os.getpid)
            await c.restart_engines()
            wait_until(lambda: len(rc) == 1 and 0 not in rc.ids, what="the engine's successor")
            assert set(c.engines) == {first} and c.engines[first].n == 1 and rc[:].apply_sync(os.getpid) != pids
            rc.close()
            await c.stop_engines()
        finally:
            await c.stop_controller()
            await c.stop_controller()
            await c.stop_cluster()
    asyncio.run(main())
    c = ipp.Cluster(n=1, profile_dir=_profile(t, "b"))
    t.stack.callback(c.stop_cluster_sync)
    rc = c.start_and_connect_sync()
    assert rc.cluster is c and rc.ids == [0] and "start_cluster_sync" in dir(c)
    raises(AttributeError, getattr, c, "nothing_sync")
    rc.close()

    async def inside() -> list[int]:
        with c.connect_client_sync() as rc:
            return rc.ids
    assert asyncio.run(inside()) == [0]


@row("P144")
def single_engines(t: Ground) -> None:
    c = ipp.Cluster(n=1, profile_dir=_profile(t))
    raises(NotImplementedError, c.stop_engine_sync, 0)
    raises(NotImplementedError, c.restart_engine_sync, 0)


@row("P154", "P158")
def ends(t: Ground) -> None:
    async def main() -> str:
        async with ipp.Cluster(n=1, profile_dir=_profile(t, "a")) as rc:
            assert rc[:].apply_sync(int) == [0]
            return rc.cluster.client_file
    assert not os.path.exists(asyncio.run(main()))
    source = ("import sys, os, covey as ipp\nc = ipp.Cluster(n=1, profile_dir=sys.argv[1])\nrc = c.start_and_connect_sync()\n"
              "print(rc[0].apply_sync(os.getpid))")
    done = subprocess.run([sys.executable, "-c", source, _profile(t, "b")], capture_output=True, text=True, timeout=60, env=t.env, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not os.path.exists(f"/proc/{int(done.stdout)}"), what="the engine's end")


@row("P156", "P157", "C125")
def files(t: Ground) -> None:
    rc = t.cluster(1, cluster_id="kept")
    c = rc.cluster
    file = Path(c.cluster_file)
    assert file.name == "cluster-kept.json" and file.exists()
    again = ipp.Cluster.from_file(str(file))
    with again.connect_client_sync() as other:
        assert other.ids == [0]
    assert ipp.Cluster.from_file(profile_dir=c.profile_dir, cluster_id="kept").shutdown_atexit is False
    raises(FileNotFoundError, ipp.Cluster.from_file, profile_dir=c.profile_dir, cluster_id="gone")
    state = c.to_dict()
    assert ipp.Cluster.from_dict(state).cluster_id == "kept"
    c.remove_cluster_file()
    assert not file.exists()
    c.write_cluster_file()
    c.update_cluster_file()
    assert json.loads(file.read_text()) == state
    del again
    assert rc.ids == [0]


@row("P159", "P161")
def shown(t: Ground) -> None:
    c = ipp.Cluster(n=1, profile_dir=_profile(t), cluster_id="r")
    assert repr(c).startswith("<Cluster(cluster_id='r', profile") and os.path.isabs(c.profile_dir)
    assert os.path.isabs(ipp.Cluster(n=1, profile_dir="x").profile_dir)
    assert ipp.Cluster(n=1).profile_dir == str(Path(t.env["IPYTHONDIR"]) / "profile_default")


@row("P160")
def logging(t: Ground) -> None:
    import logging as standard
    c = ipp.Cluster(n=1, profile_dir=_profile(t), log_level=standard.ERROR)
    assert isinstance(c.log, standard.Logger) and c.log_level == standard.ERROR


@row("P162", "P163", "P164")
def managers(t: Ground) -> None:
    rc = t.cluster(1, cluster_id="seen")
    m = ipp.ClusterManager()
    found = m.load_clusters(profile_dirs=[rc.cluster.profile_dir])
    assert [c.cluster_id for c in found.values()] == ["seen"] and all(":" in key for key in found)
    raises(Exception, m.load_clusters, profile="no-such-profile")
    key, c = m.new_cluster(n=1, profile_dir=rc.cluster.profile_dir, cluster_id="new")
    raises(KeyError, m.new_cluster, n=1, profile_dir=rc.cluster.profile_dir, cluster_id="new")
    assert m.get_cluster(key) is c and key in m.clusters
    m.remove_cluster(key)
    raises(KeyError, m.get_cluster, key)


@row("P165")
def cleaning(t: Ground) -> None:
    from covey.cluster import clean_cluster_files
    folder = Path(_profile(t))
    (folder / "log").mkdir()
    (folder / "log" / "old.log").write_text("x")
    (folder / "security" / "ipcontroller-client.json").write_text("{}")
    clean_cluster_files(profile_dirs=[str(folder)], force=True)
    assert not list((folder / "log").iterdir()) and not list((folder / "security").iterdir())


@row("K021", "K023", "K024", "K022", "K026")
def settings(t: Ground) -> None:
    rc = t.cluster(1, controller_ip="*", controller_location="h1", controller_args=["--nodb"])
    info = json.loads(Path(rc.cluster.client_file).read_text())
    assert info["location"] == "h1"
    raises((ipp.RemoteError, ipp.error.NoData), rc.hub_history)
    rc.close()
    slow = ipp.Cluster(n=1, profile_dir=_profile(t, "s"), engine_timeout=1,
                       config={"EngineLauncher": {"engine_cmd": ["sh", "-c", "exec sleep 600"]}})
    try:
        assert "after 1 s" in str(raises(TimeoutError, slow.start_and_connect_sync))
    finally:
        slow.stop_cluster_sync()
    raises(TraitError, lambda: ipp.Cluster(n=1, engines="nosuch"))

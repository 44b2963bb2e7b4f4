"""covey.util: what programs import from ipyparallel.util."""
import os
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from covey import util


def test_dicts_of_two_kinds():
    n = util.Namespace(a=1)
    n.b = 2
    assert n == {"a": 1, "b": 2} and n.a == 1
    with pytest.raises(AttributeError, match="^c$"):
        n.c  # noqa: B018
    d = util.ReverseDict({"engine": 3})
    d["client"] = 4
    assert d["engine"] == 3 and d[4] == "client" and d.get(3) == "engine" and d.get(5) is None and d.get(5, 0) == 0
    assert d.pop("client") == 4 and d.get(4) is None
    with pytest.raises(KeyError, match="4"):
        d[4]


def test_urls():
    assert util.is_url("tcp://h:1") and not util.is_url("/a/file.json")
    assert util.split_url("tcp://10.0.0.1:5555") == ("tcp", "10.0.0.1", "5555") and util.split_url("tcp://*:1") == ("tcp", "*", "1")
    for bad in ("tcp://h", "h:1", "ipc://path"):
        with pytest.raises(AssertionError, match="not a url"):
            util.split_url(bad)
    assert util.disambiguate_url("tcp://*:7", "elsewhere.invalid") == "tcp://elsewhere.invalid:7"
    assert util.disambiguate_url("ipc://a-file") == "ipc://a-file"


def test_the_address_of_who_listens_everywhere():
    for ip in ("*", "0.0.0.0", "::"):
        for here in (None, "localhost", "127.0.0.1", socket.gethostname()):
            assert util.disambiguate_ip_address(ip, here) == "127.0.0.1"
        assert util.disambiguate_ip_address(ip, "192.0.2.1") == "192.0.2.1", "an address of no machine, of documents"
    assert util.disambiguate_ip_address("10.1.2.3", "elsewhere.invalid") == "10.1.2.3"


def test_ports_that_are_free():
    ports = util.select_random_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        with socket.socket() as s:
            s.bind(("127.0.0.1", port))


def test_keys_that_are_numbers():
    d = {"0": "a", "-1": "b", "x": "c", 5: "d"}
    assert util.int_keys(d) is d == {0: "a", -1: "b", "x": "c", 5: "d"}


def test_times():
    now = util.utcnow()
    assert now.tzinfo is util.utc and util.from_ns(0) is None and util.from_ns(1_500_000_000) == datetime(1970, 1, 1, 0, 0, 1, 500_000, timezone.utc)
    assert util.compare_datetimes(now + timedelta(seconds=2), now.replace(tzinfo=None)) == 2.0
    text = "2026-01-02T03:04:05.000006+00:00"
    found = util.extract_dates({"a": [text, ("x", 1)], "b": {"c": text}, "d": "2026-13-45T99:99:99"})
    when = datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc)
    assert found == {"a": [when, ["x", 1]], "b": {"c": when}, "d": "2026-13-45T99:99:99"}


def test_the_short_form_of_a_profile(monkeypatch, tmp_path):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert util.abbreviate_profile_dir(str(tmp_path / "ipython" / "profile_x")) == "x"
    assert util.abbreviate_profile_dir(str(tmp_path / "job" / "profile_y")) == os.path.join("~", "job", "profile_y")
    assert util.abbreviate_profile_dir("/elsewhere/profile_z") == "/elsewhere/profile_z"


def test_who_watches(monkeypatch):
    monkeypatch.setenv("IPP_NONINTERACTIVE", "1")
    assert not util.interactive_session()
    monkeypatch.setenv("IPP_NONINTERACTIVE", "0")
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr("sys.stdout", None)
    assert not util.interactive_session(), "a program without standard output"


def test_code_objects_can_be_pickled():
    source = ("import pickle, types, ipyparallel.serialize.codeutil\n"
              "code = pickle.loads(pickle.dumps((lambda x: x + 1).__code__))\n"
              "assert types.FunctionType(code, {})(1) == 2\n")
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2] / "compat"), *(p for p in sys.path if p)])
    subprocess.run([sys.executable, "-c", source], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=60)


def test_programs_lie_in_the_package_or_where_an_editable_install_has_them(monkeypatch, tmp_path):
    from covey import _programs

    monkeypatch.delenv("COVEY_BIN", raising=False)
    found = _programs.program_path("ipcluster")
    monkeypatch.setattr(_programs, "__file__", str(tmp_path / "_programs.py"))
    assert os.path.samefile(_programs.program_path("ipcluster"), found)

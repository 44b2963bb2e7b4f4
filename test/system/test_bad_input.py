"""Bad bytes, keys, files, flags: a clear word to who sent them, and nobody else notices."""
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import covey as ipp
import pytest

from .conftest import wait_until

BIN = Path(sys.executable).parent
MAGIC, VERSION = 0x5EC0, 1
HELLO, TASK = 1, 3


def header(type, *, magic=MAGIC, version=VERSION, flags=0, status=0, route=0, nbufs=0, count=0, body=0, session=0, seq=0):
    """The 64 bytes of docs/protocol.md."""
    return struct.pack("<HBBHHB3sHHIIQQQQQ", magic, version, type, flags, 0, status, route.to_bytes(3, "little"), nbufs, 0, 0xFFFFFFFF,
                       count, body, session, seq, 0, 0)


@pytest.fixture
def pair(ipython_dir):
    """A controller and one engine started by hand; the folder of their connection files."""
    security = Path(ipython_dir["IPYTHONDIR"]) / "profile_default" / "security"
    controller = subprocess.Popen([BIN / "ipcontroller"], env=ipython_dir, stderr=subprocess.PIPE, text=True)
    engines = None
    try:
        wait_until((security / "ipcontroller-engine.json").exists, what="the connection files")
        engines = subprocess.Popen([BIN / "ipengine", "-n", "1"], env=ipython_dir, stderr=subprocess.DEVNULL)
        yield security
        assert controller.poll() is None, controller.stderr.read()
    finally:
        for process in (engines, controller):
            if process and process.poll() is None:
                process.terminate()
                process.wait(30)
        controller.stderr.close()


@pytest.fixture
def rc(pair):
    client = ipp.Client(str(pair / "ipcontroller-client.json"))
    client.wait_for_engines(1, timeout=20)
    yield client
    assert client[0].apply_sync(abs, -7) == 7, "the others noticed"
    client.close()


def endpoints(security):
    info = json.loads((security / "ipcontroller-client.json").read_text())
    unix = next(e for e in info["endpoints"] if e.startswith("unix:@"))
    return "\0" + unix[len("unix:@"):], info["registration"]


def unix_socket(security):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(60)
    s.connect(endpoints(security)[0])
    return s


def tcp_socket(security):
    return socket.create_connection(("127.0.0.1", endpoints(security)[1]), timeout=60)


def read_to_end(s):
    """What the peer still says before it closes; fails when it does not close."""
    said = b""
    try:
        while piece := s.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    s.close()
    return said


@pytest.mark.parametrize("connect", [unix_socket, tcp_socket])
@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(range(256)) * 16,
        header(HELLO, version=99),
        header(HELLO, body=1 << 60, nbufs=1),
        header(HELLO, route=0xFFFFFF),
        header(HELLO, route=16) + b"\xc1" * 16,
        header(HELLO, route=4) + b"\xdf\xff\xff\xff",
        header(TASK, body=4, nbufs=1, count=1, seq=1) + b"evil",
    ],
    ids=["http", "bytes", "version", "body", "route", "not-msgpack", "map-too-long", "task-before-hello"],
)
def test_who_breaks_the_protocol_is_closed(rc, pair, connect, sent):
    s = connect(pair)
    try:
        s.sendall(sent)
    except (BrokenPipeError, ConnectionResetError):
        pass
    read_to_end(s)


def test_a_silent_peer_is_closed_after_five_seconds(rc, pair):
    s = unix_socket(pair)
    started = time.monotonic()
    read_to_end(s)
    assert time.monotonic() - started > 2


def test_another_version_is_told_in_one_line(rc, pair):
    s = unix_socket(pair)
    s.sendall(header(HELLO, version=99))
    assert b"99" in read_to_end(s)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused(rc, pair):
    code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1].replace('@', chr(0), 1)); print(s.recv(1))"
    name = "@" + endpoints(pair)[0][1:]
    done = subprocess.run(["python3" if not Path("/usr/bin/python3").exists() else "/usr/bin/python3", "-c", code, name], user=65534, group=65534, cwd="/",
                          capture_output=True, text=True, timeout=30)
    assert "b''" in done.stdout or "ConnectionReset" in done.stderr, done


def test_a_wrong_key_is_named(rc, pair, tmp_path):
    path = tmp_path / "ipcontroller-client.json"
    info = json.loads((pair / "ipcontroller-client.json").read_text())
    good = info["key"]
    info["key"] = "0" * 64
    info["endpoints"] = [e for e in info["endpoints"] if e.startswith("tcp:")]
    path.write_text(json.dumps(info, indent=2))
    path.chmod(0o600)
    with pytest.raises(OSError) as failure:
        ipp.Client(str(path), timeout=30)
    assert "key" in str(failure.value) and good not in str(failure.value) and "0" * 64 not in str(failure.value)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file of another user and read it")
def test_root_uses_the_file_of_another_user(pair, tmp_path):
    """As in a container, into which a user's folder is mounted."""
    path = Path(shutil.copy(pair / "ipcontroller-client.json", tmp_path))
    path.chmod(0o600)
    os.chown(path, 20077, 20077)
    with ipp.Client(str(path)) as rc:
        assert rc.wait_for_engines(1, timeout=20) is not False


def test_the_engine_file_submits_nothing(rc, pair):
    """The engine's file authenticates engines: with its key a client is refused."""
    path = pair / "ipcontroller-engine.json"
    info = json.loads(path.read_text())
    assert info["key"] != json.loads((pair / "ipcontroller-client.json").read_text())["key"]
    info["endpoints"] = [e for e in info["endpoints"] if e.startswith("tcp:")]
    other = pair / "copy.json"
    other.write_text(json.dumps(info, indent=2))
    other.chmod(0o600)
    with pytest.raises(OSError):
        ipp.Client(str(other), timeout=30)
    other.unlink()


def test_tls_works_where_the_socket_does_not(rc, pair, tmp_path):
    path = tmp_path / "ipcontroller-client.json"
    info = json.loads((pair / "ipcontroller-client.json").read_text())
    info["endpoints"] = [e for e in info["endpoints"] if e.startswith("tcp:")]
    path.write_text(json.dumps(info, indent=2))
    path.chmod(0o600)
    with ipp.Client(str(path), timeout=30) as client:
        assert client[0].apply_sync(abs, -3) == 3


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_text(p.read_text()[:40]), "ipcontroller-client.json"),
        (lambda p: p.chmod(0o644), "chmod"),
        (lambda p: p.write_text("{}"), "ipcontroller-client.json"),
        (lambda p: p.unlink(), "ipcontroller-client.json"),
    ],
    ids=["truncated", "world-readable", "empty", "missing"],
)
def test_a_bad_connection_file_is_named(rc, pair, tmp_path, spoil, words):
    path = tmp_path / "ipcontroller-client.json"
    path.write_text((pair / "ipcontroller-client.json").read_text())
    path.chmod(0o600)
    spoil(path)
    with pytest.raises((OSError, ValueError)) as failure:
        ipp.Client(str(path), timeout=1)
    assert words in str(failure.value)


def test_a_stale_connection_file_is_told(ipython_dir, tmp_path):
    """The file of a controller that is gone: no hang, a sentence."""
    security = Path(ipython_dir["IPYTHONDIR"]) / "profile_default" / "security"
    controller = subprocess.Popen([BIN / "ipcontroller"], env=ipython_dir, stderr=subprocess.DEVNULL)
    wait_until((security / "ipcontroller-client.json").exists, what="the connection file")
    controller.kill()
    controller.wait()
    with pytest.raises(OSError) as failure:
        ipp.Client(str(security / "ipcontroller-client.json"), timeout=3)
    assert "ipcontroller" in str(failure.value) or "refused" in str(failure.value)
    # the next controller is not disturbed by what is left
    again = subprocess.Popen([BIN / "ipcontroller"], env=ipython_dir, stderr=subprocess.DEVNULL)
    boot = lambda: json.loads((security / "ipcontroller-client.json").read_text())["boot_id"]  # noqa: E731
    old = boot()
    wait_until(lambda: boot() != old, what="new files")
    again.terminate()
    assert again.wait(30) == 0
    assert not (security / "ipcontroller-client.json").exists()


def program(ipython_dir, *argv, **kwargs):
    return subprocess.run([BIN / argv[0], *argv[1:]], env=ipython_dir, capture_output=True, text=True, timeout=60, **kwargs)


@pytest.mark.parametrize("name", ["ipcontroller", "ipengine", "ipcluster start"])
def test_an_unknown_flag_is_a_usage_error(ipython_dir, name):
    done = program(ipython_dir, *name.split(), "--no-such-option=3")
    assert done.returncode == 2
    assert "no-such-option" in done.stderr


@pytest.mark.parametrize("name", ["ipcontroller", "ipengine", "ipcluster"])
def test_help_shows_examples_and_version(ipython_dir, name):
    done = program(ipython_dir, name, "--help")
    assert done.returncode == 0 and "xample" in done.stdout
    done = program(ipython_dir, name, "--version")
    assert done.returncode == 0 and re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("name", ["ipcontroller", "ipcluster"])
def test_a_broken_config_file_is_named(ipython_dir, name):
    profile = Path(ipython_dir["IPYTHONDIR"]) / "profile_default"
    profile.mkdir(parents=True)
    (profile / f"{name}_config.py").write_text("c.Cluster.n = (\n")
    done = program(ipython_dir, name, *(["start", "-n", "1"] if name == "ipcluster" else []))
    assert done.returncode == 1
    assert f"{name}_config.py" in done.stderr


def test_a_port_in_use_is_named(ipython_dir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = program(ipython_dir, "ipcontroller", f"--port={port}")
    assert done.returncode == 1
    assert str(port) in done.stderr and "in use" in done.stderr


def test_a_profile_that_cannot_be_written_is_named(ipython_dir, tmp_path):
    blocker = tmp_path / "a-file"
    blocker.write_text("")
    done = program(ipython_dir, "ipcontroller", f"--profile-dir={blocker}/profile_x")
    assert done.returncode == 1
    assert str(blocker) in done.stderr


def test_keys_are_in_no_argv_and_no_log(rc, pair):
    keys = [json.loads(p.read_text())["key"] for p in pair.glob("ipcontroller-*.json")]
    for proc in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = proc.read_bytes().decode(errors="replace")
        except OSError:
            continue
        assert not any(key in text for key in keys)


def test_a_peer_that_never_reads_harms_nobody(rc, pair):
    """A client that asks a lot and reads nothing: the others go on."""
    stuck = subprocess.Popen([sys.executable, "-c", STUCK, str(pair / "ipcontroller-client.json")], stdout=subprocess.PIPE, text=True)
    try:
        assert stuck.stdout.readline() == "stopped reading\n"
        assert rc.load_balanced_view().map_async(abs, range(-500, 0)).get(60) == list(range(500, 0, -1))
    finally:
        stuck.kill()
        stuck.wait()
        stuck.stdout.close()


STUCK = """
import os, signal, sys, threading
import covey as ipp
rc = ipp.Client(sys.argv[1])
view = rc.load_balanced_view()
pending = [view.apply_async(bytes, 1 << 20) for _ in range(64)]
print("stopped reading", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_client_gets_in_past_many_silent_peers(rc, pair):
    silent = []
    try:
        for _ in range(600):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            s.setblocking(False)
            silent.append(s)
            try:
                s.connect(endpoints(pair)[0])
            except BlockingIOError:
                pass
        with ipp.Client(str(pair / "ipcontroller-client.json"), timeout=60) as client:
            assert client[0].apply_sync(abs, -5) == 5
    finally:
        for s in silent:
            s.close()

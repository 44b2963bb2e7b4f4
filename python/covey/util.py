# SPDX-License-Identifier: BSD-3-Clause
"""Small helpers that programs import from `ipyparallel.util`."""
from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import datetime, timedelta, timezone
from typing import Any

from .serialize import interactive

__all__ = ["interactive", "Namespace", "ReverseDict", "utc", "utcnow", "progress", "abbreviate_profile_dir",
           "is_url", "split_url", "disambiguate_ip_address", "disambiguate_url", "select_random_ports", "int_keys",
           "compare_datetimes", "extract_dates"]

utc = timezone.utc
_EPOCH = datetime(1970, 1, 1, tzinfo=utc)


def utcnow() -> datetime:
    """Now, as an aware datetime in UTC."""
    return datetime.now(utc)


def limit_of(timeout: float | None) -> float | None:
    """None and negative mean for ever."""
    return None if timeout is None or timeout < 0 else timeout


def from_ns(ns: int) -> datetime | None:
    """Nanoseconds since 1970 as an aware datetime; None for 0 (not happened)."""
    return _EPOCH + timedelta(microseconds=ns // 1000) if ns else None


class Namespace(dict):
    """A dict whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class ReverseDict(dict):
    """A dict that can be asked by value, too: ``d[value]`` is the value's key."""

    def __missing__(self, value: Any) -> Any:
        for k, v in self.items():
            if v == value:
                return k
        raise KeyError(value)

    def get(self, key: Any, default: Any = None) -> Any:
        """``d[key]``, by key or by value; the default where there is neither."""
        try:
            return self[key]
        except KeyError:
            return default


def notebook() -> bool:
    """Progress bars can be widgets here."""
    ip = sys.modules.get("IPython")
    shell = ip.get_ipython() if ip is not None else None
    return shell is not None and "ipykernel" in sys.modules and hasattr(shell, "kernel") and type(
        shell).__module__.startswith("ipykernel")


def interactive_session() -> bool:
    """Somebody watches: IPython runs, or standard output is a terminal; and IPP_NONINTERACTIVE is not set."""
    if os.environ.get("IPP_NONINTERACTIVE", "0") not in ("", "0"):
        return False
    ip = sys.modules.get("IPython")
    if ip is not None and ip.get_ipython() is not None:
        return True
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):
        return False


def progress(*args: Any, widget: bool | None = None, **kwargs: Any) -> Any:
    """A tqdm bar on standard output; a widget in notebooks that have ipywidgets."""
    if widget is None:
        widget = notebook()
    if widget:
        try:
            import ipywidgets  # type: ignore[import-not-found]  # noqa: F401
            from tqdm.notebook import tqdm as bar
        except ImportError:
            from tqdm import tqdm as bar
    else:
        from tqdm import tqdm as bar
    kwargs.setdefault("file", sys.stdout)
    return bar(*args, **kwargs)


def abbreviate_profile_dir(profile_dir: str) -> str:
    """``~``-style short form of a profile's folder; its bare name if it is where profiles usually are."""
    base = os.path.join(os.environ.get("IPYTHONDIR", os.path.expanduser("~/.ipython")), "profile_")
    if profile_dir.startswith(base):
        return profile_dir[len(base):]
    home = os.path.expanduser("~")
    return "~" + profile_dir[len(home):] if profile_dir.startswith(home + os.sep) else profile_dir


def is_url(url: str) -> bool:
    """Looks like ``proto://address``."""
    return "://" in url


def split_url(url: str) -> tuple[str, str, str]:
    """(proto, address, port) of ``proto://address:port``."""
    match = re.fullmatch(r"([a-z]+)://(.*):(\d+)", url)
    if match is None:
        raise AssertionError(f"not a url of the form proto://address:port: {url!r}")
    return match[1], match[2], match[3]


def disambiguate_ip_address(ip: str, location: str | None = None) -> str:
    """The address to connect to where one listens on all of them: loopback, or `location` if that is elsewhere."""
    if ip in ("0.0.0.0", "*", "::"):
        return "127.0.0.1" if location is None or _is_here(location) else location
    return ip


def _is_here(location: str) -> bool:
    """A name or an address of this machine."""
    if location in ("localhost", socket.gethostname()):
        return True
    with socket.socket() as s:
        try:
            s.bind((location, 0))
        except OSError:
            return False
    return True


def disambiguate_url(url: str, location: str | None = None) -> str:
    """`disambiguate_ip_address` for a url."""
    try:
        proto, ip, port = split_url(url)
    except AssertionError:
        return url
    return f"{proto}://{disambiguate_ip_address(ip, location)}:{port}"


def select_random_ports(n: int) -> list[int]:
    """n free ports of this machine."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def int_keys(d: dict) -> dict:
    """Keys that are digits as ints, in place."""
    for k in list(d):
        if isinstance(k, str) and re.fullmatch(r"-?\d+", k):
            d[int(k)] = d.pop(k)
    return d


def compare_datetimes(a: datetime, b: datetime) -> float:
    """Seconds from b to a; a naive one is taken as UTC."""
    a, b = [t if t.tzinfo else t.replace(tzinfo=utc) for t in (a, b)]
    return (a - b).total_seconds()


_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def extract_dates(obj: Any) -> Any:
    """ISO 8601 strings inside dicts and lists as datetimes."""
    if isinstance(obj, Mapping):
        return {k: extract_dates(v) for k, v in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [extract_dates(v) for v in obj]
    if isinstance(obj, str) and _ISO.match(obj):
        try:
            return datetime.fromisoformat(obj)
        except ValueError:
            return obj
    return obj


def passed_on() -> Future:
    """A Future that is done: what was asked for is on its way, and nothing is left to wait for."""
    future: Future = Future()
    future.set_result(None)
    return future


def plural(n: int, word: str) -> str:
    """``1 engine``, ``2 engines``."""
    return f"{n} {word}{'s' if n != 1 else ''}"


def as_list(obj: Any) -> list:
    """A list of one thing, or of the things in a list, tuple or set."""
    return list(obj) if isinstance(obj, (list, tuple, set, frozenset)) else [obj]

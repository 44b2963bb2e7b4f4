# SPDX-License-Identifier: BSD-3-Clause
"""Where clusters' files are: profile folders, `security/cluster-ID.json` in them."""
from __future__ import annotations

import os
from collections.abc import Iterable

from ._connect import _current_profile_dir, ipython_dir


def find_profile_dir(profile: str | None, profile_dir: str | os.PathLike | None) -> str:
    """The profile's folder as an absolute path, whether it is there or not; without a name that of the profile that runs, else the default one's."""
    if profile_dir:
        return os.path.abspath(os.path.expanduser(os.fspath(profile_dir)))
    current = _current_profile_dir()
    if not profile and current:
        return current
    return os.path.join(os.path.abspath(ipython_dir()), f"profile_{profile or 'default'}")


def profile_name(profile_dir: str) -> str:
    """The name of a profile that lies where profiles do; '' for another folder."""
    folder, base = os.path.split(profile_dir)
    return base[len("profile_"):] if base.startswith("profile_") and folder == os.path.abspath(ipython_dir()) else ""


def cluster_file_path(profile_dir: str, cluster_id: str) -> str:
    """The file that tells of this cluster, whether it is there or not."""
    return os.path.join(profile_dir, "security", f"cluster-{cluster_id}.json")


def profile_dirs_of(profile_dirs: Iterable[str] | None, profile_dir: str | None, profiles: Iterable[str] | None,
                  profile: str | None) -> list[str]:
    if profile_dir is not None:
        profile_dirs = [profile_dir]
    if profile is not None:
        profiles = [profile]
    if profile_dirs is not None:
        found = [os.path.abspath(os.path.expanduser(d)) for d in profile_dirs]
    elif profiles is not None:
        found = [find_profile_dir(p, None) for p in profiles]
    else:
        base = os.path.abspath(ipython_dir())
        names = sorted(os.listdir(base)) if os.path.isdir(base) else []
        return [os.path.join(base, name) for name in names if name.startswith("profile_")]
    for folder in found:
        if not os.path.isdir(folder):
            from IPython.core.profiledir import ProfileDirError

            raise ProfileDirError(f"no such profile folder: {folder}")
    return found


def cluster_files(profile_dir: str) -> list[str]:
    """The files that tell of this profile's clusters, by name."""
    security = os.path.join(profile_dir, "security")
    names = sorted(os.listdir(security)) if os.path.isdir(security) else []
    return [os.path.join(security, n) for n in names if n.startswith("cluster-") and n.endswith(".json")]

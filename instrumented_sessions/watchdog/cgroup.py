"""How long the process's control groups were throttled: CPU quotas, version 1 and 2."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .files import SystemFile

_ROOT = "/sys/fs/cgroup"


class Throttling:
    """Reads for how long the process's own cgroup and those around it were ever throttled.

    Args:
        root: A directory to read instead of `/`, for tests.
    """

    def __init__(self, root: str = "") -> None:
        self._root = root
        self._membership = SystemFile(f"{root}/proc/self/cgroup")
        self._groups = b""
        self._files: dict[str, SystemFile] = {}

    def read(self) -> dict[str, float]:
        """Return the seconds by cgroup, of version 1 and 2; empty if unknown."""
        groups = self._membership.read()
        if groups != self._groups:  # At first, and when the process was moved.
            self._close_files()
            self._groups = groups
            self._files = {path: SystemFile(f"{path}/cpu.stat") for path in _paths(groups, self._root)}
        found = {path: _seconds(file.read()) for path, file in self._files.items()}
        return {path: seconds for path, seconds in found.items() if seconds is not None}

    def close(self) -> None:
        """Give the descriptors back."""
        self._membership.close()
        self._close_files()

    def _close_files(self) -> None:
        for file in self._files.values():
            file.close()


def between_s(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Return how long a group was throttled between two readings of `Throttling`, in seconds.

    None where no group was seen both times, such as after a move to another one.
    """
    return max((after[path] - before[path] for path in before.keys() & after.keys()), default=None)


def _paths(groups: bytes, root: str) -> list[str]:
    """Return where the groups of `/proc/self/cgroup` are that may have a CPU quota."""
    found: list[str] = []
    for line in os.fsdecode(groups).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = (f"{_ROOT}/{controllers}", f"{_ROOT}/cpu") if controllers else (_ROOT,)
        for mount in mounts:
            if os.path.isdir(root + mount):
                found += _path_and_those_around(root + mount, path)
                break
    return found


def _path_and_those_around(mount: str, path: str) -> list[str]:
    """Return a group and those around it; in a container only the mount may be there."""
    found = [mount]
    for step in filter(None, path.split("/")):
        found.insert(0, f"{found[0]}/{step}")
    return found


def _seconds(stat: bytes) -> float | None:
    """Return for how long a group was throttled, from its `cpu.stat`; None if that does not tell."""
    try:
        figures = dict(line.split() for line in stat.splitlines())
        if b"throttled_usec" in figures:
            return int(figures[b"throttled_usec"]) / 1e6
        return int(figures[b"throttled_time"]) / 1e9
    except (KeyError, ValueError):
        return None

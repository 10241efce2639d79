"""How long the process's control groups were throttled: CPU quotas, version 1 and 2."""

from __future__ import annotations

import os
from collections.abc import Mapping

_ROOT = "/sys/fs/cgroup"


def throttled_s(root: str = "") -> dict[str, float]:
    """Return for how long each cgroup of the process was ever throttled, in seconds; empty if unknown.

    Covers the process's own cgroup and those around it, version 1 and 2. It is read anew each time,
    because a process may be moved.

    Args:
        root: A directory to read instead of `/`, for tests.
    """
    found: dict[str, float] = {}
    try:
        with open(f"{root}/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return found
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = (f"{_ROOT}/{controllers}", f"{_ROOT}/cpu") if controllers else (_ROOT,)
        for mount in mounts:
            if os.path.isdir(root + mount):
                found.update(_throttled_along(root + mount, path))
                break
    return found


def _throttled_along(mount: str, path: str) -> dict[str, float]:
    """Return the figures of a cgroup and of those around it; in a container only the mount may be there."""
    found: dict[str, float] = {}
    steps = path.strip("/")
    while True:
        directory = f"{mount}/{steps}".rstrip("/")
        try:
            with open(f"{directory}/cpu.stat") as file:
                figures = dict(line.split() for line in file.read().splitlines())
        except (OSError, ValueError):
            figures = {}
        if "throttled_usec" in figures:
            found[directory] = int(figures["throttled_usec"]) / 1e6
        elif "throttled_time" in figures:
            found[directory] = int(figures["throttled_time"]) / 1e9
        if not steps:
            return found
        steps = steps.rpartition("/")[0]


def between_s(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Return how long a group was throttled between two readings of `throttled_s`, in seconds.

    None where no group was seen both times, such as after a move to another one.
    """
    return max((after[path] - before[path] for path in before.keys() & after.keys()), default=None)

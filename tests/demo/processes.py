"""Looks at the processes that a demo started."""

from __future__ import annotations

import importlib.util
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from instrumented_sessions.demo import extras
from tests import needs

GUARD_S = 25.0
"""Five times what a person may have to wait for the demo to end, in seconds."""


def need_full_installation() -> None:
    """Skip the test that asks where the extras are left out on purpose; elsewhere they must be there."""
    if importlib.util.find_spec("fastapi") is None:
        pytest.skip("this environment is without the extras")
    for extra in extras.EXTRAS:
        for module in extras.missing(extra):
            needs.give_up(module, "pip install -e '.[all]'")


def left_behind(pid: int) -> list[str]:
    """Return the command lines of the living processes that are on the leash of `pid`."""
    if Path("/proc/self/cmdline").exists():
        lines = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lines.append(path.read_bytes().decode(errors="replace").replace("\0", " "))
            except OSError:  # It has just ended.
                pass
    else:
        listing = subprocess.run(
            ["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True
        )
        lines = listing.stdout.splitlines()
    return [line for line in lines if f"demo.leash {pid} " in line]


def wait_until(condition: Callable[[], bool], *, limit_s: float = GUARD_S) -> None:
    """Wait for `condition`, which another process makes true, so no event can tell."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.05)

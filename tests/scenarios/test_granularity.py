"""S6: what lock granularity does to a slow start, as the dashboard shows it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

for module in ("fastapi", "instrumented_sessions_dashboard"):
    pytest.importorskip(module, reason="the dashboard is not installed")

from tests.dashboard.conftest import serving  # noqa: E402  # It imports the dashboard.

PROGRAM = Path(__file__).parent / "slow_start.py"
ROOT = PROGRAM.parent.parent.parent
LIMIT_S = 20.0


@pytest.mark.scenario("S6", "S1")
@pytest.mark.timeout(60)
def test_dashboard_shows_the_wait_move_with_the_granularity(tmp_path: Path) -> None:
    """Seven of eight wait under one lock, three of four under one for each transport, else none."""
    with serving(db=tmp_path / "dashboard.db") as dashboard:
        subprocess.run(
            [sys.executable, str(PROGRAM), dashboard.address],
            check=True,
            timeout=LIMIT_S,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

        def seen() -> dict[str, Any]:
            answer = dashboard.get("/api/v1/transports")
            return {transport["transport"]: transport for transport in answer["transports"]}

        shown = _until(seen, lambda found: len(found) == 7 and found["hung"]["timeouts"])
    waits = {name: _count(transport, "lock_wait") for name, transport in shown.items()}
    assert waits["global-a"] + waits["global-b"] == 7
    assert (waits["transport-a"], waits["transport-b"]) == (3, 3)
    assert (waits["session-a"], waits["session-b"]) == (0, 0)
    for name in waits:
        if name != "hung":
            assert _count(shown[name], "opening") == 4
            if waits[name]:
                assert shown[name]["lock_wait"]["max_s"] >= 0.2
    # Behind the hung one three waited for the permit, and all four callers timed out.
    assert waits["hung"] == 3
    assert shown["hung"]["by_outcome"]["timeout"] == 4


def _count(transport: dict[str, Any], latency: str) -> int:
    return transport[latency]["count"] if transport[latency] else 0


def _until(read: Callable[[], dict[str, Any]], done: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    deadline = time.monotonic() + LIMIT_S
    while not done(found := read()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found

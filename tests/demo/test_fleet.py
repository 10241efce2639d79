"""The HTTP servers come up, come back, and go with the demo."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from instrumented_sessions.demo import fleet as fleet_module
from instrumented_sessions.demo.fleet import Fleet, ServerPlan
from instrumented_sessions.demo.problem import Problem
from tests.demo.processes import wait_until


def test_dead_server_comes_back_at_the_same_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that crashed is started again at its old address, and lives its next life."""
    monkeypatch.setattr(fleet_module, "RESTART_DELAY_S", 0.1)
    plan = ServerPlan("tickets", lives_s=(0.2, 3600.0))
    with Fleet([plan], tmp_path, threading.Event()) as fleet:
        address, first = fleet.url("tickets"), fleet.process_ids
        wait_until(lambda: fleet.restarts == 1 and len(fleet.process_ids) == 1)
        assert fleet.url("tickets") == address
        assert fleet.process_ids != first
    assert fleet.process_ids == []


def test_server_that_cannot_start_is_a_problem_with_its_last_words(tmp_path: Path) -> None:
    """A server that ends at once is reported with what it said, and nothing is left running."""
    plan = ServerPlan("tickets", ("--no-such-option",))
    with pytest.raises(Problem, match=r"'tickets' did not start; it said: .*--no-such-option"):
        Fleet([plan], tmp_path, threading.Event()).__enter__()


def test_stopped_start_does_not_wait_for_the_servers(tmp_path: Path) -> None:
    """A person who stops the demo while it starts does not wait for the servers."""
    stop = threading.Event()
    stop.set()
    with Fleet([ServerPlan("search")], tmp_path, stop) as fleet:
        assert fleet.url("search").endswith(":0/mcp")  # It had no time to say where it is.
    assert fleet.process_ids == []

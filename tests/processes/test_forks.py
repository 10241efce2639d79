"""S38: `os.fork` with warm sessions, as gunicorn's preload and Celery do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests import servers

from .running import LIMIT_S, gone, program, server

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
]


@pytest.mark.scenario("S38")
def test_forked_child_opens_its_own_and_the_parents_go_on(tmp_path: Path) -> None:
    """Handles and manager work in both; nothing is shared, counted twice, harmed or printed."""
    file = tmp_path / "seen"
    command, args = servers.command()
    with (
        servers.running("http") as http,
        program("forking.py", str(file), http.url, command, *args) as agent,
    ):
        assert agent.wait(LIMIT_S) == 0
        assert agent.stderr is not None
        assert agent.stderr.read() == ""
    seen = json.loads(file.read_text())
    before, child, after = seen["before"], seen["child"], seen["after"]
    assert seen["status"] == 0
    assert child["handles"]
    assert child["stdio"] != before["stdio"] == after["stdio"]
    assert child["http"] != before["http"] == after["http"]
    assert child["generations"] == before["generations"] == after["generations"] == [1, 1]
    assert (child["calls"], child["openings"]) == (2, 2)
    assert (after["calls"], after["openings"]) == (4, 2)


@pytest.mark.scenario("S38")
def test_forked_child_does_not_keep_the_parents_connections_open(tmp_path: Path) -> None:
    """A server hears that the parent has closed its input, although a child of the parent lives."""
    file, end = tmp_path / "pid", tmp_path / "end"
    with program("keeping.py", *server("stubborn", file, str(end)), file=file) as agent:
        assert agent.wait(LIMIT_S) == 0
        assert end.read_text() == "the input has ended"
        assert gone(file)


@pytest.mark.scenario("S38")
def test_guardian_of_a_killed_parent_does_not_wait_for_its_forks(tmp_path: Path) -> None:
    """The parent's servers end with it, not with the last of its children."""
    file = tmp_path / "pid"
    with program("parent.py", *server("deaf", file), file=file) as agent:
        assert agent.stdout is not None
        child = int(agent.stdout.readline())
        try:
            agent.kill()
            agent.wait(LIMIT_S)
            assert gone(file)
            assert servers.is_alive(child)
        finally:
            servers.kill(child)


@pytest.mark.scenario("S38")
def test_fork_in_the_middle_of_a_close_leaves_a_closed_manager() -> None:
    """The child's does not wait for a thread that is not there; observers' queues and locks work in it."""
    with program("bad_moment.py") as agent:
        assert agent.stdout is not None
        assert agent.stderr is not None
        assert agent.wait(LIMIT_S) == 0, agent.stderr.read()
        assert json.loads(agent.stdout.readline()) == {"refused": True, "told": True}
        assert agent.stderr.read() == ""

"""Agents that end in every way there is: nobody waits on, and no server is left behind."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .running import LIMIT_S, gone, pid_in, program, server

pytestmark = pytest.mark.timeout(240)


@pytest.mark.scenario("S25")
@pytest.mark.parametrize("way", ["deaf", "stubborn"])
def test_server_of_a_killed_agent_is_ended(way: str, tmp_path: Path) -> None:
    """Also one that does not read its input any more, or ignores its end and SIGTERM."""
    file = tmp_path / "pid"
    with program("agent.py", "stays", *server(way, file), file=file) as agent:
        agent.kill()
        agent.wait(LIMIT_S)
        assert gone(file)


@pytest.mark.scenario("S25")
def test_what_a_killed_agents_server_has_started_is_ended_too(tmp_path: Path) -> None:
    """The whole process group goes, not its leader only."""
    leader, other = tmp_path / "leader", tmp_path / "other"
    shell = f"trap '' TERM; sleep 1000 & echo $! > {other}; exec \"$@\""
    with program("agent.py", "stays", "sh", "-c", shell, "sh", *server("good", leader)) as agent:
        agent.kill()
        agent.wait(LIMIT_S)
        assert gone(leader)
        assert gone(other)


def test_what_a_closed_server_has_left_behind_is_ended(tmp_path: Path) -> None:
    """A server may end in time and leave a child that ignores SIGTERM."""
    other = tmp_path / "other"
    shell = f"trap '' TERM; sleep 1000 & echo $! > {other}; exec \"$@\""
    with program(
        "agent.py", "daemon", "sh", "-c", shell, "sh", *server("deaf", tmp_path / "leader")
    ) as agent:
        assert agent.wait(LIMIT_S) == 0
        assert gone(other)


@pytest.mark.parametrize("what", ["daemon", "vanishes"])
def test_server_ends_with_a_program_that_does_not_close(what: str, tmp_path: Path) -> None:
    """A daemon thread that waits does not hold up the exit; `os._exit` runs nothing of ours."""
    file = tmp_path / "pid"
    with program("agent.py", what, *server("deaf", file), file=file) as agent:
        assert agent.wait(LIMIT_S) == 0
        assert gone(file)
        assert agent.stderr is not None
        assert agent.stderr.read() == ""


@pytest.mark.scenario("S25")
def test_interrupted_waiter_may_go_on_with_the_manager(tmp_path: Path) -> None:
    """Ctrl-C is a KeyboardInterrupt in the waiter, and nothing else."""
    file = tmp_path / "pid"
    with program("agent.py", "interrupted", *server("deaf", file), file=file) as agent:
        agent.send_signal(signal.SIGINT)
        assert agent.stdout is not None
        assert agent.stderr is not None
        assert agent.wait(LIMIT_S) == 0, agent.stderr.read()
        assert agent.stdout.read() == "went on\n"
        assert gone(file)


@pytest.mark.scenario("S25")
def test_handler_of_sigterm_ends_a_waiter_at_once(tmp_path: Path) -> None:
    """As in servers that exit from their handler of SIGTERM."""
    file = tmp_path / "pid"
    with program("agent.py", "terminated", *server("deaf", file), file=file) as agent:
        agent.terminate()
        assert agent.wait(LIMIT_S) == 7
        assert gone(file)


def test_agents_children_are_its_servers_only(tmp_path: Path) -> None:
    """Who watches over them is nobody's child, and ends with the last server."""
    if not Path("/proc/self/task").exists():
        pytest.skip("this system does not list a process's children")
    file = tmp_path / "pid"
    with program("agent.py", "stays", *server("good", file), file=file) as agent:
        found = [
            pid
            for listing in Path(f"/proc/{agent.pid}/task").glob("*/children")
            for pid in listing.read_text().split()
        ]
        assert found == [str(pid_in(file))]

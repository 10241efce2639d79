"""The examples run, and print what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.slow


def run(example: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example as a reader would."""
    return subprocess.run(
        [sys.executable, str(Path("examples") / example), *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )


@pytest.mark.parametrize("example", ["sync_agent.py", "async_agent.py"])
def test_agents_share_one_opening(example: str) -> None:
    """Three who ask at once get their answers in order, through one session."""
    done = run(example)
    assert done.returncode == 0, done.stderr
    cities = ["Lisbon", "Porto", "Faro"]
    assert done.stdout.splitlines() == [*(f"{city}: sunny, 21 °C" for city in cities), "openings: 1"]


def test_thread_and_task_get_the_same_session() -> None:
    """A thread and a task of one program get the identical object."""
    done = run("shared.py")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "same session: True",
        "task: Lagos: sunny, 21 °C",
        "thread: Zürich: sunny, 21 °C",
    ]


@pytest.mark.scenario("S11")
def test_app_that_calls_itself_completes() -> None:
    """The async door answers where the blocking call hung."""
    done = run("issue_112.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "100 + 12 = 112\n"


@pytest.mark.scenario("S12")
def test_blocking_door_is_refused_with_its_twin() -> None:
    """The blocking door says at once what to call instead."""
    done = run("issue_112.py", "--blocking-door")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("BlockingCallError: ")
    assert "asession()" in done.stdout


def test_old_way_hangs() -> None:
    """The deadlock that started it all is shown, with the line that hangs, and ends by itself."""
    done = run("issue_112.py", "--old-way")
    assert done.returncode == 1
    assert "hung for 5 s, as expected" in done.stderr
    assert "return portal.call(open_and_call)" in done.stderr

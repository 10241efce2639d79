"""The demo as a person starts it: a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.demo.processes import left_behind, need_full_installation, wait_until

ROOT = Path(__file__).parent.parent.parent


class StartDemo(Protocol):
    def __call__(self, *arguments: str) -> subprocess.Popen[str]: ...


@pytest.fixture
def start_demo() -> Iterator[StartDemo]:
    """Starts demos; kills those that still run when the test ends."""
    need_full_installation()
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "instrumented_sessions", "demo", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
        wait_until(lambda: left_behind(process.pid) == [])  # noqa: B023 - called before the loop goes on

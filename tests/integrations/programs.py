"""Runs the agent as a process of its own, in whatever way."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instrumented_sessions.cli.run import BEFORE, BOOTSTRAP
from tests import servers

ROOT = Path(__file__).parent.parent.parent
AGENT = Path(__file__).parent / "agent.py"
LIMIT_S = 60.0
"""Longest wait for a program's next line or its end, in seconds: a guard, never the expectation."""

RUN = {"PYTHONPATH": os.pathsep.join([str(BOOTSTRAP), str(ROOT)]), BEFORE: str(ROOT)}
"""What `instrumented-sessions run` adds to a program's environment."""

QUIET = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a program: ours without telemetry's settings, and with this tree."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "INSTRUMENTED_SESSIONS_"))
    }
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


def run_command(*program: str | Path) -> list[str]:
    """The command that `instrumented-sessions run` becomes, given `RUN`; tests/cli/test_run.py runs that."""
    return [sys.executable, *map(str, program)]


def run(command: list[str], cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment(**variables),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def facts(output: str) -> dict[str, Any]:
    """Return what the agent said, all its lines in one."""
    found: dict[str, Any] = {}
    for line in output.splitlines():
        found.update(json.loads(line))
    return found


class Program:
    """A running program, whose lines may be awaited one by one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        self._error_lines: queue.Queue[str] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._read, args=(process.stdout, self._lines)),
            threading.Thread(target=self._read, args=(process.stderr, self._error_lines)),
        ]
        for thread in self._threads:
            thread.start()

    def says(self, name: str) -> Any:
        """Wait until it says `name`, and return what it says of it."""
        while name not in (said := json.loads(self._lines.get(timeout=LIMIT_S))):
            pass
        return said[name]

    def complains(self, part: str, limit_s: float = LIMIT_S) -> str:
        """Wait for a line on stderr that has `part` in it, and return it.

        Raises:
            queue.Empty: Nothing was written for `limit_s` seconds.
        """
        while part not in (line := self._error_lines.get(timeout=limit_s)):
            pass
        return line

    def ends(self) -> int:
        """Let an agent that waits for its input go on, and return its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(LIMIT_S)

    @staticmethod
    def _read(stream: Any, lines: queue.Queue[str]) -> None:
        for line in stream:
            lines.put(line)

    def close(self) -> None:
        servers.end(self.process)
        for thread in self._threads:
            thread.join(LIMIT_S)
        assert self.process.stderr is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stderr.close()


@contextmanager
def running(command: list[str], **variables: str) -> Iterator[Program]:
    process = subprocess.Popen(
        command,
        env=environment(**variables),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    program = Program(process)
    try:
        yield program
    finally:
        program.close()

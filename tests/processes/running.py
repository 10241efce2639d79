"""Runs programs that end, and looks at what is left of their servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import servers
from tests.servers import raw

HERE = Path(__file__).parent
LIMIT_S = 60.0
"""No test waits longer for one thing, in seconds."""


@contextmanager
def program(*line: str, file: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a program of this directory until it has printed `ready`, and kill it and its server in the end.

    Args:
        line: Its name and its arguments.
        file: Where its server writes its process id.
    """
    process = subprocess.Popen(
        [sys.executable, str(HERE / line[0]), *line[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(HERE.parent.parent),
            "INSTRUMENTED_SESSIONS_OPEN_TIMEOUT_S": "60",
        },
    )
    try:
        assert servers.first_line(process, LIMIT_S) == "ready"
        yield process
    finally:
        assert process.stderr is not None
        servers.end(process)
        process.stderr.close()
        pid = pid_in(file) if file is not None else 0
        if pid and servers.is_alive(pid):
            os.killpg(pid, signal.SIGKILL)


def server(way: str, file: Path, *more: str) -> list[str]:
    """Return the command line of a stdio server that misbehaves; see tests/servers/raw_stdio.py."""
    return [sys.executable, str(raw.STDIO), way, str(file), *more]


def pid_in(file: Path) -> int:
    """Return the process id in a file; 0 when it holds none yet."""
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return 0


def gone(file: Path) -> bool:
    """Wait until the process whose id is in `file` has ended; False when it does not."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if (pid := pid_in(file)) and not servers.is_alive(pid):
            return True
        time.sleep(0.01)  # Nothing announces the end of another's child.
    return False

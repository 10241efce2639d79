"""S24, S25: programs that end, or are ended, while something hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import servers
from tests.manager.wires import LIMIT_S

from .wires import GUARD

PROGRAM = Path(__file__).parent / "hung_program.py"
ROOT = PROGRAM.parent.parent.parent
CLOSE_S = 0.5


@contextmanager
def hung(how: str, way: str, file: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the program until it says that it hangs."""
    line = [sys.executable, str(PROGRAM), how, way, str(file), str(CLOSE_S)]
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert servers.first_line(process) == "hangs"
        yield process
    finally:
        assert process.stderr is not None
        servers.end(process)
        process.stderr.close()
        if file.exists() and file.read_text() and servers.is_alive(int(file.read_text())):
            os.kill(int(file.read_text()), signal.SIGKILL)


def gone(file: Path) -> bool:
    """Wait until the server's process has ended."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if file.exists() and file.read_text() and not servers.is_alive(int(file.read_text())):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.scenario("S24")
@pytest.mark.parametrize("how", ["exit", "loop"])
def test_program_with_a_hung_call_ends_within_its_close_timeout(how: str, tmp_path: Path) -> None:
    """The thread that waits is told, the child is gone, and nothing is printed but that."""
    file = tmp_path / "pid"
    with hung(how, "deaf", file) as process:
        began = time.monotonic()
        assert process.wait(LIMIT_S) == 0
        assert time.monotonic() - began < GUARD * CLOSE_S
        assert gone(file)
        assert process.stderr is not None
        assert process.stderr.read().splitlines() == (["SessionClosedError"] if how == "exit" else [])


@pytest.mark.scenario("S25")
@pytest.mark.parametrize(("how", "way"), [("wait", "deaf"), ("opening", "silent")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_blocking_waiter_and_leaves_no_orphan(
    how: str, way: str, number: signal.Signals, tmp_path: Path
) -> None:
    """Ctrl-C raises in the waiter at once; what ends the process ends the child too."""
    file = tmp_path / "pid"
    with hung(how, way, file) as process:
        while not (file.exists() and file.read_text()):
            time.sleep(0.01)
        process.send_signal(number)
        code = process.wait(LIMIT_S)
        assert code in ((-signal.SIGINT, 130, 1) if number is signal.SIGINT else (-signal.SIGTERM,))
        assert gone(file)

"""No process of the demo outlives it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instrumented_sessions.demo import leash

GUARD_S = 15.0

# Starts a child on its leash that inherits its output, says so, and waits to be killed.
PARENT = """
import subprocess, sys, time
from instrumented_sessions.demo import leash
subprocess.Popen(leash.command("tests.demo.sleeper"), start_new_session=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "poll"])
def test_child_dies_with_a_killed_parent(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent killed with SIGKILL takes its child along, with the kernel's help and without."""
    monkeypatch.setenv("DEMO_TEST_WITHOUT_KERNEL", "" if kernel else "1")
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == "asleep\n"
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(GUARD_S)
        # The end of the pipe: nobody is left who could write to it.
        assert parent.stdout.read() == ""


def test_module_gets_its_arguments(tmp_path: Path) -> None:
    """What runs on the leash sees its own command line, as if started directly."""
    log = tmp_path / "log"
    process = leash.start("tests.demo.sleeper", "--arguments", "a b", log=log, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read() == b"['--arguments', 'a b']\n"
    leash.end(process, grace_s=GUARD_S)
    assert process.returncode == 0


def test_deaf_process_is_killed(tmp_path: Path) -> None:
    """A process that ignores the polite request is killed after the grace."""
    process = leash.start("tests.demo.sleeper", "--deaf", log=tmp_path / "log", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"asleep\n"
    leash.end(process, grace_s=0.1)
    assert process.returncode == -signal.SIGKILL

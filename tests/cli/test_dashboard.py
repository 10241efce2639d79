"""`instrumented-sessions dashboard` serves until Ctrl-C, or says why it cannot."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instrumented_sessions import cli
from instrumented_sessions.demo.dashboard import answers
from tests.demo.processes import GUARD_S, need_full_installation


@pytest.fixture(autouse=True)
def installed() -> None:
    need_full_installation()


def test_interrupt_ends_it_cleanly(tmp_path: Path) -> None:
    """It tells its address, answers there, keeps its database, and ends with exit code 0."""
    database = tmp_path / "sessions.db"
    command = [sys.executable, "-m", "instrumented_sessions", "dashboard", "--port=0", f"--db={database}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("dashboard: ").strip()
        assert answers(address, timeout_s=5.0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=GUARD_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert database.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0", "--port", "0"], "token"),
        (["--token-file", "no-such-file", "--port", "0"], "no-such-file"),
        (["--db", "no-such-directory/sessions.db", "--port", "0"], "no-such-directory"),
    ],
    ids=["no token", "no token file", "no directory"],
)
def test_what_it_cannot_do_is_said_in_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wish that cannot be met ends with exit code 2 before it listens."""
    monkeypatch.delenv("INSTRUMENTED_SESSIONS_DASHBOARD_TOKEN", raising=False)
    assert cli.main(["dashboard", *arguments]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "Traceback" not in printed

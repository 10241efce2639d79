"""The dashboard as a program: one line with its address, clear errors, a quick end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from instrumented_sessions_dashboard.server import HOSTS_VARIABLE, TOKEN_VARIABLE, main

ROOT = Path(__file__).parents[2]
LIMIT_S = 20.0


@contextmanager
def program(*arguments: str, token: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run the dashboard in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), TOKEN_VARIABLE: token}
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboard", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def address_of(process: subprocess.Popen[str]) -> tuple[str, int]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("dashboard: http://"), line
    host, _, port = line.strip().removeprefix("dashboard: http://").rpartition(":")
    return host, int(port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_quickly_with_an_open_stream(tmp_path: Path, number: signal.Signals) -> None:
    """Port 0 is told on one line; Ctrl-C does not wait for a browser that listens."""
    with program("--port", "0", "--db", str(tmp_path / "d.db")) as process:
        host, port = address_of(process)
        assert host == "127.0.0.1"
        connection = http.client.HTTPConnection(host, port, timeout=LIMIT_S)
        connection.request("GET", "/api/v1/stream")
        answer = connection.getresponse()
        assert answer.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == (0 if number is signal.SIGINT else -number)
        assert (out, err) == ("", "")
        answer.close()
        connection.close()


def test_taken_port_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence with the way out, no stack trace."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1:{port}" in error
    assert "--port" in error


def test_other_address_without_a_token_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how to give one, and does not listen meanwhile."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert main(["--host", "0.0.0.0", "--port", "0"]) == 1
    error = capsys.readouterr().err
    assert "needs a token" in error
    assert TOKEN_VARIABLE in error


def test_more_names_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy or in a container the dashboard has other names."""
    monkeypatch.setenv(HOSTS_VARIABLE, "dash.example, other.example")
    with program("--port", "0") as process:
        host, port = address_of(process)
        for name, status in (("dash.example", 200), ("other.example:80", 200), ("evil.example", 421)):
            connection = http.client.HTTPConnection(host, port, timeout=LIMIT_S)
            connection.request("GET", "/healthz", headers={"host": name})
            assert connection.getresponse().status == status
            connection.close()
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_S)


def test_database_of_another_program_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is left alone."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but a text that is longer than a header would be")
    assert main(["--port", "0", "--db", str(path)]) == 1
    assert "cannot use the database" in capsys.readouterr().err
    assert path.read_text().startswith("not a database")


def test_token_can_come_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file is told like any other mistake."""
    assert main(["--port", "0", "--token-file", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err

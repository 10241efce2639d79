"""The doctor says what is there and what is not."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata

import pytest

from instrumented_sessions import cli
from instrumented_sessions.cli import doctor
from instrumented_sessions.demo import extras


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def dashboard_address() -> Iterator[str]:
    """Where something answers as a dashboard does."""
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_whole_installation_is_well(dashboard_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every needed part is found with its version, and the dashboard that was named answers."""
    assert cli.main(["doctor", dashboard_address]) == 0
    printed = capsys.readouterr().out
    version = metadata.version("mcp")
    assert f"ok      mcp                {version} (generation {version[0]})" in printed
    assert f"answers at {dashboard_address}" in printed


def test_named_dashboard_that_is_silent_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """An address that somebody named has to answer; port 1 never does."""
    assert cli.main(["doctor", "http://127.0.0.1:1"]) == 1
    assert "WRONG   dashboard          none answers at http://127.0.0.1:1" in capsys.readouterr().out


def test_missing_extra_is_absent_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is optional may be missing; the advice says how to get it."""
    monkeypatch.setitem(extras.EXTRAS, "prometheus", ("no_such_module",))
    [check] = [check for check in doctor.examine("http://127.0.0.1:1") if check.name == "[prometheus]"]
    assert not check.is_well
    assert not check.is_needed
    assert "pip install 'instrumented-sessions[prometheus]'" in check.found


@pytest.mark.parametrize(
    ("version", "is_well", "found"),
    [
        ("1.30.0", True, "1.30.0 (generation 1)"),
        ("2.3.0", True, "2.3.0 (generation 2)"),
        ("2.0.0b1", True, "2.0.0b1 (generation 2)"),
        ("1.9.4", False, "1.24 or newer, generation 2 at most is needed"),
        ("3.0.0", False, "1.24 or newer, generation 2 at most is needed"),
        (None, False, "not installed; run: pip install mcp"),
    ],
)
def test_generation_of_mcp_is_judged(
    version: str | None, is_well: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both generations will do, from the first that is supported on."""
    monkeypatch.setattr(doctor, "_version_of", lambda distribution: version)
    [check] = [check for check in doctor.examine("http://127.0.0.1:1") if check.name == "mcp"]
    assert check.is_well is is_well
    assert found in check.found


def test_old_python_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that is too old is said to be."""
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (sys.version_info.major, sys.version_info.minor + 1))
    check = doctor.examine("http://127.0.0.1:1")[0]
    assert not check.is_well
    assert check.found.endswith("or newer is needed")

"""Bad input ends with a sentence and exit code 2; good input reaches its command."""

from __future__ import annotations

import socket

import pytest

from instrumented_sessions import cli
from instrumented_sessions.cli.parser import build_parser
from instrumented_sessions.demo import extras


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["dance"], "dance"),
        (["demo", "--duration", "-1"], "--duration: must be a number of seconds, more than 0; got '-1'"),
        (["demo", "--duration", "0"], "more than 0; got '0'"),
        (["demo", "--duration", "nan"], "got 'nan'"),
        (["demo", "--duration", "soon"], "got 'soon'"),
        (["demo", "--port", "65536"], "--port: must be a port, 0 to 65535; got '65536'"),
        (["demo", "--metrics-port", "-1"], "got '-1'"),
        (["dashboard", "--port", "http"], "got 'http'"),
    ],
    ids=" ".join,
)
def test_bad_input_is_said_in_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong is on standard error, with exit code 2 and no traceback."""
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("command", ["demo", "dashboard", "doctor", "advise"])
def test_help_names_units_and_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option with a value says what it is when it is not given."""
    assert cli.main([command, "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("(default: ") == {"demo": 4, "dashboard": 4, "doctor": 1, "advise": 1}[command]


def test_options_reach_the_demo() -> None:
    """What was typed is what the command gets."""
    options = build_parser().parse_args(
        ["demo", "--duration", "2.5", "--headless", "--healthy", "--seed", "7", "--port", "8001"]
    )
    assert (options.duration, options.headless, options.healthy) == (2.5, True, True)
    assert (options.seed, options.port, options.metrics_port) == (7, 8001, 0)


def test_taken_port_is_said_with_the_option_that_changes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A taken port ends with exit code 2 before anything is started."""
    monkeypatch.setattr(extras, "missing", lambda extra: [])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in ("demo", "dashboard"):
            assert cli.main([command, "--port", str(port)]) == 2
            said = capsys.readouterr().err
            assert f"error: cannot listen on 127.0.0.1:{port}" in said
            assert "choose another with --port" in said


def test_missing_extra_is_said_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part that is not installed ends with exit code 2 and the command that installs it."""
    monkeypatch.setitem(extras.EXTRAS, "dashboard", ("no_such_module", "no_such_package.part"))
    assert cli.main(["dashboard"]) == 2
    said = capsys.readouterr().err
    assert "no_such_module, no_such_package.part" in said
    assert "pip install 'instrumented-sessions[dashboard]'" in said


def test_interrupt_ends_with_the_usual_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a check runs ends with 130 and no traceback."""

    def interrupted(address: str | None) -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("instrumented_sessions.cli.doctor.examine", interrupted)
    assert cli.main(["doctor"]) == 130

"""`run` is plain Python for the program: arguments, paths, `__main__`, exit code and signals are its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from instrumented_sessions import cli
from instrumented_sessions.cli.run import BEFORE, BOOTSTRAP, command_and_environment
from tests.integrations import programs

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]

PROGRAM = """
import json, os, sys

class Local:
    pass

def main():
    print(json.dumps({
        "argv": sys.argv, "path": sys.path, "name": __name__, "file": __file__,
        "spec": None if __spec__ is None else __spec__.name, "module": Local.__module__,
        "main_is_this": sys.modules["__main__"].Local is Local,
        "environment": sorted(name for name in os.environ if "PYTHON" in name), "flags": str(sys.flags),
        "python_path": os.environ["PYTHONPATH"],
    }))
    if sys.argv[-1] == "raise":
        raise RuntimeError("of the program's own")
    if sys.argv[-1] == "interrupt":
        os.kill(os.getpid(), 2)
    sys.exit(7)

main()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program_of_a_test.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


def both(program: Path, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """The same, by plain Python and by `run`."""
    ours = [sys.executable, "-m", "instrumented_sessions", "run", *arguments]
    return [
        programs.run(command, cwd=program.parent, **programs.QUIET, INSTRUMENTED_SESSIONS_DIAGNOSTICS="none")
        for command in ([sys.executable, *arguments], ours)
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["program_of_a_test.py", "-m", "--", "two words", ""], 7),
        (["-m", "program_of_a_test", "-x", "raise"], 1),
        (["program_of_a_test.py", "interrupt"], -signal.SIGINT),
    ],
    ids=["script", "module that raises", "SIGINT"],
)
def test_program_sees_what_plain_python_shows_it(program: Path, arguments: list[str], code: int) -> None:
    """Output, traceback and exit code are the same, byte for byte."""
    plain, ours = both(program, *arguments)
    assert (ours.returncode, ours.stdout) == (code, plain.stdout)
    assert plain.returncode == code
    assert ours.stderr == plain.stderr


def test_nothing_to_run_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, with a sentence."""
    assert cli.main(["run"]) == 2
    assert "say what to run: a script, or -m and a module" in capsys.readouterr().err


def test_environment_carries_the_users_python_path() -> None:
    """Ours comes in front, theirs is kept to be put back."""
    environ: dict[str, Any] = {"PYTHONPATH": "/theirs", "OTHER": "1"}
    command, found = command_and_environment(["a.py", "b"], is_module=False, environ=environ)
    assert command == [sys.executable, "a.py", "b"]
    assert found == {"PYTHONPATH": f"{BOOTSTRAP}:/theirs", BEFORE: "/theirs", "OTHER": "1"}
    assert (BOOTSTRAP / "sitecustomize.py").is_file()


def test_sitecustomize_of_the_user_runs_too(tmp_path: Path) -> None:
    """Ours takes the name of theirs, so it runs theirs."""
    (tmp_path / "sitecustomize.py").write_text("print('theirs ran', flush=True)\n", encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text(
        "import instrumented_sessions.integrations.auto as auto; print(auto.current() is not None)"
    )
    command, environ = command_and_environment(
        [str(script)], is_module=False, environ={"PYTHONPATH": f"{tmp_path}:{programs.ROOT}"}
    )
    done = programs.run(command, **programs.QUIET, **environ)
    assert done.stdout.splitlines() == ["theirs ran", "True"], done.stderr

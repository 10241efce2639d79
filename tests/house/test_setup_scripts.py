"""Where something is missing, a sentence says what to install."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import needs

ROOT = Path(__file__).parent.parent.parent


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the tree."""
    return subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def program(path: Path, body: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_old_python_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """An interpreter that is too old is named with its version, and nothing is made."""
    old = program(tmp_path / "python", 'case "$*" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    done = run("requirements/install.sh", "core", tmp_path / "env", PYTHON=str(old))
    assert done.returncode != 0
    assert f"Python 3.10 or newer is needed, and {old} is Python 3.9.2." in done.stderr
    assert "apt-get install python3" in done.stderr
    assert not (tmp_path / "env").exists()


def test_missing_python_is_told(tmp_path: Path) -> None:
    """An interpreter that is not there is named."""
    done = run("requirements/install.sh", "core", tmp_path / "env", PYTHON=str(tmp_path / "none"))
    assert done.returncode != 0
    assert f"{tmp_path / 'none'} is missing." in done.stderr


def test_python_without_venv_is_told(tmp_path: Path) -> None:
    """Debian's python3 without python3-venv gets the sentence that names the package."""
    python = tmp_path / "python"
    answers = f"*executable*) echo {python};; *ensurepip*) exit 1;; --version) echo Python 3.11.2;;"
    program(python, f'case "$*" in {answers} esac')
    program(tmp_path / "id", "echo 1000")  # Not root, so that nothing is installed.
    program(tmp_path / "uv", "exit 1")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = run("requirements/install.sh", "core", tmp_path / "env", PYTHON=str(python), PATH=path)
    assert done.returncode != 0
    assert f"{python} has no venv. Install it (Debian, Ubuntu: apt-get install python3-venv)" in done.stderr


def test_system_package_that_may_not_be_installed_is_told(tmp_path: Path) -> None:
    """Without the right to install, the missing packages are named."""
    program(tmp_path / "id", "echo 1000")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = run("requirements/system.sh", "no-such-package", PATH=path)
    assert done.returncode != 0
    assert "no-such-package" in done.stderr


@pytest.mark.parametrize("ci", ["", "true"])
def test_missing_tool_is_skipped_loudly_and_fails_in_ci(ci: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test whose program is missing is skipped with the reason, and fails where CI believes it ran."""
    monkeypatch.setenv("CI", ci)
    outcome = pytest.fail.Exception if ci else pytest.skip.Exception
    with pytest.raises(outcome, match=r"missing tool: no-such-tool \(install no-such-tool"):
        needs.need("no-such-tool")


def test_help_lists_every_target() -> None:
    """`make help` knows all targets that the Makefile has for people."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    targets = re.search(r"^\.PHONY: (help .*)$", makefile, re.MULTILINE)
    assert targets is not None
    listed = re.findall(r"^  make (\S+) ", run("make", "--no-print-directory", "help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(targets[1].split())


@pytest.mark.parametrize("script", [".ci/run", *sorted(p.name for p in (ROOT / "requirements").glob("*.sh"))])
def test_script_is_sound(script: str) -> None:
    """The scripts are executable, and their shells can read them."""
    path = ROOT / script if "/" in script else ROOT / "requirements" / script
    shell = path.read_text(encoding="utf-8").splitlines()[0].split("/")[-1].split()[-1]
    assert os.access(path, os.X_OK)
    assert run(shell, "-n", path).returncode == 0

"""Imports keep to DESIGN's layers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def test_import_linter_keeps_every_contract() -> None:
    """The contracts of pyproject.toml hold."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["dashboard", "grafana"])
def test_reads_nothing_of_the_library_but_the_catalog(package: str) -> None:
    """The dashboard and Grafana's files know the wire and the names on it, not the library."""
    wrong = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            wrong += [
                f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"
                for name in names
                if name.split(".")[0] == "instrumented_sessions"
                and not name.startswith("instrumented_sessions.telemetry.catalog")
            ]
    assert not wrong


def test_no_test_imports_the_dashboard_by_its_directorys_name() -> None:
    """Tests import `instrumented_sessions_dashboard`; the directory's name would be a second copy of it."""
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.lstrip().startswith(("import dashboard", "from dashboard"))
    ]
    assert not wrong


def test_importing_the_library_imports_no_backend() -> None:
    """`import instrumented_sessions` brings in neither an SDK of telemetry nor a web framework of ours."""
    code = "import sys, instrumented_sessions; print(*sorted(name for name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"opentelemetry.sdk", "prometheus_client", "fastapi"} & set(run.stdout.split())

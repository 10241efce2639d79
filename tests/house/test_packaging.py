"""What is installed is what is in the tree, as a wheel and editable, with and without the extras."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests import needs

ROOT = Path(__file__).parent.parent.parent
CORE = ROOT / ".venv-core"
"""The library's requirements without any extra; the Makefile makes it."""
PACKAGES = {"instrumented_sessions": "instrumented_sessions", "instrumented_sessions_dashboard": "dashboard"}
"""Import names, and the directories they are made of."""
EXTRAS = ["opentelemetry.sdk", "opentelemetry.exporter", "prometheus_client", "fastapi"]
ASSERT_ABSENT = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} is installed, so this shows nothing")
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command away from the tree, so that nothing is imported from there by accident."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tracked() -> list[str]:
    """The files of the tree that git knows or would know."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return sorted({name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()})


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree without what was installed or built in it."""
    copy = tmp_path_factory.mktemp("tree")
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the tree."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation"]
    run(*build, "--wheel-dir", out, tree, cwd=out)
    (wheel,) = out.glob("*.whl")
    return wheel


def make_environment(directory: Path, target: Path | str, *options: str) -> Path:
    """Make an environment with the core's requirements and `target` in it; return its interpreter."""
    if not (CORE / ".ready").exists():
        needs.give_up("the environment .venv-core", "make .venv-core/.ready")
    python, inherited = CORE / "bin" / "python", "import sysconfig; print(sysconfig.get_path('purelib'))"
    run(python, "-m", "venv", "--without-pip", directory, cwd=directory.parent)
    python = directory / "bin" / "python"
    site = Path(run(python, "-c", inherited, cwd=directory).strip())
    requirements = Path(run(CORE / "bin" / "python", "-c", inherited, cwd=directory).strip())
    for entry in requirements.iterdir():  # Not this project, which .venv-core has as well.
        if not entry.name.startswith(("instrumented_sessions", "__editable__")):
            (site / entry.name).symlink_to(entry)
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    run(*install, "--no-build-isolation", *options, target, cwd=directory)
    return python


@pytest.fixture(scope="module", params=["wheel", "editable"])
def python(
    request: pytest.FixtureRequest, wheel: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An interpreter that has the core's requirements and this project, installed in either way."""
    directory = tmp_path_factory.mktemp(request.param) / "env"
    if request.param == "wheel":
        return make_environment(directory, wheel)
    return make_environment(directory, tree, "--editable")


def test_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    """No module, page, script or schema of a package is left out of the wheel, and nothing else is in."""
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"{package}/{name.removeprefix(directory + '/')}"
        for package, directory in PACKAGES.items()
        for name in tracked()
        if name.startswith(directory + "/") and not name.endswith(".md")
    }
    assert inside == expected


def test_wheel_says_what_it_is(wheel: Path) -> None:
    """Name, licence and entry point are as documented, and the types are marked as such."""
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        text = archive.read(f"{info}/METADATA").decode()
        assert "Name: instrumented-sessions\n" in text
        assert "License-Expression: Apache-2.0\n" in text
        assert "Requires-Python: >=3.10\n" in text
        assert (
            "instrumented-sessions = instrumented_sessions.cli:main"
            in archive.read(f"{info}/entry_points.txt").decode()
        )
        assert f"{info}/licenses/LICENSE" in archive.namelist()
        assert {f"{package}/py.typed" for package in PACKAGES} <= set(archive.namelist())


def test_core_works_without_any_extra(python: Path, tmp_path: Path) -> None:
    """With nothing but the core's requirements both doors open a session and call a tool."""
    run(python, "-c", ASSERT_ABSENT, *EXTRAS, cwd=tmp_path)
    script = tmp_path / "use_core.py"
    script.write_bytes((Path(__file__).parent / "use_core.py").read_bytes())
    out = run(python, "-W", "error", script, cwd=tmp_path)
    assert out.splitlines() == ["sync: hello Zürich", "async: hello Zürich", "sessions: 1"]


def test_dashboard_is_installed_under_a_name_that_clashes_with_nobody(python: Path, tmp_path: Path) -> None:
    """A program's own `dashboard` is the one that it imports; ours has another name."""
    (tmp_path / "dashboard.py").write_text("MINE = True\n")
    code = (
        "import importlib.util as u, dashboard; assert dashboard.MINE; "
        "print(u.find_spec('instrumented_sessions_dashboard').origin)"
    )
    assert run(python, "-c", code, cwd=tmp_path).strip().endswith("__init__.py")


def test_command_without_its_extra_says_what_to_install(python: Path, tmp_path: Path) -> None:
    """`instrumented-sessions dashboard` without FastAPI ends with a sentence, not a traceback."""
    command = [str(python.parent / "instrumented-sessions"), "dashboard"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "instrumented-sessions[dashboard]" in done.stderr
    assert "Traceback" not in done.stderr


def test_installed_metadata_is_current() -> None:
    """The environment that runs the tests was made from this pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{metadata.version("instrumented-sessions")}"' in text

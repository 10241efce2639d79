"""Takes a recipe out of docs/recipes.md, and runs it as its page says."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.snippets import find_snippets

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "recipes.md"
WEATHER = ROOT / "tests" / "docs" / "site" / "weather_server.py"
LIMIT_S = 60.0
"""No test waits longer for one thing, in seconds."""


def need(*modules: str) -> None:
    """Skip the test where its modules are not installed; `make test-recipes` says that they must be."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing and os.environ.get("RECIPES"):
        pytest.fail(f"missing: {', '.join(missing)}", pytrace=False)
    if missing:
        pytest.skip(f"`make test-recipes` has what this needs: {', '.join(missing)}")


def recipe(heading: str) -> str:
    """Return the code of the recipe under a heading."""
    text = PAGE.read_text(encoding="utf-8")
    first = text[: text.index(f"\n## {heading}\n")].count("\n")
    return next(snippet.source for snippet in find_snippets(text) if snippet.line > first)


def lay_out(directory: Path, heading: str, file: str) -> None:
    """Write a recipe, and the server that it uses, into a directory."""
    (directory / file).write_text(recipe(heading), encoding="utf-8")
    shutil.copy(WEATHER, directory)


def environment() -> dict[str, str]:
    """What a recipe's process gets: `python` is ours, and so is the package."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CELERY_"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "INSTRUMENTED_SESSIONS_OPEN_TIMEOUT_S": str(LIMIT_S),
    }


@contextmanager
def running(*line: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python module in `directory` until the block ends; its output is shown when the test fails."""
    process = subprocess.Popen([sys.executable, "-m", *line], cwd=directory, env=environment())
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait(LIMIT_S)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def get(url: str, process: subprocess.Popen[bytes]) -> str:
    """Return what an address answers, as soon as it does."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
                return str(answer.read().decode())
        except ConnectionError as error:
            refused = error
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            refused = error.reason
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, refused
        time.sleep(0.05)


def servers_in(directory: Path) -> set[int]:
    """The process ids of the MCP servers that run in a directory; none where the system does not tell."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            here = os.readlink(process / "cwd") == str(directory)
            if here and b"weather_server.py" in (process / "cmdline").read_bytes():
                found.add(int(process.name))
        except OSError:
            continue  # It has ended, or is somebody else's.
    return found


def all_ended(directory: Path) -> bool:
    """Wait until no MCP server runs in a directory any more."""
    deadline = time.monotonic() + LIMIT_S
    while servers_in(directory):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True

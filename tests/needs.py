"""What a test may need that Python packages do not bring: programs, and how to get them.

Without them a test is skipped, loudly: the end of the run says which tests did not run and what to
install. In CI (`CI=true`) it fails instead, so that nothing is believed to be tested which was not.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

MISSING = "missing tool: "
"""How the reason of such a skip begins; tests/conftest.py gathers them for the end of the run."""

PROGRAMS: dict[str, tuple[str, ...]] = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "python": ("python3",),
}
"""Other names that a program goes by."""

HINTS: dict[str, str] = {
    "chromium": "apt-get install chromium",
    "promtool": "apt-get install prometheus",
    "prometheus": "apt-get install prometheus",
    "alertmanager": "apt-get install prometheus-alertmanager",
    "amtool": "apt-get install prometheus-alertmanager",
    "node": "apt-get install nodejs",
}
"""How to get a program, on Debian."""


def in_ci() -> bool:
    """Whether this run is CI's."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def find(tool: str) -> str | None:
    """Return the path of `tool`, or None."""
    return next((path for name in PROGRAMS.get(tool, (tool,)) if (path := shutil.which(name))), None)


def need(tool: str) -> str:
    """Return the path of `tool`; without it, skip the test that asks, or fail it in CI."""
    path = find(tool)
    if path is None:
        give_up(tool, HINTS.get(tool, f"install {tool} and put it on PATH"))
    return path


def give_up(what: str, hint: str) -> NoReturn:
    """Skip the test that asks, or fail it in CI: `what` is not there, `hint` says how to get it."""
    if in_ci():
        pytest.fail(f"{MISSING}{what} ({hint})", pytrace=False)
    pytest.skip(f"{MISSING}{what} ({hint})")

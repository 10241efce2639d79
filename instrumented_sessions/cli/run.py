"""`run`: starts a program as plain Python would, instrumented from before its first line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

BOOTSTRAP = Path(__file__).parent.parent / "integrations" / "auto" / "site"
"""Holds a `sitecustomize.py`; not imported here, where everything that it needs would come along."""
BEFORE = "INSTRUMENTED_SESSIONS_RUN_PYTHONPATH"
"""Carries the user's PYTHONPATH to the new interpreter, which puts it back."""


def command_and_environment(
    program: Sequence[str], *, is_module: bool, environ: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command line of a Python that runs `program`, and the environment that instruments it."""
    before = environ.get("PYTHONPATH", "")
    path = os.pathsep.join(part for part in (str(BOOTSTRAP), before) if part)
    command = [sys.executable, *(["-m"] if is_module else []), *program]
    return command, {**environ, "PYTHONPATH": path, BEFORE: before}


def run(program: Sequence[str], *, is_module: bool) -> NoReturn:
    """Become `program`: the same process, so that signals and the exit code are its own.

    Args:
        program: A script, or a module's name, and its arguments.
        is_module: Whether it is a module's name, as with `python -m`.
    """
    command, environment = command_and_environment(program, is_module=is_module, environ=os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)

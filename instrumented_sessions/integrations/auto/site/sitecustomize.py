"""Instruments a program before its first line; Python imports this by its name when it starts.

`instrumented-sessions run` starts a plain Python with this directory on its PYTHONPATH. The first thing done
here is to take that back, so that the program and its children see the environment that was meant for them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(_HERE))))
_BEFORE = "INSTRUMENTED_SESSIONS_RUN_PYTHONPATH"
"""The PYTHONPATH that the user had; empty for none."""


def _take_back() -> None:
    before = os.environ.pop(_BEFORE, "")
    if before:
        os.environ["PYTHONPATH"] = before
    else:
        os.environ.pop("PYTHONPATH", None)
    sys.path[:] = [entry for entry in sys.path if entry != _HERE]


def _run_the_other() -> None:
    """Run the `sitecustomize` that would have been imported without this one."""
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def _instrument() -> None:
    had = _ROOT in sys.path
    if not had:
        sys.path.append(_ROOT)  # A checkout that is not installed.
    try:
        from instrumented_sessions.integrations.auto import instrument

        instrumentation = instrument()
        if instrumentation.diagnostics is not None:
            _say(f"diagnostics at {instrumentation.diagnostics.address}")
    except Exception as error:  # The program runs, whatever is wrong with this.
        _say(f"not instrumented: {error!r}")
    finally:
        if not had:
            sys.path.remove(_ROOT)


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"instrumented-sessions: {text}\n")


if os.environ.get(_BEFORE) is not None:
    _take_back()
    try:
        _run_the_other()
    finally:
        _instrument()

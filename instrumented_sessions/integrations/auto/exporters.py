"""Sets up telemetry from `OTEL_*` for a program that does not do it itself, as late as can be.

Global providers can be set only once in a process. So nothing is set up before the first fact is there to be
told: a program that brings its own SDK has set it by then, and is left alone.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
from typing import TYPE_CHECKING

from opentelemetry import _logs, metrics, trace

from ...events import Event, LoopRecovered, LoopStalled
from ...observer import AMBIENT
from ...telemetry import otel, setup
from .hooks import guarded

if TYPE_CHECKING:
    from ...telemetry import Telemetry

logger = logging.getLogger(__name__)


class SetupAtFirstFact:
    """An observer that calls `setup()` at the first event, before anybody else hears of it."""

    only_contended = True

    def __init__(self) -> None:
        self._lock = threading.Lock()  # Protects what follows.
        self._is_done = False
        self._telemetry: Telemetry | None = None
        with contextlib.suppress(ImportError):
            # Imported now: on a loop, at the first event, it would take a tenth of a second.
            importlib.import_module("instrumented_sessions.telemetry.otlp")
        reporter = otel.install()
        AMBIENT.remove(reporter)
        AMBIENT.add(self)
        AMBIENT.add(reporter)

    def on_event(self, event: Event) -> None:
        """Set up telemetry, once."""
        if _is_import(event):
            return  # What is imported may bring its own SDK.
        if not self._is_done:
            with self._lock:
                if not self._is_done:
                    self._is_done = True
                    self._telemetry = guarded("setting up telemetry", set_up)
        AMBIENT.remove(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def close(self, timeout_s: float = 5.0) -> None:
        """Export what is queued and stop what was set up, if it was."""
        AMBIENT.remove(self)
        with self._lock:
            self._is_done = True
            telemetry, self._telemetry = self._telemetry, None
        if telemetry is not None:
            telemetry.close(timeout_s)


def set_up() -> Telemetry | None:
    """Call `setup()`, which does as `OTEL_*` says.

    None when the program has set up everything itself, and when packages are missing, which is logged.
    """
    if _has_whole_sdk():
        return None  # As with opentelemetry-instrument, whose exporters `setup()` may not know.
    try:
        return setup()
    except ImportError as error:
        logger.warning("nothing is exported: %s", error)
        return None


def _has_whole_sdk() -> bool:
    """Return whether the program has set a provider for every signal, rather than the API's stand-ins."""
    providers = (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider())
    return not any(type(provider).__name__.lstrip("_").startswith("Proxy") for provider in providers)


def _is_import(event: Event) -> bool:
    """Return whether `event` is a stall of a loop that imports a module."""
    if not isinstance(event, (LoopStalled, LoopRecovered)):
        return False
    return any(
        frame.file.startswith("<frozen importlib")
        for sample in event.report.stacks
        for frame in sample.frames
    )

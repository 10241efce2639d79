"""Sets up telemetry from `OTEL_*` for a program that does not do it itself, as late as can be.

Global providers can be set only once in a process. So nothing is set up before the first fact is there to be
told: a program that brings its own SDK has set it by then, and is left alone.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
from typing import TYPE_CHECKING

from ...events import Event, LoopRecovered, LoopStalled
from ...observer import AMBIENT
from ...telemetry import otel, setup
from .hooks import guarded

if TYPE_CHECKING:
    from ...telemetry import Telemetry

logger = logging.getLogger(__name__)

SIGNALS = ("traces", "metrics", "logs")
DEFAULT_PROMETHEUS_PORT = 9464
"""The specification's default of `OTEL_EXPORTER_PROMETHEUS_PORT`."""


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
    """Call `setup()` as `OTEL_*` says; None when nothing is to be exported, or packages are missing."""
    wanted = {signal: exporters(signal) for signal in SIGNALS}
    for signal, names in wanted.items():
        for name in names:
            if not (name == "none" or name.startswith("otlp") or (signal, name) == ("metrics", "prometheus")):
                logger.warning(
                    "OTEL_%s_EXPORTER=%s is not known here; opentelemetry-instrument knows more of them",
                    signal.upper(),
                    name,
                )
    telemetry = None
    try:
        if any(name.startswith("otlp") for names in wanted.values() for name in names):
            telemetry = setup()
        if "prometheus" in wanted["metrics"]:
            port = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip()
            telemetry = setup(
                prometheus_port=int(port) if port.isdigit() else DEFAULT_PROMETHEUS_PORT,
                prometheus_host=os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or "127.0.0.1",
            )
    except ImportError as error:
        logger.warning("not everything is exported: %s", error)
    return telemetry


def exporters(signal: str) -> tuple[str, ...]:
    """Return what `OTEL_<SIGNAL>_EXPORTER` names; `otlp` by default."""
    text = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower()
    return tuple(word.strip() for word in text.split(",") if word.strip()) or ("otlp",)


def _is_import(event: Event) -> bool:
    """Return whether `event` is a stall of a loop that imports a module."""
    if not isinstance(event, (LoopStalled, LoopRecovered)):
        return False
    return any(
        frame.file.startswith("<frozen importlib")
        for sample in event.report.stacks
        for frame in sample.frames
    )

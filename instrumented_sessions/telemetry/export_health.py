"""A line when exports begin to fail and one when they work again, in place of what exporters say each time.

Standard library only: it knows the exporters' loggers by name.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_EXPORTERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.common.http",
)
_READERS = "opentelemetry.sdk.metrics._internal.export"
_QUIET_S = 300.0
_MAX_REASON = 300

logger = logging.getLogger(__name__)


class ExportHealth(logging.Filter):
    """Knows whether our exports work; keeps silent what exporters log in them, and no other's words.

    A collector that comes and goes is told of once in five minutes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._here = threading.local()  # `signal`: of which an export of ours runs in this thread.
        self.reset()

    def reset(self) -> None:
        """Begin anew; called in the child after a fork, where another thread may have held the lock."""
        self._lock = threading.Lock()  # Protects what follows.
        self._failing: set[str] = set()
        self._told = False
        self._quiet_until = float("-inf")
        self._target = "the collector"

    def install(self, endpoint: str | None) -> None:
        """Listen to the exporters' loggers; `endpoint` is what the lines name."""
        self.reset()
        self._target = endpoint or "the collector that OTEL_* names"
        for name in (*_EXPORTERS, _READERS):
            logging.getLogger(name).addFilter(self)

    def remove(self) -> None:
        """Leave them alone."""
        for name in (*_EXPORTERS, _READERS):
            logging.getLogger(name).removeFilter(self)

    @contextmanager
    def exporting(self, signal: str) -> Iterator[None]:
        """Take what is logged in this thread as a failure of `signal`."""
        self._here.signal = signal
        try:
            yield
        finally:
            self._here.signal = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether `record` is logged."""
        signal = getattr(self._here, "signal", None)
        if signal is None:  # A reader's last words after a fork: it was taken away on purpose.
            return not str(record.msg).startswith("Cannot call collect")
        if record.levelno >= logging.WARNING:
            self.failed(signal, record.getMessage())
        return False

    def failed(self, signal: str, reason: str) -> None:
        """Note that an export of `signal` failed, or must be tried again."""
        now = time.monotonic()
        with self._lock:
            self._failing.add(signal)
            if self._told or now < self._quiet_until:
                return
            self._told, self._quiet_until = True, now + _QUIET_S
        logger.warning(
            "telemetry does not reach %s; trying on, what is lost is counted (%s: %s)",
            self._target,
            signal,
            reason[:_MAX_REASON],
        )

    def worked(self, signal: str) -> None:
        """Note that an export of `signal` arrived; one that failed before speaks for the others."""
        with self._lock:
            if signal not in self._failing:
                return
            self._failing.clear()
            told, self._told = self._told, False
        if told:
            logger.warning("telemetry reaches %s again", self._target)


EXPORT_HEALTH = ExportHealth()
"""Ours, one for the process, as are the signals."""

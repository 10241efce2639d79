"""What stands between a provider and its exporter: a count of every drop.

Needs the extra `instrumented-sessions[otel]`; imported by `otlp` only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from .export_health import EXPORT_HEALTH


class Pipe:
    """Counts what goes into a batch processor and what comes out, so that no drop goes uncounted."""

    def __init__(self, signal: str) -> None:
        self.signal = signal
        self._lock = threading.Lock()  # Protects what follows.
        self._pending = 0
        self._capacity = 0
        self._exporter: CountedExporter | None = None
        self.target: Any = None
        self.dropped = 0

    def open(self, capacity: int, exporter: Any, make: Callable[[Any], Any]) -> None:
        """Let items flow into the batch processor that `make` makes around the exporter."""
        with self._lock:
            self._pending, self._capacity, self.dropped = 0, capacity, 0
        self._exporter = CountedExporter(self, exporter)
        self.target = make(self._exporter)

    def accepts(self) -> bool:
        """Return whether there is room for one more; counts it either way."""
        with self._lock:
            if self._pending >= self._capacity:
                self.dropped += 1
                return False
            self._pending += 1
            return True

    def taken(self, count: int) -> None:
        """Note that `count` items have left the queue."""
        with self._lock:
            self._pending = max(0, self._pending - count)

    def lost(self, count: int) -> None:
        """Note that `count` items could not be exported."""
        with self._lock:
            self.dropped += count

    def close(self) -> None:
        """Export what is queued; blocks for as long as the collector makes it. What remains is dropped."""
        target, self.target = self.target, None
        if target is not None:
            target.shutdown()
            with self._lock:
                if self.target is None:  # Else it has been opened again while this one still ended.
                    self.dropped, self._pending = self.dropped + self._pending, 0

    def abort(self) -> None:
        """End the exporter's attempts, so that a `close()` in another thread ends soon."""
        if self._exporter is not None:
            self._exporter.shutdown()

    def reset(self) -> None:
        """Begin at zero; called in the child after a fork, where another thread may have held the lock."""
        self._lock = threading.Lock()
        self._pending = self.dropped = 0
        self.target = None


class CountedExporter:
    """Tells a pipe what its batch processor takes out."""

    def __init__(self, pipe: Pipe, exporter: Any) -> None:
        self._pipe = pipe
        self._exporter = exporter
        self._shut_down = False

    def export(self, batch: Sequence[Any]) -> Any:
        """Export, and count what could not be; never raises."""
        self._pipe.taken(len(batch))
        result = None if self._shut_down else export(self._pipe.signal, self._exporter.export, batch)
        if result is None or result.name != "SUCCESS":
            self._pipe.lost(len(batch))
        return result

    def shutdown(self) -> None:
        """End, once."""
        if not self._shut_down:
            self._shut_down = True
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do what the exporter does."""
        return bool(self._exporter.force_flush(timeout_millis))


def export(signal: str, send: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what an exporter's `send` returns, None when it raises; tell `EXPORT_HEALTH` how it went."""
    with EXPORT_HEALTH.exporting(signal):
        try:
            result = send(*args, **kwargs)
        except Exception as error:  # Exporters of 1.30 raise what `requests` raises.
            EXPORT_HEALTH.failed(signal, f"{type(error).__name__}: {error}")
            return None
    if result.name == "SUCCESS":
        EXPORT_HEALTH.worked(signal)
    else:
        EXPORT_HEALTH.failed(signal, "not accepted")
    return result


class SpanPipe(Pipe, SpanProcessor):
    """A span processor."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a sampled span, or drop and count it."""
        target, context = self.target, span.get_span_context()
        if target is not None and context is not None and context.trace_flags.sampled and self.accepts():
            target.on_end(span)

    def shutdown(self) -> None:
        """Close; called by the provider."""
        self.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is queued."""
        target = self.target
        return True if target is None else bool(target.force_flush(timeout_millis))


class LogPipe(Pipe):
    """A log record processor; the class to derive from has had several names."""

    def on_emit(self, log_record: Any) -> None:
        """Queue a record, or drop and count it."""
        target = self.target
        if target is not None and self.accepts():
            target.on_emit(log_record)

    def emit(self, log_data: Any) -> None:
        """Do the same; its name in older SDKs, for both sides of the pipe."""
        target = self.target
        if target is not None and self.accepts():
            target.emit(log_data)

    def shutdown(self) -> None:
        """Close; called by the provider."""
        self.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is queued."""
        target = self.target
        return True if target is None else bool(target.force_flush(timeout_millis))

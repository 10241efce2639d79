"""Which trace a measurement belongs to, told by OpenTelemetry to whom does not know it."""

from __future__ import annotations

from collections.abc import Callable

from ..events import Event

Exemplar = dict[str, str]
"""`trace_id` and `span_id` in hexadecimal digits, as OpenMetrics and Grafana spell them."""

_reader: Callable[[Event], Exemplar | None] | None = None


def read_exemplars_with(reader: Callable[[Event], Exemplar | None] | None) -> None:
    """Let `reader` tell which sampled span an event is about."""
    global _reader
    _reader = reader


def exemplar_of(event: Event) -> Exemplar | None:
    """Return the sampled span that `event` is about; None when nothing traces it. Any thread may ask."""
    return _reader(event) if _reader is not None else None

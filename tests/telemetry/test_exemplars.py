from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar

from instrumented_sessions import live
from instrumented_sessions.telemetry import exemplars, setup
from instrumented_sessions.telemetry.prometheus import PrometheusObserver
from instrumented_sessions.vocabulary import LockKind, SessionState

from . import story
from .backend import Backend
from .collector import Collector
from .test_setup import tell

LIFE = [  # One life of a session, as the core announces it.
    story.called,
    story.requested,
    story.opening,
    story.waiting,
    story.granted,
    story.opened,
    story.acquired,
    story.released,
    story.returned,
]
SPAN_OF = {
    "instrumented_sessions_session_acquire_duration_seconds": "session.acquire",
    "instrumented_sessions_session_create_duration_seconds": "session.create",
    "instrumented_sessions_lock_wait_duration_seconds": "session.lock.wait",
    "instrumented_sessions_lock_hold_duration_seconds": "session.create",
    "mcp_client_operation_duration_seconds": "tools/call forecast",
    "instrumented_sessions_loop_stall_duration_seconds": "loop.stall",
}
"""Which span the exemplars of a histogram point to."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def shown(observer: PrometheusObserver) -> dict[str, Exemplar]:
    """The exemplars of a scrape that asked for OpenMetrics, by histogram."""
    text = generate_latest(observer.registry).decode()
    return {
        family.name: sample.exemplar
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar is not None
    }


@pytest.mark.parametrize("prometheus_first", [True, False])
def test_every_duration_leads_to_its_span_from_openmetrics(backend: Backend, prometheus_first: bool) -> None:
    """Whichever observer hears of an end first, the exemplar names the trace and the span that ended."""
    observer = PrometheusObserver(read=live.Reading, exemplar=backend.observer.exemplar_of)
    both = [observer, backend.observer] if prometheus_first else [backend.observer, observer]
    for event in [*(make() for make in LIFE), story.stalled(), story.recovered()]:
        for each in both:
            each.on_event(event)
    found = shown(observer)
    assert found.keys() == SPAN_OF.keys()
    for name, span_name in SPAN_OF.items():
        context = backend.span(span_name).context
        assert found[name].labels == {
            "trace_id": f"{context.trace_id:032x}",
            "span_id": f"{context.span_id:016x}",
        }


def test_hold_of_a_call_lock_leads_to_the_call(backend: Backend) -> None:
    """The holder is the call, not an opening."""
    lock: dict[str, Any] = {"lock": LockKind.CALL, "owner_id": 31}
    backend.tell(story.called(31), story.released(**lock))
    labels = backend.observer.exemplar_of(story.released(**lock))
    backend.tell(story.returned(31))
    assert labels is not None
    assert labels["span_id"] == f"{backend.span('tools/call forecast').context.span_id:016x}"


def test_unsampled_work_has_no_exemplar() -> None:
    """A link to a trace that was never kept would lead nowhere."""
    backend = Backend(ALWAYS_OFF)
    observer = PrometheusObserver(read=live.Reading, exemplar=backend.observer.exemplar_of)
    for make in LIFE:
        observer.on_event(make())
        backend.tell(make())
    assert shown(observer) == {}
    (point,) = backend.points("mcp.client.operation.duration").values()
    assert not point.exemplars
    backend.close()


def test_heartbeats_and_ended_sessions_point_to_no_strangers_trace(backend: Backend) -> None:
    """They are announced where some other work's span may be the current one."""
    with backend.tracers.get_tracer("app").start_as_current_span("agent step"):
        backend.tell(story.heartbeat(0.01), story.changed(SessionState.READY, SessionState.BROKEN, 3.0))
    for name in ("instrumented_sessions.loop.lag", "mcp.client.session.duration"):
        (point,) = backend.points(name).values()
        assert not point.exemplars


def test_nobody_is_asked_before_opentelemetry_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus alone has no exemplars."""
    monkeypatch.setattr(exemplars, "_reader", None)
    assert exemplars.exemplar_of(story.returned()) is None


def test_exemplars_arrive_over_otlp_and_at_a_scraper(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`setup()` alone is enough, on both paths; the plain text format goes without."""
    for variable in ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "OTEL_METRICS_EXPORTER"):
        monkeypatch.delenv(variable, raising=False)
    telemetry = setup(otlp_endpoint=collector.endpoint, prometheus_port=0)
    url = f"http://127.0.0.1:{telemetry.prometheus_port}/metrics"
    try:
        tell(story.called(), story.returned())
        asked = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            openmetrics = answer.read().decode()
        with urllib.request.urlopen(url, timeout=20) as answer:
            plain = answer.read().decode()
    finally:
        assert telemetry.close(20.0)
    _, span = collector.span("tools/call forecast")
    _, metric = collector.metric("mcp.client.operation.duration")
    (point,) = metric.histogram.data_points
    assert [exemplar.span_id for exemplar in point.exemplars] == [span.span_id]
    assert [exemplar.trace_id for exemplar in point.exemplars] == [span.trace_id]
    assert f'trace_id="{span.trace_id.hex()}"' in openmetrics
    assert "trace_id" not in plain


def test_exponential_histograms_are_a_switch_of_the_otlp_path(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable of the specification turns them on; `/metrics` keeps its buckets and stays whole."""
    variable = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    monkeypatch.setenv(variable, "base2_exponential_bucket_histogram")
    telemetry = setup(otlp_endpoint=collector.endpoint, prometheus_port=0)
    try:
        tell(story.called(), story.returned())
        url = f"http://127.0.0.1:{telemetry.prometheus_port}/metrics"
        with urllib.request.urlopen(url, timeout=20) as answer:
            text = answer.read().decode()
    finally:
        assert telemetry.close(20.0)
    _, metric = collector.metric("mcp.client.operation.duration")
    assert metric.WhichOneof("data") == "exponential_histogram"
    (point,) = metric.exponential_histogram.data_points
    assert point.count == 1
    assert len(point.exemplars) == 1
    assert 'mcp_client_operation_duration_seconds_bucket{error_type="",' in text

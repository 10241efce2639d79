from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Histogram, Sum

from instrumented_sessions import live
from instrumented_sessions.telemetry import catalog
from instrumented_sessions.vocabulary import Outcome, SessionState

from . import story
from .backend import Backend


class Manager:
    """Stands for a manager where telemetry reads it."""

    def __init__(self) -> None:
        self.reads = 0
        self.reading = live.Reading(
            hits={"weather": 5},
            sessions={("weather", "ready"): 2},
            waiters={("weather", "opening"): 3},
            oldest_waiter_age_s={("weather", "opening"): 4.5},
            holder_age_s={("weather", "opening"): 5.5},
            heartbeat_age_s={"main": 0.5},
            stall_age_s={("main", "cpu"): 0.4, ("main", "gc"): 0.0},
            dropped={"slow": 1},
            watchdog_cpu_s=0.25,
        )

    def read_live(self) -> live.Reading:
        self.reads += 1
        return self.reading


@pytest.fixture
def manager() -> Iterator[Manager]:
    manager = Manager()
    live.register(manager)
    yield manager
    manager.reading = live.Reading()
    live.retire(manager)


def everything(backend: Backend) -> None:
    """One event for each metric that needs one."""
    backend.tell(
        story.requested(),
        story.acquired(),
        story.opened(),
        story.waiting(),
        story.abandoned(),
        story.released(),
        story.returned(),
        story.changed(SessionState.READY, SessionState.BROKEN, 3.0, error=OSError()),
        story.heartbeat(0.01),
        story.stalled(),
        story.recovered(),
    )


def test_every_metric_is_as_the_catalog_says(backend: Backend, manager: Manager) -> None:
    """Exact names, units, kinds, label keys, value types and buckets reach the SDK."""
    everything(backend)
    metrics = backend.metrics()
    missing = {metric.name for metric in catalog.METRICS} - metrics.keys()
    assert missing == {"instrumented_sessions.lock.deadlocks"}  # No deadlock was told.
    kinds: dict[str, Any] = {"counter": Sum, "gauge": Gauge, "histogram": Histogram}
    for metric in catalog.METRICS:
        if metric.name in missing:
            continue
        found: Any = metrics[metric.name]
        assert (found.unit, found.description) == (metric.unit, metric.help)
        assert isinstance(found.data, kinds[metric.kind])
        for point in found.data.data_points:
            assert set(point.attributes) <= set(metric.labels)
            if not metric.name.startswith("mcp."):
                assert set(point.attributes) == set(metric.labels)
            assert all(type(value) is str for value in point.attributes.values())
            if metric.kind == "histogram":
                assert tuple(point.explicit_bounds) == metric.buckets
            elif metric.unit != "s":
                assert type(point.value) is int
        if metric.kind == "counter":
            assert found.data.is_monotonic
            assert found.data.aggregation_temporality is AggregationTemporality.CUMULATIVE


def test_hits_cost_no_sdk_call_and_are_counted(backend: Backend, manager: Manager) -> None:
    """The warm path counts a plain integer; the SDK reads it when it collects."""
    backend.tell(story.acquired(outcome=Outcome.JOINED))
    name = "instrumented_sessions.session.requests"
    values = {labels: point.value for labels, point in backend.points(name).items()}
    assert values == {
        (("outcome", "hit"), ("transport", "weather")): 5,
        (("outcome", "joined"), ("transport", "weather")): 1,
    }


def test_one_collection_reads_once(backend: Backend, manager: Manager) -> None:
    """All gauges of one collection are of one instant; the next collection reads again."""
    backend.metrics()
    assert manager.reads == 1
    manager.reading = live.Reading(sessions={("weather", "ready"): 9})
    points = backend.points("instrumented_sessions.sessions")
    assert points[(("state", "ready"), ("transport", "weather"))].value == 9
    assert manager.reads == 2


def test_gauges_go_when_nothing_is_true_of_them(backend: Backend, manager: Manager) -> None:
    """A lock that nobody waits for has no oldest waiter."""
    assert backend.points("instrumented_sessions.lock.oldest_waiter.age")
    manager.reading = live.Reading()
    assert backend.points("instrumented_sessions.lock.oldest_waiter.age") == {}


def test_exemplar_points_to_the_call(backend: Backend) -> None:
    """From a slow bucket one click leads to a trace."""
    backend.tell(story.called(), story.returned())
    (point,) = backend.points("mcp.client.operation.duration").values()
    (exemplar,) = point.exemplars
    assert exemplar.span_id == backend.span("tools/call forecast").context.span_id


def test_threads_lose_no_count(backend: Backend) -> None:
    """Counters are exact whoever tells."""
    start = threading.Barrier(4)

    def tell() -> None:
        start.wait(5)
        for _ in range(100):
            backend.tell(story.acquired(99))

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    (point,) = backend.points("instrumented_sessions.session.requests").values()
    assert point.value == 400
    (histogram,) = backend.points("instrumented_sessions.session.acquire.duration").values()
    assert histogram.count == 400

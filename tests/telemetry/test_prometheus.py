from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from instrumented_sessions import live
from instrumented_sessions.chain import BlockingChain
from instrumented_sessions.events import DeadlockDetected
from instrumented_sessions.telemetry import catalog
from instrumented_sessions.telemetry.prometheus import MetricsServer, PrometheusObserver
from instrumented_sessions.vocabulary import LockKind, Phase, SessionState

from . import story

ROOT = Path(__file__).parents[2]
READING = live.Reading(
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


@pytest.fixture
def observer() -> PrometheusObserver:
    return PrometheusObserver(read=lambda: READING)


@pytest.fixture
def server(observer: PrometheusObserver) -> Iterator[MetricsServer]:
    server = MetricsServer(0, registry=observer.registry)
    yield server
    server.close()


def scrape(server: MetricsServer, accept: str = "text/plain") -> dict[str, Metric]:
    url = f"http://127.0.0.1:{server.port}/metrics"
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=5) as response:
        text = response.read().decode()
    parser = parse_openmetrics if "openmetrics" in accept else parse
    return {family.name: family for family in parser(text)}


def tell_everything(observer: PrometheusObserver) -> None:
    cycle = BlockingChain(story.KEY, Phase.LOCK, 0.0, story.CALLER, story.T0, is_cycle=True)
    for event in (
        story.acquired(),
        story.opened(),
        story.granted(),
        story.abandoned(),
        story.released(),
        story.returned(),
        story.changed(SessionState.READY, SessionState.BROKEN, 3.0, error=OSError()),
        story.heartbeat(0.01),
        story.recovered(),
        DeadlockDetected(story.T0, cycle, LockKind.OPENING),
    ):
        observer.on_event(event)


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_scrape_shows_every_metric_as_the_catalog_says(
    observer: PrometheusObserver, server: MetricsServer, accept: str
) -> None:
    """Exact names, kinds, labels, help and buckets over HTTP, in both formats."""
    tell_everything(observer)
    families = scrape(server, accept)
    for metric in catalog.METRICS:
        family = families[metric.prometheus_name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        assert samples, metric.name
        for sample in samples:
            assert set(sample.labels) - {"le"} == set(metric.prometheus_labels)
        if metric.kind == "histogram":
            bounds = {float(sample.labels["le"]) for sample in samples if sample.name.endswith("_bucket")}
            assert bounds == {*metric.buckets, float("inf")}
        else:
            assert {sample.name for sample in samples} == {metric.prometheus_name}


def test_scrape_shows_what_is_true_now(observer: PrometheusObserver, server: MetricsServer) -> None:
    """Gauges and hits are read at the scrape, counters are summed from events."""
    tell_everything(observer)
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in scrape(server).values()
        for sample in family.samples
    }
    assert values["instrumented_sessions_session_requests_total", "hit", "weather"] == 5
    assert values["instrumented_sessions_session_requests_total", "created", "weather"] == 1
    assert values["instrumented_sessions_lock_oldest_waiter_age_seconds", "opening", "weather"] == 4.5
    assert values["instrumented_sessions_loop_heartbeat_age_seconds", "main"] == 0.5
    assert values["instrumented_sessions_loop_stall_age_seconds", "cpu", "main"] == 0.4
    assert (
        values["instrumented_sessions_lock_wait_duration_seconds_count", "opening", "transport", "weather"]
        == 2
    )
    assert values["instrumented_sessions_telemetry_dropped_total", "slow"] == 1
    assert values["instrumented_sessions_watchdog_cpu_time_seconds_total",] == 0.25


def test_observer_registers_where_it_is_told() -> None:
    """A program with a registry of its own adds ours to it, and takes it out again."""
    registry = CollectorRegistry(auto_describe=True)
    observer = PrometheusObserver(registry, read=lambda: READING)
    labels = {"transport": "weather", "state": "ready"}
    assert registry.get_sample_value("instrumented_sessions_sessions", labels) == 2
    observer.close()
    assert registry.get_sample_value("instrumented_sessions_sessions", labels) is None


def test_reset_begins_at_zero(observer: PrometheusObserver) -> None:
    """After a fork the child counts for itself."""
    tell_everything(observer)
    observer.reset()
    count = "instrumented_sessions_lock_hold_duration_seconds_count"
    labels = {"transport": "weather", "lock": "opening", "granularity": "transport"}
    assert observer.registry.get_sample_value(count, labels) is None
    observer.on_event(story.released())
    assert observer.registry.get_sample_value(count, labels) == 1


def test_server_listens_on_loopback_and_closes(observer: PrometheusObserver) -> None:
    """Nobody else can read it, and the port is free afterwards."""
    server = MetricsServer(0, registry=observer.registry)
    assert repr(server) == f"<MetricsServer http://127.0.0.1:{server.port}/metrics>"
    server.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


def test_missing_package_says_what_to_install() -> None:
    """One sentence, no riddle."""
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "try: import instrumented_sessions.telemetry.prometheus\n"
        "except ImportError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True
    )
    assert "pip install 'instrumented-sessions[prometheus]'" in run.stdout

"""Whatever becomes of the telemetry, the program goes on, and what was lost is counted."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from instrumented_sessions import Queued, SessionManager, live
from instrumented_sessions.events import Event
from instrumented_sessions.telemetry import Recorder, setup
from instrumented_sessions.testing import FakeTransport

from . import story
from .backend import Backend
from .collector import BlackHole, Collector
from .test_setup import run, tell

pytestmark = [pytest.mark.usefixtures("only_our_environment"), pytest.mark.timeout(90)]

A_MOMENT_S = 10.0
"""More than anything here takes on a machine that has other work to do."""

PRELUDE = """
import os, threading, time, urllib.request
from instrumented_sessions.observer import AMBIENT
from instrumented_sessions.telemetry import setup
from tests.telemetry import story
story.T0 = time.time()
def tell(name, times=1):
    for _ in range(times):
        AMBIENT.announce(story.called(target=name)); AMBIENT.announce(story.returned(target=name))
"""


@pytest.fixture
def only_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    monkeypatch.setattr(story, "T0", time.time())


@pytest.fixture
def black_hole() -> Iterator[BlackHole]:
    hole = BlackHole()
    yield hole
    hole.close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


class SlowCollector:
    """Takes what it is sent, and answers only when it is let; or breaks off in the middle."""

    def __init__(self, *, breaks_off: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._breaks_off = breaks_off
        self.asked, self.let = threading.Event(), threading.Event()
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._answering: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, name="slow-collector")
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,), name="slow-answer")
            self._answering.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(A_MOMENT_S)
            try:
                connection.recv(65_536)
                self.asked.set()
                self.let.wait(2.5 * A_MOMENT_S)
                half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
                whole = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                connection.sendall(half if self._breaks_off else whole)
            except OSError:
                pass

    def close(self) -> None:
        self.let.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(A_MOMENT_S)
        self._listener.close()
        for thread in self._answering:
            thread.join(A_MOMENT_S)


@pytest.mark.scenario("O1")
def test_slow_collector_slows_nobody_and_loses_what_does_not_fit() -> None:
    """While it thinks, the program tells on; what finds the queue full is dropped and counted."""
    collector = SlowCollector()
    telemetry = setup(otlp_endpoint=collector.endpoint)
    try:
        tell(story.called(), story.returned())
        assert collector.asked.wait(A_MOMENT_S)
        for call_id in range(
            6_000
        ):  # It answers nothing meanwhile, so this ends only if nobody waits for it.
            tell(story.called(call_id), story.returned(call_id))
        assert not collector.let.is_set()
        dropped = live.read().dropped["otlp"]
        assert 6_000 - 2 * 2_048 <= dropped <= 6_000
    finally:
        collector.close()
        telemetry.close(1.0)


@pytest.mark.scenario("O1")
def test_collector_that_goes_in_the_middle_of_an_answer_is_survived() -> None:
    """The export fails or is tried again; the program and its end do not notice."""
    collector = SlowCollector(breaks_off=True)
    telemetry = setup(otlp_endpoint=collector.endpoint)
    try:
        tell(story.called(), story.returned())
        assert collector.asked.wait(A_MOMENT_S)
    finally:
        collector.close()
    tell(story.called(2), story.returned(2))
    before = time.monotonic()
    telemetry.close(0.5)
    assert time.monotonic() - before < A_MOMENT_S


@pytest.mark.scenario("O1")
def test_close_with_a_full_queue_keeps_its_limit(black_hole: BlackHole) -> None:
    """What cannot be exported in time is dropped, not waited for."""
    telemetry = setup(otlp_endpoint=black_hole.endpoint)
    for call_id in range(3_000):
        tell(story.called(call_id), story.returned(call_id))
    before = time.monotonic()
    assert not telemetry.close(0.5)
    assert time.monotonic() - before < A_MOMENT_S
    black_hole.close()


@pytest.mark.scenario("O2")
def test_hundred_thousand_events_stay_within_bounds() -> None:
    """A recorder keeps the last, a queue drops the newest; both count, and the metric has it."""
    entered, go_on = threading.Event(), threading.Event()

    class Slow:
        def on_event(self, event: Event) -> None:
            entered.set()
            go_on.wait(2.5 * A_MOMENT_S)

    recorder, queued = Recorder(1_000), Queued(Slow(), capacity=100)
    event = Event(1.0)
    queued.on_event(event)
    assert entered.wait(A_MOMENT_S)
    for _ in range(100_000):
        recorder.on_event(event)
        queued.on_event(event)
    assert (len(recorder.events), recorder.dropped) == (1_000, 99_000)
    assert live.read().dropped == {"Slow": 99_900}
    go_on.set()
    queued.close(A_MOMENT_S)
    assert live.read().dropped == {"Slow": 99_900}  # It still counts when the queue is gone.


def test_two_managers_are_one_sum(backend: Backend) -> None:
    """Sessions of both are in the metric of the process, under their transports."""
    with SessionManager() as one, SessionManager() as other:
        one.session(FakeTransport("weather"))
        other.session(FakeTransport("weather"))
        maps = FakeTransport("maps")
        other.session(maps)
        other.session(maps)
        sessions = {
            labels: point.value for labels, point in backend.points("instrumented_sessions.sessions").items()
        }
        assert sessions[("state", "ready"), ("transport", "weather")] == 2
        assert sessions[("state", "ready"), ("transport", "maps")] == 1
        requests = backend.points("instrumented_sessions.session.requests")
        assert requests[("outcome", "hit"), ("transport", "maps")].value == 1


def test_sdk_that_the_program_sets_up_later_is_used() -> None:
    """Without `setup()` nothing is set, so whatever comes later gets everything from then on."""
    done = run(
        PRELUDE
        + """
from instrumented_sessions import SessionManager
from instrumented_sessions.testing import FakeTransport
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
manager = SessionManager()
tell("early")
spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider([reader]))
tell("late")
manager.session(FakeTransport())
names = {span.name for span in spans.get_finished_spans()}
assert {"tools/call late", "session.acquire", "session.create"} <= names, names
assert "tools/call early" not in names
found = {
    metric.name
    for of_resource in reader.get_metrics_data().resource_metrics
    for of_scope in of_resource.scope_metrics
    for metric in of_scope.metrics
}
assert {"mcp.client.operation.duration", "instrumented_sessions.sessions"} <= found, found
manager.close()
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.scenario("S38")
def test_forked_worker_serves_a_port_of_its_own() -> None:
    """It asks `setup()` for one, and its histograms and counters begin at zero."""
    done = run(
        PRELUDE
        + """
telemetry = setup(prometheus_port=0)
tell("parent", 3)
def calls(handle, name):
    url = f"http://127.0.0.1:{handle.prometheus_port}/metrics"
    text = urllib.request.urlopen(url, timeout=20).read().decode()
    lines = [line for line in text.splitlines()
             if line.startswith("mcp_client_operation_duration_seconds_count") and f'"{name}"' in line]
    return [line.rsplit(" ", 1)[1] for line in lines]
child = os.fork()
if child == 0:
    assert telemetry.prometheus_port is None
    mine = setup(prometheus_port=0)
    assert mine is telemetry
    tell("child")
    assert (calls(mine, "parent"), calls(mine, "child")) == ([], ["1.0"])
    assert mine.close(20.0)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert (calls(telemetry, "parent"), calls(telemetry, "child")) == (["3.0"], [])
assert telemetry.close(20.0)
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.scenario("O4")
def test_everything_is_told_while_every_loop_stands_still(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only loop is blocked: spans in progress, metrics, `/metrics` and `explain()` go on, and name it."""
    go_on = threading.Event()

    class Blocking(FakeTransport):
        def connect(self) -> Any:
            go_on.wait(80)  # On the portal's loop, which serves all sessions.
            return super().connect()

    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    telemetry = setup(otlp_endpoint=collector.endpoint, prometheus_port=0)
    manager = SessionManager()
    waiter = threading.Thread(target=manager.session, args=(Blocking("weather"), "c-1"), name="waiter")
    waiter.start()
    try:
        limit_s = 4 * A_MOMENT_S
        stall = collector.until(
            lambda: next((s for _, s in collector.spans if s.name == "loop.stall.in_progress"), None), limit_s
        )
        facts = {pair.key: pair.value.string_value for pair in stall.attributes}
        assert facts["instrumented_sessions.loop"] == "portal"
        assert facts["code.function.name"].endswith("connect")
        collector.until(
            lambda: next((s for _, s in collector.spans if s.name == "session.acquire.in_progress"), None),
            limit_s,
        )
        collector.until(lambda: True if collected_age_s(collector) > 1.0 else None, limit_s)
        url = f"http://127.0.0.1:{telemetry.prometheus_port}/metrics"
        with urllib.request.urlopen(url, timeout=limit_s) as answer:
            (line,) = [
                line
                for line in answer.read().decode().splitlines()
                if line.startswith('instrumented_sessions_loop_heartbeat_age_seconds{loop="portal"}')
            ]
        assert float(line.split()[-1]) > 1.0
        assert "weather/c-1" in str(manager.explain())
        assert not go_on.is_set()
    finally:
        go_on.set()
        waiter.join(A_MOMENT_S)
        manager.close()
        telemetry.close(A_MOMENT_S)


def collected_age_s(collector: Collector) -> float:
    """The greatest age of a heartbeat that was exported."""
    return max(
        (
            point.as_double
            for _, metric in collector.metrics
            if metric.name == "instrumented_sessions.loop.heartbeat.age"
            for point in metric.gauge.data_points
        ),
        default=0.0,
    )

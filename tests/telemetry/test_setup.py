from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

from instrumented_sessions.observer import AMBIENT, current_trace_id
from instrumented_sessions.telemetry import Telemetry, setup

from . import story
from .collector import BlackHole, Collector, event_name

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(90)  # Starting a program takes long where much else runs.


@pytest.fixture(autouse=True)
def only_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(story, "T0", time.time())


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def black_hole() -> Iterator[BlackHole]:
    hole = BlackHole()
    yield hole
    hole.close()


@pytest.fixture
def telemetry(collector: Collector) -> Iterator[Telemetry]:
    telemetry = setup(service_name="shop", otlp_endpoint=collector.endpoint)
    yield telemetry
    telemetry.close(5.0)


def tell(*events: Any) -> None:
    for event in events:
        AMBIENT.announce(event)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**clean, **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )


def test_spans_metrics_and_logs_reach_the_collector(collector: Collector, telemetry: Telemetry) -> None:
    """One call, and every manager's events arrive over OTLP under the program's name."""
    assert telemetry.exports == ("metrics", "traces", "logs")
    tell(story.called(), story.returned(slow=True), story.acquired())
    about, span = collector.span("tools/call forecast")
    assert about["service.name"] == "shop"
    assert about["service.instance.id"]
    assert {pair.key: pair.value for pair in span.attributes}["mcp.method.name"].string_value == "tools/call"
    slow_call = "instrumented_sessions.slow_call"
    _, record = collector.until(
        lambda: next((pair for pair in collector.logs if event_name(pair[1]) == slow_call), None)
    )
    assert record.span_id == span.span_id
    assert telemetry.close(5.0)
    about, metric = collector.metric("mcp.client.operation.duration")
    assert metric.unit == "s"
    assert list(metric.histogram.data_points[0].explicit_bounds)[:3] == [0.01, 0.02, 0.05]
    _, requests = collector.metric("instrumented_sessions.session.requests")
    assert requests.sum.data_points[0].as_int >= 1
    assert requests.sum.is_monotonic
    assert requests.sum.aggregation_temporality == 2  # Cumulative.


def test_second_call_returns_the_same_handle(
    collector: Collector, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """What runs is kept, what was not yet running is added; a contradiction is logged."""
    assert setup(prometheus_port=0) is telemetry
    port = telemetry.prometheus_port
    assert port is not None
    assert setup(otlp_endpoint="http://127.0.0.1:1", prometheus_port=0) is telemetry
    assert telemetry.prometheus_port == port
    assert "already exports to" in caplog.text
    tell(story.called(), story.returned())
    collector.span("tools/call forecast")


def test_setup_after_close_begins_anew(collector: Collector) -> None:
    """Global providers are for life; what is behind them is not."""
    first = setup(otlp_endpoint="http://127.0.0.1:1")
    first.close(0.1)
    second = setup(service_name="shop-2", otlp_endpoint=collector.endpoint)
    assert second is not first
    tell(story.called(), story.returned())
    about, _ = collector.span("tools/call forecast")
    assert about["service.name"] == "shop-2"
    assert second.close(5.0)
    assert second.close(5.0)
    assert repr(second) == "<Telemetry closed, exports metrics, traces, logs>"


def test_what_happens_after_close_is_not_exported(collector: Collector, telemetry: Telemetry) -> None:
    """Managers go on; nobody listens."""
    telemetry.close(5.0)
    tell(story.called(), story.returned())
    assert collector.spans == []


@pytest.mark.scenario("O1")
def test_close_is_bounded_when_the_collector_is_a_black_hole(black_hole: BlackHole) -> None:
    """The exporter hangs in its request; the program does not, and what was lost is counted."""
    telemetry = setup(otlp_endpoint=black_hole.endpoint)
    tell(story.called(), story.returned())
    assert black_hole.swallowed.wait(5)
    tell(
        *(story.called(call_id) for call_id in range(3000)),
        *(story.returned(call_id) for call_id in range(3000)),
    )
    assert telemetry.read_live().dropped["otlp"] > 0
    before = time.monotonic()
    assert not telemetry.close(0.2)
    assert time.monotonic() - before < 1.0
    black_hole.close()


class Lines(logging.Handler):
    """What is said of exports, and an event for each line awaited."""

    def __init__(self) -> None:
        super().__init__()
        self._said = threading.Condition()  # Protects what follows.
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        with self._said:
            self.texts.append(record.getMessage())
            self._said.notify_all()

    def wait(self, part: str) -> None:
        with self._said:
            assert self._said.wait_for(lambda: any(part in text for text in self.texts), 10), self.texts


@pytest.fixture
def lines() -> Iterator[Lines]:
    """All that OpenTelemetry and `setup()` log."""
    lines = Lines()
    loggers = [logging.getLogger(name) for name in ("opentelemetry", "instrumented_sessions.telemetry")]
    for logger in loggers:
        logger.addHandler(lines)
    yield lines
    for logger in loggers:
        logger.removeHandler(lines)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.scenario("O1")
def test_collector_that_goes_and_comes_is_told_of_in_two_lines(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One when exports begin to fail, one when they work again, whatever the exporters say meanwhile."""
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    port = free_port()
    telemetry = setup(otlp_endpoint=f"http://127.0.0.1:{port}")
    tell(story.called(1), story.returned(1, slow=True))
    lines.wait("does not reach")
    collector = Collector(port)
    try:
        lines.wait("again")
        collector.metric("mcp.client.operation.duration")
        assert telemetry.close(15.0)
    finally:
        collector.close()
    down, up = lines.texts
    assert down.startswith(f"telemetry does not reach http://127.0.0.1:{port}")
    assert "refused" in down
    assert up == f"telemetry reaches http://127.0.0.1:{port} again"


@pytest.mark.scenario("O1")
def test_refused_collector_does_not_hold_the_program_up(lines: Lines) -> None:
    """One line, and close is bounded."""
    telemetry = setup(otlp_endpoint=f"http://127.0.0.1:{free_port()}")
    tell(story.called(1), story.returned(1))
    before = time.monotonic()
    telemetry.close(1.0)
    assert time.monotonic() - before < 5.0
    assert len(lines.texts) == 1


def test_complaints_of_the_programs_own_exporters_are_left_alone(lines: Lines, telemetry: Telemetry) -> None:
    """Only what our exports say is replaced, though the loggers are the same."""
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").warning("theirs")
    assert lines.texts == ["theirs"]


def test_prometheus_alone_exports_nothing_over_otlp() -> None:
    """Who asks for a port gets a port, and no complaints about a collector that was never meant to be."""
    telemetry = setup(prometheus_port=0)
    try:
        assert telemetry.exports == ()
        tell(story.released())
        with urllib.request.urlopen(
            f"http://127.0.0.1:{telemetry.prometheus_port}/metrics", timeout=5
        ) as response:
            text = response.read().decode()
        assert "instrumented_sessions_lock_hold_duration_seconds_count" in text
    finally:
        assert telemetry.close(5.0)


def test_taken_port_is_logged_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    """A second worker on the same machine still starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        telemetry = setup(prometheus_port=port)
        telemetry.close(1.0)
    assert telemetry.prometheus_port is None
    assert f"127.0.0.1:{port}" in caplog.text


def test_signals_may_be_switched_off(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    """`OTEL_*_EXPORTER=none` and `OTEL_SDK_DISABLED` are heeded."""
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    telemetry = setup(otlp_endpoint=collector.endpoint)
    assert telemetry.exports == ("metrics", "traces")
    telemetry.close(5.0)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    telemetry = setup(otlp_endpoint=collector.endpoint)
    assert telemetry.exports == ()
    telemetry.close(5.0)


def test_environment_names_collector_and_service(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    """Without arguments `OTEL_*` decides."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=from-env,service.instance.id=me")
    telemetry = setup()
    tell(story.called(), story.returned())
    about, _ = collector.span("tools/call forecast")
    telemetry.close(5.0)
    assert (about["service.name"], about["service.instance.id"]) == ("from-env", "me")


def test_bad_interval_falls_back(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """A typo in the environment costs a line of log, not the program."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "soon")
    telemetry = setup(otlp_endpoint=collector.endpoint)
    telemetry.close(5.0)
    assert "OTEL_BSP_SCHEDULE_DELAY" in caplog.text


def test_programs_own_sdk_is_never_replaced(collector: Collector) -> None:
    """Its tracer provider stays; what it has not set is added."""
    code = f"""
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider
own = TracerProvider()
trace.set_tracer_provider(own)
from instrumented_sessions.telemetry import setup
telemetry = setup(otlp_endpoint={collector.endpoint!r})
assert trace.get_tracer_provider() is own
assert type(metrics.get_meter_provider()).__name__ == "MeterProvider"
print(telemetry.exports)
telemetry.close(5.0)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "('metrics', 'logs')"


def test_missing_sdk_says_what_to_install() -> None:
    """One sentence, no riddle."""
    code = """
import sys
sys.modules["opentelemetry.sdk"] = sys.modules["opentelemetry.exporter"] = None
from instrumented_sessions.telemetry import setup
try: setup()
except ImportError as error: print(error)
"""
    assert "pip install 'instrumented-sessions[otel]'" in run(code).stdout


@pytest.mark.scenario("O1")
def test_program_ends_although_the_collector_is_a_black_hole(black_hole: BlackHole) -> None:
    """The interpreter's exit flushes for three seconds, no more."""
    code = f"""
import atexit, time
from instrumented_sessions.observer import AMBIENT
from instrumented_sessions.telemetry import setup
from tests.telemetry import story
story.T0 = time.time()
atexit.register(lambda: print(time.monotonic() - ended))  # Registered first, so it runs last.
setup(otlp_endpoint={black_hole.endpoint!r})
AMBIENT.announce(story.called()); AMBIENT.announce(story.returned())
ended = time.monotonic()
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 15.0


@pytest.mark.scenario("S38")
def test_forked_child_reports_for_itself(collector: Collector) -> None:
    """A new instance id, counters at zero, and the parent's metrics are not counted twice."""
    code = f"""
import os
from instrumented_sessions.observer import AMBIENT, current_trace_id
from instrumented_sessions.telemetry import setup
from tests.telemetry import story; import time; story.T0 = time.time()
telemetry = setup(service_name="shop", otlp_endpoint={collector.endpoint!r}, prometheus_port=0)
port = telemetry.prometheus_port
def tell(name, times):
    for _ in range(times):
        AMBIENT.announce(story.called(target=name)); AMBIENT.announce(story.returned(target=name))
        AMBIENT.announce(story.acquired())
tell("parent", 5)
child = os.fork()
if child == 0:
    import threading
    for thread in threading.enumerate():
        if thread.name == "instrumented-sessions-restart":
            thread.join(5)
    assert telemetry.prometheus_port is None
    tell("child", 2)
    assert telemetry.close(5.0)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
import urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{{port}}/metrics", timeout=5).read()
tell("parent", 1)
assert telemetry.close(5.0)
"""
    done = run(code, OTEL_METRIC_EXPORT_INTERVAL="60000")
    assert done.returncode == 0, done.stderr
    parent, _ = collector.span("tools/call parent")
    child, _ = collector.span("tools/call child")
    assert parent["service.name"] == child["service.name"] == "shop"
    assert parent["service.instance.id"] != child["service.instance.id"]
    counted = {
        (about["service.instance.id"], pair.value.string_value): point.count
        for about, metric in collector.metrics
        if metric.name == "mcp.client.operation.duration"
        for point in metric.histogram.data_points
        for pair in point.attributes
        if pair.key == "gen_ai.tool.name"
    }
    assert counted == {
        (parent["service.instance.id"], "parent"): 6,
        (child["service.instance.id"], "child"): 2,
    }
    requests = {
        about["service.instance.id"]: metric.sum.data_points[0].as_int
        for about, metric in collector.metrics
        if metric.name == "instrumented_sessions.session.requests"
    }
    assert requests == {parent["service.instance.id"]: 6, child["service.instance.id"]: 2}


def test_close_leaves_no_thread_behind(collector: Collector) -> None:
    """Exporters, reader and server all end."""
    before = set(threading.enumerate())
    telemetry = setup(otlp_endpoint=collector.endpoint, prometheus_port=0)
    tell(story.released())
    telemetry.close(5.0)
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert [name for name in left if "process_request" not in name and "in-progress" not in name] == []


def test_logger_of_the_program_is_left_alone(collector: Collector) -> None:
    """setup() adds no handler and changes no level."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    setup(otlp_endpoint=collector.endpoint).close(5.0)
    assert (list(root.handlers), root.level) == before


@pytest.mark.scenario("O3")
def test_open_wait_reaches_the_collector_while_it_lasts(collector: Collector, telemetry: Telemetry) -> None:
    """Its holder is named in the backend 1.5 s after it began, though it never ends."""
    began = time.time()
    story_at = -0.9  # Most of the first second has passed.
    tell(story.opening(11, at=story_at, request_id=None), story.waiting(at=story_at))
    try:
        _, span = collector.span("session.lock.wait.in_progress")
        assert time.time() - began < 5 * (1.5 - 0.9)
        facts = {pair.key: pair.value for pair in span.attributes}
        assert facts["instrumented_sessions.holder.thread.name"].string_value == "portal"
        assert facts["instrumented_sessions.in_progress"].bool_value is True
        _, record = collector.until(lambda: next(iter(collector.logs), None))
        assert record.trace_id == span.trace_id
        assert [span for _, span in collector.spans if span.name == "session.lock.wait"] == []
    finally:
        tell(story.granted(), story.opened())


def test_calling_code_tells_its_trace(telemetry: Telemetry) -> None:
    """The core asks which trace a waiter belongs to, without knowing OpenTelemetry."""
    assert current_trace_id() is None
    with trace.get_tracer("app").start_as_current_span("agent step") as span:
        assert current_trace_id() == f"{span.get_span_context().trace_id:032x}"

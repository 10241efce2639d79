"""What telemetry costs: side by side in one run, as ratios and differences.

    python -m benchmarks.telemetry_cost [--short] [--out FILE]

The same session is called with other observers in turn, so that a busy machine slows all alike; each
figure is the median of the differences within a round. CPU is that of the whole process, exporters
included. Collector and MCP server are processes of their own. The MCP SDK's own spans are left out: the
SDK of OpenTelemetry is given to our observer alone. The full form writes docs/benchmarks-telemetry.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from instrumented_sessions import Session, SessionManager
from instrumented_sessions.events import Event
from instrumented_sessions.observer import AMBIENT, Announcer, Observer
from instrumented_sessions.telemetry import Recorder, catalog
from instrumented_sessions.telemetry.otel import OpenTelemetryObserver
from instrumented_sessions.telemetry.prometheus import PrometheusObserver
from instrumented_sessions.testing import FakeTransport
from instrumented_sessions.transports import StreamableHTTPTransport

from . import machine, telemetry_peers
from .scenario_tools import Figure

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks-telemetry.md"
NOTHING, EVERYTHING = "nothing", "both and a recorder"

Observers = Mapping[str, Sequence[Observer]]


@dataclass(frozen=True)
class Cost:
    """What one piece of work took."""

    wall_s: float
    cpu_s: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)


@contextmanager
def observers(endpoint: str) -> Iterator[Observers]:
    """Give the sets of observers that are compared."""
    tracers = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
    tracers.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=200))
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics"), export_interval_millis=5_000
    )
    meters = MeterProvider([reader], shutdown_on_exit=False)
    otlp = OpenTelemetryObserver(tracer_provider=tracers, meter_provider=meters)
    prometheus = PrometheusObserver(exemplar=otlp.exemplar_of)
    try:
        yield {
            NOTHING: (),
            "Prometheus": (prometheus,),
            "OTLP": (otlp,),
            EVERYTHING: (prometheus, otlp, Recorder()),
        }
    finally:
        otlp.close()
        tracers.shutdown()
        meters.shutdown()


@contextmanager
def only(chosen: Sequence[Observer]) -> Iterator[None]:
    """Let these observers and no others hear of everything in the block."""
    before = AMBIENT.observers
    for observer in before:
        AMBIENT.remove(observer)
    for observer in chosen:
        AMBIENT.add(observer)
    try:
        yield
    finally:
        for observer in chosen:
            AMBIENT.remove(observer)
        for observer in before:
            AMBIENT.add(observer)


def side_by_side(sets: Observers, work: Callable[[], None], times: int, rounds: int) -> dict[str, list[Cost]]:
    """Return what `work` costs with each set of observers, round by round, by one of its `times` parts."""
    found: dict[str, list[Cost]] = {name: [] for name in sets}
    names = list(sets)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:  # Nobody is always first.
            with only(sets[name]):
                wall_s, cpu_s = time.perf_counter(), time.process_time()
                work()
                cost = Cost(time.perf_counter() - wall_s, time.process_time() - cpu_s)
            found[name].append(Cost(cost.wall_s / times, cost.cpu_s / times))
    return found


def more(found: dict[str, list[Cost]], name: str) -> Cost:
    """Return what a set of observers costs more than nothing: the median of the rounds."""
    differences = [cost - bare for cost, bare in zip(found[name], found[NOTHING], strict=True)]
    return Cost(
        statistics.median(cost.wall_s for cost in differences),
        statistics.median(cost.cpu_s for cost in differences),
    )


def middle(costs: list[Cost]) -> Cost:
    """Return the median of some rounds."""
    return Cost(
        statistics.median(cost.wall_s for cost in costs), statistics.median(cost.cpu_s for cost in costs)
    )


def calls(sets: Observers, session: Session, times: int, rounds: int) -> list[Figure]:
    """An end-to-end `call_tool` over HTTP."""

    def work() -> None:
        for _ in range(times):
            session.call_tool("echo", {"text": "x"})

    work()
    found = side_by_side(sets, work, times, rounds)
    bare = middle(found[NOTHING])
    figures = [
        Figure(
            "call",
            f"`call_tool` on loopback HTTP with {NOTHING}",
            f"{bare.wall_s * 1e6:.0f} µs, {bare.cpu_s * 1e6:.0f} µs CPU",
        )
    ]
    for name in sets:
        if name == NOTHING:
            continue
        extra = more(found, name)
        share = extra.wall_s / bare.wall_s
        all_on = name == EVERYTHING
        figures.append(
            Figure(
                "call",
                f"the same with {name}: more than with {NOTHING}",
                f"{share * 100:+.1f} % ({extra.wall_s * 1e6:+.0f} µs), {extra.cpu_s * 1e6:+.0f} µs CPU",
                "<= 5 % and 40 µs CPU" if all_on else "",
                share <= 0.05 and extra.cpu_s <= 40e-6 if all_on else None,
            )
        )
    return figures


class _Kept(SpanProcessor):
    """Keeps the spans that ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def sdk_alone(session: Session, times: int) -> list[Figure]:
    """A call's one span and its duration, by OpenTelemetry's SDK: the least that OTLP can cost."""
    kept, reader = _Kept(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(kept)
    meters = MeterProvider([reader], shutdown_on_exit=False)
    observer = OpenTelemetryObserver(tracer_provider=tracers, meter_provider=meters, report_in_progress=False)
    with only([observer]):
        session.call_tool("echo", {"text": "x"})
    observer.close()
    (span,) = kept.spans
    attributes, tracer = dict(span.attributes or {}), tracers.get_tracer("alone")
    (labels,) = _labels_of(catalog.MCP_OPERATION_DURATION.name, reader)
    duration = meters.get_meter("alone").create_histogram("duration", "s")
    best_s = float("inf")
    for _ in range(20):
        kept.spans.clear()
        began = time.thread_time()
        for _ in range(times):
            tracer.start_span(span.name, kind=span.kind, attributes=attributes).end()
            duration.record(0.001, labels)
        encode_spans(kept.spans).SerializeToString()
        best_s = min(best_s, (time.thread_time() - began) / times)
    what = (
        f"a call's span with {len(attributes)} attributes, made and encoded, and its duration with"
        f" {len(labels)}, recorded, by OpenTelemetry's SDK alone"
    )
    return [Figure("call", what, f"{best_s * 1e6:.0f} µs CPU")]


def _labels_of(metric: str, reader: InMemoryMetricReader) -> list[Any]:
    """Return the attributes of the data points of a metric."""
    data: Any = reader.get_metrics_data()
    return [
        point.attributes
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for found in scope.metrics
        if found.name == metric
        for point in found.data.data_points
    ]


def warm_path(sets: Observers, manager: SessionManager, rounds: int) -> list[Figure]:
    """A warm `session()` with all on and all off."""
    transport, loops = FakeTransport("warm"), 50_000
    manager.session(transport)

    def work() -> None:
        for _ in range(loops):
            manager.session(transport)

    found = side_by_side({name: sets[name] for name in (NOTHING, EVERYTHING)}, work, loops, rounds)
    off, on = (min(cost.wall_s for cost in found[name]) for name in (NOTHING, EVERYTHING))
    what = f"a warm `session()` with everything / with {NOTHING} ({on * 1e9:.0f} / {off * 1e9:.0f} ns)"
    return [Figure("warm path", what, f"{on / off:.2f}", "0.9 to 1.1", 0.9 <= on / off <= 1.1)]


def contended_waits(sets: Observers, manager: SessionManager, rounds: int) -> list[Figure]:
    """Calls that have to wait for a call lock, beside calls that need none."""
    times = 200
    figures = []
    costs: dict[str, dict[str, Cost]] = {}
    for name, permits in (("free", None), ("contended", 1)):
        session = manager.session(FakeTransport(name, call_permits=permits))

        async def all_at_once(session: Session = session) -> None:
            await asyncio.gather(*(session.acall_tool("echo", {"text": "x"}) for _ in range(times)))

        found = side_by_side(
            {name: sets[name] for name in (NOTHING, EVERYTHING)},
            lambda work=all_at_once: asyncio.run(work()),  # type: ignore[misc]  # A default binds it now.
            times,
            rounds,
        )
        costs[name] = {NOTHING: middle(found[NOTHING]), EVERYTHING: more(found, EVERYTHING)}
    for name, title in ((NOTHING, "the wait itself"), (EVERYTHING, "its telemetry, all on")):
        cost = costs["contended"][name] - costs["free"][name]
        figures.append(
            Figure(
                "contended wait",
                f"a call that waits for its lock: {title}",
                f"{cost.cpu_s * 1e6:+.0f} µs CPU",
            )
        )
    return figures


def recorded_events(number: int) -> list[Figure]:
    """Events a second through a recorder."""
    announcer, event = Announcer([Recorder()]), Event(1.0)
    best_s = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(number):
            announcer.announce(event)
        best_s = min(best_s, time.perf_counter() - began)
    rate = number / best_s
    return [
        Figure("recorder", "events a second through a `Recorder`", f"{rate:,.0f}", ">= 100,000", rate >= 1e5)
    ]


def idle_cpu(endpoint: str, mcp_address: str, seconds: float) -> list[Figure]:
    """CPU of an idle process with `setup()`, Prometheus, a recorder, a watched loop and an open session."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.telemetry_peers",
        "idle",
        endpoint,
        mcp_address,
        str(seconds),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 120)
    share = float(done.stdout.split()[-1])
    what = f"CPU of an idle process with everything on, in {seconds:g} s"
    return [Figure("idle", what, f"{share * 100:.2f} % of a core", "<= 1 %", share <= 0.01)]


def measure(short: bool) -> Iterator[Figure]:
    """Run every part and yield what it found."""
    with telemetry_peers.started("collector") as endpoint, telemetry_peers.started("mcp") as mcp_address:
        with observers(endpoint) as sets, SessionManager() as manager:
            session = manager.session(StreamableHTTPTransport(id="tools", url=mcp_address))
            yield from calls(sets, session, times=50 if short else 200, rounds=8 if short else 32)
            yield from sdk_alone(session, times=200)
            yield from warm_path(sets, manager, rounds=6 if short else 20)
            yield from contended_waits(sets, manager, rounds=6 if short else 20)
        yield from recorded_events(20_000 if short else 200_000)
        yield from idle_cpu(endpoint, mcp_address, 8.0 if short else 30.0)


def page(figures: list[Figure]) -> str:
    """Return the report as Markdown."""
    lines = [
        "# What telemetry costs",
        "",
        f"Measured {machine.describe()}.",
        "Written by `make bench-telemetry-full`; `make bench-telemetry` is the short form.",
        "All of it is one run: each round measures every row, and a difference is the median of the rounds.",
        "",
        "| What | Measured | Target |",
        "|---|---|---|",
    ]
    for figure in figures:
        missed = " (missed)" if figure.met is False else ""
        lines.append(f"| {figure.what} | {figure.value} | {figure.target}{missed} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="take a minute, and write nothing")
    parser.add_argument("--out", type=Path, default=PAGE, help="where the full form writes its page")
    options = parser.parse_args()
    print(machine.describe())
    figures = []
    for figure in measure(options.short):
        met = "" if figure.met is None else "  ok" if figure.met else "  MISSED"
        target = f"  (target {figure.target})" if figure.target else ""
        print(f"{figure.what}: {figure.value}{target}{met}", flush=True)
        figures.append(figure)
    if not options.short:
        options.out.write_text(page(figures), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The dashboard as programs see it: real exporters, a real server, the JSON API."""

from __future__ import annotations

import gzip
import json
import math
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from instrumented_sessions.telemetry import catalog
from tests.dashboard import scene
from tests.dashboard.agent import Agent, agent, session
from tests.dashboard.conftest import Served, serving

PROTOBUF, JSON = "application/x-protobuf", "application/json"


@pytest.fixture
def program(served: Served) -> Iterator[Agent]:
    with agent(served.address) as found:
        yield found


def transport(served: Served, name: str) -> Any:
    answer = served.get("/api/v1/transports?range_s=900")
    return next(one for one in answer["transports"] if one["transport"] == name)


@pytest.mark.scenario("O3")
def test_open_wait_is_shown_while_it_lasts_and_gone_when_it_ends(served: Served, program: Agent) -> None:
    """A wait that never ends is visible with its holder and stack; its end takes it away."""
    span = program.start(catalog.SPAN_ACQUIRE, 5.0, session("search", "c-7"))
    program.report_now(
        span,
        {
            catalog.PHASE: "lock",
            catalog.LOCK: "opening",
            catalog.HOLDER: "opening search/c-1 #1",
            catalog.HOLDER_HELD_S: 9.0,
            catalog.STACK: "main (a.py:1)\nask (b.py:2)",
        },
    )
    program.flush()
    answer = served.get("/api/v1/waits")
    (wait,) = answer["waits"]
    assert (wait["transport"], wait["conversation"], wait["phase"]) == ("search", "c-7", "lock")
    assert wait["trace_id"] == format(span.get_span_context().trace_id, "032x")
    assert 5.0 <= wait["waited_s"] < 15.0
    assert 9.0 <= wait["holder"]["held_s"] < 19.0
    assert wait["stack"] == ["main (a.py:1)", "ask (b.py:2)"]
    assert served.get("/api/v1/verdict")["level"] == "bad"

    program.report_now(span, {catalog.PHASE: "connect"})
    program.flush()
    (wait,) = served.get("/api/v1/waits")["waits"]
    assert wait["phase"] == "connect"

    program.end(span, outcome="created")
    program.flush()
    assert served.get("/api/v1/waits") | {"at": 0} == {"at": 0, "total": 0, "waits": [], "stalls": []}


def test_percentiles_are_right_and_count_no_work_in_progress(served: Served, program: Agent) -> None:
    """Percentiles of spans are the exact ones to 1 %; a report of an hour does not move them."""
    facts = session("weather", lock="opening", lock_granularity="transport")
    for i in range(100):
        program.done(catalog.SPAN_LOCK_WAIT, 60, 0.01 * (i + 1), facts)
    hung = program.start(catalog.SPAN_LOCK_WAIT, 3_600.0, facts)
    program.report_now(hung)
    program.flush()
    wait = transport(served, "weather")["lock_wait"]
    assert (wait["count"], wait["source"]) == (100, "spans")
    assert wait["p50_s"] == pytest.approx(0.50, rel=0.02)
    assert wait["p95_s"] == pytest.approx(0.95, rel=0.02)
    assert wait["p99_s"] == pytest.approx(0.99, rel=0.02)
    assert wait["max_s"] == pytest.approx(1.0)
    assert wait["total_s"] == pytest.approx(50.5)
    program.end(hung)


def test_metrics_alone_give_contention(served: Served, program: Agent) -> None:
    """Where spans are sampled away or not exported, histograms and counters still tell."""
    labels = ("weather", "opening", "transport")
    for i in range(100):
        program.record(catalog.LOCK_WAIT_DURATION, 0.01 * (i + 1), *labels)
        program.record(catalog.LOCK_HOLD_DURATION, 2.0, *labels)
    program.record(catalog.SESSION_REQUESTS, 40, "weather", "hit")
    program.record(catalog.SESSION_REQUESTS, 3, "weather", "timeout")
    program.record(catalog.LOCK_TIMEOUTS, 2, "weather", "opening")
    program.set(catalog.LOCK_WAITERS, 4, "weather", "opening")
    program.set(catalog.LOCK_OLDEST_WAITER_AGE, 7.5, "weather", "opening")
    program.set(catalog.LOCK_HOLDER_AGE, 8.5, "weather", "opening")
    program.flush()
    program.record(catalog.SESSION_REQUESTS, 2, "weather", "hit")
    program.flush()
    found = transport(served, "weather")
    assert (found["requests"], found["hits"]) == (45, 42)
    assert found["by_outcome"] == {"hit": 42, "timeout": 3}
    assert (found["lock_wait"]["count"], found["lock_wait"]["source"]) == (100, "metrics")
    assert found["lock_wait"]["p50_s"] == pytest.approx(0.5)
    assert found["lock_wait"]["p99_s"] == pytest.approx(0.99, abs=0.02)
    assert found["lock_hold"]["p50_s"] == pytest.approx(2.0, abs=1.0)
    assert (found["waiters"], found["oldest_waiter_age_s"], found["holder_age_s"]) == (4, 7.5, 8.5)
    assert found["timeouts"] == 2
    (lock,) = found["locks"]
    assert (lock["lock"], lock["granularity"], lock["waiters"]) == ("opening", "transport", 4)
    assert max(point["lock_waiting"] for point in found["points"]) == 4


def test_transports_stand_side_by_side_the_most_waited_for_first(served: Served, program: Agent) -> None:
    """The whole scene: a hung transport first, openings and failures counted, waits over time."""
    spans = scene.play(program)
    answer = served.get("/api/v1/transports")
    assert [one["transport"] for one in answer["transports"]] == ["search", "files", "weather"]
    search, _, weather = answer["transports"]
    assert (search["kind"], weather["kind"]) == ("http", "stdio")
    assert search["openings"] == 60
    assert search["openings_failed"] == search["by_outcome"]["timeout"] == 6
    assert weather["openings_failed"] == 0
    assert weather["hits"] == 1840
    assert search["call"]["count"] == 60
    assert search["lock_wait"]["p50_s"] > 10 * weather["lock_wait"]["p50_s"]
    at_the_end = search["points"][-2:]
    assert max(point["lock_waiting"] for point in at_the_end) > 1, "waits that have not ended are part of it"
    for span in spans:
        span.end()


def test_loops_show_lag_stalls_and_who_is_to_blame(served: Served, program: Agent) -> None:
    """A stalled loop comes first; its stalls are listed, the one that lasts on top."""
    spans = scene.play(program)
    answer = served.get("/api/v1/loops")
    main, portal = answer["loops"]
    assert (main["loop"], main["stalled_now"], main["stalls"]) == ("main", True, 3)
    assert (portal["loop"], portal["stalled_now"], portal["stalls"]) == ("portal", False, 0)
    assert portal["ticks"] == 200
    assert portal["lag_p50_s"] == pytest.approx(0.0016, abs=0.001)
    assert main["heartbeat_age_s"] == pytest.approx(3.2)
    ongoing, gc, cpu = answer["stalls"]
    assert (ongoing["ongoing"], ongoing["cause"], ongoing["culprit"]["function"]) == (
        True,
        "blocking_call",
        scene.CULPRIT,
    )
    assert ongoing["stacks"] == [{"count": 118, "frames": scene.STACK.splitlines()}]
    assert (gc["ongoing"], gc["cause"], gc["culprit"]) == (False, "gc", None)
    assert (cpu["cause"], cpu["culprit"]["line"]) == ("cpu", 203)
    assert cpu["duration_s"] == pytest.approx(1.4, abs=0.1)
    for span in spans:
        span.end()


def test_sessions_and_timeline(served: Served, program: Agent) -> None:
    """Sessions by transport and state; lanes by session, with what is still open."""
    spans = scene.play(program)
    sessions = {one["transport"]: one for one in served.get("/api/v1/sessions")["sessions"]}
    assert sessions["search"]["by_state"] == {"broken": 1, "creating": 4, "ready": 5}
    assert sessions["search"]["total"] == 10
    lanes = {
        (lane["transport"], lane["conversation"]): lane["bars"]
        for lane in served.get("/api/v1/timeline?range_s=900")["lanes"]
    }
    still_open = [bar["kind"] for bar in lanes["search", "c-5"] if bar["ongoing"]]
    assert still_open == ["request", "opening", "lock"]
    assert {bar["kind"] for bar in lanes["weather", "c-1"]} == {"request", "opening", "lock", "call"}
    assert not any(bar["ongoing"] for bar in lanes["weather", "c-1"])
    for span in spans:
        span.end()


def test_trace_is_found_by_its_id(served: Served, program: Agent) -> None:
    """All spans of a trace, with their facts; an unknown trace is 404, a malformed id 422."""
    parent = program.start("agent run", 3.0, {"a": 1})
    child = program.start(catalog.SPAN_ACQUIRE, 2.0, session("weather"), parent)
    program.end(child)
    program.end(parent, outcome=None)
    program.flush()
    trace_id = format(parent.get_span_context().trace_id, "032x")
    trace = served.get(f"/api/v1/traces/{trace_id}")
    outer, inner = trace["spans"]
    assert (outer["name"], outer["parent_span_id"], outer["attributes"]) == ("agent run", None, {"a": 1})
    assert inner["parent_span_id"] == outer["span_id"]
    assert inner["service"] == "agent-1"
    assert inner["attributes"][catalog.TRANSPORT_ID] == "weather"
    assert inner["duration_s"] == pytest.approx(2.0, abs=0.5)
    assert served.get(f"/api/v1/traces/{trace_id.upper()}")["trace_id"] == trace_id
    assert served.ask(f"/api/v1/traces/{'0' * 32}").status == 404
    assert served.ask("/api/v1/traces/nonsense").status == 422


def test_unusual_ranges_are_answered_or_refused(served: Served) -> None:
    """Every range that is offered works without data; others are refused."""
    for path in ("transports", "loops", "timeline"):
        for range_s in (10, 300, 86_400, 604_800):
            assert served.ask(f"/api/v1/{path}?range_s={range_s}").status == 200
        for range_s in ("9", "1e9", "nan", "-1", "x"):
            assert served.ask(f"/api/v1/{path}?range_s={range_s}").status == 422


def test_health_and_readiness(served: Served, program: Agent) -> None:
    """Both answer; readiness says how much is stored."""
    assert served.get("/healthz")["status"] == "ok"
    program.done(catalog.SPAN_ACQUIRE, 1, 1, session("weather"))
    program.flush()
    ready = served.get("/readyz")
    assert (ready["status"], ready["spans"], ready["queued"]) == ("ok", 1, 0)


def span_json(trace_id: str = "1" * 32) -> bytes:
    span = {
        "traceId": trace_id,
        "spanId": "2" * 16,
        "name": "a",
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def test_ingest_answers_in_the_encoding_of_the_request(served: Served) -> None:
    """JSON in, JSON out; protobuf in, protobuf out."""
    answer = served.ask("/v1/traces", span_json(), {"content-type": JSON})
    assert (answer.status, answer.headers["content-type"], answer.json) == (200, JSON, {})
    answer = served.ask("/v1/traces", b"", {"content-type": PROTOBUF})
    assert (answer.status, answer.headers["content-type"]) == (200, PROTOBUF)
    assert ExportTraceServiceResponse.FromString(answer.body) == ExportTraceServiceResponse()
    zipped = {"content-type": JSON, "content-encoding": "gzip"}
    assert served.ask("/v1/traces", gzip.compress(span_json("3" * 32)), zipped).status == 200
    assert served.get("/readyz")["spans"] == 2


def test_partial_success_says_how_many_and_why(served: Served) -> None:
    """What cannot be taken is counted; the request is not to be sent again."""
    answer = served.ask("/v1/traces", span_json("0" * 32), {"content-type": JSON})
    assert answer.status == 200
    partial = answer.json["partialSuccess"]
    assert partial["rejectedSpans"] == "1"
    assert "trace_id" in partial["errorMessage"]


def as_protobuf(body: bytes) -> bytes:
    message: bytes = json_format.Parse(body, ExportMetricsServiceRequest()).SerializeToString()
    return message


def test_partial_success_for_too_many_series(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points beyond the bound are rejected in the answer's own field."""
    monkeypatch.setattr("instrumented_sessions_dashboard.store.write.MAX_SERIES", 0)
    metric = {
        "name": catalog.SESSIONS.name,
        "gauge": {"dataPoints": [{"asInt": "3", "timeUnixNano": "9"}]},
    }
    body = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()
    answer = served.ask("/v1/metrics", body, {"content-type": JSON})
    assert answer.json["partialSuccess"]["rejectedDataPoints"] == "1"
    answer = served.ask("/v1/metrics", as_protobuf(body), {"content-type": PROTOBUF})
    assert ExportMetricsServiceResponse.FromString(answer.body).partial_success.rejected_data_points == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"\xff\xff", {"content-type": PROTOBUF}, 400, b"not a protobuf ExportTraceServiceRequest"),
        (b"{", {"content-type": JSON}, 400, b"not JSON"),
        (b"x", {"content-type": "text/plain"}, 415, b"Content-Type must be"),
        (b"x", {"content-type": JSON, "content-encoding": "br"}, 415, b"Content-Encoding must be"),
        (b"x", {"content-type": PROTOBUF, "content-encoding": "gzip"}, 400, b"not valid gzip"),
        (bytes(16 * 2**20 + 1), {"content-type": PROTOBUF}, 413, b"larger than"),
    ],
)
def test_bad_requests_say_what_is_wrong(
    served: Served, body: bytes, headers: dict[str, str], status: int, message: bytes
) -> None:
    """A google.rpc.Status in the request's own encoding, never a stack trace."""
    answer = served.ask("/v1/traces", body, headers)
    assert answer.status == status
    assert message in answer.body
    if headers["content-type"] == PROTOBUF:
        assert answer.body[:3] == b"\x08\x03\x12"


def test_sender_that_leaves_early_harms_nobody(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Half a body is no error of the dashboard's."""
    host, port = served.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = (
            f"POST /v1/traces HTTP/1.1\r\nHost: {host}\r\nContent-Type: {JSON}\r\nContent-Length: 100\r\n\r\n"
        )
        connection.sendall(head.encode() + b"{")
    assert served.ask("/v1/traces", b"{}", {"content-type": JSON}).status == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_other_methods_are_refused(served: Served) -> None:
    """OTLP/HTTP is POST."""
    assert served.ask("/v1/traces").status == 405


def test_dashboard_reports_nothing_about_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process with a global tracer provider, taking in a span must not make spans, for ever."""
    from opentelemetry import trace as api
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    with serving() as served:
        served.ask("/v1/traces", span_json(), {"content-type": JSON})
        served.get("/api/v1/now")
    assert exporter.get_finished_spans() == ()
    provider.shutdown()


def test_openapi_describes_the_answers(served: Served) -> None:
    """Every answer has a schema; pages that load scripts from elsewhere are not served."""
    described = served.get("/api/v1/openapi.json")
    for path in (
        "now",
        "waits",
        "transports",
        "loops",
        "sessions",
        "timeline",
        "verdict",
        "traces/{trace_id}",
    ):
        answer = described["paths"][f"/api/v1/{path}"]["get"]["responses"]["200"]
        assert "$ref" in answer["content"]["application/json"]["schema"], path
    assert served.ask("/docs").status == 404


def test_numbers_that_json_does_not_know_do_not_break_answers(served: Served, program: Agent) -> None:
    """NaN and infinity in telemetry come out as text."""
    span = program.start("odd", 1.0, {"nan": math.nan, "infinite": math.inf})
    program.end(span, outcome=None)
    program.flush()
    trace = served.get(f"/api/v1/traces/{span.get_span_context().trace_id:032x}")
    assert trace["spans"][0]["attributes"] == {"nan": "nan", "infinite": "inf"}

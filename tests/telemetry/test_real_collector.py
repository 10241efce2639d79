"""A real OpenTelemetry Collector between a program and its backends, configured as docs/telemetry.md says.

Run by `make test-collector`, which builds it. It is no part of what CI insists on: a build takes minutes
and needs Debian's packages.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instrumented_sessions.telemetry import setup
from tests import needs

from . import story
from .collector import Collector
from .test_setup import free_port, tell

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def otelcol() -> str:
    """The Collector's path; without it the test is skipped, loudly."""
    found = shutil.which("otelcol", path=str(ROOT / ".engines" / "bin")) or shutil.which("otelcol")
    if found is None:
        pytest.skip(f"{needs.MISSING}otelcol (make test-collector builds it)")
    return found


def configuration(port: int, backend: str, finished: str) -> str:
    """The documented one; what span metrics would be made from goes to a second backend instead."""
    page = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"<!-- test-collector runs this -->\n```yaml\n(.*?)```", page, re.DOTALL)
    for old, new in {
        "endpoint: 127.0.0.1:4318": f"endpoint: 127.0.0.1:{port}",
        "endpoint: http://127.0.0.1:4319": f"endpoint: {backend}",
        "connectors:\n  span_metrics: {}\n": "",
        "exporters:\n  otlp_http/traces:": (
            f"exporters:\n  otlp_http/finished:\n    endpoint: {finished}\n  otlp_http/traces:"
        ),
        "exporters: [span_metrics]": "exporters: [otlp_http/finished]",
        "receivers: [otlp, span_metrics]": "receivers: [otlp]",
        "service:\n": "service:\n  telemetry:\n    metrics:\n      level: none\n",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    return str(text)


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Any]:
    pytest.importorskip("fastapi")
    from tests.dashboard.conftest import serving

    with serving(db=tmp_path / "dashboard.db") as found:
        yield found


@pytest.fixture
def finished() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def between(tmp_path: Path, dashboard: Any, finished: Collector) -> Iterator[str]:
    """The address of a Collector that sends everything to the dashboard, and finished work elsewhere."""
    port, file = free_port(), tmp_path / "collector.yaml"
    file.write_text(configuration(port, dashboard.address, finished.endpoint), encoding="utf-8")
    with (tmp_path / "collector.log").open("w+") as log:
        process = subprocess.Popen([otelcol(), "--config", str(file)], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + LIMIT_S
            while True:  # It says so in its log only, so ask.
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    log.seek(0)
                    assert process.poll() is None, log.read()
                    assert time.monotonic() < deadline, "it does not listen"
                    threading.Event().wait(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(LIMIT_S)


@pytest.mark.scenario("O3")
def test_hang_passes_a_real_collector_and_its_filter_keeps_it_out_of_span_metrics(
    between: str, dashboard: Any, finished: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dashboard shows the wait while it lasts; what metrics are made from has finished work only."""
    for variable in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(story, "T0", time.time())
    telemetry = setup(service_name="shop", otlp_endpoint=between)
    try:
        tell(story.opening(11, at=-0.9, request_id=None), story.waiting(at=-0.9))
        deadline = time.monotonic() + LIMIT_S
        while not (waits := dashboard.get("/api/v1/waits")["waits"]):
            assert time.monotonic() < deadline, "the dashboard does not show the wait"
            threading.Event().wait(0.1)
        assert {wait["transport"] for wait in waits} == {"weather"}
        tell(story.granted(at=2.0), story.opened(at=3.0), story.called(), story.returned())
    finally:
        assert telemetry.close(LIMIT_S)
    finished.until(
        lambda: {"session.lock.wait", "session.create"} <= {s.name for _, s in finished.spans} or None,
        LIMIT_S,
    )
    names = {span.name for _, span in finished.spans}
    assert not any(name.endswith(".in_progress") for name in names), names
    assert {about["service.name"] for about, _ in finished.spans} == {"shop"}
    while dashboard.get("/api/v1/waits")["waits"]:
        assert time.monotonic() < deadline + LIMIT_S, "the dashboard does not see the end"
        threading.Event().wait(0.1)

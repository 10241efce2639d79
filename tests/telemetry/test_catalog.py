from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from instrumented_sessions.telemetry import catalog
from instrumented_sessions.telemetry.catalog import METRICS, Metric
from instrumented_sessions.telemetry.catalog.docs import render

ROOT = Path(__file__).parents[2]

PROMISED = {
    "instrumented_sessions.session.requests": ("counter", "transport outcome", "_total"),
    "instrumented_sessions.session.acquire.duration": ("histogram", "transport outcome", "_seconds"),
    "instrumented_sessions.session.create.duration": ("histogram", "transport outcome", "_seconds"),
    "instrumented_sessions.sessions": ("gauge", "transport state", ""),
    "instrumented_sessions.lock.wait.duration": ("histogram", "transport lock granularity", "_seconds"),
    "instrumented_sessions.lock.hold.duration": ("histogram", "transport lock granularity", "_seconds"),
    "instrumented_sessions.lock.waiters": ("gauge", "transport lock", ""),
    "instrumented_sessions.lock.oldest_waiter.age": ("gauge", "transport lock", "_seconds"),
    "instrumented_sessions.lock.holder.age": ("gauge", "transport lock", "_seconds"),
    "instrumented_sessions.lock.timeouts": ("counter", "transport lock", "_total"),
    "instrumented_sessions.lock.deadlocks": ("counter", "transport lock", "_total"),
    "instrumented_sessions.loop.lag": ("histogram", "loop", "_seconds"),
    "instrumented_sessions.loop.heartbeat.age": ("gauge", "loop", "_seconds"),
    "instrumented_sessions.loop.stall.age": ("gauge", "loop cause", "_seconds"),
    "instrumented_sessions.loop.stalls": ("counter", "loop cause", "_total"),
    "instrumented_sessions.loop.stall.duration": ("histogram", "loop cause", "_seconds"),
    "instrumented_sessions.watchdog.cpu.time": ("counter", "", "_seconds_total"),
    "instrumented_sessions.telemetry.dropped": ("counter", "observer", "_total"),
}
BY_CONVENTION = {"mcp.client.operation.duration", "mcp.client.session.duration"}


def test_catalog_holds_exactly_the_promised_metrics() -> None:
    """Names, kinds, labels and Prometheus names are public; nothing is added or lost by accident."""
    ours = {metric.name: metric for metric in METRICS if metric.name not in BY_CONVENTION}
    assert ours.keys() == PROMISED.keys()
    for name, (kind, labels, suffix) in PROMISED.items():
        metric = ours[name]
        assert (metric.kind, " ".join(metric.labels)) == (kind, labels)
        assert metric.prometheus_name == name.replace(".", "_") + suffix
    assert {metric.name for metric in METRICS} == PROMISED.keys() | BY_CONVENTION


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metric_is_well_formed(metric: Metric) -> None:
    """Seconds for durations, ages and CPU time, growing buckets on histograms only, a sentence of help."""
    assert (metric.unit == "s") == metric.name.endswith((".duration", ".age", ".lag", ".time"))
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.help.endswith(".")
    assert all(re.fullmatch(r"[a-z_]+", label) for label in metric.prometheus_labels)


def test_mcp_metrics_follow_the_convention() -> None:
    """The buckets are those of the MCP semantic conventions."""
    expected: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
    for metric in (catalog.MCP_OPERATION_DURATION, catalog.MCP_SESSION_DURATION):
        assert metric.buckets == expected
        assert metric.unit == "s"


def test_docs_are_what_the_catalog_says() -> None:
    """docs/metrics.md is printed by `python -m instrumented_sessions.telemetry.catalog`."""
    done = subprocess.run(
        [sys.executable, "-m", "instrumented_sessions.telemetry.catalog"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout == render()
    assert done.stderr == ""
    assert (ROOT / "docs" / "metrics.md").read_text() == done.stdout


def test_every_attribute_and_span_is_documented() -> None:
    """A constant that the docs do not know is a drift too."""
    page = render()
    for name, value in vars(catalog).items():
        if isinstance(value, str) and name.isupper() and name not in ("SCOPE", "OTHER", "IN_PROGRESS_SUFFIX"):
            assert f"`{value}`" in page, name


def test_catalog_needs_no_backend() -> None:
    """Grafana's and the dashboard's builders read it where neither an SDK nor Prometheus is installed."""
    code = (
        "import sys\n"
        "for name in ('opentelemetry.sdk', 'opentelemetry.exporter', 'prometheus_client'):\n"
        "    sys.modules[name] = None\n"
        "from instrumented_sessions.telemetry.catalog import METRICS\n"
        "from instrumented_sessions.telemetry import Recorder, setup\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=20)

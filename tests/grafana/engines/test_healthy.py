"""Nobody is woken up for nothing: the healthy demo raises no alert."""

from __future__ import annotations

import os
import time

import pytest

from tests.grafana.engines.conftest import Watch
from tests.grafana.engines.programs import Demo, until

WATCHED_S = 600.0 if os.environ.get("GRAFANA_FULL") else 40.0

OPENED = 'rate(instrumented_sessions_session_create_duration_seconds_bucket{transport="weather"}[1m])'
SLOW_OPENING_S = 2.0
"""From where on the median opening of a healthy stdio server, half a second of CPU, says the same."""

BUSY = 2.5
"""Runnable threads for each core, from which on a machine is too busy for a demo to be called healthy."""


@pytest.mark.timeout(1500)
def test_no_alert_fires_in_the_healthy_demo(watch: Watch) -> None:
    """No alert fires while the demo runs without faults; with the last moments of its start and end."""
    with Demo(watch.directory, "--healthy", "--duration", "3600") as demo:
        watch.prometheus.scrape("healthy", demo.metrics_url())
        began = time.time()
        until(lambda: time.time() - began > WATCHED_S or None, "it was watched", WATCHED_S + 60)
        seconds = int(time.time() - began)
        fired = watch.prometheus.query(f'count_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])')
        hits = watch.prometheus.value('sum(instrumented_sessions_session_requests_total{outcome="hit"})')
        opening_s = watch.prometheus.value(f"histogram_quantile(0.5, sum by (le) ({OPENED}))")
    assert hits, "it did nothing"
    is_busy = os.getloadavg()[0] > BUSY * (os.cpu_count() or 1) or (opening_s or 0) > SLOW_OPENING_S
    if fired and is_busy:
        pytest.skip(f"the machine is too busy to be called healthy, and the alerts say so: {fired}")
    assert fired == []

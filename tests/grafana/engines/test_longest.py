"""The longest of rare events, in promtool's own engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from grafana import queries
from instrumented_sessions.telemetry import catalog
from tests.grafana.engines.programs import engine

BUCKET = f"{catalog.LOOP_STALL_DURATION.prometheus_name}_bucket"


@pytest.mark.parametrize(
    ("values", "longest_s"),
    [
        ({"1": "_x5 0x10", "2.5": "_x5 1x10", "+Inf": "_x5 1x10"}, 2.5),
        ({"1": "0x7 0x8", "2.5": "0x7 1x8", "+Inf": "0x7 1x8"}, 2.5),
        ({"1": "0x15", "2.5": "0x15", "+Inf": "0x7 1x8"}, 2.5),
        ({"1": "_x2 2x13", "2.5": "_x2 2x3 3x9", "+Inf": "_x2 2x3 3x9"}, 2.5),
        ({"1": "0x7 1x8", "2.5": "5x7 6x8", "+Inf": "5x7 6x8"}, 1.0),
        ({"1": "4x7 0x8", "2.5": "4x7 1x8", "+Inf": "4x7 1x8"}, 2.5),
    ],
    ids=[
        "the loop's first",
        "another one",
        "longer than all buckets",
        "after some short ones in the first scrape",
        "short, after long ones",
        "after a restart",
    ],
)
def test_longest_stall_is_told(values: dict[str, str], longest_s: float, tmp_path: Path) -> None:
    """A series begins with its first stall, so `increase` alone would not see it."""
    query = queries.longest(catalog.LOOP_STALL_DURATION, "loop", "5m").replace("$job", ".*")
    test = {
        "interval": "30s",
        "input_series": [
            {"series": f'{BUCKET}{{job="a",instance="a:1",loop="main",le="{le}"}}', "values": text}
            for le, text in values.items()
        ],
        "promql_expr_test": [
            {
                "expr": query.replace("$instance", ".*"),
                "eval_time": "5m",
                "exp_samples": [{"labels": '{loop="main"}', "value": longest_s}],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "30s", "tests": [test]}))
    done = subprocess.run(
        [engine("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

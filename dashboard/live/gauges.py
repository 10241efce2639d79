"""The last value of every gauge, by process; pure, with instants passed in.

Gauges are read live on the sender's side, also while all of its loops are stalled. What a process
no longer reports is gone: only the points of its newest report count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..rows import METRICS, Point, Resource

_USUAL_INTERVAL_S = 60.0
_SHORTEST_FRESH_S = 15.0
_LONGEST_FRESH_S = 150.0
_SAME_REPORT_NS = 10**9
MAX_PROCESSES = 1_000


class Gauge(NamedTuple):
    """A gauge's value now."""

    resource: Resource
    labels: tuple[str, ...]
    """Label values in the catalog's order."""
    value: float
    age_s: float
    """How long ago it arrived, in seconds."""


@dataclass
class _Report:
    time_ns: int
    received_at: float
    interval_s: float = _USUAL_INTERVAL_S
    values: dict[tuple[str, ...], tuple[int, float]] = field(default_factory=dict)


class GaugeTable:
    """Gauges by metric and process; not for use by several threads at once."""

    def __init__(self) -> None:
        self._reports: dict[str, dict[Resource, _Report]] = {}

    def apply(self, points: Iterable[Point], received_at: float) -> bool:
        """Take in the gauges among `points` and return whether there were any."""
        changed = False
        for point in points:
            metric = METRICS[point.metric]
            if point.kind != "gauge" or metric.kind != "gauge":
                continue
            reports = self._reports.setdefault(point.metric, {})
            report = reports.get(point.resource)
            if report is None:
                if len(reports) >= MAX_PROCESSES:
                    del reports[next(iter(reports))]
                report = reports[point.resource] = _Report(point.time_ns, received_at)
            if point.time_ns < report.time_ns - _SAME_REPORT_NS:
                continue  # Came late.
            if point.time_ns > report.time_ns + _SAME_REPORT_NS:
                report.interval_s = received_at - report.received_at
                report.values.clear()
                report.time_ns = point.time_ns
            report.received_at = received_at
            labels = tuple(str(point.attributes.get(label, "")) for label in metric.labels)
            report.values[labels] = (point.time_ns, point.value)
            changed = True
        return changed

    def now(self, metric: str, now: float) -> Iterator[Gauge]:
        """Yield a metric's values of all processes whose last report is recent."""
        for resource, report in self._reports.get(metric, {}).items():
            age_s = now - report.received_at
            # How often a process reports is its own setting; far beyond its usual pause it has stopped.
            if age_s <= min(max(_SHORTEST_FRESH_S, 2.5 * report.interval_s), _LONGEST_FRESH_S):
                for labels, (_, value) in report.values.items():
                    yield Gauge(resource, labels, value, age_s)

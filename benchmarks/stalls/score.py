"""Scores runs of the stall harness: what was detected, when, whom it blamed. Pure code."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .harness import Row
from .pairs import median_error

AFTERWARDS_S = 1.3
"""A report that comes at most this much after a stall still counts as detection."""

LEAF = {
    "sleep300": "culprit_sleep",
    "cpu300": "culprit_cpu",
    "gil_regex": "culprit_regex",
    "gil_sort": "culprit_sort",
    "nogil_hash": "culprit_hashlib",
    "many20": "culprit_many",
    "lock300": "culprit_lock",
    "portal_self": "culprit_portal",
    "gc_pause": "innocent_alloc",
    "two_loops": "culprit_loop2",
}
"""The function that each workload stalls in."""

CAUSE = {
    "sleep300": "blocking_call",
    "cpu300": "cpu",
    "gil_regex": "gil",
    "gil_sort": "gil",
    "nogil_hash": "cpu",
    "many20": "cpu",
    "lock300": "blocking_call",
    "portal_self": "blocking_call",
    "gc_pause": "gc",
    "two_loops": "blocking_call",
}
"""The right cause of each."""

HOLDS_THE_GIL = {"gil_regex", "gil_sort", "gc_pause"}
PERMANENT = {"portal_self"}
EXTERNAL = ("sigstop", "starve", "throttle")
BLAMELESS = {"suspended", "starved", "throttled", "unknown", "unknown_sidecar_late"}
SYNONYMS = {"blocked": "blocking_call", "gil_other": "gil"}
"""What other detectors call the same cause."""


@dataclass(frozen=True)
class Stall:
    """How one stall was reported."""

    workload: str
    duration_s: float | None
    """None for a permanent one."""
    latency_s: float | None = None
    """From its start to the first report; None when there was none."""
    live: bool = False
    """Whether the first report came while it lasted."""
    leaf: bool = False
    """Whether a report named the function that stalled."""
    cause: str | None = None
    """What the first report said; None when it said nothing of the cause."""

    @property
    def detected(self) -> bool:
        """Whether it was reported at all."""
        return self.latency_s is not None


def stall_of(row: Row) -> Stall | None:
    """Return how the stall of a run was reported; None when the run had none."""
    truth = {event["ev"]: event["t"] / 1e9 for event in row["ev"] if event["k"] == "truth"}
    if row["wl"] not in LEAF or "start" not in truth:
        return None
    start, end = truth["start"], truth.get("end")
    until = end + AFTERWARDS_S if end is not None else float("inf")
    reports = [event for event in row["ev"] if event["k"] == "report" and start <= event["t"] / 1e9 <= until]
    duration_s = end - start if end is not None else None
    if not reports:
        return Stall(row["wl"], duration_s)
    first = reports[0]
    cause = first.get("cls")
    return Stall(
        row["wl"],
        duration_s,
        latency_s=first["t"] / 1e9 - start,
        live=end is None or first["t"] / 1e9 < end,
        leaf=any(LEAF[row["wl"]] in report["text"] for report in reports),
        cause=SYNONYMS.get(cause, cause),
    )


def blamed(row: Row) -> bool:
    """Return whether a run in which the machine was at fault blamed code."""
    start, end = row["ext"]["t0"], row["ext"]["t1"] + AFTERWARDS_S * 1e9
    reports = [event for event in row["ev"] if event["k"] == "report" and start <= event["t"] <= end]
    return any(report.get("cls") not in BLAMELESS for report in reports)


def metrics(rows: Iterable[Row], detector: str, name: str, field: str) -> list[float]:
    """Return the values of a cost that a detector's runs measured."""
    return [
        event[field]
        for row in rows
        if row["det"] == detector
        for event in row["ev"]
        if event["k"] == "metric" and event["name"] == name
    ]


def share(stalls: Iterable[Stall], holds: Callable[[Stall], bool]) -> float | None:
    """Return the share of `stalls` for which `holds` is true; None when there are none."""
    answers = [holds(stall) for stall in stalls]
    return sum(answers) / len(answers) if answers else None


def quantile(values: Iterable[float], part: float) -> float | None:
    """Return the value below which `part` of `values` lies; None when there are none."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else None


def summary(rows: list[Row], detector: str) -> Mapping[str, float | None]:
    """Return the figures of one detector; shares are 0 to 1, times seconds, None what was not run."""
    mine = [row for row in rows if row["det"] == detector]
    stalls = [stall for row in mine if (stall := stall_of(row)) is not None]
    detected = [stall for stall in stalls if stall.detected]
    free = [stall for stall in stalls if stall.workload not in HOLDS_THE_GIL]
    long = [stall for stall in free if stall.duration_s is None or stall.duration_s >= 0.3]
    latencies = [stall.latency_s for stall in free if stall.latency_s is not None]
    figures: dict[str, float | None] = {
        "stalls": float(len(stalls)),
        "recall": share(stalls, lambda stall: stall.detected),
        "recall, permanent": share(
            (stall for stall in stalls if stall.workload in PERMANENT), lambda stall: stall.detected
        ),
        "live": share(long, lambda stall: stall.live),
        "latency p50, s": quantile(latencies, 0.5),
        "latency p95, s": quantile(latencies, 0.95),
        "leaf frame": share(detected, lambda stall: stall.leaf),
        "cause": share(detected, lambda stall: stall.cause == CAUSE[stall.workload]),
    }
    for fault in EXTERNAL:
        runs = [row for row in mine if row["wl"] == fault]
        figures[f"blamed, {fault}"] = sum(map(blamed, runs)) / len(runs) if runs else None
    controls = [row for row in mine if row["wl"] in ("long_await", "healthy", "idle")]
    figures["false alarms"] = (
        sum(event["k"] == "report" for row in controls for event in row["ev"]) / len(controls)
        if controls
        else None
    )
    for name, field, cost in (("idle_cpu_pct", "v", "idle CPU, %"), ("us_per_step", "cpu", "step, us")):
        ours, base = metrics(rows, detector, name, field), metrics(rows, "none", name, field)
        figures[cost] = statistics.median(ours) - statistics.median(base) if ours and base else None
    return figures


def step(rows: list[Row], detector: str) -> Mapping[str, float | None]:
    """Return what a detector adds to a step, in microseconds, and its standard error; empty if not known.

    The harness measures each run in a process of its own, on a machine whose speed changes meanwhile.
    """
    ours, base = (metrics(rows, who, "us_per_step", "cpu") for who in (detector, "none"))
    if len(ours) < 2 or len(base) < 2:
        return {}
    return {
        "us": statistics.median(ours) - statistics.median(base),
        "error": math.hypot(median_error(ours), median_error(base)),
    }

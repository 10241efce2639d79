"""Event loops: do they run, how late, and what stopped them?"""

from __future__ import annotations

from instrumented_sessions.telemetry import catalog

from . import queries
from .frame import Page
from .panels import Panel, heat, lines, query, tile

_WHO = "instance, loop, cause"


def page() -> Page:
    """Return the dashboard."""
    return Page(
        "loops",
        "Event loops",
        "Does every event loop run, how late are its heartbeats, and what stopped it?",
        [("Now", _now()), ("Lag", _lag()), ("Stalls", _stalls())],
    )


def _now() -> list[Panel]:
    return [
        lines(
            "Time since the last heartbeat",
            "Read live from another thread, so it rises while a loop stands still. Due every 0.1 s.",
            query(queries.worst(catalog.LOOP_HEARTBEAT_AGE, "instance, loop"), "{{loop}} {{instance}}"),
            unit="s",
            width=8,
            bounds=(queries.LOOP_SILENT_S,),
        ),
        lines(
            "Stalls that last, by cause",
            "How long each loop's stall has lasted at the watchdog's last look, by its cause as known then. "
            "`blocking_call`, `cpu` and `gil` page after 5 s.",
            query(f"{queries.worst(catalog.LOOP_STALL_AGE, _WHO)} > 0", "{{loop}} {{cause}} {{instance}}"),
            unit="s",
            width=8,
            nothing="No stalls",
        ),
        tile(
            "Worst lag in this range",
            "Upper bound of the worst lag of any loop in the chosen time range.",
            f"max({queries.quantile(1, catalog.LOOP_LAG, 'loop', window='$__range')})",
            unit="s",
            width=4,
            height=8,
            bounds=(0.25, 1),
        ),
        tile(
            "Longest stall in this range",
            "Upper bound of the longest stall that ended in the chosen time range.",
            f"max({queries.longest(catalog.LOOP_STALL_DURATION, 'loop', '$__range')})",
            unit="s",
            width=4,
            height=8,
            bounds=(1, 5),
            nothing="None",
        ),
    ]


def _lag() -> list[Panel]:
    quantiles = [
        lines(
            title,
            text,
            query(queries.quantile(q, catalog.LOOP_LAG, "loop"), "{{loop}}", exemplars=q > 0.5),
            unit="s",
            bounds=(0.25,),
        )
        for q, title, text in (
            (0.5, "Lag, p50", "Half of the heartbeats were no later. What is normal for this loop."),
            (
                0.99,
                "Lag, p99",
                "99% of the heartbeats were no later. Above 0.25 s the loop stalls often.",
            ),
            (1.0, "Lag, max", "Upper bound of the worst lag in each interval."),
        )
    ]
    return [
        *quantiles,
        heat(
            "Lag, all loops",
            "How many heartbeats were how late. A dim band at the top is a stall that means hide.",
            queries.heat(catalog.LOOP_LAG),
            width=24,
        ),
    ]


def _stalls() -> list[Panel]:
    stalled = queries.rate(catalog.LOOP_STALL_DURATION, "loop", suffix="_sum")
    return [
        lines(
            "Stalls by cause",
            "Stalls in each interval. `blocking_call`, `cpu` and `gil` blame code, the others never do: "
            "`starved`, `throttled` and `suspended` are the machine, `gc` the collector.",
            query(queries.appeared(catalog.LOOP_STALLS, "loop, cause", queries.WINDOW), "{{loop}} {{cause}}"),
            unit="none",
            bars=True,
            stacked=True,
            nothing="No stalls",
        ),
        lines(
            "Time stalled",
            "The share of time in which the loop stood still.",
            query(stalled, "{{loop}}"),
            unit="percentunit",
            nothing="No stalls",
        ),
        lines(
            "Longest stall",
            "Upper bound of the longest stall that ended in each interval, by cause.",
            query(
                queries.longest(catalog.LOOP_STALL_DURATION, "loop, cause", queries.WINDOW),
                "{{loop}} {{cause}}",
            ),
            unit="s",
            nothing="No stalls",
        ),
    ]

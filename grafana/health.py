"""Telemetry health: can the other dashboards be believed?"""

from __future__ import annotations

from instrumented_sessions.telemetry import catalog

from . import queries
from .frame import Page
from .panels import Panel, lines, query, tile

_TARGET = '{job=~"$job",instance=~"$instance"}'


def page() -> Page:
    """Return the dashboard."""
    return Page(
        "telemetry",
        "Telemetry health",
        "Can the other dashboards be believed: does everybody report, and is anything dropped?",
        [("Now", _now()), ("Over time", _over_time())],
    )


def _now() -> list[Panel]:
    dropped = queries.appeared(catalog.TELEMETRY_DROPPED, "observer", "$__range")
    return [
        tile(
            "Agents that report",
            "Instances with a heartbeat.",
            queries.reporting(),
            unit="none",
            width=6,
            nothing="None",
        ),
        tile(
            "Targets up",
            "Prometheus' own view of what it scrapes. Empty where metrics come by OTLP.",
            f"sum(up{_TARGET})",
            unit="none",
            width=6,
            bounds=(1,),
            low_is_bad=True,
            nothing="Not scraped",
        ),
        tile(
            "Dropped in this range",
            "Events, spans and logs that were dropped to stay within bounds.",
            f"sum({dropped}) or ({queries.reporting()} * 0)",
            unit="none",
            width=6,
            bounds=(1,),
            nothing="No agent reports",
        ),
        tile(
            "Series",
            "How many series all agents make together: every label is a closed set, so this stays level.",
            f'count({{__name__=~"{catalog.SCOPE}_.+|mcp_client_.+",job=~"$job",instance=~"$instance"}})',
            unit="none",
            width=6,
        ),
    ]


def _over_time() -> list[Panel]:
    return [
        lines(
            "Dropped by observer",
            "What was dropped in each interval, by who could not keep up. "
            "A queue that overflows means that its backend is slow or away.",
            query(queries.appeared(catalog.TELEMETRY_DROPPED, "observer", queries.WINDOW), "{{observer}}"),
            unit="none",
            width=6,
            bars=True,
            nothing="Nothing was dropped",
        ),
        lines(
            "CPU of the watchdog",
            "What watching the event loops costs, as a share of one core. It rises with the number of loops, "
            "and while one stands still and is looked at.",
            query(queries.rate(catalog.WATCHDOG_CPU_TIME, "job, instance"), "{{instance}}"),
            unit="percentunit",
            width=6,
            nothing="No loop is watched",
        ),
        lines(
            "Scrape duration",
            "How long a scrape takes. It is served by a thread of its own: "
            "slow scrapes mean a process that does not get the CPU, or the GIL.",
            query(f"max by (job, instance) (scrape_duration_seconds{_TARGET})", "{{instance}}"),
            unit="s",
            width=6,
            nothing="Not scraped",
        ),
        lines(
            "Scrapes that succeed",
            "1: the last scrape succeeded.",
            query(f"min by (job, instance) (up{_TARGET})", "{{instance}}"),
            unit="none",
            width=6,
            top=1.0,
            nothing="Not scraped",
        ),
    ]

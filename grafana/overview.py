"""Overview: is it hung now? Read from the top left; ten seconds are enough."""

from __future__ import annotations

from instrumented_sessions.telemetry import catalog

from . import queries
from .alerts import PREFIX
from .frame import Page
from .panels import Panel, lines, listing, query, tile

_ALERT_COLUMNS = {
    "alertstate": "State",
    "alertname": "Alert",
    "transport": "Transport",
    "loop": "Loop",
    "severity": "Severity",
    "job": "Job",
}


def page() -> Page:
    """Return the dashboard."""
    return Page(
        "overview",
        "Overview",
        "Is it hung now, where, and do callers feel it?",
        [
            ("Is it hung now?", _verdict()),
            ("What waits, and for what", _waits()),
            ("What callers feel", _felt()),
        ],
    )


def _verdict() -> list[Panel]:
    return [
        tile(
            "Verdict",
            "What is wrong now, in a sentence. Red: a loop has been silent for more than "
            f"{queries.LOOP_SILENT_S:g} s, or somebody has waited for a lock for more than "
            f"{queries.WAITER_OLD_S:g} s. Orange: a deadlock was refused in the last 5 minutes.",
            queries.verdict(),
            unit="none",
            width=9,
            words=queries.VERDICTS,
            nothing="No agent reports",
        ),
        tile(
            "Silent loop",
            "Time since the last heartbeat of the most silent event loop. Due every 0.1 s; "
            "from 0.25 s it is a stall.",
            queries.worst_named(catalog.LOOP_HEARTBEAT_AGE, "loop"),
            legend="{{loop}}",
            unit="s",
            width=3,
            bounds=(0.25, queries.LOOP_SILENT_S),
            nothing="No agent reports",
        ),
        tile(
            "Oldest waiter",
            "How long the oldest waiter for any lock has waited. 0: nobody waits.",
            queries.worst_named(catalog.LOCK_OLDEST_WAITER_AGE, "transport, lock"),
            legend="{{transport}} {{lock}}",
            unit="s",
            width=3,
            bounds=(1, queries.WAITER_OLD_S),
            nothing="No agent reports",
        ),
        tile(
            "Longest opening",
            "How long the oldest opening has held its lock: a server that does not answer the handshake.",
            queries.worst_named(catalog.LOCK_HOLDER_AGE, "transport", 'lock="opening"'),
            legend="{{transport}}",
            unit="s",
            width=3,
            bounds=(2, queries.WAITER_OLD_S),
            nothing="No agent reports",
        ),
        tile(
            "Deadlocks, 5 min",
            "Waits refused in the last 5 minutes because they would have closed a circle.",
            f"sum({queries.appeared(catalog.LOCK_DEADLOCKS, 'job', '5m')}) or ({queries.reporting()} * 0)",
            unit="none",
            width=3,
            bounds=(1,),
            nothing="No agent reports",
        ),
        tile(
            "Agents",
            "How many instances report a heartbeat.",
            queries.reporting(),
            unit="none",
            width=3,
            nothing="None",
        ),
    ]


def _waits() -> list[Panel]:
    return [
        lines(
            "Oldest waiter, by transport",
            "How long the oldest waiter has waited, read live. "
            "A ramp is a hang; a saw is a queue that moves.",
            query(queries.worst(catalog.LOCK_OLDEST_WAITER_AGE, "transport, lock"), "{{transport}} {{lock}}"),
            unit="s",
            bounds=(queries.WAITER_OLD_S,),
            nothing="Nobody waits",
        ),
        lines(
            "Oldest holder, by transport",
            "How long the oldest holder has held its lock. Rises together with the oldest waiter: "
            "this is whom they wait for.",
            query(queries.worst(catalog.LOCK_HOLDER_AGE, "transport, lock"), "{{transport}} {{lock}}"),
            unit="s",
            bounds=(queries.WAITER_OLD_S,),
            nothing="Nothing is held",
        ),
        lines(
            "Silent loops",
            "Time since each loop's last heartbeat, read live from another thread. "
            "A ramp is a loop that stands still.",
            query(queries.worst(catalog.LOOP_HEARTBEAT_AGE, "instance, loop"), "{{loop}} {{instance}}"),
            unit="s",
            bounds=(queries.LOOP_SILENT_S,),
        ),
    ]


def _felt() -> list[Panel]:
    return [
        lines(
            "Sessions later than 1 s",
            "The share of requests that had no session within one second. The objective allows 1 %.",
            query(queries.session_slow("job"), "{{job}}"),
            unit="percentunit",
            bounds=(0.01,),
            nothing="No requests",
        ),
        lines(
            "Requests by outcome",
            "Requests for a session, by how they ended. `hit` is the warm path; "
            "`timeout`, `error`, `deadlock` and `refused` hurt.",
            query(queries.rate(catalog.SESSION_REQUESTS, "outcome"), "{{outcome}}"),
            unit="reqps",
            stacked=True,
            nothing="No requests",
        ),
        listing(
            "Alerts",
            "What the rules of grafana/generated/rules.yml say now; the runbook has an entry for each.",
            f'max by ({", ".join(_ALERT_COLUMNS)}) (ALERTS{{alertname=~"{PREFIX}.+"}})',
            columns=_ALERT_COLUMNS,
            width=8,
            height=8,
            nothing="No alert",
        ),
    ]

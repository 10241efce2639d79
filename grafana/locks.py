"""Contention: which transport's lock, how long, who holds it, and is a finer granularity worth it?"""

from __future__ import annotations

from instrumented_sessions.telemetry import catalog

from . import queries
from .frame import Page
from .panels import Panel, heat, lines, query

_BY = "transport, lock"
_NAME = "{{transport}} {{lock}}"


def page() -> Page:
    """Return the dashboard."""
    return Page(
        "contention",
        "Contention",
        "Which lock is contended, how long do callers wait for it, and what is it held for?",
        [
            ("Now", _now()),
            ("How long they wait", _waits()),
            ("Why they wait", _why()),
            ("What ended badly", _ends()),
        ],
    )


def _now() -> list[Panel]:
    return [
        lines(
            "Waiters",
            "Who waits for a lock now. `opening` locks keep a server from being flooded with handshakes; "
            "`call` locks are for servers that take one call at a time.",
            query(queries.total(catalog.LOCK_WAITERS, _BY), _NAME),
            unit="none",
            stacked=True,
            nothing="Nobody waits",
        ),
        lines(
            "Oldest waiter",
            "How long the oldest waiter has waited, read live. "
            "A ramp is a hang; a saw is a queue that moves.",
            query(queries.worst(catalog.LOCK_OLDEST_WAITER_AGE, _BY), _NAME),
            unit="s",
            bounds=(queries.WAITER_OLD_S,),
            nothing="Nobody waits",
        ),
        lines(
            "Oldest holder",
            "How long the oldest holder has held its lock, read live. "
            "Look here for whom the oldest waiter waits for.",
            query(queries.worst(catalog.LOCK_HOLDER_AGE, _BY), _NAME),
            unit="s",
            bounds=(queries.WAITER_OLD_S,),
            nothing="Nothing is held",
        ),
    ]


def _waits() -> list[Panel]:
    quantiles = [
        lines(
            f"Wait, p{q * 100:g}",
            f"{q:.0%} of the contended acquisitions waited no longer, those that gave up included. "
            "Points are exemplars: each leads to a trace.",
            query(queries.quantile(q, catalog.LOCK_WAIT_DURATION, _BY), _NAME, exemplars=True),
            unit="s",
            nothing="Nobody waited",
        )
        for q in (0.5, 0.95, 0.99)
    ]
    return [
        *quantiles,
        heat(
            "Waits",
            "How many contended acquisitions waited how long. Two bands are two kinds of wait: "
            "a queue that moves, and something that hangs.",
            queries.heat(catalog.LOCK_WAIT_DURATION),
        ),
        lines(
            "Average waiters",
            "Seconds waited per second: how many waited on average. Above 1 somebody always waits.",
            query(queries.rate(catalog.LOCK_WAIT_DURATION, _BY, suffix="_sum"), _NAME),
            unit="none",
            width=12,
            bounds=(1.0,),
            nothing="Nobody waited",
        ),
    ]


def _why() -> list[Panel]:
    waits = queries.rate(catalog.LOCK_WAIT_DURATION, _BY, suffix="_count")
    holds = queries.rate(catalog.LOCK_HOLD_DURATION, _BY, suffix="_count")
    return [
        lines(
            "Holder utilisation",
            "Seconds held per second: how many permits were taken on average. "
            "Near the number of permits, every further caller queues.",
            query(queries.rate(catalog.LOCK_HOLD_DURATION, _BY, suffix="_sum"), _NAME),
            unit="none",
            nothing="Nothing was held",
        ),
        lines(
            "Contended share",
            "The share of acquisitions that had to wait. High with short waits: many callers. "
            "High with long waits: long holds, or too coarse a granularity.",
            query(queries.share(waits, holds), _NAME),
            unit="percentunit",
            top=1.0,
            nothing="Nothing was held",
        ),
        lines(
            "Hold, p95",
            "95% of the holds were no longer. An opening holds its lock for the whole handshake, "
            "a call for the whole call.",
            query(queries.quantile(0.95, catalog.LOCK_HOLD_DURATION, _BY), _NAME, exemplars=True),
            unit="s",
            nothing="Nothing was held",
        ),
        lines(
            "Waits by granularity",
            "Contended acquisitions per second, by how much the lock covers. "
            "`instrumented-sessions advise` tells what another granularity would have changed.",
            query(
                queries.rate(catalog.LOCK_WAIT_DURATION, "lock, granularity", suffix="_count"),
                "{{lock}}, one lock for each {{granularity}}",
            ),
            unit="reqps",
            width=24,
            height=6,
            nothing="Nobody waited",
        ),
    ]


def _ends() -> list[Panel]:
    return [
        lines(
            "Waits that timed out",
            "Waits for a lock that ended at their limit, in each interval.",
            query(queries.appeared(catalog.LOCK_TIMEOUTS, _BY, queries.WINDOW), _NAME),
            unit="none",
            width=12,
            bars=True,
            nothing="None",
        ),
        lines(
            "Deadlocks refused",
            "Waits that were refused because they would have closed a circle, in each interval. "
            "The log and the trace of the victim name the whole circle.",
            query(queries.appeared(catalog.LOCK_DEADLOCKS, _BY, queries.WINDOW), _NAME),
            unit="none",
            width=12,
            bars=True,
            nothing="None",
        ),
    ]

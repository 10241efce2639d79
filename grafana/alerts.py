"""Alerts and the recording rules they need, as data; `build` writes them as Prometheus rules.

Every alert says who is affected in its labels, what happens in its summary, and what to do in the runbook.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from instrumented_sessions.telemetry import catalog
from instrumented_sessions.telemetry.catalog import Metric

from . import queries

PREFIX = "InstrumentedSessions"
"""Every alert's name begins so."""

GRAFANA_ADDRESS = "http://127.0.0.1:3000"
RUNBOOK_ADDRESS = "grafana/runbook.md"
"""What links begin with unless `build` is told otherwise: the compose stack, and the file in the tree."""

LOOP_STALLED_S = 5.0
"""The watchdog decides anew on the cause of a stall at this age, so no older opinion ever pages."""

OPENING_STUCK_S = 5.0
OPENING_LONG_S = 7.0
CALL_LOCK_STUCK_S = 20.0
LAG_HIGH_S = 0.25
WAITERS_HIGH = 3.0
"""Average waiters for one lock that are too many; 1 is a queue that is always there, and may be meant."""

FAILED_SHARE = 0.2
FLAPS = 5
OBJECTIVE = 0.99
"""The share of requests that should have their session within one second."""

BURN_RATES = (
    ("1h", "5m", 14.4, "2m", "page"),
    ("6h", "30m", 6.0, "15m", "page"),
    ("3d", "6h", 1.0, "1h", "warning"),
)
"""Long window, short window, times too fast, for how long, severity (Google's SRE workbook, chapter 5)."""

_OPENING = 'lock="opening"'
_LOOP = "job, instance, loop"

# How long the last heartbeat counts while scrapes fail.
_SLACK = "1m"
# How long the last age counts: while scrapes fail, as staleness would end an alert at one slow scrape; and
# after a gap, where an instant query takes it for the age of now for five minutes.
_FRESH = "2m"


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        name: Without the prefix; its entry in the runbook has this title.
        expr: PromQL; each series of its result is one alert.
        severity: `page` wakes somebody, `warning` waits for the morning.
        summary: One sentence with labels in it, that says what happens to whom.
        description: What it means and where to look.
        dashboard: Which dashboard shows it.
        pending: How long it has to be true first.
    """

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    dashboard: str
    pending: str = "0s"
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """The name in Prometheus."""
        return f"{PREFIX}{self.name}"


def alerts() -> list[Alert]:
    """Return every alert, the objective's included."""
    return [*_hangs(), *_contention(), *_openings(), *_silence(), *_objective()]


def recording_rules() -> list[dict[str, str]]:
    """Return the rules that keep the share of late sessions for each window of the objective."""
    windows = sorted({window for pair in BURN_RATES for window in pair[:2]}, key=_seconds)
    return [
        {"record": late_name(window), "expr": queries.session_slow("job", window=window, rules=True)}
        for window in windows
    ]


def late_name(window: str) -> str:
    """Return the name of the recorded share of sessions that came later than one second."""
    return f"job:{catalog.SCOPE}_session_late:ratio_rate{window}"


def rule_file(grafana: str = GRAFANA_ADDRESS, runbook: str = RUNBOOK_ADDRESS) -> dict[str, Any]:
    """Return the contents of the rule file, for links that begin with `grafana` and `runbook`."""
    return {
        "groups": [
            {"name": f"{catalog.SCOPE}.objective", "rules": recording_rules()},
            {
                "name": f"{catalog.SCOPE}.alerts",
                "rules": [_rule(alert, grafana.rstrip("/"), runbook) for alert in alerts()],
            },
        ]
    }


def _rule(alert: Alert, grafana: str, runbook: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.full_name, "expr": alert.expr}
    if alert.pending != "0s":
        rule["for"] = alert.pending
    return {
        **rule,
        "labels": {"severity": alert.severity, **alert.labels},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbook}#{alert.name.lower()}",
            "dashboard_url": f"{grafana}/d/instrumented-sessions-{alert.dashboard}"
            "?var-job={{ $labels.job | urlquery }}&from=now-30m&to=now",
        },
    }


def _age(metric: Metric, by: str, *matchers: str) -> str:
    """Return the greatest age; while a scrape fails, the last one before it.

    Not simply the last one in two minutes: an age is gone at once when nobody waits any more.
    """
    one = queries.series(metric, *matchers, rules=True)
    last = f"last_over_time({one}[{_FRESH}])"
    return f"max by ({by}) (({last} and {one}) or ({last} and on (job, instance) (up == 0)))"


def _missed() -> str:
    """Return the loops with a long stall by code that has ended, and that no scrape has seen while it lasted.

    A day back, because a series begins with its first stall and a gap in scraping is no new one. Other than
    the value before counts, not more: the process may have begun anew.
    """
    stalls = catalog.LOOP_STALL_DURATION
    every = queries.series(stalls, queries.BLAMES_CODE, suffix="_count", rules=True)
    short = queries.series(stalls, queries.BLAMES_CODE, queries.LE_5S, suffix="_bucket", rules=True)
    seen = queries.series(catalog.LOOP_STALL_AGE, queries.BLAMES_CODE, rules=True)

    def long(span: str) -> str:
        return f"(last_over_time({every}{span}) - ignoring (le) last_over_time({short}{span}))"

    return (
        f"max by ({_LOOP}) ({long('[5m]')} > 0 unless {long('[5m]')} == {long('[1d] offset 5m')}) "
        # Longer than 5 min, so that a stall that was seen is not told once more when it goes out of sight.
        f"unless max by ({_LOOP}) (max_over_time({seen}[10m])) > {LOOP_STALLED_S:g}"
    )


def _hangs() -> list[Alert]:
    by = "job, instance, transport, lock"
    waiter, holder = catalog.LOCK_OLDEST_WAITER_AGE, catalog.LOCK_HOLDER_AGE

    def stuck(lock: str, limit_s: float) -> str:
        # A long queue that moves has old waiters but young holders: that is contention, another alert.
        # Under one lock for all transports, the holder may be another transport's.
        which = f'lock="{lock}"'
        return f"({_age(waiter, by, which)} > {limit_s:g} unless {_age(holder, by, which)} <= {limit_s:g})"

    stalled = _age(catalog.LOOP_STALL_AGE, _LOOP, queries.BLAMES_CODE)
    return [
        Alert(
            "LoopStalled",
            f"{stalled} > {LOOP_STALLED_S:g}",
            "page",
            "Event loop {{ $labels.loop }} of {{ $labels.instance }} has stood still for "
            "{{ $value | humanizeDuration }}.",
            "Nothing on that loop runs: no request is answered, no timeout fires. "
            "The span `loop.stall.in_progress` and the log name the line. Cause: "
            # Not a label: an alert whose labels change is another one.
            '{{ range query (printf "max by (cause) ('
            + catalog.LOOP_STALL_AGE.prometheus_name
            + '{job=%q,instance=%q,loop=%q}) > 0" $labels.job $labels.instance $labels.loop) }}'
            "{{ .Labels.cause }} {{ end }}",
            "loops",
        ),
        Alert(
            "LoopWasStalled",
            _missed(),
            "page",
            "Event loop {{ $labels.loop }} of {{ $labels.instance }} stood still for more than "
            f"{LOOP_STALLED_S:g} s, and nobody could tell before it ended.",
            "Native code kept the GIL, so that no thread of the process ran, not even the one that serves "
            "metrics; or the stall fell between two scrapes. The span `loop.stall` names cause and line.",
            "loops",
        ),
        Alert(
            "LoopSilent",
            f"{_age(catalog.LOOP_HEARTBEAT_AGE, _LOOP)} > {LOOP_STALLED_S:g} unless {stalled} > 0",
            "warning",
            "Event loop {{ $labels.loop }} of {{ $labels.instance }} has been silent for "
            "{{ $value | humanizeDuration }}, and no code is known to be at fault.",
            "The process gets too little CPU, the collector runs, or the evidence for a cause is missing. "
            "What waits on that loop waits all the same.",
            "loops",
            pending="30s",
        ),
        Alert(
            "LockWaiterStuck",
            f"{stuck('opening', OPENING_STUCK_S)} or {stuck('call', CALL_LOCK_STUCK_S)}",
            "page",
            "A caller has waited {{ $value | humanizeDuration }} for the {{ $labels.lock }} lock of "
            "transport {{ $labels.transport }} in {{ $labels.instance }}, and its holder does not let go.",
            "The lock has not changed hands for as long. `manager.explain()`, or the span "
            "`session.lock.wait.in_progress`, names the holder, its line and what it waits for.",
            "contention",
        ),
        Alert(
            "OpeningStuck",
            f"{_age(holder, 'job, instance, transport', _OPENING)} > {OPENING_LONG_S:g}",
            "warning",
            "An opening of transport {{ $labels.transport }} in {{ $labels.instance }} has taken "
            "{{ $value | humanizeDuration }} so far.",
            "The server was reached, or is being reached, and does not finish the handshake. "
            "Callers of that session wait; other sessions go on while permits are left.",
            "sessions",
        ),
        Alert(
            "DeadlockDetected",
            f"{queries.appeared(catalog.LOCK_DEADLOCKS, by, '5m', rules=True)} > 0",
            "page",
            "A deadlock at the {{ $labels.lock }} lock of transport {{ $labels.transport }} in "
            "{{ $labels.instance }}: one caller was refused so that the others could go on.",
            "The refused caller got DeadlockError with the whole circle; the log has it too. "
            "It will happen again until the order in which sessions are asked for is changed.",
            "contention",
        ),
    ]


def _contention() -> list[Alert]:
    by = "job, instance, transport, lock"
    waited = queries.rate(catalog.LOCK_WAIT_DURATION, by, suffix="_sum", window="5m", rules=True)
    lag = queries.quantile(0.99, catalog.LOOP_LAG, "job, instance, loop", window="5m", rules=True)
    return [
        Alert(
            "LockSaturated",
            f"{waited} > {WAITERS_HIGH:g}",
            "warning",
            "{{ $value | humanize }} callers wait on average for the {{ $labels.lock }} lock of transport "
            "{{ $labels.transport }} in {{ $labels.instance }}.",
            "The lock is free too seldom. Compare holder utilisation with the number of permits.",
            "contention",
            pending="5m",
        ),
        Alert(
            "LoopLagHigh",
            f"{lag} > {LAG_HIGH_S:g}",
            "warning",
            "Every hundredth heartbeat of event loop {{ $labels.loop }} of {{ $labels.instance }} is "
            "{{ $value | humanizeDuration }} late or more.",
            "Short stalls, often. The spans `loop.stall` name causes and lines; "
            "`busiest` in `loop.heartbeat` names tasks that stay below the threshold.",
            "loops",
            pending="5m",
        ),
    ]


def _openings() -> list[Alert]:
    by = "job, instance, transport"
    opened = catalog.SESSION_CREATE_DURATION
    failed = queries.rate(opened, by, 'outcome!~"ok|cancelled"', suffix="_count", window="5m", rules=True)
    all_of_them = queries.rate(opened, by, 'outcome!="cancelled"', suffix="_count", window="5m", rules=True)
    broken = queries.series(catalog.MCP_SESSION_DURATION, 'error_type!=""', suffix="_count", rules=True)
    return [
        Alert(
            "OpeningFailures",
            f"({failed}) / ({all_of_them} > 0) > {FAILED_SHARE:g}",
            "warning",
            "{{ $value | humanizePercentage }} of the openings of transport {{ $labels.transport }} in "
            "{{ $labels.instance }} fail.",
            "Requests get SessionOpenError with a category, or wait in back-off. "
            "The span `session.create` has the category and the server's own error.",
            "sessions",
            pending="2m",
        ),
        Alert(
            "SessionFlapping",
            f"sum by (job, instance, mcp_transport) (increase({broken}[10m])) > {FLAPS}",
            "warning",
            "{{ $value | humanize }} sessions over {{ $labels.mcp_transport }} in {{ $labels.instance }} "
            "were lost in ten minutes.",
            "Each was opened again under the same handle, at the price of the calls in flight. Opened most: "
            '{{ range query (printf "topk(3, sum by (transport) (increase('
            + opened.prometheus_name
            + '_count{job=%q,instance=%q}[10m])))" $labels.job $labels.instance) }}'
            "{{ .Labels.transport }} {{ end }}",
            "sessions",
        ),
    ]


def _silence() -> list[Alert]:
    heartbeat = queries.series(catalog.LOOP_HEARTBEAT_AGE, rules=True)

    def seen(by: str, window: str) -> str:
        return f"group by ({by}) (last_over_time({heartbeat}[{window}]))"

    dropped = queries.appeared(catalog.TELEMETRY_DROPPED, "job, instance, observer", "10m", rules=True)
    return [
        Alert(
            "TargetDown",
            f"min by (job, instance) (up) == 0 and on (job, instance) {seen('job, instance', '1h')}",
            "page",
            "{{ $labels.instance }} of {{ $labels.job }} does not answer to Prometheus.",
            "Its metrics are served by a thread of their own, also while every event loop stands still. "
            "So the process is gone or stopped, native code holds the GIL, or the network is cut.",
            "telemetry",
            pending="30s",
        ),
        Alert(
            "HeartbeatAbsent",
            # Scraped: the target answers, but has no loop any more. By OTLP: the whole job fell silent;
            # a single instance that goes is what a deployment looks like.
            f"({seen('job, instance', '30m')} unless {seen('job, instance', _SLACK)} "
            f"and on (job, instance) up == 1) or "
            f"({seen('job', '30m')} unless {seen('job', _SLACK)} unless on (job) group by (job) (up))",
            "warning",
            "{{ $labels.job }} {{ $labels.instance }} has stopped to report heartbeats.",
            "No event loop of it is watched any more, or its telemetry has ended, while somebody "
            "still expects it: nothing else of this page would fire for it now.",
            "telemetry",
            pending="1m",
        ),
        Alert(
            "TelemetryDropped",
            f"{dropped} > 0",
            "warning",
            "{{ $labels.instance }} has dropped {{ $value | humanize }} items of telemetry at "
            "{{ $labels.observer }} in ten minutes.",
            "The program itself is not harmed; what is shown of it has gaps.",
            "telemetry",
            pending="1m",
        ),
    ]


def _objective() -> list[Alert]:
    found = []
    for long, short, factor, pending, severity in BURN_RATES:
        limit = f"{factor * (1 - OBJECTIVE):.4g}"
        found.append(
            Alert(
                "SessionsLate",
                f"{late_name(long)} > {limit} and {late_name(short)} > {limit}",
                severity,
                "{{ $value | humanizePercentage }} of the requests of {{ $labels.job }} had no session "
                f"within 1 s, over {long}.",
                f"The budget of the objective ({OBJECTIVE:.0%} within 1 s) burns {factor:g} times too fast. "
                "The dashboard shows which transports are slow to open, and whether callers wait for a lock.",
                "overview",
                pending,
                labels={"window": long},
            )
        )
    return found


def _seconds(window: str) -> int:
    return int(window[:-1]) * {"m": 60, "h": 3600, "d": 86400}[window[-1]]

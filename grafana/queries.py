"""PromQL from the catalog: what the dashboards and the rules ask, with every name in one place.

Plain functions that return text; the metric names and labels come from `telemetry.catalog` only.
Dashboards narrow every series to the chosen job, instance and transport; rules do not (`rules=True`).
"""

from __future__ import annotations

from instrumented_sessions.telemetry import catalog
from instrumented_sessions.telemetry.catalog import Metric

WINDOW = "$__rate_interval"
"""Grafana's own window: at least four scrapes, so that no panel has gaps."""

BLAMES_CODE = f'cause=~"{"|".join(catalog.CODE_CAUSES)}"'
"""The causes of a stall that are the program's own; no other ever pages."""

LE_1S, LE_5S = 'le=~"1|1[.]0"', 'le=~"5|5[.]0"'
"""Buckets of one second and of five; Prometheus writes them either way, depending on where they came from."""

_CHOSEN = ('job=~"$job"', 'instance=~"$instance"')


def series(metric: Metric, *matchers: str, suffix: str = "", rules: bool = False) -> str:
    """Return a selector of `metric`.

    Args:
        metric: From the catalog.
        matchers: More label matchers, for example `lock="opening"`.
        suffix: `_bucket`, `_sum` or `_count` of a histogram.
        rules: For a rule, which has no dashboard variables.
    """
    chosen: tuple[str, ...] = () if rules else _CHOSEN
    if not rules and "transport" in metric.labels:
        chosen += ('transport=~"$transport"',)
    inside = ",".join((*chosen, *matchers))
    return f"{metric.prometheus_name}{suffix}" + (f"{{{inside}}}" if inside else "")


def rate(
    metric: Metric,
    by: str,
    *matchers: str,
    suffix: str = "",
    window: str = WINDOW,
    rules: bool = False,
) -> str:
    """Return the rate per second of a counter, or of a part of a histogram, summed by labels."""
    return f"sum by ({by}) (rate({series(metric, *matchers, suffix=suffix, rules=rules)}[{window}]))"


def increase(metric: Metric, by: str, *matchers: str, suffix: str = "", window: str = WINDOW) -> str:
    """Return how much a counter, or a part of a histogram, grew in the window, summed by labels."""
    return f"sum by ({by}) (increase({series(metric, *matchers, suffix=suffix)}[{window}]))"


def quantile(
    q: float, metric: Metric, by: str, *matchers: str, window: str = WINDOW, rules: bool = False
) -> str:
    """Return a quantile of a histogram; q=1 is the upper bound of the worst that was seen."""
    inside = rate(metric, f"{by}, le", *matchers, suffix="_bucket", window=window, rules=rules)
    return f"histogram_quantile({q:g}, {inside})"


def heat(metric: Metric, *matchers: str) -> str:
    """Return how many fell into each bucket, for a heat map."""
    return increase(metric, "le", *matchers, suffix="_bucket")


def worst(metric: Metric, by: str, *matchers: str) -> str:
    """Return the greatest value of a gauge; ages take the maximum, never the sum."""
    return f"max by ({by}) ({series(metric, *matchers)})"


def total(metric: Metric, by: str) -> str:
    """Return a gauge that counts things, summed over instances."""
    return f"sum by ({by}) ({series(metric)})"


def share(part: str, whole: str) -> str:
    """Return a quotient without a value, instead of NaN, where the whole is nothing.

    At most 1: a wait is counted when it ends, its hold later, so over a short time there may be more waits.
    """
    return f"clamp_max(({part}) / ({whole} > 0), 1)"


def worst_now(metric: Metric, *matchers: str) -> str:
    """Return the greatest value of all; zero when nobody waits, nothing when nobody reports."""
    return f"max({series(metric, *matchers)}) or ({reporting()} * 0)"


def worst_named(metric: Metric, by: str, *matchers: str) -> str:
    """Return the greatest value now with the labels of whose it is; zero without labels when nobody waits."""
    return f"topk(1, {worst(metric, by, *matchers)}) or on () ({reporting()} * 0)"


def reporting() -> str:
    """Return how many agents report a heartbeat; nothing when there is none."""
    return f"count(count by (job, instance) ({series(catalog.LOOP_HEARTBEAT_AGE)}))"


def appeared(metric: Metric, by: str, window: str, *matchers: str, rules: bool = False) -> str:
    """Return how much a rare counter grew, its very first count included.

    `increase` sees nothing when a series begins at 1: there is no 0 before it. So a series that did not
    have its value in the day before counts with it; a gap in scraping is no beginning.
    """
    one = series(metric, *matchers, rules=rules)
    return (
        f"sum by ({by}) ((increase({one}[{window}]) > 0) or "
        f"(last_over_time({one}[{window}]) unless "
        f"last_over_time({one}[{window}]) == last_over_time({one}[1d] offset {window})))"
    )


def longest(metric: Metric, by: str, window: str) -> str:
    """Return the upper bound of the longest of rare events, the very first included.

    All buckets must be counted alike, as the last one that grew tells: `increase` extrapolates each by
    itself, and sees nothing of what a series begins with. So what a bucket had before is taken from what
    it has, or nothing if the counters began anew meanwhile.
    """
    bucket, last_bucket = (series(metric, *one, suffix="_bucket") for one in ([], ['le="+Inf"']))
    now = f"last_over_time({bucket}[{window}])"
    before = f"last_over_time({bucket}[1d] offset {window})"
    restarted = f"resets({last_bucket}[{window}]) > 0"
    grown = f"{now} - (({before} unless ignoring (le) ({restarted})) or 0 * {now})"
    return f"histogram_quantile(1, sum by ({by}, le) ({grown}))"


def verdict() -> str:
    """Return one number that says what is wrong: 1 a loop, 2 a waiter, 4 a deadlock, added up."""
    loop = f"(({worst_now(catalog.LOOP_HEARTBEAT_AGE)}) > bool {LOOP_SILENT_S:g})"
    waiter = f"(({worst_now(catalog.LOCK_OLDEST_WAITER_AGE)}) > bool {WAITER_OLD_S:g})"
    deadlock = f"((sum({appeared(catalog.LOCK_DEADLOCKS, 'job', '5m')}) or ({reporting()} * 0)) > bool 0)"
    return f"{loop} + 2 * {waiter} + 4 * {deadlock}"


LOOP_SILENT_S = 1.0
"""From when on the verdict says that a loop stands still; its heartbeat is due ten times a second."""

WAITER_OLD_S = 5.0
"""From when on the verdict says that somebody is stuck; the rules page at the same age."""

VERDICTS = {
    0: ("Nothing hangs", "green"),
    1: ("A loop stands still", "red"),
    2: ("Somebody waits for a lock too long", "red"),
    3: ("A loop stands still, and somebody waits", "red"),
    4: ("A deadlock was refused", "orange"),
    5: ("A loop stands still, after a deadlock", "red"),
    6: ("Somebody waits, after a deadlock", "red"),
    7: ("A loop stands still and somebody waits, after a deadlock", "red"),
}
"""What `verdict` means, and its colour."""


def session_total(by: str, window: str = WINDOW, rules: bool = False) -> str:
    """Return the rate of requests for a session that count for the objective.

    Without what the caller took back, and without what was refused before it was tried.
    """
    counted = 'outcome!~"cancelled|refused"'
    return rate(catalog.SESSION_REQUESTS, by, counted, window=window, rules=rules)


def session_good(by: str, window: str = WINDOW, rules: bool = False) -> str:
    """Return the rate of requests that had their session within one second; warm ones are among them."""
    warm = rate(catalog.SESSION_REQUESTS, by, 'outcome="hit"', window=window, rules=rules)
    quick = rate(
        catalog.SESSION_ACQUIRE_DURATION,
        by,
        LE_1S,
        'outcome=~"joined|created"',
        suffix="_bucket",
        window=window,
        rules=rules,
    )
    # `or` on both sides: a service may have had no warm request yet, or none but warm ones.
    return f"(({warm}) + ({quick}) or ({warm}) or ({quick}))"


def session_slow(by: str, window: str = WINDOW, rules: bool = False) -> str:
    """Return the share of requests that did not have their session within one second, 0 to 1."""
    total = session_total(by, window, rules)
    good = session_good(by, window, rules)
    return f"1 - ({good} or 0 * ({total})) / ({total} > 0)"

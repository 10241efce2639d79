"""Against real engines: every panel and every rule has data, and a hang reaches a person in time.

The figures are printed; they are held against their targets where `GRAFANA_FULL` is set, as a machine that
is busy with other things says nothing about them.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from grafana import alerts
from grafana.build import GENERATED
from instrumented_sessions.telemetry import catalog
from tests.grafana import boards
from tests.grafana.engines.conftest import Watch
from tests.grafana.engines.programs import GUARD_S, Agent, Demo, until

FULL = bool(os.environ.get("GRAFANA_FULL"))
FIRING_TARGET_S = 10.0
RESOLVED_TARGET_S = 5.0
HELD_S = 7
"""How long native code keeps the GIL, in seconds: longer than a stall by code may last before it pages."""

STOPPED_S = 8.0
"""How long a process is stopped, in seconds: longer than a stall by code may last before it pages."""

SCENE_S = 45.0
"""How long the demo and the agent are watched before their panels are looked at, in seconds."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def agent(watch: Watch) -> Iterator[Agent]:
    """A sick agent that is scraped."""
    with Agent(watch.directory) as sick:
        watch.prometheus.scrape("sick", sick.metrics_url())
        yield sick


def tell(what: str, seconds: float, target_s: float) -> None:
    """Print a figure, and hold it against its target in the full form."""
    print(f"\n{what}: {seconds:.1f} s (target {target_s:g} s)")
    if FULL:
        assert seconds <= target_s, what


def heard(watch: Watch, name: str, status: str, after: float, **labels: str) -> tuple[float, dict[str, Any]]:
    """Wait until the webhook has heard of an alert."""
    return until(
        lambda: watch.webhook.heard(name, status, labels, after),
        f"{name} is {status} {labels}; firing: {watch.prometheus.query('ALERTS')}",
    )


def check_words(alert: dict[str, Any], *words: str) -> None:
    """What a person is told names whom it is about, and where to go on."""
    told = alert["annotations"]
    for word in words:
        assert word in told["summary"], told
    for text in told.values():
        assert "<no value>" not in text, text
        assert "<error" not in text, text
    assert told["runbook_url"].startswith("grafana/runbook.md#")
    assert "/d/instrumented-sessions-" in told["dashboard_url"]


def test_stopped_process_pages_nobody_for_a_stall(watch: Watch, agent: Agent) -> None:
    """A process that was stopped and goes on has late heartbeats, but no stall that pages.

    It comes first: the page for a held GIL stays for five minutes.
    """
    prometheus = watch.prometheus
    began = time.time()
    scraped = 'timestamp(instrumented_sessions_loop_heartbeat_age_seconds{job="sick",loop="main"})'
    with agent.stopped():
        until(lambda: time.time() - began > STOPPED_S or None, "it was stopped for long enough")
    ended = time.time()
    others = f'{{job="sick",cause!~"{"|".join(catalog.CODE_CAUSES)}"}}'
    told = f"sum({catalog.LOOP_STALL_DURATION.prometheus_name}_count{others})"
    until(lambda: prometheus.value(told), "the watchdog has told that it was stopped")
    until(lambda: (prometheus.value(scraped) or 0.0) > ended + 3.0, "it has been scraped since")
    pages = f'ALERTS{{alertname=~"{alerts.PREFIX}Loop.*",severity="page",job="sick"}}'
    assert prometheus.query_range(pages, ended, time.time(), 1.0) == []


def test_held_gil_reaches_the_webhook_when_it_ends(watch: Watch, agent: Agent) -> None:
    """Native code that keeps the GIL from all threads pages, though no scrape succeeds meanwhile.

    It comes before other stalls: one that was seen while it lasted speaks for those of the next ten minutes.
    """
    began = time.time()
    agent.do("hold", str(HELD_S))

    def told() -> tuple[float, dict[str, Any]] | None:
        whose = {"loop": "main", "job": "sick"}
        # The last scrape may be answered in the instant in which the stall is known and lasts.
        for name in ("LoopWasStalled", "LoopStalled"):
            if heard := watch.webhook.heard(f"{alerts.PREFIX}{name}", "firing", whose, began):
                return heard
        return None

    at, alert = until(told, f"the held GIL is told; firing: {watch.prometheus.query('ALERTS')}")
    check_words(alert, "main", "stood still")
    tell("from the end of the held GIL to the webhook", at - began - HELD_S, RESOLVED_TARGET_S)


def test_stalled_loop_reaches_the_webhook_and_resolves(watch: Watch, agent: Agent) -> None:
    """A stalled loop pages while it is stalled, and the alert ends soon after the stall does."""
    name = f"{alerts.PREFIX}LoopStalled"
    began = time.time()
    agent.do("stall", "20")
    at, alert = heard(watch, name, "firing", began, loop="main", job="sick")
    check_words(alert, "main", "stood still")
    ended = began + 20
    tell("from the stall to the webhook", at - began, FIRING_TARGET_S)
    at, _ = heard(watch, name, "resolved", began, loop="main", job="sick")
    tell("from its end to the end of the alert", at - ended, RESOLVED_TARGET_S)


def test_hung_opening_reaches_the_webhook_and_resolves(watch: Watch, agent: Agent) -> None:
    """An opening that hangs warns, the caller who is stuck behind it pages, and both end with it."""
    stuck, waiter = f"{alerts.PREFIX}OpeningStuck", f"{alerts.PREFIX}LockWaiterStuck"
    began = time.time()
    agent.do("hang")
    until(
        lambda: watch.prometheus.value('instrumented_sessions_lock_holder_age_seconds{transport="hung"}'),
        "the first opening hangs",
    )
    queued = time.time()
    agent.do("queue")
    at, alert = heard(watch, stuck, "firing", began, transport="hung", job="sick")
    check_words(alert, "hung")
    tell("from the hung opening to the webhook", at - began, FIRING_TARGET_S)
    at, alert = heard(watch, waiter, "firing", began, transport="hung", lock="opening", job="sick")
    check_words(alert, "hung", "opening lock")
    tell("from the stuck waiter to the webhook", at - queued, FIRING_TARGET_S)
    healed = time.time()
    agent.do("heal")
    for name in (stuck, waiter):
        at, _ = heard(watch, name, "resolved", began, transport="hung", job="sick")
        tell(f"from its end to the end of {name}", at - healed, RESOLVED_TARGET_S)


def test_deadlock_reaches_the_webhook(watch: Watch, agent: Agent) -> None:
    """The very first deadlock of a process pages."""
    began = time.time()
    agent.do("deadlock")
    at, alert = heard(
        watch, f"{alerts.PREFIX}DeadlockDetected", "firing", began, transport="circle", job="sick"
    )
    check_words(alert, "circle")
    tell("from the deadlock to the webhook", at - began, FIRING_TARGET_S)


@pytest.fixture(scope="module")
def scene(watch: Watch, agent: Agent) -> Iterator[float]:
    """The demo, and an agent with every misfortune that the demo does not have; yields when it began."""
    began = time.time()
    with Demo(watch.directory, "--duration", "600") as demo:
        watch.prometheus.scrape("demo", demo.metrics_url())
        for order in ("fail", "flood", "hang", "queue", "stall 3"):
            agent.do(*order.split())
        until(lambda: time.time() - began > SCENE_S or None, "the scene was watched")
        yield began
        agent.do("heal")


def has_value(found: list[dict[str, Any]]) -> bool:
    """Whether a query gave a number."""
    return any(
        not math.isnan(float(value))
        for series in found
        for _, value in series.get("values", [series.get("value", (0, "nan"))])
    )


def test_every_panel_has_data(watch: Watch, scene: float) -> None:
    """Each query of each panel, as Grafana sends it, is valid and gives a number."""
    waiting = boards.queries()
    assert len(waiting) > 30
    deadline = time.monotonic() + GUARD_S
    while waiting:
        empty = []
        for query in waiting:
            expr = query.filled()
            if query.is_instant:
                found = watch.prometheus.query(expr)
            else:
                found = watch.prometheus.query_range(expr, scene - 90, time.time(), 2.0)
            if not has_value(found):
                empty.append(query)
        waiting = empty
        assert not waiting or time.monotonic() < deadline, "no data:\n" + "\n".join(
            f"{query}\n    {query.filled()}" for query in waiting
        )


def test_exemplars_lead_to_traces(watch: Watch, scene: float) -> None:
    """Prometheus keeps, for waits and openings, exemplars that name their trace as Grafana looks for it."""
    for metric in (catalog.LOCK_WAIT_DURATION, catalog.SESSION_CREATE_DURATION):
        found = until(
            lambda name=f"{metric.prometheus_name}_bucket": watch.prometheus.exemplars(
                name, scene, time.time()
            ),
            f"{metric.name} has exemplars",
        )
        assert re.fullmatch("[0-9a-f]{32}", found[0]["labels"]["trace_id"])


def test_every_rule_has_data(watch: Watch, scene: float) -> None:
    """Each side of each rule's comparison gives a number for real agents, so no rule waits for nothing."""
    rules = [
        rule
        for group in yaml.safe_load((GENERATED / "rules.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    loaded = watch.prometheus.rules()
    assert len(loaded) == len(rules)
    assert [rule["lastError"] for rule in loaded if rule["health"] != "ok"] == []
    for rule in rules:
        for part in operands(rule):
            until(
                lambda part=part: has_value(watch.prometheus.query(part)),
                f"{rule.get('alert', rule.get('record'))} has data: {part}",
            )


def operands(rule: dict[str, Any]) -> list[str]:
    """What a rule compares, without its limits: the metrics it reads have to be there."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(str(node).split(" offset ")[0])  # Not that it was there before, but that it is.
        for name in ("lhs", "rhs", "expr", "vector_selector", "args"):
            child = getattr(node, name, None)
            for one in child if isinstance(child, list) else [child]:
                if one is not None and not isinstance(one, (str, float)):
                    walk(one)

    walk(promql_parser.parse(rule["expr"]))
    return found

"""Every alert in promtool's own engine: when it fires, when it does not, and what a bad scrape does to it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from grafana import alerts
from grafana.build import GENERATED
from instrumented_sessions.telemetry import catalog
from tests.grafana.engines.programs import engine

WHO = 'job="agents",instance="a:1"'
OPENING = f'{WHO},transport="search",lock="opening"'
CALL = f'{WHO},transport="printer",lock="call"'

HEARTBEAT = catalog.LOOP_HEARTBEAT_AGE.prometheus_name
STALL_AGE = catalog.LOOP_STALL_AGE.prometheus_name
STALLS = catalog.LOOP_STALL_DURATION.prometheus_name
WAITER = catalog.LOCK_OLDEST_WAITER_AGE.prometheus_name
HOLDER = catalog.LOCK_HOLDER_AGE.prometheus_name
DEADLOCKS = catalog.LOCK_DEADLOCKS.prometheus_name
WAITED = f"{catalog.LOCK_WAIT_DURATION.prometheus_name}_sum"
LAG = f"{catalog.LOOP_LAG.prometheus_name}_bucket"
OPENED = f"{catalog.SESSION_CREATE_DURATION.prometheus_name}_count"
ENDED = f"{catalog.MCP_SESSION_DURATION.prometheus_name}_count"
DROPPED = catalog.TELEMETRY_DROPPED.prometheus_name
REQUESTS = catalog.SESSION_REQUESTS.prometheus_name
ACQUIRED = f"{catalog.SESSION_ACQUIRE_DURATION.prometheus_name}_bucket"


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, and whether an alert fires when; rules are evaluated at each scrape."""

    name: str
    alert: str
    series: dict[str, str]
    fires: dict[str, bool]
    interval: str = "15s"


def lag(bad_share: str) -> dict[str, str]:
    """Ten timers a second of one loop, of which so many are later than half a second."""
    return {
        f'{LAG}{{{LOOP},le="0.1"}}': f"0+{bad_share}x60",
        f'{LAG}{{{LOOP},le="0.5"}}': f"0+{bad_share}x60",
        f'{LAG}{{{LOOP},le="1.0"}}': "0+150x60",
        f'{LAG}{{{LOOP},le="+Inf"}}': "0+150x60",
    }


def stall(cause: str) -> str:
    """The age of the stall that lasts, if that is its cause."""
    return f'{STALL_AGE}{{{LOOP},cause="{cause}"}}'


def stalls(cause: str, every: str, short: str) -> dict[str, str]:
    """Stalls that have ended: how many, and how many of them took at most five seconds."""
    ended = f'{LOOP},cause="{cause}"'
    return {f"{STALLS}_count{{{ended}}}": every, f'{STALLS}_bucket{{{ended},le="5.0"}}': short}


def requests(late: int) -> dict[str, str]:
    """A hundred requests each five minutes, 60 of them warm, `late` of them later than a second."""
    quick = 40 - late
    return {
        WARM: "0+60x1000",
        f'{REQUESTS}{{{WHO},transport="search",outcome="created"}}': "0+40x1000",
        f'{ACQUIRED}{{{WHO},transport="search",outcome="created",le="1.0"}}': f"0+{quick}x1000",
        f'{ACQUIRED}{{{WHO},transport="search",outcome="created",le="+Inf"}}': "0+40x1000",
    }


OTHER_CAUSES = [cause for cause in catalog.LABEL_VALUES["cause"] if cause not in catalog.CODE_CAUSES]

# One series of each.
UP = f"up{{{WHO}}}"
LOOP = f'{WHO},loop="main"'
BEAT = f"{HEARTBEAT}{{{LOOP}}}"
WAITS, WAITS_TO_CALL = f"{WAITER}{{{OPENING}}}", f"{WAITER}{{{CALL}}}"
OPENS, CALLS = f"{HOLDER}{{{OPENING}}}", f"{HOLDER}{{{CALL}}}"
DEADLOCK = f"{DEADLOCKS}{{{OPENING}}}"
WAITED_FOR = f"{WAITED}{{{OPENING}}}"
LOST = f'{ENDED}{{{WHO},mcp_transport="http",error_type="timeout"}}'
DROPS = f'{DROPPED}{{{WHO},observer="otlp"}}'
WARM = f'{REQUESTS}{{{WHO},transport="search",outcome="hit"}}'

CASES = [
    *(Case(f"a stall by {cause}", "LoopStalled",
           {BEAT: "0.05x3 5.5 20.5 0.1x9", stall(cause): "0x3 5.4 20.1 0x9"},
           {"30s": False, "45s": True, "60s": True, "75s": False})
      for cause in catalog.CODE_CAUSES),
    *(Case(f"a loop that is late: {cause}", "LoopStalled",
           {BEAT: "0.05x3 5.5 20.5 35.5 50.5 0.1x9", stall(cause): "0x3 5.4 20.1 35 50 0x9"},
           {"45s": False, "60s": False, "1m30s": False, "2m": False})
      for cause in OTHER_CAUSES),
    Case("a minute's stall", "LoopStalled",
         {BEAT: "0.05x3 6 21 36 51 0.1x9", stall("blocking_call"): "0x3 6 21 36 51 0x9"},
         {"45s": True, "60s": True, "1m30s": True, "1m45s": False}),
    Case("a stall that never ends", "LoopStalled",
         {BEAT: "0.05x3 5.5+15x400", stall("cpu"): "0x3 5.5+15x400"},
         {"30s": False, "45s": True, "10m": True, "90m": True}),
    Case("a stall whose cause shows itself late, and then changes", "LoopStalled",
         {stall("unknown"): "0x3 4 0x9", stall("blocking_call"): "0x4 19 34 0x9", stall("cpu"): "0x6 49 0x9"},
         {"45s": False, "60s": True, "1m15s": True, "1m30s": True, "1m45s": False}),
    Case("a stall of six seconds at one scrape a second", "LoopStalled",
         {stall("blocking_call"): "0x5 0.5 1.5 2.5 3.5 4.5 5.5 0x20"},
         {"9s": False, "10s": True, "11s": False}, interval="1s"),
    Case("a process that was stopped", "LoopStalled",
         {UP: "1 1 0 0 0 1x9", BEAT: "0.05 0.05 stale _x2 50 0.05x9",
          stall("suspended"): "0 0 stale _x2 49 0x9", stall("cpu"): "0 0 stale _x2 0x9"},
         {"45s": False, "1m15s": False, "1m30s": False}),
    Case("a loop with short stalls", "LoopStalled",
         {BEAT: "0.05 3 0.05 4.9 0.1x9", stall("cpu"): "0 3 0 4.9 0x9"},
         {"15s": False, "45s": False}),
    Case("a failed scrape of a stalled loop", "LoopStalled",
         {UP: "1 1 0 1x9", stall("cpu"): "0 6 stale 36 0x9"},
         {"15s": True, "30s": True, "45s": True, "60s": False}),
    Case("a failed scrape of a loop that runs", "LoopStalled",
         {UP: "1 1 0 1x9", BEAT: "0.05 0.05 stale 0.05x9", stall("cpu"): "0 0 stale 0x9"},
         {"30s": False, "45s": False}),
    Case("one slow scrape", "LoopStalled",
         {UP: "1x9", BEAT: "0.05 0.05 9 0.05x9", stall("cpu"): "0 0 _ 0x9"},
         {"30s": False, "45s": False}),
    Case("a gap in scraping after a stall", "LoopStalled",
         {UP: "1 1 _x20 1x9", stall("cpu"): "0 6 _x20 0x9"},
         {"15s": True, "3m": False, "5m": False, "6m": False}),
    Case("no loop at all", "LoopStalled", {UP: "1x20"}, {"1m": False}),
    Case("the first held GIL, told when it ended", "LoopWasStalled",
         stalls("gil", "_x4 1x60", "_x4 0x60"), {"45s": False, "60s": True, "5m30s": True, "6m15s": False}),
    Case("one more of them", "LoopWasStalled",
         stalls("gil", "1x48 2x60", "0x48 0x60"), {"11m45s": False, "12m": True, "18m": False}),
    Case("one more of them after a restart", "LoopWasStalled",
         stalls("gil", "2x40 _x8 1x60", "0x40 _x8 0x60"), {"9m": False, "11m45s": False, "12m": True,
         "18m": False}),
    Case("stalls that were short", "LoopWasStalled",
         stalls("cpu", "1x8 7x60", "1x8 7x60"), {"2m": False, "5m": False}),
    *(Case(f"a long stall that has ended: {cause}", "LoopWasStalled",
           stalls(cause, "_x4 1x60", "_x4 0x60"), {"60s": False, "3m": False})
      for cause in OTHER_CAUSES),
    Case("a stall that was seen while it lasted", "LoopWasStalled",
         {stall("cpu"): "0x3 6 21 0x80", **stalls("cpu", "_x5 1x80", "_x5 0x80")},
         {"60s": False, "1m15s": False, "5m": False, "6m": False, "6m15s": False, "6m30s": False,
          "12m": False}),
    Case("a failed scrape long after a held GIL", "LoopWasStalled",
         stalls("gil", "1x60 stale 1x60", "0x60 stale 0x60"),
         {"15m": False, "15m15s": False, "20m": False, "20m15s": False}),
    Case("a gap in scraping after a held GIL", "LoopWasStalled",
         stalls("gil", "1x40 _x60 1x60", "0x40 _x60 0x60"),
         {"9m": False, "25m": False, "27m": False, "31m": False}),
    *(Case(f"a loop that is late: {cause}", "LoopSilent",
           {BEAT: "0.05x3 5.5 20.5 35.5 50.5 0.1x9", stall(cause): "0x3 5.4 20.1 35 50 0x9"},
           {"45s": False, "1m15s": True, "1m45s": False})
      for cause in OTHER_CAUSES),
    Case("a watchdog that says nothing", "LoopSilent", {BEAT: "0.05x3 5.5+15x20"},
         {"60s": False, "1m15s": True, "4m": True}),
    Case("a stall by code", "LoopSilent",
         {BEAT: "0.05x3 5.5+15x20", stall("cpu"): "0x3 5.5+15x20"}, {"1m30s": False, "4m": False}),
    Case("a process that was stopped", "LoopSilent",
         {UP: "1 1 0 0 0 1x9", BEAT: "0.05 0.05 stale _x2 50 0.05x9"},
         {"45s": False, "1m15s": False, "1m45s": False}),
    Case("a waiter behind a hung opening", "LockWaiterStuck",
         {WAITS: "0 4 19 34 stale", OPENS: "1 16 31 46 stale",
          UP: "1x20"}, {"15s": False, "30s": True, "45s": True, "60s": False}),
    Case("a long queue that moves", "LockWaiterStuck",
         {WAITS_TO_CALL: "0 15 25 25 25", CALLS: "1 2 1 2 1"},
         {"30s": False, "45s": False, "60s": False}),
    Case("a waiter behind a hung call", "LockWaiterStuck",
         {WAITS_TO_CALL: "0 15 30 45", CALLS: "1 16 31 46"}, {"15s": False, "30s": True}),
    Case("one lock for all: another transport holds it", "LockWaiterStuck",
         {WAITS: "0 15 30",
          f'{HOLDER}{{{WHO},transport="notes",lock="opening"}}': "0 15 30"}, {"0s": False, "15s": True}),
    Case("a failed scrape while somebody is stuck", "LockWaiterStuck",
         {WAITS: "0 15 stale 45 0x9", OPENS: "0 15 stale 45 0x9",
          UP: "1 1 0 1x9"},
         {"15s": True, "30s": True, "45s": True, "60s": False}),
    Case("an opening that hangs", "OpeningStuck", {OPENS: "0 15 stale 45 stale", UP: "1 1 0 1x9"},
         {"0s": False, "15s": True, "30s": True, "60s": False}),
    Case("openings one after the other", "OpeningStuck", {OPENS: "1 2 1 3 1 2"},
         {"30s": False, "75s": False}),
    Case("a call that takes long", "OpeningStuck", {CALLS: "0 15 30"}, {"30s": False}),
    Case("the very first deadlock", "DeadlockDetected", {DEADLOCK: "_x4 1x60"},
         {"45s": False, "60s": True, "4m": True, "7m": False}),
    Case("one more deadlock", "DeadlockDetected", {DEADLOCK: "1x48 2x60"},
         {"11m45s": False, "12m15s": True, "19m": False}),
    Case("a restart after a deadlock", "DeadlockDetected", {DEADLOCK: "2x48 0x60"},
         {"11m45s": False, "12m": False, "13m": False}),
    Case("a failed scrape long after a deadlock", "DeadlockDetected",
         {DEADLOCK: "2x60 stale 2x60"},
         {"15m": False, "15m15s": False, "20m": False, "20m15s": False}),
    Case("an outage of Prometheus after a deadlock", "DeadlockDetected",
         {DEADLOCK: "2x40 _x60 2x60"}, {"9m": False, "25m30s": False, "27m": False, "35m": False}),
    Case("no deadlock", "DeadlockDetected", {BEAT: "0.1x40"}, {"5m": False}),
    Case("too many wait", "LockSaturated", {WAITED_FOR: "0+60x60"}, {"4m": False, "11m": True}),
    Case("some wait", "LockSaturated", {WAITED_FOR: "0+30x60"}, {"11m": False}),
    Case("too many wait across a restart", "LockSaturated", {WAITED_FOR: "0+60x30 0+60x30"},
         {"11m": True}),
    Case("too many wait and a scrape fails", "LockSaturated",
         {WAITED_FOR: "0+60x30 _ 1920+60x30"}, {"11m": True}),
    Case("a loop that is often late", "LoopLagHigh", lag("135"), {"4m": False, "11m": True}),
    Case("a loop that is seldom late", "LoopLagHigh", lag("149"), {"11m": False}),
    Case("openings that fail", "OpeningFailures",
         {f'{OPENED}{{{WHO},transport="search",outcome="ok"}}': "0+1x60",
          f'{OPENED}{{{WHO},transport="search",outcome="error"}}': "0+1x60"}, {"1m": False, "8m": True}),
    Case("openings that fail seldom, and callers that leave", "OpeningFailures",
         {f'{OPENED}{{{WHO},transport="search",outcome="ok"}}': "0+9x60",
          f'{OPENED}{{{WHO},transport="search",outcome="error"}}': "0+1x60",
          f'{OPENED}{{{WHO},transport="search",outcome="cancelled"}}': "0+9x60"}, {"8m": False}),
    Case("openings that fail across a restart", "OpeningFailures",
         {f'{OPENED}{{{WHO},transport="search",outcome="error"}}': "0+1x20 0+1x40"}, {"8m": True}),
    Case("no openings", "OpeningFailures", {f'{OPENED}{{{WHO},transport="search",outcome="ok"}}': "5x60"},
         {"8m": False}),
    Case("sessions that are lost", "SessionFlapping",
         {LOST: "0+1x40"}, {"1m": False, "5m": True}),
    Case("sessions that end as they should", "SessionFlapping",
         {f'{ENDED}{{{WHO},mcp_transport="http"}}': "0+3x40"}, {"5m": False, "9m": False}),
    Case("a restart after losses", "SessionFlapping",
         {LOST: "80x80 0x80"}, {"19m": False, "22m": False}),
    Case("a target that is gone", "TargetDown",
         {UP: "1x4 0x40", BEAT: "0.1x4 stale"},
         {"1m": False, "1m15s": False, "2m": True}),
    Case("one failed scrape", "TargetDown",
         {UP: "1x4 0 1x40", BEAT: "0.1x4 stale 0.1x40"},
         {"1m15s": False, "2m": False}),
    Case("somebody else's target that is gone", "TargetDown", {'up{job="mail",instance="b:1"}': "0x40"},
         {"5m": False}),
    Case("a target without loops", "HeartbeatAbsent",
         {UP: "1x80", BEAT: "0.1x4 stale"},
         {"1m": False, "1m45s": False, "4m": True}),
    Case("a whole job that fell silent, by OTLP", "HeartbeatAbsent",
         {BEAT: "0.1x4 _x80"}, {"1m30s": False, "4m": True}),
    Case("one instance of two that leaves, by OTLP", "HeartbeatAbsent",
         {BEAT: "0.1x4 _x80",
          f'{HEARTBEAT}{{job="agents",instance="b:1",loop="main"}}': "0.1x80"}, {"4m": False}),
    Case("a failed scrape of heartbeats", "HeartbeatAbsent",
         {UP: "1x4 0 1x40", BEAT: "0.1x4 stale 0.1x40"},
         {"1m15s": False, "3m": False}),
    Case("telemetry that overflows", "TelemetryDropped", {DROPS: "_x4 7+7x60"},
         {"45s": False, "3m": True}),
    Case("nothing dropped since a restart", "TelemetryDropped",
         {DROPS: "0x80 0x80"}, {"3m": False, "19m": False}),
    Case("a quarter is late", "SessionsLate", requests(25), {"0s": False, "2h": True}, interval="5m"),
    Case("one in fifty is late for half a day", "SessionsLate", requests(2), {"1h": False, "12h": True},
         interval="5m"),
    Case("one in two hundred would be allowed", "SessionsLate",
         {key: value.replace("40x", "80x").replace("60x", "120x").replace("39x", "79x")
          for key, value in requests(1).items()}, {"2h": False, "12h": False}, interval="5m"),
    Case("only warm requests", "SessionsLate",
         {WARM: "0+60x1000"}, {"2h": False}, interval="5m"),
    Case("a restart in the middle", "SessionsLate",
         {key: value.replace("x1000", "x12") + " " + value for key, value in requests(0).items()},
         {"1h30m": False, "2h": False}, interval="5m"),
]  # fmt: skip


def samples(text: str) -> str:
    """Values in promtool's notation, where `0.1x3` means four of them; here it means three."""
    return re.sub(r"(?<!\S)([\d.]+)x(\d+)", lambda found: f"{found[1]}x{int(found[2]) - 1}", text)


def as_promtool(case: Case) -> dict[str, object]:
    """One test in promtool's words: firing alerts are the series ALERTS."""
    firing = f'count(ALERTS{{alertname="{alerts.PREFIX}{case.alert}",alertstate="firing"}}) > bool 0'
    return {
        "name": case.name,
        "interval": case.interval,
        "input_series": [{"series": key, "values": samples(text)} for key, text in case.series.items()],
        "promql_expr_test": [
            {
                "expr": f"({firing}) or vector(0)",
                "eval_time": time,
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
            for time, fires in case.fires.items()
        ],
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.name}")
def test_alert_fires_when_it_should(case: Case, tmp_path: Path) -> None:
    """The alert fires at the times it should, and at no other that was asked about."""
    file = tmp_path / "test.yml"
    tests = {
        "rule_files": [str(GENERATED / "rules.yml")],
        # Unless told, promtool picks an order at random: an alert may then see no record of this step.
        "group_eval_order": [group["name"] for group in alerts.rule_file()["groups"]],
        "evaluation_interval": case.interval,
        "tests": [as_promtool(case)],
    }
    file.write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        [engine("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways() -> None:
    """Each alert has a case in which it fires, and one in which it never does."""
    for name in {alert.name for alert in alerts.alerts()}:
        cases = [case for case in CASES if case.alert == name]
        assert any(any(case.fires.values()) for case in cases), name
        assert any(not any(case.fires.values()) for case in cases), name


def test_rules_are_sound() -> None:
    """promtool has nothing to say against the rules, its lint included."""
    done = subprocess.run(
        [engine("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(GENERATED / "rules.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""How the stall benchmark scores what the harness recorded."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.stalls import score, table


def row(workload: str, *events: dict[str, Any], detector: str = "ours") -> score.Row:
    return {"det": detector, "wl": workload, "ext": {"t0": 0, "t1": 1_000_000_000}, "ev": list(events)}


def truth(name: str, at_s: float) -> dict[str, Any]:
    return {"k": "truth", "ev": name, "t": at_s * 1e9}


def report(at_s: float, text: str = "", cause: str | None = None) -> dict[str, Any]:
    return {"k": "report", "t": at_s * 1e9, "text": text, "cls": cause}


def test_report_while_it_lasts_is_live_and_timed_from_the_real_start() -> None:
    """The first report decides when and why, any of them the line."""
    stall = score.stall_of(
        row(
            "sleep300",
            report(0.5),
            truth("start", 1.0),
            report(1.12, "somewhere", "blocked"),
            report(1.2, "in culprit_sleep", "cpu"),
            truth("end", 1.3),
        )
    )
    assert stall is not None
    assert stall.latency_s == pytest.approx(0.12)
    assert stall.live
    assert stall.leaf
    assert stall.cause == "blocking_call"


def test_report_that_comes_after_it_is_not_live_and_one_much_later_is_none() -> None:
    """A permanent stall has no end, so that every report of it is live."""
    events = (truth("start", 1.0), truth("end", 1.3))
    after, late = (score.stall_of(row("sleep300", *events, report(at_s))) for at_s in (2.0, 9.0))
    assert after is not None
    assert (after.detected, after.live) == (True, False)
    assert late is not None
    assert not late.detected
    permanent = score.stall_of(row("portal_self", truth("start", 1.0), report(5.0)))
    assert permanent is not None
    assert permanent.live
    assert score.stall_of(row("healthy", truth("begin", 1.0))) is None


def test_machine_fault_is_blamed_on_code_by_any_report_that_does_not_say_so() -> None:
    """Only what comes during the fault or shortly after counts."""
    assert score.blamed(row("sigstop", report(0.5, cause="cpu")))
    assert score.blamed(row("sigstop", report(0.5, cause=None)))
    assert not score.blamed(row("sigstop", report(0.5, cause="suspended"), report(9.0, cause="cpu")))


def test_summary_takes_held_gil_out_of_latency_and_live() -> None:
    """No Python thread can report while native code holds it."""
    rows = [
        row(
            "sleep300", truth("start", 1.0), report(1.1, "culprit_sleep", "blocking_call"), truth("end", 1.4)
        ),
        row("gil_regex", truth("start", 1.0), truth("end", 1.4), report(1.41, "culprit_regex", "gil")),
        row("idle", {"k": "metric", "name": "idle_cpu_pct", "v": 0.3, "t": 0}),
        row("idle", {"k": "metric", "name": "idle_cpu_pct", "v": 0.1, "t": 0}, detector="none"),
    ]
    figures = score.summary(rows, "ours")
    assert figures["recall"] == figures["live"] == figures["leaf frame"] == figures["cause"] == 1.0
    assert figures["latency p95, s"] == pytest.approx(0.1)
    assert figures["idle CPU, %"] == pytest.approx(0.2)
    assert figures["blamed, starve"] is None
    assert figures["false alarms"] == 0.0


def test_table_says_which_targets_are_met() -> None:
    """What was not run is left out."""
    extras = {
        "twenty loops": {"loops": 20.0, "right": 19.0, "last_s": 0.2},
        "idle": {"percent": 0.4},
        "soak": {"made": 10.0, "told_once": 10.0, "consistent": 1.0, "counted": 1.0},
    }
    text = table.targets({"recall": 1.0, "cause": 0.5, "idle CPU, %": None}, extras)
    assert "| recall | ≥ 99 % | 100 % | met |" in text
    assert "| cause | ≥ 95 % | 50 % | **missed** |" in text
    assert "| idle CPU, % |" not in text
    assert "19 of 20, the last after 200 ms | **missed**" in text
    assert "≤ 0.6 % | 0.40 % | met |" in text
    assert "each once | 10 | met |" in text
    assert "– " in table.side_by_side({"a": {"recall": None}})


@pytest.mark.parametrize(
    ("ours_us", "verdict"),
    [((1.1, 1.1, 1.1), "met"), ((1.5, 1.5, 1.5), "**missed**"), ((1.1, 1.4, 2.2), "too noisy to say")],
)
def test_step_in_the_harness_is_judged_by_how_much_its_runs_differ(
    ours_us: tuple[float, ...], verdict: str
) -> None:
    def run(us: float, detector: str) -> score.Row:
        return row("steps", {"k": "metric", "name": "us_per_step", "cpu": us, "t": 0}, detector=detector)

    rows = [*(run(us, "ours") for us in ours_us), *(run(us, "none") for us in (1.1, 1.1, 1.1))]
    figures = score.step(rows, "ours")
    assert figures["us"] == pytest.approx(ours_us[1] - 1.1)
    assert table.targets({}, {"step": figures}).splitlines()[-1].endswith(f"µs | {verdict} |")
    assert score.step(rows[:1], "ours") == {}


@pytest.mark.parametrize(
    ("us", "told", "verdict"),
    [
        pytest.param(0.02, 0.0, "met", id="met"),
        pytest.param(0.02, 1.0, "**missed**", id="a-stall-that-was-none"),
        pytest.param(0.09, 1.0, "**missed**", id="a-stall-that-was-none-and-noisy"),
        pytest.param(0.3, 0.0, "**missed**", id="dear"),
        pytest.param(0.09, 0.0, "too noisy to say", id="noisy"),
    ],
)
def test_loop_that_never_waits_is_to_cost_little_and_to_stay_healthy(
    us: float, told: float, verdict: str
) -> None:
    """A cheap step does not make up for a stall that was none."""
    row = table.targets({}, {"saturated": {"us": us, "error": 0.01, "told": told}}).splitlines()[-1]
    assert row.endswith(f"{us:+.2f} ± 0.02 µs, {told:.0f} stalls told | {verdict} |")


@pytest.mark.parametrize(
    ("percent", "error", "verdict"),
    [
        (-0.2, 0.3, "met"),
        (-2.0, 0.3, "**missed**"),
        (-1.8, 0.5, "too noisy to say"),
        (0.5, 1.0, "too noisy to say"),
    ],
)
def test_load_that_varies_too_much_decides_nothing(percent: float, error: float, verdict: str) -> None:
    """A target is met or missed only beyond two standard errors."""
    echo = {"percent": percent, "error": error}
    row = table.targets({}, {"echo over http": echo}).splitlines()[-1]
    assert row.endswith(f"± {2 * error:.1f} % | {verdict} |")
